"""One peer of the bench: the replicated log as the scheduler uses it, in a process of its own.

Started as ``python -m raftsched.cli.bench.raft.peer OPTIONS``; see `pipes` for how it is driven.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import logging
import math
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raftsched.cli.bench.figures import spread
from raftsched.cli.bench.raft import machine, pipes
from raftsched.cli.bench.raft.load import Gatherer, Lost, Shape, run_callers
from raftsched.cli.bench.raft.watch import Watch
from raftsched.peer.sizes import ENTRY_ITEMS_MAX
from raftsched.raft.config import LogConfig
from raftsched.raft.log import LogStatus, Role
from raftsched.raft.pysyncobj_log import PySyncObjLog

READ_SECONDS_MAX = 5.0
#: Callers that fill the queue, and tasks of one request of theirs.
FILL = (4, 1_000)
#: Times of a load in ``Peer.load``: not counted before, and how often they are looked at.
WARM_UP_SECONDS = 0.5

Message = pipes.Message


class Peer:
    """The log, its machine, and what the bench asks of them."""

    def __init__(self, options: Message) -> None:
        self._config = LogConfig(
            cluster_id="bench",
            peer_id=options["peer_id"],
            peers=options["peers"],
            data_dir=Path(options["directory"]) / options["peer_id"],
            journal_bytes_max=options["journal_bytes_max"],
        )
        self._machine = machine.BenchMachine("bench")
        self._machine.on_applied = self._applied
        self._log = PySyncObjLog(self._config, self._machine)
        self._log.on_status = self._status_changed
        self._owners = itertools.count(time.time_ns())
        #: What this peer proposed last bears this number; 0: entries of the scheduler's own.
        self._owner = 0
        self._gatherer: Gatherer | None = None
        self._watch: Watch | None = None
        #: Leads and loads as long as it lives: what the callers do then.
        self._leading: Shape | None = None
        self._led_term = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until the bench closes the pipe."""
        begin = time.monotonic()
        await self._log.start()
        started_at = time.monotonic()
        pipes.say(
            {
                "event": "ready",
                "start_seconds": started_at - begin,
                "load_seconds": self._machine.load_seconds,
            }
        )
        async for request in pipes.requests():
            self._spawn(self._answer(request))
        for task in self._tasks:
            task.cancel()
        await self._log.stop()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Message) -> None:
        number, do = request.pop("id"), request.pop("do")
        try:
            answer = await getattr(self, f"do_{do}")(**request)
        except Exception as error:
            logging.getLogger(__name__).exception("the bench asked for %r", do)
            answer = {"error": f"{type(error).__name__}: {error}"}
        pipes.say({"id": number, **answer})

    # What happens --------------------------------------------------------------------------------

    def _applied(self, term: int, owner: int) -> None:
        if self._gatherer is None or owner != self._owner:
            return
        if self._leading is not None and term != self._led_term:
            self._led_term = term
            pipes.say({"event": "first_commit", "term": term, "at": time.monotonic()})
        self._gatherer.applied()

    def _status_changed(self, status: LogStatus) -> None:
        if status.role is not Role.LEADER:
            if self._gatherer is not None:
                self._gatherer.lose()
                self._gatherer = None
        elif self._leading is not None and self._gatherer is None:
            self._spawn(self._lead(self._leading))

    async def _lead(self, shape: Shape) -> None:
        """Load this cluster while this peer leads."""
        gatherer = self._gatherer = self._gather("plain", shape.is_grouped)
        await run_callers(gatherer, shape, math.inf, [])

    def _gather(self, kind: str, is_grouped: bool) -> Gatherer:
        makers: dict[str, Callable[[int], bytes]] = {
            "plain": lambda count: machine.plain_entry(self._owner, count),
            "submit": lambda count: machine.submit_entry("bench", self._log.status().term, count),
            "churn": lambda count: machine.churn_entry("bench", self._log.status().term, count),
        }
        self._owner = next(self._owners) if kind == "plain" else 0
        make = makers[kind]
        # What makes and removes a task is three commands.
        items_max = ENTRY_ITEMS_MAX // (3 if kind == "churn" else 1)
        return Gatherer(lambda count: self._log.propose(make(count)), is_grouped, items_max)

    # What is asked -------------------------------------------------------------------------------

    async def do_status(self) -> Message:
        """What this peer knows now."""
        status = self._log.status()
        return {
            "role": str(status.role),
            "term": status.term,
            "leader": status.leader,
            "is_current": status.is_current,
            "commit_index": status.commit_index,
            "applied_index": status.applied_index,
            "connected": list(status.connected),
            "tasks": len(self._machine.replica.state.tasks),
            "journal_bytes": self._log.journal.bytes_on_disk,
            "tail_bytes": self._log.journal.bytes_behind_snapshot,
            "snapshots": self._machine.snapshots,
            "load_seconds": self._machine.load_seconds,
            "cpu_seconds": time.process_time(),
        }

    async def do_load(
        self, kind: str, callers: int, burst: int, is_grouped: bool, seconds: float
    ) -> Message:
        """Commits per second at this leader, after a moment to warm up; latency per request."""
        shape = Shape(callers, burst, is_grouped)
        gatherer = self._gatherer = self._gather(kind, is_grouped)
        await run_callers(gatherer, shape, time.monotonic() + WARM_UP_SECONDS, [])
        latencies: list[float] = []
        before, begin = gatherer.done, time.monotonic()
        await run_callers(gatherer, shape, begin + seconds, latencies)
        took = time.monotonic() - begin
        return {
            "commands": gatherer.done - before,
            "per_second": (gatherer.done - before) / took,
            "latency_ms": spread(latencies),
            "is_lost": self._gatherer is not gatherer,
        }

    async def do_fill(self, tasks: int) -> Message:
        """Put so many tasks into the queue."""
        callers, burst = FILL
        gatherer = self._gatherer = self._gather("submit", True)
        requests = iter([burst] * (tasks // burst) + [tasks % burst])

        async def call() -> None:
            for count in requests:
                if count:
                    await gatherer.commit(count)

        begin = time.monotonic()
        await asyncio.gather(*[call() for _ in range(callers)])
        return {"per_second": tasks / (time.monotonic() - begin)}

    async def do_lead(self, callers: int) -> Message:
        """From now on: whenever this peer leads it loads, and tells of the first commit."""
        self._leading = Shape(callers, 1, True)
        self._status_changed(self._log.status())
        return {}

    async def do_read(self, readers: int, seconds: float) -> Message:
        """Linearizable reads on this peer, one after the other per reader."""
        latencies: list[float] = []
        begin = time.monotonic()

        async def read() -> None:
            while (asked_at := time.monotonic()) < begin + seconds:
                index = await self._log.read_index(READ_SECONDS_MAX)
                await self._log.wait_applied(index, READ_SECONDS_MAX)
                latencies.append((time.monotonic() - asked_at) * 1e3)

        await asyncio.gather(*[read() for _ in range(readers)])
        took = time.monotonic() - begin
        return {"per_second": len(latencies) / took, "latency_ms": spread(latencies)}

    async def do_window(self) -> Message:
        """What the loop and the process went through since this was asked last; begins anew."""
        if self._watch is None:
            self._watch = Watch()
        report = self._watch.report()
        self._watch.restart()
        return report


def main() -> None:
    """Be a peer."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # As `serve` does.
    gc.set_threshold(20_000, 20, 20)
    factory = import_module("uvloop").new_event_loop if find_spec("uvloop") else None

    async def run() -> None:
        await Peer(json.loads(sys.argv[1])).run()

    with (
        asyncio.Runner(loop_factory=factory) as runner,
        contextlib.suppress(KeyboardInterrupt, Lost),
    ):
        runner.run(run())


if __name__ == "__main__":
    main()
