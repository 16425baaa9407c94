"""Named places in the code where a fault can be aimed: between a decision and what follows from it.

A process that dies at a random moment mostly dies waiting.  `watch` puts a call of `Machine.reach`
at each place of a new peer; the product knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftsched.core.commands import AssignTasks, Entry, ReportAttempts
from raftsched.core.outcomes import Applied
from raftsched.peer.peer import Peer
from raftsched.raft.log import LogStatus, Role
from raftsched.testing.runner import Connection

#: In the order of a task's way, then what happens to the group.
POINTS = (
    #: The leader is about to send entries.
    "replicates",
    #: A follower has synced entries and is about to acknowledge them.
    "synced",
    #: An entry is applied, and nobody has been told.
    "applied",
    #: An assignment is applied, and nothing is started.
    "assigned",
    #: The runner is about to be told to start an attempt, or was.
    "starts",
    "started",
    #: The runner says that an attempt ended, and the agent has not heard it, or has.
    "ended",
    "heard",
    #: A report is applied, and nobody has been told.
    "reported",
    #: A client has its answer.
    "answered",
    #: A vote is saved and about to be sent, for another peer or for this one.
    "votes",
    "stands",
    #: A new leader is about to act on it.
    "leads",
    #: A snapshot took the place of the state.
    "installed",
    #: A configuration is in the leader's log, and nowhere else.
    "configured",
)
#: Messages of PySyncObj that are about to be sent.
_SENT = {"request_vote": "stands", "response_vote": "votes", "append_entries": "replicates"}


def _entries(message: dict[str, Any]) -> bool:
    return bool(message.get("entries"))


def watch(peer: Peer, reach: Callable[[str], None]) -> None:
    """Before it starts: have ``reach`` called at each of `POINTS`."""
    log: Any = peer.log
    before: Any = peer
    entry_applied, status_changed = before._entry_applied, before._status_changed
    assemble = log._assemble

    def applied(entry: Entry, effects: Applied) -> None:
        reach("applied")
        kinds = {type(command) for batch in entry.batches for command in batch.commands}
        if AssignTasks in kinds:
            reach("assigned")
        if ReportAttempts in kinds:
            reach("reported")
        entry_applied(entry, effects)

    def changed(status: LogStatus) -> None:
        if status.role is Role.LEADER:
            reach("leads")
        status_changed(status)

    def assembled(restored: Any) -> None:
        assemble(restored)
        replication, append = log._replication, log._engine.append_configuration
        outgoing, acknowledge = replication.outgoing, replication.acknowledge

        def sent(peer_id: str, message: dict[str, Any]) -> Any:
            passed = outgoing(peer_id, message)
            kind = message["type"]
            is_one = kind in _SENT and (kind != "append_entries" or _entries(message))
            if passed is not None and is_one:
                reach(_SENT[kind])
            return passed

        def synced() -> None:
            if replication.owes:
                reach("synced")
            acknowledge()

        def configured(configuration: Any) -> None:
            append(configuration)
            reach("configured")

        log._transport.outgoing, replication.acknowledge = sent, synced
        log._engine.append_configuration = configured

    before._entry_applied, before._status_changed = applied, changed
    log._assemble = assembled
    peer.replica.restore_listeners.append(lambda: reach("installed"))


def watch_runner(connection: Connection, reach: Callable[[str], None]) -> None:
    """The same for what a peer and its runner tell each other."""
    wired: Any = connection
    start, hear = wired.start, wired._hear

    def started(attempts: Any, slots: int) -> None:
        reach("starts")
        start(attempts, slots)
        reach("started")

    def heard() -> None:
        is_end = any(report.phase == "finished" for report in wired._news)
        if is_end:
            reach("ended")
        hear()
        if is_end:
            reach("heard")

    wired.start, wired._hear = started, heard
