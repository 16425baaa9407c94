"""Random workflows that fail and are tried again, again and again: only what failed runs."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftsched.api import retries
from raftsched.api.problems import Problem
from raftsched.core.commands import AttemptFinished, DeleteTask, ReportAttempts, SubmitTasks
from raftsched.core.dependencies import is_met
from raftsched.core.handlers.forks import encode
from raftsched.core.model import TERMINAL, NewTask, Task, TaskStatus
from raftsched.core.policy import Extra
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, On
from tests.properties.copies import copy, dump
from tests.unit.core.builders import Replica, new_task, register

#: Tries of one workflow after the first.
TRIES_MAX = 4
_SUCCEEDED = TaskStatus.SUCCEEDED


class Node(NamedTuple):
    """A part: what it waits for and how many of these are enough; its parts, how many may fail."""

    others: tuple[tuple[int, On], ...]
    needs: int
    parts: tuple[Node, ...] = ()
    failures_max: int = 0


@st.composite
def parts(draw: st.DrawFn, ons: list[On], depth: int = 0) -> tuple[Node, ...]:
    """Each waits for some before it."""
    found: list[Node] = []
    for number in range(draw(st.integers(1, 5))):
        before: list[int] = []
        if number:
            before = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True))
        others = tuple((other, draw(st.sampled_from(ons))) for other in before)
        needs = draw(st.sampled_from([0, 0, 1])) if others and len(ons) > 1 else 0
        is_fork = depth < 2 and draw(st.integers(0, 3)) == 0
        inner = draw(parts(ons, depth + 1)) if is_fork else ()
        failures_max = draw(st.sampled_from([0, ANY_NUMBER])) if len(ons) > 1 else 0
        found.append(Node(others, needs, inner, failures_max))
    return tuple(found)


def as_task(name: str, node: Node) -> NewTask:
    depends_on = tuple(Dependency(f"p{other}", on) for other, on in node.others)
    fork = None
    if node.parts:
        fork = Fork(encode(as_parts(node.parts)), failures_max=node.failures_max, is_patient=True)
    extra = Extra(depends_on=depends_on, needs=node.needs, fork=fork)
    return new_task(name, extra=None if extra == Extra() else extra)


def as_parts(nodes: tuple[Node, ...]) -> list[NewTask]:
    return [as_task(f"p{number}", node) for number, node in enumerate(nodes)]


class Tried:
    """A cluster with one node, where a workflow is tried until all of it succeeded."""

    def __init__(self) -> None:
        self.replica = Replica()
        self.replica.accepted(register(slots=100))
        #: By the path of a part within its workflow: how often it ran and succeeded.
        self.done: dict[str, int] = {}

    @property
    def tasks(self) -> Any:
        return self.replica.state.tasks

    def below(self, root: str) -> dict[str, Task]:
        """The parts, by their paths."""
        ids = self.replica.state.trees.ids_below(root)
        return {task_id.removeprefix(root): self.replica.task(task_id) for task_id in ids}

    def run(self, root: str, data: st.DataObject, ends: list[str]) -> None:
        """All that may run, one after the other, in some order."""
        while self.replica.task(root).status not in TERMINAL:
            ready = [p for p, t in self.below(root).items() if t.status is TaskStatus.QUEUED]
            path = data.draw(st.sampled_from(ready))
            end = data.draw(st.sampled_from(ends))
            token = self.replica.assign(root + path)
            left = AttemptFinished(root + path, token, end, result=path.encode())
            assert self.replica.accepted(ReportAttempts("n1", "a", finished=(left,))) == ()
            self.done[path] = self.done.get(path, 0) + (end == "succeeded")

    def again(self, old: str, new_id: str) -> bool:
        """Try what failed; False: nothing did."""
        state = self.replica.state
        task = self.replica.task(old)
        try:
            retries.check_can_retry(state, task, only_failed=True)
            new = retries.another(state, task, new_id, only_failed=True)
        except Problem as problem:
            assert problem.code == "task-succeeded"
            return False
        self.replica.accepted(SubmitTasks((new,)))
        return True


def is_leaf(task: Task) -> bool:
    return task.extra is None or task.extra.fork is None


def check_kept(tried: Tried, old: str, new: str) -> None:
    """Right after a try was made: what is kept succeeded before, and on what is kept, too."""
    before, now = tried.below(old), tried.below(new)
    for path, task in now.items():
        was = before[path]
        if not is_leaf(task):
            continue
        if task.product is None:
            assert task.status is not _SUCCEEDED
            continue
        assert (task.status, task.attempts, was.status) == (_SUCCEEDED, (), _SUCCEEDED)
        assert task.product == was.product
        assert task.product.result == path.encode()
        assert task.extra is not None
        ends = [(o.on, tried.replica.task(o.task_id)) for o in task.extra.depends_on]
        met = [t for on, t in ends if t.status in TERMINAL and is_met(on, t.status)]
        assert len(met) >= (task.extra.needs or len(ends)), "it ran on what is run again"


def held(tried: Tried, roots: list[str]) -> None:
    """Trees that results were taken from stay as long as the newest try is open."""
    if tried.replica.task(roots[-1]).status not in TERMINAL:
        dependents = tried.replica.state.relations.dependents
        assert all(roots[-1] in dependents[root] for root in roots[:-1])
    copied = copy(tried.replica.state)
    assert dump(copied) == dump(tried.replica.state)
    assert copied.relations.dependents == tried.replica.state.relations.dependents
    assert copied.finished.bytes == tried.replica.state.finished.bytes


def usual(test: Any) -> Any:
    examples = int(os.environ.get("RAFTSCHED_EXAMPLES", "2000"))
    return settings(
        max_examples=examples if os.environ.get("RAFTSCHED_SOAK") else 60,
        deadline=None,
        derandomize=not os.environ.get("RAFTSCHED_SOAK"),
        suppress_health_check=list(HealthCheck),
    )(test)


def submitted(nodes: tuple[Node, ...]) -> Tried:
    tried = Tried()
    fork = Fork(encode(as_parts(nodes)), is_patient=True)
    tried.replica.accepted(SubmitTasks((new_task("w0", extra=Extra(fork=fork)),)))
    return tried


@usual
@given(nodes=parts([On.SUCCESS]), data=st.data())
def test_each_part_succeeds_once_however_often_the_whole_is_tried(
    nodes: tuple[Node, ...], data: st.DataObject
) -> None:
    tried, roots = submitted(nodes), ["w0"]
    tried.run("w0", data, ["succeeded", "succeeded", "failed"])
    for number in range(1, TRIES_MAX + 1):
        if not tried.again(roots[-1], f"w{number}"):
            break
        check_kept(tried, roots[-1], f"w{number}")
        roots.append(f"w{number}")
        held(tried, roots)
        is_last = number == TRIES_MAX
        tried.run(roots[-1], data, ["succeeded"] if is_last else ["succeeded", "failed"])
    last = tried.below(roots[-1])
    assert tried.replica.task(roots[-1]).status is _SUCCEEDED
    leaves = {path: task for path, task in last.items() if is_leaf(task)}
    assert {path: tried.done[path] for path in leaves} == dict.fromkeys(leaves, 1)
    for path, task in leaves.items():
        assert task.product is not None and task.product.result == path.encode()
    for root in roots:
        tried.replica.accepted(DeleteTask(root))
    assert len(tried.tasks) == 0


@usual
@given(nodes=parts(list(On)), data=st.data())
def test_what_ran_on_what_failed_is_run_again(nodes: tuple[Node, ...], data: st.DataObject) -> None:
    tried, roots = submitted(nodes), ["w0"]
    tried.run("w0", data, ["succeeded", "succeeded", "failed"])
    for number in range(1, TRIES_MAX + 1):
        if not tried.again(roots[-1], f"w{number}"):
            break
        check_kept(tried, roots[-1], f"w{number}")
        roots.append(f"w{number}")
        held(tried, roots)
        tried.run(roots[-1], data, ["succeeded", "succeeded", "failed"])
    for root in roots:
        tried.replica.accepted(DeleteTask(root))
