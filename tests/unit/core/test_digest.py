"""The digest: the same rows, the same number; one row otherwise, another number."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftsched.core import codec, digest, invariants
from raftsched.core.commands import SubmitTasks, UpdateSettings
from raftsched.core.digest import FORMAT, STROKE_ROWS, TURN_ROWS
from raftsched.core.model import (
    AttemptStatus,
    Check,
    DigestReport,
    KeyRecord,
    Settings,
    Task,
    TaskStatus,
)
from raftsched.core.policy import Extra
from raftsched.core.state import State
from raftsched.core.tables import Table
from tests.unit.core.builders import Replica, attempt, dump, new_task, node, register, task

ROW = task(
    "t1",
    reason="why",
    losses=1,
    paused=True,
    finished_at=7,
    attempts=(attempt(1, status=AttemptStatus.FAILED), attempt(2, output_tail=b"out")),
)


def table_of(*tasks: Task) -> Table[Task]:
    table: Table[Task] = Table(1)
    for row in tasks:
        table.put(row.id, row)
    return table


def now(table: Table[Any]) -> int:
    return table.sum.now(table.get)


def test_the_order_of_insertion_does_not_matter() -> None:
    rows = [task(f"t{n}", order=n) for n in range(50)]
    assert now(table_of(*rows)) == now(table_of(*reversed(rows))) != 0


def test_a_row_that_goes_leaves_nothing_behind() -> None:
    table = table_of(task("a"))
    before = now(table)
    table.put("b", ROW)
    table.put("b", msgspec.structs.replace(ROW, losses=5))
    assert now(table) != before
    table.pop("b")
    assert now(table) == before
    table.pop("a")
    assert now(table) == now(table_of()) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "t2"},
        {"spec": b"other"},
        {"terms": msgspec.structs.replace(ROW.terms, priority=51)},
        {"created_at": 1},
        {"create_index": 2},
        {"order": 2},
        {"status": TaskStatus.RUNNING},
        {"modify_index": 2},
        {"reason": ""},
        {"losses": 2},
        {"paused": False},
        {"finished_at": 8},
        {"attempts": ROW.attempts[:1]},
        {"attempts": (ROW.attempts[0], attempt(2, output_tail=b"0ut"))},
        {"ready_at": 9},
        {"extra": Extra(deadline=1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_any_field_of_a_row_counts(changes: dict[str, Any]) -> None:
    other = msgspec.structs.replace(ROW, **changes)
    one, two = table_of(), table_of()
    one.put("t1", ROW)
    two.put("t1", other)
    assert now(one) != now(two)


def test_every_field_of_a_task_is_among_those_tried() -> None:
    [mark] = test_any_field_of_a_row_counts.pytestmark
    tried = {name for changes in mark.args[1] for name in changes}
    assert tried == set(Task.__struct_fields__)


def test_key_and_table_of_a_row_count() -> None:
    one, two, three = Table[Task](1), Table[Task](1), Table[Task](2)
    one.put("a", ROW)
    two.put("b", ROW)
    three.put("a", ROW)
    assert len({now(one), now(two), now(three)}) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cluster_id", "other"),
        ("now", 1),
        ("version", 9),
        ("clock_resets", 1),
        ("next_token", 9),
        ("next_order", 9),
        ("settings", Settings(losses_max=9)),
        ("check", Check(1, FORMAT, 1, ("n1",), (DigestReport("n1", bytes(16)),))),
        ("suspect", True),
        ("nodes", {"n1": node("n1")}),
    ],
)
def test_what_is_in_no_table_counts_too(field: str, value: Any) -> None:
    state = State("c")
    before = state.digest()
    setattr(state, field, value)
    assert state.digest() != before


def test_a_key_counts() -> None:
    state = State("c")
    before = state.digest()
    state.put_key("k", KeyRecord(b"hash", b"", 1, 1))
    assert state.digest() != before


def test_a_restored_state_has_the_same_digest() -> None:
    replica = Replica()
    replica.accepted(register())
    replica.submit(*[f"t{n}" for n in range(300)])
    replica.accepted(SubmitTasks((new_task("keyed"),), key="k", request_hash=b"h"))
    replica.bring("ran", TaskStatus.SUCCEEDED)
    restored = codec.restore_state(dump(replica.state))
    assert restored.digest() == replica.state.digest()
    restored.freeze_digest()
    assert restored.frozen_digest(0) == restored.digest(), "it was added up when it was loaded"


# Put off -----------------------------------------------------------------------------------------


def fill(table: Table[Task], count: int, losses: int = 0) -> None:
    """Write rows ``r0`` to ``r<count>``, some at a time."""
    for first in range(0, count, 100):
        for n in range(first, min(first + 100, count)):
            table.put(f"r{n}", task(f"r{n}", losses=losses))


def test_a_frozen_sum_is_that_of_the_moment() -> None:
    table = table_of(*[task(f"t{n}") for n in range(500)])
    before = now(table)
    table.sum.freeze()
    table.put("t1", task("t1", losses=3))
    table.put("new", task("new"))
    table.pop("t2")
    assert table.sum.frozen(10, table.get) is None
    while (found := table.sum.frozen(100, table.get)) is None:
        table.put("t3", task("t3", losses=9))
    assert found == before != now(table)
    assert table.sum.frozen(1, table.get) == before


def test_a_frozen_sum_outlives_many_writes_that_nobody_waits_for() -> None:
    table = table_of(*[task(f"t{n}") for n in range(50)])
    table.sum.freeze()
    before = now(table)
    fill(table, 3 * TURN_ROWS)
    assert table.sum.frozen(0, table.get) == before


def test_a_second_freeze_takes_the_place_of_the_first() -> None:
    table = table_of(*[task(f"t{n}") for n in range(300)])
    table.sum.freeze()
    table.sum.settle(100, table.get)
    table.put("t1", task("t1", losses=1))
    table.put("t299", task("t299", losses=1))
    table.sum.freeze()
    wanted = now(table)
    fill(table, 10)
    assert table.sum.frozen(1_000, table.get) == wanted


def test_what_is_remembered_is_bounded_and_hashed_along() -> None:
    table = table_of()
    most = 0
    for losses in range(2):
        fill(table, 5 * TURN_ROWS // 2, losses)
        most = max(most, len(table.sum.changed) + len(table.sum.backlog))
    assert most <= 2 * (TURN_ROWS + STROKE_ROWS)
    assert table.sum.total != 0
    assert now(table) == table.sum.recount(table.items())


def test_a_sum_that_drifted_is_an_invariant_broken() -> None:
    replica = Replica()
    replica.submit("t1")
    replica.state.tasks.sum.total += 1
    assert invariants.check(replica.state) == ["the digest of the tasks differs from the rows"]


def test_many_hashes_are_added_modulo_two_to_the_128() -> None:
    highest = b"\xff" * 16
    assert digest.sum_of([highest, (2).to_bytes(16, "little")]) == 1
    assert digest.sum_of([]) == 0
    assert digest.as_bytes(-1) == highest


def test_what_is_hashed_changes_only_with_the_format() -> None:
    # A failure means that peers of two programs differ in rows that are the same: raise
    # `digest.FORMAT` (and the version of entries) and pin the new value.
    replica = Replica()
    replica.accepted(UpdateSettings(Settings(losses_max=2)))
    replica.accepted(register(labels={"zone": "a"}))
    replica.accepted(SubmitTasks((new_task("t1"),), key="k", request_hash=b"h"))
    replica.bring("t2", TaskStatus.SUCCEEDED)
    replica.state.version = 3
    pinned = "c160a9ed6de1257c153328cfcb81d3e8"
    assert (FORMAT, replica.state.digest().hex()) == (4, pinned)
