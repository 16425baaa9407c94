"""Which subtasks are worth a second run: what the leader looks at, and how much of it."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.core import speculation
from raftsched.core.commands import (
    AddSubtasks,
    Assignment,
    AssignTasks,
    CancelTask,
    DrainNode,
    PauseTask,
    ReportAttempts,
    Speculate,
    Straggler,
    SubmitTasks,
)
from raftsched.core.handlers.forks import encode
from raftsched.core.model import NewTask
from raftsched.core.policy import Delivery, Extra, Policy
from raftsched.core.speculation import LISTED_MAX, Found, stragglers
from raftsched.core.workflow import ANY_NUMBER, Fork, Speculation
from tests.unit.core.builders import Replica, finished, new_task, register, started

#: Twice the median, when half of them have succeeded, after a second.
ASKED = Speculation(2_000, 500, 1_000)
TOOK_MS = 4_000


def running(count: int = 4, task_id: str = "w", **fields: Any) -> Replica:
    """So many subtasks that began on n1 at the same instant; n2 has room."""
    replica = Replica()
    replica.accepted(register("n1", slots=1_000_000, cpu_milli=1_000_000))
    replica.accepted(register("n2", slots=50))
    begin(replica, count, task_id, **fields)
    return replica


def begin(
    replica: Replica,
    count: int,
    task_id: str = "w",
    *,
    asked: Speculation = ASKED,
    new: NewTask | None = None,
    **fork: Any,
) -> None:
    whole = Fork(is_open=True, speculation=asked, failures_max=ANY_NUMBER, **fork)
    replica.accepted(SubmitTasks((new_task(task_id, extra=Extra(fork=whole)),)))
    parts = (new or NewTask("", b"spec"),) * count
    for first in range(0, count, 1_000):
        replica.accepted(AddSubtasks(task_id, first, parts[first : first + 1_000]))
    replica.accepted(AddSubtasks(task_id, count, (), is_last=True))
    ids = [i for i in replica.state.trees.ids_of(task_id) if replica.task(i).status == "queued"]
    now = replica.now
    replica.accepted(AssignTasks(tuple([Assignment(i, "n1", "a") for i in ids])))
    reports = [started(i, replica.task(i).token).started[0] for i in ids]
    assert replica.do(ReportAttempts("n1", "a", tuple(reports)), now) is not None
    replica.now = now


def succeed(replica: Replica, *numbers: int, task_id: str = "w", after_ms: int = TOOK_MS) -> None:
    """These took so long."""
    reports = [
        finished(f"{task_id}.{n}", replica.task(f"{task_id}.{n}").token).finished[0]
        for n in numbers
    ]
    at = replica.latest(f"{task_id}.{numbers[0]}").started_at + after_ms
    replica.do(ReportAttempts("n1", "a", (), tuple(reports)), at)
    replica.now = at


def look(replica: Replica, late_ms: int, shunned: frozenset[str] = frozenset()) -> list[str]:
    """Ids of what is found so long after they all began."""
    first = replica.latest(next(iter(replica.state.trees.ids_of("w")))).started_at
    found = stragglers(replica.state, first + late_ms, shunned)
    return [late.task_id for late in found.stragglers]


def test_what_runs_longer_than_the_factor_times_the_median_is_late() -> None:
    replica = running()
    succeed(replica, 0, 2)
    assert look(replica, 2 * TOOK_MS) == []
    assert look(replica, 2 * TOOK_MS + 1) == ["w.1", "w.3"]


def test_the_median_is_not_moved_by_one_that_took_very_long() -> None:
    replica = running(6)
    succeed(replica, 0, 1)
    succeed(replica, 2, after_ms=100 * TOOK_MS)
    assert look(replica, 100 * TOOK_MS) == ["w.3", "w.4", "w.5"]


def test_one_that_was_overtaken_took_as_long_as_its_twin() -> None:
    replica = running(asked=Speculation(2_000, 0, 0))
    succeed(replica, 0, after_ms=1_000)
    assert look(replica, 2_001) == ["w.1", "w.2", "w.3"]
    replica.accepted(Speculate((Straggler("w.1", replica.task("w.1").token),)))
    token, before = replica.run("w.1~2", "n2"), replica.now
    report = finished("w.1~2", token, node_id="n2")
    assert replica.do(report, before + 8_000) is not None
    replica.finish("w.1", "cancelled")
    began, twin = replica.latest("w.2").started_at, replica.latest("w.1~2")
    median = twin.finished_at - twin.started_at
    assert median >= 8_000
    for late_ms, found in ((2 * median, []), (2 * median + 1, ["w.2", "w.3"])):
        seen = stragglers(replica.state, began + late_ms, frozenset()).stragglers
        assert [late.task_id for late in seen] == found


def test_what_is_kept_took_as_long_as_it_did_in_the_earlier_try() -> None:
    replica = running(4, "v")
    succeed(replica, 0, 1, 2, task_id="v")
    replica.finish("v.3", "failed")
    parts = [NewTask(str(n), b"spec", extra=Extra(keeps=f"v.{n}")) for n in range(4)]
    fork = Fork(encode(parts), speculation=ASKED)
    replica.accepted(SubmitTasks((new_task("w", extra=Extra(keeps="v", fork=fork)),)))
    replica.run("w.3", "n1")
    began = replica.latest("w.3").started_at
    for late_ms, found in ((2 * TOOK_MS, []), (2 * TOOK_MS + 1, ["w.3"])):
        seen = stragglers(replica.state, began + late_ms, frozenset()).stragglers
        assert [late.task_id for late in seen] == found


def test_nothing_is_late_before_its_least_time() -> None:
    replica = running(asked=Speculation(1_000, 0, 9_000))
    succeed(replica, 0, after_ms=10)
    assert (look(replica, 9_000), look(replica, 9_001)) == ([], ["w.1", "w.2", "w.3"])


@pytest.mark.parametrize(("share_permille", "found"), [(500, 2), (510, 0), (1_000, 0), (0, 2)])
def test_so_many_have_to_have_succeeded(share_permille: int, found: int) -> None:
    replica = running(asked=Speculation(2_000, share_permille, 0))
    assert look(replica, 10**6) == []
    succeed(replica, 0, 1)
    assert len(look(replica, 10**6)) == found


def test_what_was_not_tried_at_all_is_first() -> None:
    replica = running(4, parallel_max=3)
    succeed(replica, 0, 1)
    assert look(replica, 10**6) == []
    assert [replica.task(f"w.{n}").status for n in (2, 3)] == ["running", "queued"]


def test_those_with_twins_count_in_what_may_run_at_once() -> None:
    replica = running(5, parallel_max=5)
    succeed(replica, 0, 1, 2, 3)
    assert look(replica, 10**6) == ["w.4"]
    replica = running(5, parallel_max=3, asked=Speculation(2_000, 0, 0))
    succeed(replica, 0)
    assert look(replica, 10**6) == []


def test_what_has_a_twin_or_is_told_otherwise_is_not_found() -> None:
    replica = running(8)
    succeed(replica, 0, 1, 2, 3)
    found = stragglers(replica.state, 10**9, frozenset()).stragglers
    assert [late.task_id for late in found] == ["w.4", "w.5", "w.6", "w.7"]
    replica.accepted(Speculate(found[:1]))
    replica.assign("w.4~2", "n2")
    replica.accepted(CancelTask("w.5"))
    replica.accepted(PauseTask("w.6"))
    assert look(replica, 10**6) == ["w.7"]
    replica.accepted(DrainNode("n1"))
    assert look(replica, 10**6) == []


@pytest.mark.parametrize("policy", [Policy(limits=("m",)), Policy(delivery=Delivery.AT_MOST_ONCE)])
def test_what_may_be_there_once_is_not_found(policy: Policy) -> None:
    replica = Replica()
    replica.accepted(register("n1", slots=1_000))
    replica.accepted(register("n2"))
    parts = [new_task("a", policy=policy), *[new_task(f"b{n}") for n in range(3)]]
    fork = Fork(encode(parts), speculation=Speculation(2_000, 0, 0))
    replica.accepted(SubmitTasks((new_task("w", extra=Extra(fork=fork)),)))
    for name in ("a", "b0", "b1", "b2"):
        replica.run(f"w.{name}")
    replica.finish("w.b2")
    assert look(replica, 10**6) == ["w.b0", "w.b1"]


def test_there_has_to_be_room_on_another_node() -> None:
    replica = running(8, new=NewTask("", b"spec", cpu_milli=1_500))
    succeed(replica, 0, 1, 2, 3)
    assert look(replica, 10**6) == ["w.4", "w.5"], "n2 has 4,000 milli-cores"
    assert look(replica, 10**6, frozenset({"n2"})) == []
    replica.accepted(register("n2", slots=0, clean=False))
    assert look(replica, 10**6) == []


def test_those_that_began_first_are_first() -> None:
    replica = running(4, new=NewTask("", b"spec", cpu_milli=4_000, attempts_max=3))
    succeed(replica, 0, 1)
    replica.finish("w.2", "lost")
    replica.run("w.2", "n1")
    assert look(replica, 10**6) == ["w.3"]


def test_of_very_many_some_are_looked_at() -> None:
    count = LISTED_MAX + 500
    replica = running(count)
    succeed(replica, *range(count - 3))
    assert look(replica, 10**6) == [f"w.{n}" for n in range(count - 3, count)]
    _, rows = speculation._late(
        replica.state, replica.task("w"), replica.state.trees._subtasks["w"], 10**9
    )
    assert rows <= speculation.SAMPLES_MAX + 3


def test_a_look_ends_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "LOOKED_MAX", 1)
    replica = running(4, "v")
    begin(replica, 4, "w")
    for task_id in ("v", "w"):
        succeed(replica, 0, 1, task_id=task_id)
    first = stragglers(replica.state, 10**9, frozenset())
    second = stragglers(replica.state, 10**9, frozenset(), first.last)
    third = stragglers(replica.state, 10**9, frozenset(), second.last)
    assert [late.task_id for late in first.stragglers] == ["v.2", "v.3"]
    assert [late.task_id for late in second.stragglers] == ["w.2", "w.3"]
    assert third == first


def test_no_look_finds_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "FOUND_MAX", 3)
    replica = running(12)
    succeed(replica, *range(6))
    assert look(replica, 10**6) == ["w.6", "w.7", "w.8"]


def test_forks_that_do_not_ask_or_are_over_are_not_looked_at() -> None:
    replica = Replica()
    replica.accepted(register("n1"))
    whole = Fork(encode([new_task("a")]))
    replica.accepted(SubmitTasks((new_task("v", extra=Extra(fork=whole)),)))
    assert stragglers(replica.state, 10**9, frozenset()) == Found((), "")
    begin(replica, 1, "w")
    assert list(replica.state.relations.speculative) == ["w"]
    replica.accepted(CancelTask("w"))
    assert list(replica.state.relations.speculative) == []
