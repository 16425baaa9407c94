"""What one task costs in the state alone: CPU to plan and apply it, memory to keep it.

In this process, without log, disk and network: the part of a peer's work that no faster machine
around it takes away.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from raftsched.cli.bench.replica import BenchReplica
from raftsched.core import planner
from raftsched.core.commands import (
    AssignTasks,
    AttemptFinished,
    RegisterNode,
    ReportAttempts,
    SubmitTasks,
)
from raftsched.core.model import NewTask
from raftsched.core.spec import TaskSpec
from raftsched.peer.ids import uuid7

#: Items of one entry, as under load.
ITEMS = 1_000
NODES = 3
#: Tasks that are also planned, assigned and finished.
FINISHED_MAX = 100_000


class _Meter:
    """CPU time of steps by name, per task."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}

    def run(self, name: str, count: int, step: Callable[[], Any]) -> Any:
        begin = time.process_time()
        result = step()
        micros = (time.process_time() - begin) / count * 1e6
        self._samples.setdefault(name, []).append(micros)
        return result

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(got), 2) for name, got in self._samples.items()}


def measure(queued: int) -> dict[str, Any]:
    """Costs with ``queued`` tasks in the state; per task: microseconds of CPU and bytes."""
    spec = msgspec.msgpack.encode(TaskSpec(command=("/bin/true",)))
    meter, replica = _Meter(), BenchReplica()
    for number in range(NODES):
        node = f"n{number + 1}"
        replica.apply(RegisterNode(node, f"i-{node}", "http://x", 10**6, 10**12, 4 * ITEMS, True))
    gc.collect()
    before = _resident_bytes()
    for first in range(0, queued, ITEMS):
        # Each with bytes of its own, as a peer has them: decoded from an entry.
        count = min(ITEMS, queued - first)
        tasks = tuple([NewTask(uuid7(first), bytes(bytearray(spec))) for _ in range(count)])
        meter.run("submit", count, partial(replica.apply, SubmitTasks(tasks)))
        del tasks
    gc.collect()
    each = (_resident_bytes() - before) / queued
    begin = time.process_time()
    gc.collect()
    full_collection_ms = (time.process_time() - begin) * 1e3
    gc.freeze()
    try:
        for _ in range(min(queued, FINISHED_MAX) // ITEMS):
            _finish_some(replica, meter)
    finally:
        gc.unfreeze()
    micros = meter.medians()
    return {
        "queued": queued,
        "unit": "microseconds of CPU per task",
        **micros,
        "plan_and_apply_one": round(sum(micros.values()), 2),
        "bytes_per_queued_task_beside_spec": round(each - len(spec)),
        "full_garbage_collection_ms": round(full_collection_ms, 1),
    }


def _finish_some(replica: BenchReplica, meter: _Meter) -> None:
    policy = planner.PlanPolicy(limit=ITEMS)
    found = meter.run("plan", ITEMS, lambda: planner.plan(replica.state, policy).assignments)
    meter.run("assign", ITEMS, lambda: replica.apply(AssignTasks(found)))
    reports = []
    for node_id in replica.state.nodes:
        ended = []
        for one in found:
            if one.node_id == node_id:
                task = replica.state.tasks.get(one.task_id)
                assert task is not None
                ended.append(AttemptFinished(task.id, task.token, "succeeded", 3, 0))
        reports.append(ReportAttempts(node_id, f"i-{node_id}", (), tuple(ended)))

    def finish() -> None:
        for report in reports:
            replica.apply(report)

    meter.run("finish", ITEMS, finish)


def _resident_bytes() -> int:
    """Of this process, as the kernel counts."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
