"""``raftsched bench raft``: consensus by itself, three peers as processes on loopback.

Read `command` for what is measured and `measures` for how.  The peers are `peer` (ours, durable)
and `stock` (PySyncObj as it comes, in memory); both are driven over pipes (`workers`), and the load
runs inside the leader's process (`load`).
"""
