"""Random trees with twins under random faults, on the pure core.

Rules
1. Two replicas get every entry as a log carries it; one of them is restored from snapshots.
2. After each command the invariants hold, the digests are equal, a refused command changed nothing,
   what has ended stays so, every end is told once, and a pause ends nothing.
3. When the faults are over everything ends, and what has ended can be deleted to the last row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

from raftsched.api import retries
from raftsched.api.problems import Problem
from raftsched.core import planner, speculation
from raftsched.core.commands import (
    ActivateVersion,
    AddSubtasks,
    ApplyRetention,
    AssignTasks,
    AttemptFinished,
    AttemptStarted,
    CancelTask,
    DeleteTask,
    DrainNode,
    FireTimers,
    NodeLost,
    PauseTask,
    RegisterNode,
    ReportAttempts,
    ResumeTask,
    RunNow,
    SetEligibility,
    Speculate,
    Straggler,
    SubmitTasks,
    UpdateSettings,
)
from raftsched.core.handlers.forks import encode
from raftsched.core.items import pieces
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import TERMINAL, Eligibility, NewTask, Settings, Task, TaskStatus
from raftsched.core.outcomes import Rejected
from raftsched.core.policy import ALL_NODES, Extra, Policy
from raftsched.core.state import State
from raftsched.core.trees import is_twin
from raftsched.core.versions import PAUSED_TWINS, WORKFLOWS
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, On, Speculation
from raftsched.testing import runs
from tests.properties.replicas import Replicas
from tests.unit.core.builders import TERM

NODES = ("n1", "n2", "n3")
#: Trees that are open at once, and rows beyond which nothing new is submitted.
TREES_MAX = 4
ROWS_MAX = 120
#: Parts of one fork; more come in pieces.
PARTS_MAX = 5
#: Rounds within which all that is open ends once nothing goes wrong any more.
ROUNDS_MAX = 400
_CANCELLING = TaskStatus.CANCELLING


class Driver:
    """What users, nodes, the leader and time do, by chance."""

    def __init__(self, seed: int, version: int = PAUSED_TWINS) -> None:
        self.chance = Random(seed)
        self.replicas = Replicas(version)
        self.number = 0
        #: Parts that are to follow, by the id of their task.
        self.following: dict[str, tuple[int, Callable[[int], Iterator[NewTask]]]] = {}
        self.shunned: frozenset[str] = frozenset()
        self.after = ""
        self.replicas.do(UpdateSettings(Settings(finished_max=30, losses_max=3)))
        for node_id in NODES:
            self.register(node_id)

    @property
    def state(self) -> State:
        return self.replicas.state

    @property
    def counts(self) -> Counter[str]:
        return self.replicas.counts

    def tasks(self, *statuses: TaskStatus) -> list[Task]:
        """Those in these states, or all that have not ended, in the order of their creation."""
        wanted = statuses or tuple(set(TaskStatus) - TERMINAL)
        found = [task for task in self.state.tasks.values() if task.status in wanted]
        return sorted(found, key=lambda task: task.order)

    def step(self) -> None:
        """One thing happens."""
        acts, weights = zip(*_ACTS, strict=True)
        [act] = self.chance.choices(acts, weights)
        act(self)

    # Users --------------------------------------------------------------------------------------

    def submit(self) -> None:
        roots = [task for task in self.tasks() if self.is_root(task)]
        if len(roots) >= TREES_MAX or len(self.state.tasks) > ROWS_MAX:
            return
        self.number += 1
        after = self.chance.choice([*roots, None, None, None]) if roots else None
        depends_on = (Dependency(after.id, self.on()),) if after is not None else ()
        fork, follows = self.fork(), self.chance.random() < 0.2
        if follows:
            fork = Fork(
                b"", fork.parallel_max, fork.failures_max, fork.is_patient, True,
                speculation=fork.speculation,
            )  # fmt: skip
        expires_ms = self.chance.choice([0, 0, 0, 0, 3_000])
        extra = Extra(depends_on=depends_on, fork=fork, expires_ms=expires_ms)
        new = NewTask(f"w{self.number}", b"w", extra=extra)
        if isinstance(self.replicas.do(SubmitTasks((new,))), Rejected):
            return
        if follows:
            count = self.chance.randint(1, 12)
            parts = [NewTask("", b"i", attempts_max=self.chance.randint(1, 2))] * count
            self.following[new.id] = (count, lambda first: iter(parts[first:]))

    def on(self) -> On:
        return self.chance.choice([On.SUCCESS, On.ALWAYS, On.ALWAYS, On.FAILURE])

    def fork(self, depth: int = 0) -> Fork:
        """Of a map, mostly one with twins, or of a workflow."""
        is_map = self.chance.random() < (0.6 if depth else 0.75)
        names = [f"p{number}" for number in range(self.chance.randint(1, PARTS_MAX))]
        parts = [self.part(name, names[:at], depth, is_map) for at, name in enumerate(names)]
        return Fork(
            encode(parts),
            self.chance.choice([0, 0, 2, 3]) if is_map else 0,
            self.chance.choice([0, 1, ANY_NUMBER, ANY_NUMBER]),
            self.chance.random() < 0.6,
            speculation=self.speculation() if is_map else None,
        )

    def speculation(self) -> Speculation | None:
        asked = Speculation(1_000, self.chance.choice([0, 300]), self.chance.choice([0, 20]))
        return self.chance.choice([asked, asked, asked, None])

    def part(self, name: str, before: list[str], depth: int, is_map: bool) -> NewTask:
        policy = Policy(
            backoff_base_ms=self.chance.choice([0, 0, 200]),
            losses_max=self.chance.choice([0, 0, 1]),
        )
        tries = self.chance.choice([1, 1, 2])
        if is_map:
            return NewTask(name, b"m", attempts_max=tries, policy=policy)
        others = self.chance.sample(before, min(len(before), self.chance.randint(0, 2)))
        kind = self.chance.random()
        extra = Extra(
            depends_on=tuple([Dependency(other, self.on()) for other in others]),
            needs=self.chance.choice([0, 1]) if others else 0,
            fork=self.fork(depth + 1) if kind < 0.4 and depth < 2 else None,
            broadcast=ALL_NODES if kind > 0.93 else 0,
        )
        return NewTask(name, b"p", attempts_max=tries, policy=policy, extra=extra)

    def add_pieces(self) -> None:
        """The parts of one task that follow it, or some of them."""
        if not self.following:
            return
        task_id = self.chance.choice([*self.following])
        task = self.state.tasks.get(task_id)
        if task is None or task.extra is None or task.status in TERMINAL or task.extra.stopping:
            del self.following[task_id]
            return
        count, made = self.following[task_id]
        try:
            parts = list(made(task.extra.subtasks))[: self.chance.randint(1, 4)]
        except retries.PartsGone:
            self.replicas.do(AddSubtasks(task_id, 0, (), failure="items-missing"))
            return
        for at, piece in pieces(parts, task.extra.subtasks):
            self.replicas.do(AddSubtasks(task_id, at, piece))
        if self.replicas.task(task_id).extra.subtasks == count:  # type: ignore[union-attr]
            self.replicas.do(AddSubtasks(task_id, count, (), is_last=True))

    def ask(self) -> None:
        """Something of a task that has not ended: a whole, a part or a twin."""
        found = self.tasks()
        if not found:
            return
        kind = self.chance.choice(_VERBS)
        twinned = [t for t in found if t.extra is not None and (t.extra.twin or t.extra.twin_of)]
        whom = self.chance.choice(twinned if twinned and self.chance.random() < 0.5 else found)
        is_fork = whom.extra is not None and whom.extra.fork is not None
        if kind is CancelTask and is_fork and self.chance.random() < 0.5:
            return  # Not all of them end so.
        self.replicas.do(kind(whom.id))
        self.counts[f"{kind.__name__} of a pair"] += whom in twinned

    def retry(self) -> None:
        found = self.tasks(*sorted(TERMINAL))
        if self.chance.random() < 0.9:
            found = [task for task in found if self.is_root(task)]
        if not found or len(self.state.tasks) > ROWS_MAX:
            return
        task, only_failed = self.chance.choice(found), self.chance.random() < 0.6
        self.number += 1
        try:
            asked = retries.retry_of(
                lambda: self.state, task, "", only_failed=only_failed, new_id=f"w{self.number}"
            )
        except Problem as problem:
            self.counts[f"refused {problem.code}"] += 1
            return
        if not isinstance(self.replicas.do(asked.command), Rejected):
            self.counts["retries"] += 1
            if asked.following:
                self.following[f"w{self.number}"] = (asked.following, asked.parts)

    def delete(self) -> None:
        found = self.tasks(*sorted(TERMINAL))
        if self.chance.random() < 0.9:
            found = [task for task in found if self.is_root(task)]
        if found:
            self.replicas.do(DeleteTask(self.chance.choice(found).id))

    def forget(self) -> None:
        self.replicas.do(ApplyRetention(self.chance.randint(1, 6)))

    # The leader and time ------------------------------------------------------------------------

    def plan(self) -> None:
        policy = planner.PlanPolicy(limit=self.chance.choice([1, 3, 100]), now=self.replicas.now)
        found = planner.plan(self.state, policy).assignments
        if found:
            results = self.replicas.do(AssignTasks(found))
            assert not [one for one in results if isinstance(one, Rejected)], "a fresh plan"

    def speculate(self) -> None:
        """As the leader finds them, or whatever runs."""
        if self.chance.random() < 0.7:
            found = speculation.stragglers(
                self.state, self.replicas.now + 1_000, self.shunned, self.after
            )
            late, self.after = found.stragglers, found.last
        else:
            running = self.tasks(TaskStatus.RUNNING)
            late = tuple([Straggler(task.id, task.token) for task in running])
        if late:
            made = self.replicas.do(Speculate(late))
            self.counts["twins"] += len([one for one in made if isinstance(one, str)])

    def fire(self) -> None:
        self.replicas.now += self.chance.choice([0, 50, 500])
        self.replicas.do(FireTimers(self.chance.choice([1, 3, 100])))

    def restore(self) -> None:
        self.replicas.restore()

    def upgrade(self) -> None:
        if self.state.version < PAUSED_TWINS:
            self.replicas.do(ActivateVersion(PAUSED_TWINS))

    # Nodes ----------------------------------------------------------------------------------------

    def held(self) -> list[Task]:
        return self.tasks(*sorted(HOLDING))

    def report(self) -> None:
        """A node tells of some of its attempts, often of a pair at once."""
        node_id = self.chance.choice(NODES)
        held = [task for task in self.held() if task.node == node_id]
        some = self.chance.sample(held, min(len(held), self.chance.randint(1, 3)))
        if not some:
            return
        begun = [task for task in some if not task.started_at]
        ended = [task for task in some if task.started_at and self.is_over(task)]
        self.replicas.now += self.chance.choice([0, 0, 30])
        self.send(node_id, begun, [(task, self.end_of(task)) for task in ended])

    def is_over(self, task: Task) -> bool:
        """Every other attempt takes far longer than the others."""
        is_of_pair = task.extra is not None and (task.extra.twin or task.extra.twin_of)
        is_slow = task.token % 2 and not is_of_pair and task.status is not _CANCELLING
        return self.chance.random() < (0.05 if is_slow else 0.6)

    def end_of(self, task: Task) -> str:
        if task.status is _CANCELLING or task.attempts[-1].is_evicted:
            return self.chance.choice(["cancelled"] * 3 + ["succeeded", "failed"])
        if task.extra is not None and task.extra.twin and self.chance.random() < 0.5:
            return "failed"
        if is_twin(task) and self.chance.random() < 0.5:
            return "succeeded"
        return self.chance.choice(["succeeded"] * 5 + ["failed"] * 3 + ["timed_out", "lost"])

    def send(self, node_id: str, begun: list[Task], ended: list[tuple[Task, str]]) -> None:
        started = tuple([AttemptStarted(task.id, task.token) for task in begun])
        finished = tuple([
            AttemptFinished(task.id, task.token, end, result=b"1" if end == "succeeded" else b"")
            for task, end in ended
        ])  # fmt: skip
        self.replicas.do(ReportAttempts(node_id, self.incarnation(node_id), started, finished))

    def incarnation(self, node_id: str) -> str:
        return self.state.incarnation_of(node_id)

    def register(self, node_id: str) -> None:
        seen = self.incarnation(node_id)
        self.number += 1
        self.replicas.do(
            RegisterNode(
                node_id, f"i{self.number}", "http://x", 4_000, 1 << 30, 4, True, replaces=seen
            )
        )

    def trouble(self) -> None:
        """A node is lost, comes back, is drained, or is given attempts again."""
        node_id, kind = self.chance.choice(NODES), self.chance.random()
        if kind < 0.35:
            self.replicas.do(NodeLost(node_id, self.incarnation(node_id), term=TERM))
        elif kind < 0.7:
            self.register(node_id)
        elif kind < 0.8:
            self.replicas.do(DrainNode(node_id, self.chance.choice([0, 100])))
        else:
            self.replicas.do(SetEligibility(node_id, Eligibility.ELIGIBLE))

    # The end --------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Nothing goes wrong any more: all of it ends."""
        self.restore()
        for node_id in NODES:
            self.register(node_id)
            self.replicas.do(SetEligibility(node_id, Eligibility.ELIGIBLE))
        for task in self.tasks():
            self.replicas.do(ResumeTask(task.id))
        for _ in range(ROUNDS_MAX):
            if not self.tasks():
                break
            self._round()
        left = [(task.id, task.status, task.reason) for task in self.tasks()]
        assert not left, f"after {ROUNDS_MAX} rounds these have not ended: {left}"
        self.check_what_ran()
        self.clear()

    def _round(self) -> None:
        self.add_pieces()
        first = self.state.timers.first()
        if first:
            self.replicas.now = max(self.replicas.now, first)
            self.replicas.do(FireTimers(100))
        self.plan()
        for node_id in NODES:
            held = [task for task in self.held() if task.node == node_id]
            ends = [(t, "cancelled" if t.status is _CANCELLING else "succeeded") for t in held]
            if held:
                self.send(node_id, [task for task in held if not task.started_at], ends)

    def check_what_ran(self) -> None:
        """By the rows alone, as the simulation judges them."""
        rows = list(self.state.tasks.values())
        found = [
            *runs.of_trees(rows), *runs.of_twins(rows), *runs.of_dependencies(rows),
            *runs.of_forks(rows),
        ]  # fmt: skip
        assert not found, found

    def clear(self) -> None:
        """Delete everything, in pieces where it is much."""
        for task in [task for task in self.state.tasks.values() if self.is_root(task)]:
            while self.replicas.do(DeleteTask(task.id)):
                pass
        state = self.state
        assert (len(state.tasks), state.open_count, state.finished.bytes) == (0, 0, 0)
        assert not (state.relations.dependents or state.relations.waiters or state.trees.parents())

    @staticmethod
    def is_root(task: Task) -> bool:
        return task.extra is None or not (task.extra.parent or task.extra.twin_of)


_VERBS = (CancelTask, PauseTask, PauseTask, PauseTask, ResumeTask, ResumeTask, RunNow)
_ACTS: tuple[tuple[Callable[[Driver], None], int], ...] = (
    (Driver.submit, 6),
    (Driver.add_pieces, 4),
    (Driver.ask, 9),
    (Driver.retry, 4),
    (Driver.delete, 2),
    (Driver.forget, 2),
    (Driver.plan, 16),
    (Driver.speculate, 12),
    (Driver.fire, 5),
    (Driver.restore, 1),
    (Driver.upgrade, 1),
    (Driver.report, 36),
    (Driver.trouble, 3),
)


def drive(seed: int, steps: int) -> Counter[str]:
    """One run; what came to pass.  Every third one begins before version 8."""
    driver = Driver(seed, PAUSED_TWINS if seed % 3 else WORKFLOWS)
    for _ in range(steps):
        driver.step()
    driver.settle()
    return driver.counts
