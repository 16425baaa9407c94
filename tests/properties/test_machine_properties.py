"""Random commands, valid and rubbish: invariants hold, copies agree, refusals change nothing."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raftsched.core import codec, invariants, machine, planner, rooms, strategies
from raftsched.core.commands import (
    ENTRY_VERSION,
    ActivateVersion,
    AddSubtasks,
    ApplyRetention,
    Assignment,
    AssignTasks,
    AttemptFinished,
    AttemptProgress,
    AttemptStarted,
    BackfillSchedule,
    Batch,
    CancelTask,
    CancelTasks,
    DeleteLimit,
    DeleteQueue,
    DeleteSchedule,
    DeleteTask,
    DeleteTemplate,
    DrainNode,
    EditTask,
    Entry,
    Fire,
    FireSlots,
    FireTimers,
    LoseAttempts,
    NodeLeft,
    NodeLost,
    PauseSchedule,
    PauseTask,
    PutLimit,
    PutQueue,
    PutSchedule,
    PutTemplate,
    RegisterNode,
    ReportAttempts,
    ResetClock,
    ResumeTask,
    RunNow,
    SetEligibility,
    SetNodeLabels,
    Speculate,
    Straggler,
    SubmitTasks,
    TriggerSchedule,
    UpdateSettings,
)
from raftsched.core.handlers import ends, forks, tasks
from raftsched.core.model import TERMINAL, Eligibility, Limit, NewTask, Queue, Settings, Task
from raftsched.core.outcomes import Accepted, Rejected
from raftsched.core.policy import (
    ALL_NODES,
    Affinity,
    Backoff,
    Constraint,
    Delivery,
    Extra,
    Op,
    Policy,
    RetryNode,
)
from raftsched.core.products import Product
from raftsched.core.schedule import UNRECKONED, Misfire, Overlap, Schedule, slot_key
from raftsched.core.state import State
from raftsched.core.trees import Subtasks
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, On, Speculation

IDS = st.sampled_from(
    [f"t{i}" for i in range(12)]
    + ["t1.0", "t1.1", "t1.2", "t2.a", "t2.b", "t2.1", "t1.0~2", "t2.a~2"]
)
SCHEDULES = st.sampled_from(["s1", "s2"])
TEMPLATES = st.sampled_from(["w1", "w2", ""])
NODES = st.sampled_from(["n1", "n2", "n3"])
INCARNATIONS = st.sampled_from(["a", "b"])
TOKENS = st.integers(0, 30)
ENDS = st.sampled_from(
    ["succeeded", "failed", "timed_out", "cancelled", "rubbish", "lost", "running"]
)
INSTANTS = st.sampled_from([0, 0, 1_005, 2_000, 10_000])
IN_A = Constraint("zone", Op.EQUAL, ("a",))
POLICIES = st.none() | st.builds(
    Policy,
    backoff=st.sampled_from(list(Backoff)),
    backoff_base_ms=st.sampled_from([0, 15, 1_000]),
    retry_on_exit=st.sampled_from([(), (1,), (7,)]),
    queue_timeout_ms=st.sampled_from([0, 35, 5_000]),
    delivery=st.sampled_from(list(Delivery)),
    idempotent=st.booleans(),
    lease_ms=st.sampled_from([0, 3_000]),
    losses_max=st.integers(-1, 3),
    limits=st.sampled_from([(), ("m",), ("m", "s")]),
    retry_node=st.sampled_from(list(RetryNode)),
    resources=st.sampled_from([(), (), (("gpu", 1),)]),
    constraints=st.sampled_from([(), (), (IN_A,)]),
    affinity=st.sampled_from([(), (Affinity(IN_A, 50),)]),
)
STRATEGIES = st.sampled_from(sorted(strategies.STRATEGIES))
DEPENDENCIES = st.lists(st.builds(Dependency, IDS, st.sampled_from(list(On))), max_size=3).map(
    tuple
)
#: What a part is another try of.
KEEPS = st.sampled_from(["", "", "t1", "t1.0", "t1.1", "t2.a", "t2.b", "t3.a"])
PARTS = st.lists(
    st.builds(
        NewTask,
        st.sampled_from(["a", "b", "c", "a"]),
        st.just(b"z"),
        attempts_max=st.sampled_from([1, 1, 0]),
        extra=st.none()
        | st.builds(Extra, keeps=KEEPS)
        | st.builds(
            Extra,
            keeps=KEEPS,
            depends_on=st.lists(
                st.builds(Dependency, st.sampled_from(["a", "b"]), st.sampled_from(list(On))),
                max_size=2,
            ).map(tuple),
            delay_ms=st.sampled_from([0, 40]),
            broadcast=st.sampled_from([0, 0, ALL_NODES, 3]),
            fork=st.sampled_from([None, None, Fork(), Fork(is_open=True)])
            | st.builds(Fork, st.just(forks.encode([NewTask("x", b"z"), NewTask("y", b"z")]))),
        ),
    ),
    max_size=4,
    unique_by=lambda part: part.id,
)
FORKS = st.builds(
    Fork,
    PARTS.map(forks.encode) | st.just(b""),
    parallel_max=st.sampled_from([0, 0, 1, 2, -1]),
    failures_max=st.sampled_from([0, 1, ANY_NUMBER]),
    is_patient=st.booleans(),
    is_open=st.booleans(),
    has_begun=st.sampled_from([False, False, False, True]),
    speculation=st.sampled_from([None, Speculation(), Speculation(1_000, 0, 0), Speculation(1)]),
)
EXTRAS = st.none() | st.builds(
    Extra,
    not_before=INSTANTS,
    deadline=INSTANTS,
    delay_ms=INSTANTS,
    expires_ms=INSTANTS,
    unique_key=st.sampled_from(["", "u", "v"]),
    on_conflict=st.sampled_from(["reject", "return", "replace"]),
    after=st.sampled_from(["", "t1"]),
    broadcast=st.sampled_from([0, 0, ALL_NODES, 2, -2]),
    subtasks=st.sampled_from([0, 0, 0, 1]),
    depends_on=st.sampled_from([(), ()]) | DEPENDENCIES,
    needs=st.sampled_from([0, 0, 1]),
    fork=st.none() | FORKS,
    keeps=st.sampled_from(["", "", "t1", "t2.a"]),
    twin=st.sampled_from(["", "", "", "t1"]),
    twin_of=st.sampled_from(["", "", "", "t1"]),
    borrowed=st.sampled_from([None, None, None, Product("t1", "n1", 1, 1)]),
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

    def __init__(self) -> None:
        # So small that what is done in pieces takes several.
        self._usual = (forks.WINDOW, ends.STOPPED_MAX, tasks.DELETED_MAX)
        forks.WINDOW, ends.STOPPED_MAX, tasks.DELETED_MAX = 3, 1, 1
        super().__init__()

    def teardown(self) -> None:
        forks.WINDOW, ends.STOPPED_MAX, tasks.DELETED_MAX = self._usual

    @initialize(new=st.sampled_from([True, True, False]))
    def begin(self, new: bool) -> None:
        self.index = 0
        self.now = 1_000
        self.states = [State("c"), State("c")]
        self.ended: dict[str, Any] = {}
        small = Settings(tasks_open_max=14, keys_max=3, finished_max=4, losses_max=2)
        self.do(UpdateSettings(small))
        if new:
            self.do(ActivateVersion(ENTRY_VERSION))

    def do(self, command: Any) -> Any:
        self.index += 1
        self.now += 10
        batch = Batch("n1", 1, self.index, (command,))
        version = command.version if isinstance(command, ActivateVersion) else ENTRY_VERSION
        entry = Entry(max(1, version), 1, self.now, (batch,))
        entry = codec.decode_entry(codec.encode_entry(entry))
        before = copy(self.states[0])
        outcomes = [machine.apply(s, self.index, entry).outcomes[0][0] for s in self.states]
        assert outcomes[0] == outcomes[1]
        outcome = outcomes[0]
        if isinstance(outcome, Rejected):
            assert outcome.reason != "internal", outcome
            before.index, before.now = self.index, self.states[0].now
            assert dump(before) == dump(self.states[0]), "a refused command changed something"
        elif isinstance(command, AssignTasks):
            self._hold_capacities(outcome.value)
        return outcome

    def _hold_capacities(self, results: Any) -> None:
        """What an entry placed, its node had room for, and its queue and limits."""
        state = self.states[0]
        for placed in results:
            if not isinstance(placed, Rejected):
                node, usage = state.nodes[placed.node], state.usage[placed.node]
                assert usage.attempts <= node.slots + rooms.AHEAD_MAX
                assert usage.cpu_milli <= node.cpu_milli
                assert usage.memory_bytes <= node.memory_bytes
                assert (usage.resources or {}).get("gpu", 0) <= 1
                held = [state.tasks.get(task_id) for task_id in state.by_node[placed.node]]
                for task in held:
                    assert task is not None
                    if task.token == placed.token:
                        self._hold_gates(task)

    def _hold_gates(self, task: Task) -> None:
        state = self.states[0]
        queue = state.queues.get(task.queue)
        if queue is not None:
            assert not queue.paused
            assert not queue.concurrency or state.queue_use[task.queue].held <= queue.concurrency
        for key in task.policy.limits:
            count = state.limits.get(key, Limit(key)).count
            assert not count or state.limit_use[key] <= count

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

    @rule(ids=st.lists(IDS, min_size=1, max_size=3), tries=st.integers(1, 3), data=st.data())
    def submit_special(self, ids: list[str], tries: int, data: st.DataObject) -> None:
        tasks = tuple(
            NewTask(
                i,
                b"y",
                strategy=data.draw(STRATEGIES),
                attempts_max=tries,
                policy=data.draw(POLICIES),
                extra=data.draw(EXTRAS),
            )
            for i in ids
        )
        self.do(SubmitTasks(tasks))

    @rule(task=IDS, fork=FORKS, after=st.sampled_from([(), (Dependency("t1"),)]))
    def submit_fork(self, task: str, fork: Fork, after: tuple[Dependency, ...]) -> None:
        self.do(SubmitTasks((NewTask(task, b"f", extra=Extra(fork=fork, depends_on=after)),)))

    @rule(
        task=IDS,
        first=st.integers(0, 4),
        count=st.integers(0, 4),
        is_last=st.booleans(),
        failure=st.sampled_from(["", "", "", "items-not-json"]),
    )
    def add_subtasks(self, task: str, first: int, count: int, is_last: bool, failure: str) -> None:
        parts = tuple([NewTask("", b"i")] * count)
        self.do(AddSubtasks(task, first, parts, is_last, failure))

    @rule(task=IDS, old=IDS, first=st.integers(0, 3), count=st.integers(1, 3), last=st.booleans())
    def add_again(self, task: str, old: str, first: int, count: int, last: bool) -> None:
        """Parts of a map that keep those of another one."""
        parts = [NewTask("", b"i", extra=Extra(keeps=f"{old}.{first + n}")) for n in range(count)]
        self.do(AddSubtasks(task, first, tuple(parts), last))

    @rule(task=IDS, policy=POLICIES, extra=EXTRAS, if_index=st.sampled_from([0, 0, 0, 3]))
    def edit(self, task: str, policy: Policy | None, extra: Extra | None, if_index: int) -> None:
        new = NewTask(task, b"edited", "other", 60, policy=policy, extra=extra)
        self.do(EditTask(new, if_index))

    @rule(task=IDS)
    def run_now(self, task: str) -> None:
        self.do(RunNow(task))

    @rule(ahead=st.sampled_from([0, 40, 3_000]), limit=st.integers(-1, 4))
    def fire(self, ahead: int, limit: int) -> None:
        self.now += ahead
        outcome = self.do(FireTimers(limit))
        if isinstance(outcome, Accepted) and outcome.value < limit:
            first = self.states[0].timers.first()
            assert not first or first > self.states[0].now, "something due was left"

    @rule(node=NODES, incarnation=INCARNATIONS, silent=st.sampled_from([0, 2_000, 3_500, 9_000]))
    def lose_attempts(self, node: str, incarnation: str, silent: int) -> None:
        self.do(LoseAttempts(node, incarnation, 1, silent))

    @rule(
        name=st.sampled_from(["q", "default"]),
        depth=st.integers(0, 3),
        most=st.integers(-1, 2),
        paused=st.booleans(),
    )
    def put_queue(self, name: str, depth: int, most: int, paused: bool) -> None:
        self.do(PutQueue(Queue(name, paused, most, depth)))

    @rule(name=st.sampled_from(["q", "default", "other"]))
    def delete_queue(self, name: str) -> None:
        self.do(DeleteQueue(name))

    @rule(key=st.sampled_from(["m", "s"]), count=st.integers(0, 2), rate=st.integers(0, 2))
    def put_limit(self, key: str, count: int, rate: int) -> None:
        self.do(PutLimit(Limit(key, count, rate, 50 * bool(rate), 1)))

    @rule(key=st.sampled_from(["m", "s"]))
    def delete_limit(self, key: str) -> None:
        self.do(DeleteLimit(key))

    @rule(ids=st.lists(IDS, max_size=4), spare=st.booleans())
    def cancel_many(self, ids: list[str], spare: bool) -> None:
        self.do(CancelTasks(tuple(ids), spare_running=spare))

    @rule(node=NODES, zone=st.sampled_from(["a", "b"]))
    def label(self, node: str, zone: str) -> None:
        self.do(SetNodeLabels(node, {"zone": zone}))

    @rule(node=NODES, patience=st.sampled_from([-1, 0, 0, 25, 2_000]))
    def drain(self, node: str, patience: int) -> None:
        self.do(DrainNode(node, patience))

    @rule(task=IDS, token=TOKENS, node=NODES, permille=st.integers(-1, 1_001))
    def progress(self, task: str, token: int, node: str, permille: int) -> None:
        news = AttemptProgress(task, token, permille, "half")
        self.do(ReportAttempts(node, "a", progress=(news,)))

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
            node, incarnation, "http://x", 1_000, 1 << 30, a["slots"], a["clean"],
            replaces=replaces, lease_ms=8_000, resources=(("gpu", 1),),
        )  # fmt: skip
        outcome = self.do(command)
        if seen and incarnation != seen != replaces:
            assert isinstance(outcome, Rejected), "a registration that was overtaken"
            assert dict(self.states[0].by_node[node]) == running

    @rule(ahead=st.integers(0, 2))
    def plan(self, ahead: int) -> None:
        found = planner.plan(
            self.states[0],
            planner.PlanPolicy(limit=5, ahead=dict.fromkeys(self.states[0].nodes, ahead)),
        ).assignments
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

    @rule(ids=st.lists(IDS, max_size=3), token=TOKENS)
    def speculate_on_anything(self, ids: list[str], token: int) -> None:
        self.do(Speculate(tuple([Straggler(task_id, token) for task_id in ids])))

    @rule(
        names=st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True),
        most=st.sampled_from([0, 0, 2]),
        tries=st.integers(1, 2),
    )
    def speculate(self, names: list[str], most: int, tries: int) -> None:
        """A fork of which everything runs that may, and has twins then."""
        parts = forks.encode([NewTask(name, b"z", attempts_max=tries) for name in names])
        fork = Fork(parts, most, ANY_NUMBER, speculation=Speculation(1_000, 0, 0))
        self.do(SubmitTasks((NewTask("t3", b"f", extra=Extra(fork=fork)),)))
        for node in ("n1", "n2"):
            seen = self.states[0].incarnation_of(node)
            self.do(RegisterNode(node, "a", "http://x", 1_000, 1 << 30, 3, True, replaces=seen))
        running = [f"t3.{name}" for name in names]
        self.do(AssignTasks(tuple([Assignment(task_id, "n1", "a") for task_id in running])))
        rows = [row for i in running if (row := self.states[0].tasks.get(i)) and row.attempts]
        self.do(ReportAttempts("n1", "a", tuple([AttemptStarted(r.id, r.token) for r in rows])))
        outcome = self.do(Speculate(tuple([Straggler(row.id, row.token) for row in rows])))
        made = [one for one in getattr(outcome, "value", ()) if isinstance(one, str)]
        self.do(AssignTasks(tuple([Assignment(task_id, "n2", "a") for task_id in made])))

    @rule(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
    def keep_what_ran_twice(self, names: list[str]) -> None:
        """Another try of that fork, which keeps what succeeded."""
        parts = [NewTask(name, b"z", extra=Extra(keeps=f"t3.{name}")) for name in names]
        fork = Fork(forks.encode(parts), 0, ANY_NUMBER, speculation=Speculation(1_000, 0, 0))
        self.do(SubmitTasks((NewTask("t4", b"f", extra=Extra(keeps="t3", fork=fork)),)))

    @rule(data=st.data(), end=st.sampled_from(["succeeded", "succeeded", "failed", "lost"]))
    def end_a_pair(self, data: st.DataObject, end: str) -> None:
        """A twin, its part, or both in one report of a node."""
        state = self.states[0]
        twins = [i for ids in state.by_node.values() for i in ids if i.endswith("~2")]
        if not twins:
            return
        twin = state.tasks.get(data.draw(st.sampled_from(sorted(twins))))
        assert twin is not None and twin.extra is not None
        pair = [twin, state.tasks.get(twin.extra.twin_of)]
        for node in ("n1", "n2", "n3"):
            ended = [
                AttemptFinished(row.id, row.token, data.draw(st.sampled_from([end, "cancelled"])))
                for row in pair
                if row is not None and row.node == node and data.draw(st.booleans())
            ]
            self.do(ReportAttempts(node, "a", (), tuple(ended)))

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

    @rule(version=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8]))
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
        entry = Entry(6, 1, before + ahead, (), agreed)
        for state in self.states:
            machine.apply(state, self.index, entry)
            assert state.now >= before
            if state.version >= 3 and not agreed:
                assert state.now <= before + machine.CLOCK_SKEW_MS_MAX

    @rule(
        name=SCHEDULES,
        timing=st.sampled_from([b"a", b"b"]),
        misfire=st.sampled_from(list(Misfire)),
        overlap=st.sampled_from(list(Overlap)),
        jitter=st.sampled_from([0, 0, 50]),
        extra=st.sampled_from([None, Extra(broadcast=ALL_NODES), Extra(expires_ms=30)]),
        paused=st.sampled_from([False, False, True]),
    )
    def put_schedule(self, name: str, timing: bytes, extra: Extra | None, **a: Any) -> None:
        task = NewTask("", b"s", extra=extra)
        fields = {"misfire": a["misfire"], "overlap": a["overlap"], "jitter_ms": a["jitter"]}
        self.do(PutSchedule(Schedule(name, task, timing, paused=a["paused"], **fields)))

    @rule(name=SCHEDULES, paused=st.booleans())
    def pause_schedule(self, name: str, paused: bool) -> None:
        self.do(PauseSchedule(name, paused))

    @rule(name=SCHEDULES, ends=st.booleans())
    def delete_schedule(self, name: str, ends: bool) -> None:
        self.do(DeleteSchedule(name, ends))

    @rule(name=SCHEDULES)
    def trigger(self, name: str) -> None:
        self.do(TriggerSchedule(name))

    @rule(name=SCHEDULES, first=st.integers(0, 3_000), count=st.integers(0, 3))
    def backfill(self, name: str, first: int, count: int) -> None:
        self.do(BackfillSchedule(name, 1, tuple(range(first, first + 10 * count, 10))))

    @rule(name=SCHEDULES, at=st.integers(-1, 3_000), count=st.integers(0, 3))
    def fire_anything(self, name: str, at: int, count: int) -> None:
        instants = tuple(range(at, at + count))
        self.do(FireSlots((Fire(name, 1, at, instants, at + count),)))

    @rule(count=st.integers(1, 4), step=st.sampled_from([5, 20_000]), ahead=st.integers(0, 9))
    def fire_what_is_due(self, count: int, step: int, ahead: int) -> None:
        """As a leader would, for the schedule that is due first."""
        state = self.states[0]
        self.now += ahead * step
        for name in state.firings.due.due(self.now, 1):
            row = state.schedules.get(name)
            assert row is not None
            if row.next_at == UNRECKONED:
                following = max(row.after, row.resumed_at, state.now) + step
                fired = Fire(name, row.version, UNRECKONED, (), following)
            else:
                instants = tuple(range(row.next_at, self.now + 11, step))[:count]
                fired = Fire(name, row.version, row.next_at, instants, instants[-1] + step)
            before = {k: slot.task_id for k, slot in state.slots.items()}
            outcome = self.do(FireSlots((fired,)))
            if isinstance(outcome, Accepted) and isinstance(outcome.value[0], Accepted):
                for at in fired.instants:
                    assert not before.get(slot_key(name, at)), "an instant ran twice"

    @rule(
        name=TEMPLATES,
        document=st.sampled_from([b"1", b"2", b""]),
        if_index=st.sampled_from([0, 0, 3]),
        is_new=st.sampled_from([False, False, True]),
    )
    def put_template(self, name: str, document: bytes, if_index: int, is_new: bool) -> None:
        before = self.states[0].templates.get(name)
        outcome = self.do(PutTemplate(name, document, "default", if_index, is_new))
        if isinstance(outcome, Accepted):
            is_same = before is not None and before.document == document
            version = 0 if before is None else before.version
            assert outcome.value.version == version + (not is_same)

    @rule(name=TEMPLATES, if_index=st.sampled_from([0, 0, 3]))
    def delete_template(self, name: str, if_index: int) -> None:
        self.do(DeleteTemplate(name, if_index))

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
        list(state.timers),
        (state.relations.unique, state.relations.waiters, state.limit_use, state.spec_bytes),
        (state.relations.dependents, state.relations.expecting, state.finished.bytes),
        state.relations.speculative,
        sorted(state.firings.due),
        {n: (state.firings.runs_of(n), state.firings.slots_of(n)) for n in state.firings.names()},
        {parent: _subtasks(state.trees.of(parent)) for parent in state.trees.parents()},
        {name: use for name, use in state.queue_use.items() if use.open or use.held},
    )


def _subtasks(known: Subtasks | None) -> Any:
    assert known is not None
    orders = ([*known.ids], [*known.held], [*known.twins])
    return orders, known.under_way, known.counts, known.skipped, known.weight


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=int(os.environ.get("RAFTSCHED_EXAMPLES", "2000"))
    if os.environ.get("RAFTSCHED_SOAK")
    else 60,
    stateful_step_count=40,
    deadline=None,
    derandomize=not os.environ.get("RAFTSCHED_SOAK"),
    suppress_health_check=list(HealthCheck),
)
