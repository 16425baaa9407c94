"""Parts that keep what an earlier try of them came to: they end at once, and are not run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from raftsched.core import codec
from raftsched.core.commands import (
    AddSubtasks,
    ApplyRetention,
    AttemptFinished,
    DeleteTask,
    ReportAttempts,
    Speculate,
    Straggler,
    SubmitTasks,
)
from raftsched.core.handlers import forks
from raftsched.core.model import NewTask, Task
from raftsched.core.outcomes import Reason
from raftsched.core.policy import Extra
from raftsched.core.products import Product
from raftsched.core.workflow import Dependency, Fork, On, Speculation
from tests.unit.core.builders import Replica, dump, new_task, register
from tests.unit.core.forks import finish, group, part, replica_with, status, statuses

YEAR_MS = 366 * 86_400_000


def keep(name: str, old: str, *others: str, on: On = On.SUCCESS) -> NewTask:
    """A part that is another try of an old one."""
    return part(name, *others, on=on, keeps=old)


def try_again(replica: Replica, task_id: str, old: str, *parts: NewTask, **fork: Any) -> None:
    extra = Extra(retry_of=old, keeps=old, fork=Fork(forks.encode([*parts]), **fork))
    replica.accepted(SubmitTasks((new_task(task_id, extra=extra),)))


def leave(replica: Replica, task_id: str, result: bytes = b"", size: int = 0) -> None:
    """It runs, and leaves a result."""
    token = replica.assign(task_id)
    ended = AttemptFinished(
        task_id, token, "succeeded", exit_code=0, result=result, result_bytes=size
    )
    assert replica.accepted(ReportAttempts("n1", "a", finished=(ended,))) == ()


def failed_group() -> Replica:
    """``w``: ``a`` left 1, ``b`` failed, ``merge`` never ran."""
    replica = replica_with(
        group("w", part("a"), part("b"), part("merge", "a", "b"), is_patient=True)
    )
    leave(replica, "w.a", b"1")
    finish(replica, "w.b", status="failed")
    assert statuses(replica, "w") == ["succeeded", "failed", "cancelled"]
    return replica


def kept_of(replica: Replica, task_id: str) -> Product | None:
    return replica.task(task_id).product


def test_what_succeeded_ends_at_once_as_it_did_and_counts_for_what_waits_for_it() -> None:
    replica = failed_group()
    before = kept_of(replica, "w.a")
    assert before is not None and (before.task_id, before.result) == ("w.a", b"1")
    try_again(
        replica, "v", "w", keep("a", "w.a"), part("b"), part("merge", "a", "b"), is_patient=True
    )
    assert statuses(replica, "v") == ["succeeded", "queued", "waiting"]
    kept = replica.task("v.a")
    assert (kept.reason, kept.attempts, kept.product) == ("kept", (), before)
    assert kept.finished_at == replica.now
    assert ("task_finished", "v.a") in [(e.kind, e.task_id) for e in replica.events]
    finish(replica, "v.b", "v.merge")
    assert status(replica, "v") == "succeeded"


def test_of_one_whose_parts_are_all_kept_the_whole_ends_in_the_same_entry() -> None:
    replica = failed_group()
    inner = group("in", keep("x", "w.a"))
    try_again(replica, "v", "w", keep("a", "w.a"), inner)
    assert status(replica, "v.in") == "succeeded"
    assert status(replica, "v") == "succeeded"


@pytest.mark.parametrize("old", ["w.b", "w.merge", "w", "nothing", "v", "v.a"])
def test_what_did_not_succeed_or_is_gone_runs_anew(old: str) -> None:
    replica = failed_group()
    try_again(replica, "v", "w", keep("a", old))
    assert statuses(replica, "v") == ["queued"]
    finish(replica, "v.a")
    assert status(replica, "v") == "succeeded"


def test_another_task_under_the_old_id_is_not_it() -> None:
    replica = failed_group()
    other = msgspec.structs.replace(keep("a", "w.a"), spec=b"another")
    extra = Extra(keeps="w", fork=Fork(forks.encode([other])))
    replica.accepted(SubmitTasks((new_task("v", extra=extra),)))
    assert statuses(replica, "v") == ["queued"]
    extra = Extra(keeps="w", fork=Fork(forks.encode([keep("a", "w.a")])))
    replica.accepted(SubmitTasks((new_task("u", extra=extra),), namespace="theirs"))
    assert statuses(replica, "u") == ["queued"]


def test_what_never_runs_after_a_kept_one_is_skipped_and_all_behind_it_told() -> None:
    replica = failed_group()
    alert = part("alert", "a", on=On.FAILURE)
    after = part("after", "alert", on=On.ALWAYS)
    try_again(replica, "v", "w", keep("a", "w.a"), alert, part("never", "alert"), after)
    assert statuses(replica, "v") == ["succeeded", "cancelled", "cancelled", "queued"]
    assert replica.task("v.alert").reason == "depends-on: v.a succeeded"
    assert replica.task("v.never").reason == "depends-on: v.alert cancelled"
    finish(replica, "v.after")
    assert status(replica, "v") == "succeeded"


def test_one_of_several_that_is_kept_may_be_enough() -> None:
    replica = failed_group()
    first = new_task("c", extra=Extra(depends_on=(Dependency("a"), Dependency("b")), needs=1))
    try_again(replica, "v", "w", keep("a", "w.a"), part("b"), first)
    assert statuses(replica, "v") == ["succeeded", "queued", "queued"]


def test_kept_parts_take_no_room_among_those_that_run_at_once() -> None:
    replica = replica_with(group("m", *map(new_task, "abcd"), is_patient=True))
    finish(replica, "m.a", "m.b")
    finish(replica, "m.c", "m.d", status="failed")
    parts = [keep("a", "m.a"), new_task("c"), keep("b", "m.b"), new_task("d")]
    try_again(replica, "v", "m", *parts, parallel_max=1)
    assert statuses(replica, "v") == ["succeeded", "queued", "succeeded", "waiting"]
    finish(replica, "v.c", "v.d")
    assert status(replica, "v") == "succeeded"


def test_parts_of_a_map_come_in_pieces_and_name_what_they_keep() -> None:
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True, is_patient=True))))
    replica.accepted(AddSubtasks("m", 0, (NewTask("", b"spec"),) * 4, is_last=True))
    for number in (0, 1, 3):
        leave(replica, f"m.{number}", str(number).encode())
    finish(replica, "m.2", status="failed")
    extra = Extra(retry_of="m", keeps="m", fork=Fork(is_open=True))
    replica.accepted(SubmitTasks((new_task("v", extra=extra),)))
    again = tuple([NewTask("", b"spec", extra=Extra(keeps=f"m.{n}")) for n in range(4)])
    assert replica.accepted(AddSubtasks("v", 0, again[:2])) == 2
    assert replica.accepted(AddSubtasks("v", 0, again[:2])) == 2
    assert replica.accepted(AddSubtasks("v", 2, again[2:], is_last=True)) == 4
    assert statuses(replica, "v") == ["succeeded", "succeeded", "queued", "succeeded"]
    finish(replica, "v.2")
    assert status(replica, "v") == "succeeded"
    results = [kept_of(replica, f"v.{number}") for number in range(4)]
    assert [at and (at.task_id, at.result) for at in results] == [
        ("m.0", b"0"), ("m.1", b"1"), ("v.2", b""), ("m.3", b"3"),
    ]  # fmt: skip


def test_a_map_of_which_all_is_kept_ends_with_its_last_piece() -> None:
    replica = failed_group()
    extra = Extra(keeps="w", fork=Fork(is_open=True))
    replica.accepted(SubmitTasks((new_task("v", extra=extra),)))
    kept = NewTask("", b"spec", extra=Extra(keeps="w.a"))
    replica.accepted(AddSubtasks("v", 0, (kept,)))
    assert status(replica, "v") == "waiting"
    replica.accepted(AddSubtasks("v", 1, (kept,), is_last=True))
    assert status(replica, "v") == "succeeded"


def test_a_piece_says_nothing_but_what_it_keeps() -> None:
    replica = replica_with(new_task("m", extra=Extra(fork=Fork(is_open=True))))
    wrong = NewTask("", b"spec", extra=Extra(keeps="w.a", delay_ms=5))
    assert replica.refused(AddSubtasks("m", 0, (wrong,))).reason is Reason.INVALID
    made_up = Extra(borrowed=Product("w.a", "n1", 1, 1))
    for new in (new_task("x", extra=made_up), group("y", new_task("p", extra=made_up))):
        assert replica.refused(SubmitTasks((new,))).reason is Reason.INVALID


def test_the_old_tree_is_kept_until_the_new_one_has_ended() -> None:
    replica = failed_group()
    try_again(replica, "v", "w", keep("a", "w.a"), part("b"))
    refused = replica.refused(DeleteTask("w"))
    assert (refused.reason, refused.detail) == (Reason.HAS_DEPENDENTS, "v")
    replica.now += YEAR_MS
    replica.accepted(ApplyRetention(100))
    assert status(replica, "w.a") == "succeeded"
    finish(replica, "v.b")
    replica.now += YEAR_MS
    replica.accepted(ApplyRetention(100))
    assert len(replica.state.tasks) == 0


def test_a_try_of_a_try_has_the_first_one_s_result_and_keeps_it_there() -> None:
    replica = failed_group()
    try_again(replica, "v", "w", keep("a", "w.a"), part("b"))
    finish(replica, "v.b", status="failed")
    try_again(replica, "u", "v", keep("a", "v.a"), part("b"))
    at = kept_of(replica, "u.a")
    assert at is not None and (at.task_id, at.result) == ("w.a", b"1")
    for old in ("v", "w"):
        assert replica.refused(DeleteTask(old)).reason is Reason.HAS_DEPENDENTS
    finish(replica, "u.b")
    for old in ("v", "w"):
        replica.accepted(DeleteTask(old))


def test_one_that_took_the_id_of_an_old_tree_is_not_kept_for_it() -> None:
    replica = failed_group()
    try_again(replica, "v", "w", keep("a", "w.a"), part("b"))
    finish(replica, "v.b", status="failed")
    replica.accepted(DeleteTask("w"))
    replica.submit("w")
    finish(replica, "w")
    try_again(replica, "u", "v", keep("a", "v.a"), part("b"))
    assert replica.refused(DeleteTask("v")).reason is Reason.HAS_DEPENDENTS
    replica.accepted(DeleteTask("w"))
    replica.submit("w")
    finish(replica, "u.b")
    assert status(replica, "u") == "succeeded"


def test_what_is_kept_counts_for_the_bytes_that_retention_goes_by() -> None:
    replica = failed_group()
    before = replica.state.finished.bytes
    try_again(replica, "v", "w", keep("a", "w.a"))
    assert status(replica, "v") == "succeeded"
    specs = sum(len(replica.task(task_id).spec) for task_id in ("v", "v.a"))
    assert replica.state.finished.bytes == before + specs + len(b"1")


def overtaken_group() -> Replica:
    """``w``: ``a`` was overtaken by its twin, which left 2; ``b`` failed."""
    replica = replica_with(
        group("w", part("a"), part("b"), is_patient=True, speculation=Speculation())
    )
    replica.accepted(register("n2"))
    for name in ("w.a", "w.b"):
        replica.run(name, "n1")
    token = replica.task("w.a").token
    assert replica.accepted(Speculate((Straggler("w.a", token),))) == ("w.a~2",)
    token = replica.run("w.a~2", "n2")
    ended = AttemptFinished("w.a~2", token, "succeeded", exit_code=0, result=b"2")
    assert replica.accepted(ReportAttempts("n2", "a", finished=(ended,))) == ()
    replica.finish("w.a", "cancelled")
    replica.finish("w.b", "failed")
    assert statuses(replica, "w") == ["succeeded", "failed"]
    return replica


def test_of_one_that_was_overtaken_its_twin_s_result_is_kept_and_the_twin_with_it() -> None:
    replica = overtaken_group()
    try_again(replica, "v", "w", keep("a", "w.a"), part("b"))
    assert statuses(replica, "v") == ["succeeded", "queued"]
    kept = replica.task("v.a")
    assert kept.product is not None and kept.product == replica.task("w.a").product
    assert (kept.product.task_id, kept.product.node, kept.product.result) == ("w.a~2", "n2", b"2")
    assert kept.extra is not None and (kept.extra.twin, kept.attempts) == ("", ())
    replica.now += YEAR_MS
    replica.accepted(ApplyRetention(100))
    assert kept.product.made_by(replica.state.tasks.get("w.a~2")) is not None
    restored = codec.restore_state(dump(replica.state))
    assert restored.tasks.get("v.a") == kept and restored.digest() == replica.state.digest()
    finish(replica, "v.b")
    replica.accepted(DeleteTask("w"))
    assert kept.product.made_by(replica.state.tasks.get("w.a~2")) is None
    assert replica.task("v.a").product == kept.product
    try_again(replica, "u", "v", keep("a", "v.a"))
    assert (status(replica, "u"), kept_of(replica, "u.a")) == ("succeeded", kept.product)


def test_what_is_tried_again_may_have_a_twin_and_what_is_kept_none() -> None:
    replica = overtaken_group()
    try_again(replica, "v", "w", keep("a", "w.a"), part("b"), speculation=Speculation())
    token = replica.run("v.b", "n1")
    late = (Straggler("v.a", 0), Straggler("v.b", token))
    refused, twin = replica.accepted(Speculate(late))
    assert (refused.reason, twin) == (Reason.STALE_TOKEN, "v.b~2")
    token = replica.run("v.b~2", "n2")
    ended = AttemptFinished("v.b~2", token, "succeeded", result=b"3")
    assert replica.accepted(ReportAttempts("n2", "a", finished=(ended,))) == ()
    assert status(replica, "v") == "waiting", "the straggler runs yet"
    replica.finish("v.b", "cancelled")
    assert status(replica, "v") == "succeeded"
    products = [kept_of(replica, task_id) for task_id in ("v.a", "v.b")]
    assert [found and found.task_id for found in products] == ["w.a~2", "v.b~2"]
    replica.accepted(DeleteTask("w"))
    replica.accepted(DeleteTask("v"))
    assert len(replica.state.tasks) == 0 and replica.state.finished.bytes == 0


def test_another_task_s_attempt_is_not_the_one_that_left_it() -> None:
    replica = failed_group()
    product = kept_of(replica, "w.a")
    assert product is not None
    old = replica.task("w.a")
    assert product.made_by(old) is old.attempts[0]
    assert product.made_by(replica.task("w.b")) is None and product.made_by(None) is None
    replica.accepted(DeleteTask("w"))
    replica.accepted(SubmitTasks((new_task("w.a"),)))
    assert product.made_by(replica.task("w.a")) is None
    finish(replica, "w.a")
    assert product.made_by(replica.task("w.a")) is None


def test_a_snapshot_has_what_is_kept() -> None:
    replica = failed_group()
    try_again(replica, "v", "w", keep("a", "w.a"), part("b"))
    chunks = list(codec.snapshot_chunks(replica.state))
    replica.state.end_snapshot()
    restored = codec.restore_state(chunks)
    assert _kept_rows(restored.tasks.values()) == _kept_rows(replica.state.tasks.values()) != []
    assert restored.relations.dependents == replica.state.relations.dependents == {"w": {"v": None}}
    assert restored.digest() == replica.state.digest()


def _kept_rows(tasks: Iterable[Task]) -> list[Task]:
    return [task for task in tasks if task.extra is not None and task.extra.borrowed]
