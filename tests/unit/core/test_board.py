"""The planner's short cuts against a planner without any: the same plans, whatever happened."""

from __future__ import annotations

import os
import random
from typing import Any

import msgspec
import pytest

from raftsched.core import board, codec, planner
from raftsched.core.choice import Choice
from raftsched.core.commands import (
    Assignment,
    AssignTasks,
    CancelTask,
    CancelTasks,
    EditTask,
    FireTimers,
    NodeLost,
    PauseTask,
    PutLimit,
    PutQueue,
    ResetClock,
    ResumeTask,
    SetEligibility,
    SetNodeLabels,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.limits import Permits, gate_of
from raftsched.core.model import Eligibility, Limit, NewTask, Queue, Settings, Task, Terms
from raftsched.core.outcomes import Rejected
from raftsched.core.planner import PlanPolicy, plan
from raftsched.core.policy import Affinity, Constraint, Extra, Op, Policy, RetryNode
from raftsched.core.removal import delete_task
from raftsched.core.rooms import Rooms
from raftsched.core.state import State
from raftsched.core.strategies import STRATEGIES
from tests.unit.core.builders import Replica, dump, finished, register

NODES = ("n1", "n2", "n3", "n4")


def plain_plan(state: State, policy: PlanPolicy) -> tuple[Assignment, ...]:
    """What the planner has to find: every lane's first task is tried, the one in turn first."""
    rooms = Rooms(state, policy.ahead)
    choice, permits = Choice(rooms, state.next_token), Permits(state, max(policy.now, state.now))
    lanes: dict[tuple[Terms, str], list[Task]] = {}
    for task in state.ready.tasks():
        any_node = task.policy.retry_node is RetryNode.ANY
        lanes.setdefault((task.terms, "" if any_node else task.node), []).append(task)
    waiting = list(lanes.values())
    found: list[Assignment] = []
    while waiting and choice.rooms and len(found) < policy.limit:
        lane = min(waiting, key=lambda lane: (state.ready.rank(lane[0]), lane[0].order))
        task = lane[0]
        mask = sum(r.bit for r in rooms.all() if rooms.bars(r, task.terms, task.node) is None)
        shut = permits.shut(gate_of(task.terms))
        node = None if shut else choice.place(task, task.terms, mask)
        if node is None:
            waiting.remove(lane)
            continue
        permits.take(gate_of(task.terms))
        found.append(Assignment(task.id, node.id, node.incarnation))
        del lane[0]
        if not lane:
            waiting.remove(lane)
    return tuple(found)


class World:
    """A replica to which anything may happen."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.replica = Replica()
        self.made = 0
        #: What is asked for: not too much, so that lanes have many tasks.
        self.kinds = [self.kind() for _ in range(self.draw.choice([3, 8]))]
        for node_id in NODES:
            self.register(node_id)

    @property
    def state(self) -> State:
        """Of the replica."""
        return self.replica.state

    def register(self, node_id: str) -> None:
        """A node comes, of another size each time."""
        draw = self.draw
        self.replica.accepted(
            register(
                node_id,
                draw.choice("ab"),
                slots=draw.randrange(1, 4),
                cpu_milli=draw.choice([1_000, 2_000]),
                labels={"zone": draw.choice("xyz")},
                resources=(("gpu", draw.randrange(1, 3)),) if draw.random() < 0.5 else (),
            )
        )

    def policy(self) -> Policy | None:
        """Something that a task may ask for."""
        draw = self.draw
        if draw.random() < 0.3:
            return None
        zone = Constraint("zone", draw.choice([Op.EQUAL, Op.NOT_EQUAL]), (draw.choice("xyz"),))
        return Policy(
            backoff_base_ms=draw.choice([0, 20]),
            retry_node=draw.choice([RetryNode.ANY, RetryNode.SAME, RetryNode.OTHER]),
            resources=(("gpu", 1),) if draw.random() < 0.2 else (),
            constraints=(zone,) if draw.random() < 0.5 else (),
            affinity=(Affinity(zone, draw.randrange(-100, 100)),) if draw.random() < 0.2 else (),
            limits=tuple(sorted(draw.sample(["k1", "k2", "k3"], draw.randrange(3)))),
        )

    def kind(self) -> NewTask:
        """A task that asks for anything."""
        draw = self.draw
        return NewTask(
            "t",
            b"x",
            draw.choice(["q1", "q2"]),
            draw.choice([0, 50, 51, 100]),
            draw.choice([0, 0, 600]),
            0,
            draw.choice(["spread", "spread", *sorted(STRATEGIES)]),
            3,
            self.policy(),
            Extra(placement_key=draw.choice(["", "p1", "p2"])) if draw.random() < 0.2 else None,
        )

    def task(self, task_id: str) -> NewTask:
        """Of one of the kinds."""
        return msgspec.structs.replace(self.draw.choice(self.kinds), id=task_id)

    def task_id(self) -> str:
        """Of one that may still be there."""
        return f"t{self.draw.randrange(max(0, self.made - 40), self.made + 1):04}"

    def happen(self) -> None:
        """One thing."""
        draw, replica = self.draw, self.replica
        row = draw.randrange(18)
        if row >= 14:
            return
        if row < 3:
            names = [f"t{self.made + n:04}" for n in range(draw.randrange(1, 6))]
            self.made += len(names)
            replica.do(SubmitTasks(tuple(self.task(name) for name in names)))
        elif row < 6:
            self.end_something()
        elif row == 6:
            kind = draw.choice([CancelTask, PauseTask, ResumeTask, ResumeTask])
            replica.do(kind(self.task_id()))
        elif row == 7:
            replica.do(EditTask(self.task(self.task_id())))
        elif row == 8:
            paused = draw.random() < 0.3
            replica.do(PutQueue(Queue(draw.choice(["q1", "q2"]), paused, draw.randrange(4))))
        elif row == 9:
            rate = draw.choice([(0, 0), (2, 100)])
            replica.do(
                PutLimit(Limit(draw.choice(["k1", "k2"]), draw.randrange(3), *rate, burst=2))
            )
        elif row == 10:
            to = draw.choice([Eligibility.ELIGIBLE, Eligibility.ELIGIBLE, *Eligibility])
            replica.do(SetEligibility(draw.choice(NODES), to))
        elif row == 11:
            labels = {"zone": draw.choice("xyz")} if draw.random() < 0.5 else {}
            replica.do(SetNodeLabels(draw.choice(NODES), labels))
        elif row == 12 and draw.random() < 0.3:
            node = replica.state.nodes[draw.choice(NODES)]
            replica.do(NodeLost(node.id, node.incarnation))
            self.register(node.id)
        elif row == 13 and draw.random() < 0.2:
            replica.do(UpdateSettings(Settings(ageing_ms=draw.choice([0, 1, 1_000]))))
            if draw.random() < 0.3:
                # Far enough for what waits for a rate to wait for another instant.
                replica.do(ResetClock(replica.state.now + draw.choice([-500, 50])))
        replica.do(FireTimers())

    def end_something(self) -> None:
        """An attempt ends."""
        held = [task_id for ids in self.state.by_node.values() for task_id in ids]
        if held:
            task = self.replica.task(self.draw.choice(held))
            end = self.draw.choice(["succeeded", "failed", "failed"])
            self.replica.do(finished(task.id, task.token, end, node_id=task.node))


def restored(state: State) -> State:
    """The same by way of a snapshot: nothing was looked at yet."""
    return codec.restore_state(dump(state))


@pytest.mark.parametrize("seed", range(200 if os.environ.get("RAFTSCHED_SOAK") else 6))
def test_plans_are_those_of_a_planner_that_looks_at_everything(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(board, "SHAPES_MAX", 2)
        monkeypatch.setattr(board, "STALE_MAX", 1)
    world = World(seed)
    for step in range(80):
        world.happen()
        state = world.state
        ahead = {"n1": world.draw.randrange(2)}
        policy = PlanPolicy(
            world.draw.choice([1, 3, 100]), ahead, state.now + world.draw.choice([0, 0, 30])
        )
        before = list(state.ready)
        found = plan(state, policy).assignments
        assert list(state.ready) == before
        assert found == plain_plan(state, policy)
        if step % 8 == 0:
            assert plan(restored(state), policy).assignments == found
        assert plan(state, policy).assignments == found
        if found and world.draw.random() < 0.8:
            # Some plans are never applied: nobody may wait for them.
            hold(world, policy, found)


def hold(world: World, policy: PlanPolicy, found: tuple[Assignment, ...]) -> None:
    """Apply a plan: nothing is refused, nothing is oversold."""
    state, replica = world.state, world.replica
    now = max(policy.now, state.now)
    replica.now = max(replica.now, now)
    outcome: Any = replica.accepted(AssignTasks(found))
    assert [item for item in outcome if isinstance(item, Rejected)] == []
    for assignment in found:
        task = replica.task(assignment.task_id)
        queue = state.queues.get(task.queue)
        if queue is not None and queue.concurrency:
            assert state.queue_use[task.queue].held <= queue.concurrency
        for key in task.policy.limits:
            count = state.limits.get(key, Limit(key)).count
            assert not count or state.limit_use[key] <= count
        usage, node = state.usage[task.node], state.nodes[task.node]
        assert usage.cpu_milli <= node.cpu_milli
        for name, held in (usage.resources or {}).items():
            assert held <= dict(node.resources)[name]


def test_a_pass_that_has_too_much_to_look_at_is_gone_on_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board, "FILED_MAX", 4)
    replica = Replica()
    replica.accepted(register("n1", slots=1))
    for number in range(10):
        replica.submit(f"t{number}", priority=number)
    passes = [plan(replica.state, PlanPolicy()) for _ in range(4)]
    assert [found.is_partial for found in passes] == [True, True, False, False]
    assert [len(found.assignments) for found in passes] == [0, 0, 1, 1]
    assert passes[2].assignments[0].task_id == "t9"


def test_what_is_parked_and_gone_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "STALE_MAX", 8)
    replica = Replica()
    replica.accepted(register("n1", slots=1))
    replica.accepted(PutQueue(Queue("q", paused=True)))
    for number in range(300):
        policy = Policy(limits=(f"k{number}",))
        replica.submit("t", queue="q", policy=policy)
        assert plan(replica.state, PlanPolicy()).assignments == ()
        replica.accepted(CancelTask("t"))
        delete_task(replica.state, replica.task("t"))
    kept = replica.state.board
    streams = sum(len(parked) for parked in kept.parked.values())
    assert max(streams, len(kept._streams)) < 50
    assert not replica.state.ready.fresh


def test_tasks_that_are_told_apart_by_a_limit_only_are_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica()
    replica.accepted(register("n1", slots=4))
    for number in range(200):
        replica.submit(f"a{number}", policy=Policy(limits=("shut",), backoff_max_ms=number))
        replica.submit(f"b{number}", policy=Policy(limits=(f"k{number}",)))
    replica.run("a0")
    assert plan(replica.state, PlanPolicy(limit=1)).assignments[0].task_id == "b0"
    looked: list[Any] = []
    shut = Permits.shut

    def counted(self: Permits, gate: Any) -> Any:
        looked.append(gate)
        return shut(self, gate)

    monkeypatch.setattr(Permits, "shut", counted)
    assert plan(replica.state, PlanPolicy(limit=1)).assignments[0].task_id == "b0"
    assert len(looked) <= 3
    monkeypatch.undo()
    replica.accepted(finished("a0", replica.task("a0").token))
    found = plan(replica.state, PlanPolicy(limit=2)).assignments
    assert [assignment.task_id for assignment in found] == ["b0", "a1"]


def test_a_bounded_number_of_lanes_is_tried_beyond_the_known_shapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board, "SHAPES_MAX", 0)
    monkeypatch.setattr(planner, "LANES_TRIED_MAX", 5)
    replica = Replica()
    replica.accepted(register("n1", cpu_milli=1_000))
    for number in range(12):
        replica.submit(f"big{number}", cpu_milli=2_000 + number)
    replica.submit("small")
    for _ in range(3):
        # The next pass goes on behind those that the one before has tried, and begins anew at last.
        passes = [plan(replica.state, PlanPolicy()) for _ in range(3)]
        assert [found.is_partial for found in passes] == [True, True, False]
        assert [[a.task_id for a in found.assignments] for found in passes] == [[], [], ["small"]]
    replica.submit("first", priority=90)
    found = plan(replica.state, PlanPolicy())
    assert [a.task_id for a in found.assignments] == ["first"]


def test_shapes_that_nobody_needs_any_more_make_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board, "SHAPES_MAX", 4)
    monkeypatch.setattr(board, "SHAPES_LOOKED_EVERY", 2)
    replica = Replica()
    replica.accepted(register("n1", cpu_milli=100, slots=1_000))
    for number in range(40):
        replica.submit(f"big{number}", cpu_milli=2_000 + number)
        assert plan(replica.state, PlanPolicy()).assignments == ()
        replica.submit(f"t{number}", cpu_milli=number)
        placed = plan(replica.state, PlanPolicy()).assignments
        assert [a.task_id for a in placed] == [f"t{number}"]
        replica.accepted(CancelTasks((f"big{number}", f"t{number}")))
        # One that comes back to a shape that was forgotten.
        replica.submit(f"again{number}", cpu_milli=max(0, number - 10))
        placed = plan(replica.state, PlanPolicy()).assignments
        assert [a.task_id for a in placed] == [f"again{number}"]
        replica.accepted(CancelTasks((f"again{number}",)))
    kept = replica.state.board
    assert len(kept._shapes) <= 4
    assert kept._mixed.first() is None


#: Tasks of different lanes, streams and shapes.
VARIED: dict[str, list[dict[str, Any]]] = {
    "lanes": [{"attempts_max": n} for n in (1, 2, 3)],
    "streams": [{"queue": f"q{n}"} for n in (1, 2, 3)],
    "shapes": [{"cpu_milli": n} for n in (1, 2, 3)],
    "all": [{"attempts_max": 2}, {"queue": "q2"}, {"cpu_milli": 1}, {"queue": "q2"}],
}


@pytest.mark.parametrize("varied", VARIED.values(), ids=VARIED.keys())
def test_tasks_that_ask_for_different_things_go_in_order_of_creation(
    varied: list[dict[str, Any]],
) -> None:
    replica = Replica()
    replica.accepted(register("n1", slots=100))
    names = [f"t{number:02}" for number in range(30)]
    for number, name in enumerate(names):
        replica.submit(name, **varied[number * 7 % 5 % len(varied)])
    found = plan(replica.state, PlanPolicy()).assignments
    assert [assignment.task_id for assignment in found] == names


@pytest.mark.parametrize("varied", VARIED.values(), ids=VARIED.keys())
def test_a_task_that_comes_back_has_its_place_before_those_already_looked_at(
    varied: list[dict[str, Any]],
) -> None:
    replica = Replica()
    replica.accepted(register("n1", slots=3))
    replica.submit("a1", **varied[0])
    replica.submit("b1", **varied[1])
    replica.submit("a2", **varied[0])
    replica.accepted(PauseTask("a1"))
    assert plan(replica.state, PlanPolicy(limit=1)).assignments[0].task_id == "b1"
    replica.accepted(ResumeTask("a1"))
    assert plan(replica.state, PlanPolicy(limit=1)).assignments[0].task_id == "a1"
