"""One peer of stock PySyncObj, as it comes: TCPTransport, journal in memory, nothing ever synced.

What our log is measured against.  It is given what is best for it: its loop is driven without
pauses from the one thread that also proposes, nothing is written, no snapshots are made.
Started as ``python -m raftsched.cli.bench.raft.stock OPTIONS``; see `pipes` for how it is driven.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import time
from typing import Any

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated

from raftsched.cli.bench.figures import spread
from raftsched.cli.bench.raft.machine import plain_commands
from raftsched.cli.bench.raft.pipes import Message, say

WARM_UP_SECONDS = 0.5
#: How long its poller may wait for the network; requests of the bench wait as long.
POLL_SECONDS = 0.005
#: As many commands in one of its entries as our proposer puts into one.
ITEMS_MAX = 2_000


class Register(SyncObj):  # type: ignore[misc]
    """A replicated counter."""

    def __init__(self, options: Message) -> None:
        own = options["peers"][options["peer_id"]]
        others = [address for address in options["peers"].values() if address != own]
        # Commands come from the thread that ticks; waking the poller for each only costs.
        pysyncobj.syncobj.PIPE_NOTIFIER_ENABLED = False
        super().__init__(
            own,
            others,
            conf=SyncObjConf(
                autoTick=False,
                appendEntriesUseBatch=options["use_batch"],
                appendEntriesBatchSizeBytes=4 * 1024 * 1024,
                connectionRetryTime=0.2,
                logCompactionMinEntries=1 << 60,
                logCompactionMinTime=1 << 60,
            ),
        )
        self.count = 0

    @replicated  # type: ignore[untyped-decorator]
    def put(self, commands: list[bytes]) -> None:
        """Replicated."""
        self.count += len(commands)


class Load:
    """Callers as callbacks; the same shapes as ours."""

    def __init__(self, register: Register, callers: int, burst: int, is_grouped: bool) -> None:
        self._register = register
        self._items_max = ITEMS_MAX if is_grouped else 1
        self._burst = burst
        #: Requests that wait for a place in an entry, by when they began.
        self._waiting = [time.monotonic()] * callers
        self.latencies: list[float] = []
        self.done = 0
        #: Requests in flight.
        self.open = 0

    def pump(self) -> None:
        """Propose all that waits."""
        waiting, self._waiting = self._waiting, []
        self.open += len(waiting)
        # Whole requests share an entry as far as they fit; a large one takes several.
        together = max(self._items_max // self._burst, 1)
        for at in range(0, len(waiting), together):
            self._propose(waiting[at : at + together])

    def _propose(self, begun: list[float]) -> None:
        left = total = self._burst * len(begun)

        def applied(count: int) -> None:
            nonlocal left
            left -= count
            if not left:
                now = time.monotonic()
                self.latencies += [(now - at) * 1e3 for at in begun]
                self._waiting += [now] * len(begun)
                self.done += total
                self.open -= len(begun)

        for at in range(0, total, self._items_max):
            count = min(self._items_max, total - at)
            self._register.put(plain_commands(count), callback=lambda _r, _e, n=count: applied(n))


class Peer:
    """The register, ticking, and what the bench asks of it."""

    def __init__(self, options: Message) -> None:
        self._register = Register(options)
        self._requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self._requests.put(json.loads(line))
        self._requests.put(None)

    def run(self) -> None:
        """Until the bench closes the pipe."""
        say({"event": "ready"})
        while True:
            self._register.doTick(POLL_SECONDS)
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                continue
            if request is None:
                return
            number, do = request.pop("id"), request.pop("do")
            say({"id": number, **getattr(self, f"do_{do}")(**request)})

    def do_status(self) -> Message:
        """What this peer knows now."""
        leader: Any = self._register._getLeader()
        is_leader = self._register._isLeader()
        return {
            "role": "leader" if is_leader else "follower",
            "leader": None if leader is None else str(leader),
            "is_current": self._register.isReady(),
            "term": self._register.raftCurrentTerm,
            "cpu_seconds": time.process_time(),
        }

    def do_load(
        self, kind: str, callers: int, burst: int, is_grouped: bool, seconds: float
    ) -> Message:
        """As `peer.Peer.do_load`."""
        assert kind == "plain"
        load = Load(self._register, callers, burst, is_grouped)
        self._turn(load, time.monotonic() + WARM_UP_SECONDS)
        load.latencies.clear()
        before, begin = load.done, time.monotonic()
        self._turn(load, begin + seconds)
        took = time.monotonic() - begin
        done = load.done - before
        deadline = time.monotonic() + 10.0
        while load.open and time.monotonic() < deadline:
            self._register.doTick(POLL_SECONDS)
        return {
            "commands": done,
            "per_second": done / took,
            "latency_ms": spread(load.latencies),
            "is_lost": bool(load.open),
        }

    def _turn(self, load: Load, until: float) -> None:
        while time.monotonic() < until:
            load.pump()
            self._register.doTick(POLL_SECONDS)


if __name__ == "__main__":
    # It says CRITICAL for every acknowledged entry that it truncates and adds again.
    logging.disable(logging.CRITICAL)
    Peer(json.loads(sys.argv[1])).run()
