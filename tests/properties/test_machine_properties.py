"""Random commands, valid and rubbish: invariants hold, copies agree, refusals change nothing."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from raftsched.core import machine, planner
from raftsched.core.commands import (
    ActivateVersion,
    AddSubtasks,
    ApplyRetention,
    Assignment,
    AssignTasks,
    AttemptFinished,
    AttemptProgress,
    AttemptStarted,
    Batch,
    CancelTask,
    CancelTasks,
    DeleteLimit,
    DeleteQueue,
    DeleteTask,
    DeleteTemplate,
    DrainNode,
    EditTask,
    Entry,
    FireTimers,
    LoseAttempts,
    NodeLeft,
    NodeLost,
    PauseTask,
    PutLimit,
    PutQueue,
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
)
from raftsched.core.handlers import forks
from raftsched.core.model import Eligibility, Limit, NewTask, Queue
from raftsched.core.outcomes import Accepted, Rejected
from raftsched.core.policy import Extra, Policy
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, Speculation
from tests.properties.drawn import (
    ENDS,
    EXTRAS,
    FORKS,
    IDS,
    INCARNATIONS,
    NODES,
    POLICIES,
    STRATEGIES,
    TEMPLATES,
    TOKENS,
)
from tests.properties.schedule_rules import ScheduleRules


class Machine(ScheduleRules):
    """What asks, plans, reports and is away, in any order."""

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
