"""Random commands, valid and rubbish: invariants hold, copies agree, refusals change nothing."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raftsched.core import codec, invariants, machine, planner
from raftsched.core.commands import (
    Accepted,
    ActivateVersion,
    ApplyRetention,
    Assignment,
    AssignTasks,
    AttemptFinished,
    AttemptStarted,
    Batch,
    CancelTask,
    DeleteTask,
    Entry,
    NodeLeft,
    NodeLost,
    PauseTask,
    RegisterNode,
    Rejected,
    ReportAttempts,
    ResetClock,
    ResumeTask,
    SetEligibility,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.model import TERMINAL, Eligibility, NewTask, Settings
from raftsched.core.state import State

IDS = st.sampled_from([f"t{i}" for i in range(12)])
NODES = st.sampled_from(["n1", "n2", "n3"])
INCARNATIONS = st.sampled_from(["a", "b"])
TOKENS = st.integers(0, 30)
ENDS = st.sampled_from(
    ["succeeded", "failed", "timed_out", "cancelled", "rubbish", "lost", "running"]
)


def dump(state: State) -> list[bytes]:
    """The state as a snapshot."""
    chunks = list(codec.snapshot_chunks(state))
    state.end_snapshot()
    return chunks


def copy(state: State) -> State:
    """The same state by way of a snapshot."""
    return codec.restore_state(dump(state))


class Machine(RuleBasedStateMachine):
    """Two copies get the same entries; one is now and then restored from a snapshot."""

    @initialize()
    def begin(self) -> None:
        self.index = 0
        self.now = 1_000
        self.states = [State("c"), State("c")]
        self.ended: dict[str, Any] = {}
        small = Settings(tasks_open_max=9, keys_max=3, finished_max=4, losses_max=2)
        self.do(UpdateSettings(small))

    def do(self, command: Any) -> Any:
        self.index += 1
        self.now += 10
        batch = Batch("n1", 1, self.index, (command,))
        entry = codec.decode_entry(codec.encode_entry(Entry(3, 1, self.now, (batch,))))
        before = copy(self.states[0])
        outcomes = [machine.apply(s, self.index, entry).outcomes[0][0] for s in self.states]
        assert outcomes[0] == outcomes[1]
        outcome = outcomes[0]
        if isinstance(outcome, Rejected):
            assert outcome.reason != "internal", outcome
            before.index, before.now = self.index, self.states[0].now
            assert dump(before) == dump(self.states[0]), "a refused command changed something"
        if isinstance(command, AssignTasks):
            self._hold_capacities(outcome.value)
        return outcome

    def _hold_capacities(self, results: Any) -> None:
        """What an entry placed, its node had room for."""
        for placed in results:
            if not isinstance(placed, Rejected):
                node, usage = self.states[0].nodes[placed.node], self.states[0].usage[placed.node]
                assert usage.attempts <= node.slots + planner.AHEAD_MAX
                assert usage.cpu_milli <= node.cpu_milli
                assert usage.memory_bytes <= node.memory_bytes

    @rule(
        ids=st.lists(IDS, min_size=0, max_size=4),
        priority=st.integers(-1, 101),
        cpu=st.sampled_from([0, 0, 500, 5_000]),
        tries=st.integers(0, 3),
        key=st.sampled_from(["", "", "k1", "k2", "k3", "k4"]),
        body=st.sampled_from([b"1", b"2"]),
        atomic=st.booleans(),
        strategy=st.sampled_from(["spread", "binpack", "rubbish"]),
    )
    def submit(self, **a: Any) -> None:
        tasks = tuple(
            NewTask(i, a["body"], "q", a["priority"], a["cpu"], 0, a["strategy"], a["tries"])
            for i in a["ids"]
        )
        self.do(SubmitTasks(tasks, key=a["key"], request_hash=a["body"], atomic=a["atomic"]))

    @rule(ids=st.lists(IDS, min_size=1, max_size=4, unique=True), cpu=st.sampled_from([0, 500]))
    def submit_good(self, ids: list[str], cpu: int) -> None:
        self.do(SubmitTasks(tuple(NewTask(i, b"x", cpu_milli=cpu, attempts_max=2) for i in ids)))

    @rule(
        node=NODES,
        incarnation=INCARNATIONS,
        clean=st.booleans(),
        slots=st.integers(-1, 3),
        replaces=st.sampled_from(["", "a", "b", None, None]),
    )
    def register(self, node: str, incarnation: str, replaces: str | None, **a: Any) -> None:
        seen = self.states[0].incarnation_of(node)
        running = dict(self.states[0].by_node.get(node, ()))
        if replaces is None:
            replaces = seen
        command = RegisterNode(
            node, incarnation, "http://x", 1_000, 1 << 30, a["slots"], a["clean"], replaces=replaces
        )
        outcome = self.do(command)
        if seen and incarnation != seen != replaces:
            assert isinstance(outcome, Rejected), "a registration that was overtaken"
            assert dict(self.states[0].by_node[node]) == running

    @rule(ahead=st.integers(0, 2))
    def plan(self, ahead: int) -> None:
        found = planner.plan(
            self.states[0],
            planner.PlanPolicy(limit=5, ahead=dict.fromkeys(self.states[0].nodes, ahead)),
        )
        if found:
            outcome = self.do(AssignTasks(found))
            assert isinstance(outcome, Accepted)
            refused = [r for r in outcome.value if isinstance(r, Rejected)]
            assert not refused, "a fresh plan is never refused"

    @rule(ids=st.lists(IDS, max_size=3), node=NODES, incarnation=INCARNATIONS)
    def assign_anything(self, ids: list[str], node: str, incarnation: str) -> None:
        self.do(AssignTasks(tuple(Assignment(i, node, incarnation) for i in ids)))

    @rule(task=IDS, token=TOKENS, node=NODES, end=ENDS, start=st.booleans())
    def report_anything(self, task: str, token: int, node: str, end: str, start: bool) -> None:
        started = (AttemptStarted(task, token),) if start else ()
        finished = (AttemptFinished(task, token, end, exit_code=1),)
        self.do(ReportAttempts(node, "a", started, finished))

    @rule(data=st.data(), end=ENDS, start=st.booleans())
    def report_living(self, data: st.DataObject, end: str, start: bool) -> None:
        held = sorted(i for ids in self.states[0].by_node.values() for i in ids)
        if held:
            task = self.states[0].tasks.get(data.draw(st.sampled_from(held)))
            assert task is not None
            if start:
                self.do(ReportAttempts(task.node, "a", (AttemptStarted(task.id, task.token),)))
            finished = (AttemptFinished(task.id, task.token, end),)
            self.do(ReportAttempts(task.node, "a", (), finished))

    @rule(task=IDS, kind=st.sampled_from([CancelTask, PauseTask, ResumeTask, DeleteTask]))
    def verb(self, task: str, kind: Any) -> None:
        self.do(kind(task))

    @rule(node=NODES, incarnation=st.sampled_from(["a", "b", ""]), left=st.booleans())
    def lose(self, node: str, incarnation: str, left: bool) -> None:
        busy = self.states[0].by_node.get(node)
        if left and not busy:
            self.do(NodeLeft(node, incarnation))
        else:
            self.do(NodeLost(node, incarnation, term=1))

    @rule(node=NODES, to=st.sampled_from(list(Eligibility)))
    def cordon(self, node: str, to: Eligibility) -> None:
        self.do(SetEligibility(node, to))

    @rule(limit=st.integers(0, 3), days=st.sampled_from([0, 2]))
    def retain(self, limit: int, days: int) -> None:
        self.now += days * 86_400_000
        self.do(ApplyRetention(limit))

    @rule(version=st.sampled_from([1, 2, 3, 3, 4]))
    def activate(self, version: int) -> None:
        self.do(ActivateVersion(version))

    @rule(to=st.sampled_from([-1, 1, 900, 100_000]))
    def reset_clock(self, to: int) -> None:
        before = self.states[0].clock_resets
        if isinstance(self.do(ResetClock(to)), Accepted):
            assert (self.states[0].now, self.states[0].clock_resets) == (to, before + 1)

    @rule(ahead=st.integers(-5_000, 50_000), agreed=st.booleans())
    def stamp(self, ahead: int, agreed: bool) -> None:
        """An entry whose time is off: the clock never falls, and jumps only as agreed."""
        before = self.states[0].now
        self.index += 1
        entry = Entry(3, 1, before + ahead, (), agreed)
        for state in self.states:
            machine.apply(state, self.index, entry)
            assert state.now >= before
            if state.version >= 3 and not agreed:
                assert state.now <= before + machine.CLOCK_SKEW_MS_MAX

    @rule()
    def restore(self) -> None:
        self.states[1] = copy(self.states[1])

    @rule(limit=st.integers(0, 5), which=st.integers(0, 1))
    def settle_digest(self, limit: int, which: int) -> None:
        self.states[which].freeze_digest()
        self.states[which].frozen_digest(limit)

    @rule(ids=st.lists(IDS, min_size=1, max_size=3, unique=True), keep=st.booleans())
    def churn(self, ids: list[str], keep: bool) -> None:
        """Tasks that end, are deleted and created again in one entry."""
        commands: list[Any] = []
        for task_id in ids:
            commands += [CancelTask(task_id), DeleteTask(task_id)]
            commands += [SubmitTasks((NewTask(task_id, b"x"),))] * keep
        self.index += 1
        self.now += 10
        entry = Entry(1, 1, self.now, (Batch("n1", 1, self.index, tuple(commands)),))
        one, two = [machine.apply(state, self.index, entry) for state in self.states]
        assert one == two

    @invariant()
    def holds(self) -> None:
        for state in getattr(self, "states", ()):
            assert invariants.check(state) == []
        if hasattr(self, "states"):
            # One of them was restored now and then, the other never: all rows are the same bytes in
            # the same order, and so is all that is derived from them.
            assert dump(self.states[0]) == dump(self.states[1])
            assert _derived(self.states[0]) == _derived(self.states[1])
            assert self.states[0].digest() == self.states[1].digest()
            for task in self.states[0].tasks.values():
                if task.id in self.ended and task.order == self.ended[task.id][0]:
                    assert task.status is self.ended[task.id][1], "a terminal status changed"
                if task.status in TERMINAL:
                    self.ended[task.id] = (task.order, task.status)


def _derived(state: State) -> Any:
    """Everything that is derived, in its order."""
    return (
        list(state.ready),
        {node_id: list(held) for node_id, held in state.by_node.items()},
        state.usage,
        (state.counts, state.open_count, state.finished_count),
        list(state.list_tasks()),
        list(state.list_tasks(newest_first=False)),
        list(state.finished),
        state.oldest_key(),
    )


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=2_000 if os.environ.get("RAFTSCHED_SOAK") else 60,
    stateful_step_count=40,
    deadline=None,
    derandomize=not os.environ.get("RAFTSCHED_SOAK"),
    suppress_health_check=list(HealthCheck),
)
