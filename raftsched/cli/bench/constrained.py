"""Planning among very many tasks that may not go everywhere: what an assignment costs.

In this process, without log, disk and network, like ``core``.  The cluster is nearly full: attempts
end a few at a time, and the planner finds out which of the tasks has its turn.
"""

from __future__ import annotations

import gc
import random
import time
from typing import Any

import msgspec

from raftsched.cli.bench.replica import BenchReplica
from raftsched.core.commands import (
    AssignTasks,
    AttemptFinished,
    RegisterNode,
    ReportAttempts,
    SubmitTasks,
)
from raftsched.core.model import NewTask
from raftsched.core.planner import PlanPolicy, plan
from raftsched.core.policy import Constraint, Op, Policy
from raftsched.core.spec import TaskSpec
from raftsched.peer.ids import uuid7

NODES = 5
#: Labels that each set of constraints is made of; a node has about half of them.
LABELS = 64
SLOTS = 1_000
#: Assignments of one pass, and how many passes of each are measured.
PASSES = {1: 2_000, 10: 1_000, 1_000: 100}
SUBMITTED = 1_000


def measure(queued: int, sets: int = 1_000) -> dict[str, Any]:
    """What it costs with ``queued`` tasks of ``sets`` distinct sets of constraints."""
    replica, draw = BenchReplica(), random.Random(1)
    for number in range(NODES):
        labels = {f"l{n}": str(draw.randrange(2)) for n in range(LABELS)}
        replica.apply(
            RegisterNode(
                f"n{number}", f"i-n{number}", "http://x", 10**6, 10**12, SLOTS, True, labels=labels
            )
        )
    _submit(replica, queued, _policies(draw, sets), draw)
    gc.collect()
    gc.freeze()
    stalls: list[float] = []
    try:
        # The first pass looks at everything, and fills the nodes.
        while replica.busy < NODES * SLOTS:
            found = _plan(replica, 1_000, stalls)
            if not found.is_partial:
                replica.apply(AssignTasks(found.assignments))
        first = max(stalls)
        each = {
            f"plan_passes_of_{size}": _steady(replica, size, count, stalls, draw)
            for size, count in PASSES.items()
        }
    finally:
        gc.unfreeze()
    return {
        "queued": queued,
        "constraint_sets": sets,
        "unit": "microseconds of CPU per assignment",
        "bare_loop": _bare(),
        **each,
        "longest_pass_ms": round(max(stalls), 1),
        "longest_first_pass_ms": round(first, 1),
    }


def _bare() -> float:
    """Of a look into a dictionary in a loop: the yardstick for a machine that is not quiet."""
    known, begin = {1: 1}, time.process_time()
    for _ in range(1_000_000):
        known.get(1)
    return round(time.process_time() - begin, 3)


def _policies(draw: random.Random, sets: int) -> list[Policy]:
    """Distinct sets of constraints; each is true of some node, most likely."""
    found: dict[Policy, None] = {}
    while len(found) < sets:
        names = sorted(draw.sample(range(LABELS), draw.choice([1, 2, 3])))
        claims = [Constraint(f"l{n}", Op.EQUAL, (draw.choice("01"),)) for n in names]
        found[Policy(constraints=tuple(claims))] = None
    return list(found)


def _submit(
    replica: BenchReplica, queued: int, policies: list[Policy], draw: random.Random
) -> None:
    spec = msgspec.msgpack.encode(TaskSpec(command=("/bin/true",)))
    for first in range(0, queued, SUBMITTED):
        count = min(SUBMITTED, queued - first)
        tasks = [
            NewTask(
                uuid7(first),
                bytes(bytearray(spec)),
                priority=draw.choice([40, 50, 60]),
                policy=draw.choice(policies),
            )
            for _ in range(count)
        ]
        replica.apply(SubmitTasks(tuple(tasks)))


def _plan(replica: BenchReplica, limit: int, stalls: list[float]) -> Any:
    begin = time.process_time()
    found = plan(replica.state, PlanPolicy(limit=limit))
    stalls.append((time.process_time() - begin) * 1e3)
    return found


def _steady(
    replica: BenchReplica, size: int, count: int, stalls: list[float], draw: random.Random
) -> float:
    """``size`` attempts end anywhere, as many are planned; microseconds each, on average."""
    spent, planned = 0.0, 0
    for _ in range(count):
        _finish(replica, size, draw)
        found = _plan(replica, size, stalls)
        spent += stalls[-1] / 1e3
        planned += len(found.assignments)
        if found.assignments:
            replica.apply(AssignTasks(found.assignments))
    return round(spent / max(1, planned) * 1e6, 2)


def _finish(replica: BenchReplica, count: int, draw: random.Random) -> None:
    state = replica.state
    node_ids = draw.choices(sorted(state.nodes), k=count)
    for node_id in sorted(set(node_ids)):
        held = list(state.by_node[node_id])[: node_ids.count(node_id)]
        ended = []
        for task_id in held:
            task = state.tasks.get(task_id)
            assert task is not None
            ended.append(AttemptFinished(task.id, task.token, "succeeded", 3, 0))
        replica.apply(ReportAttempts(node_id, f"i-{node_id}", (), tuple(ended)))
