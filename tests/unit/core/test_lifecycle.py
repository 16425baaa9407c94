"""The tables of legal moves, pair by pair."""

from __future__ import annotations

import msgspec
import pytest

from raftsched.core.commands import AttemptFinished
from raftsched.core.lifecycle import (
    ATTEMPT_MOVES,
    HOLDING,
    TASK_MOVES,
    IllegalMove,
    end_attempt,
    move,
    move_attempt,
)
from raftsched.core.model import (
    ATTEMPT_TERMINAL,
    TERMINAL,
    Attempt,
    AttemptStatus,
    Task,
    TaskStatus,
    Terms,
)
from tests.unit.core.builders import attempt

#: Rows whose fields all differ from their defaults and from each other.
TASK = Task(
    "t1", b"spec", Terms("team", "nightly", 80, 500, 1_024, "binpack", 9), 11, 12, 10,
    TaskStatus.QUEUED, 13, "before", 2, True, 14, (attempt(1), attempt(2)),
)  # fmt: skip
ATTEMPT = Attempt(
    3, 4, "n9", "b", AttemptStatus.ASSIGNED, 15, 16, 17, 18, 19, "before", b"tail", 20
)  # fmt: skip


@pytest.mark.parametrize("old", list(TaskStatus))
def test_a_task_moves_as_the_table_says_and_no_other_way(old: TaskStatus) -> None:
    before = msgspec.structs.replace(TASK, status=old)
    for new in TaskStatus:
        if new in TASK_MOVES.get(old, ()):
            assert move(before, new, 21, "why", finished_at=22) == msgspec.structs.replace(
                before, status=new, modify_index=21, reason="why", finished_at=22
            )
        else:
            with pytest.raises(IllegalMove, match=f"task t1: {old} -> {new}"):
                move(before, new, 21, "why")


def test_a_move_takes_losses_and_attempts_along() -> None:
    attempts = (attempt(1), attempt(2), attempt(3))
    after = move(TASK, TaskStatus.ASSIGNED, 21, "", attempts=attempts, losses=3)
    assert after == msgspec.structs.replace(
        TASK,
        status=TaskStatus.ASSIGNED,
        modify_index=21,
        reason="",
        finished_at=0,
        losses=3,
        attempts=attempts,
    )


@pytest.mark.parametrize("old", list(AttemptStatus))
def test_an_attempt_moves_as_the_table_says_and_no_other_way(old: AttemptStatus) -> None:
    before = msgspec.structs.replace(ATTEMPT, status=old)
    ended = AttemptFinished("t1", 4, "failed", 0, 28, 29, "why", b"end", 30)
    for new in AttemptStatus:
        if new in ATTEMPT_MOVES.get(old, ()):
            moved = msgspec.structs.replace(before, status=new, reason="why")
            assert move_attempt(before, new, reason="why") == moved
            assert end_attempt(before, new, 26, 27, ended) == Attempt(
                3, 4, "n9", "b", new, 15, 26, 27, 28, 29, "why", b"end", 30
            )
        else:
            illegal = f"attempt 3: {old} -> {new}"
            with pytest.raises(IllegalMove, match=illegal):
                move_attempt(before, new)
            with pytest.raises(IllegalMove, match=illegal):
                end_attempt(before, new, 26, 27, ended)


def test_a_status_absorbs_exactly_if_it_is_terminal() -> None:
    assert {status for status in TaskStatus if not TASK_MOVES.get(status)} == TERMINAL
    assert {status for status in AttemptStatus if not ATTEMPT_MOVES.get(status)} == ATTEMPT_TERMINAL


def test_what_was_asked_to_stop_never_goes_back_to_waiting() -> None:
    # Promise G7: after a cancel is acknowledged no new attempt is assigned.
    assert TASK_MOVES[TaskStatus.CANCELLING] <= TERMINAL


def test_only_a_queued_task_becomes_assigned() -> None:
    into = {old for old, moves in TASK_MOVES.items() if TaskStatus.ASSIGNED in moves}
    assert into == {TaskStatus.QUEUED}


def test_every_status_can_be_reached_and_every_open_one_can_end() -> None:
    reached = {new for moves in TASK_MOVES.values() for new in moves}
    assert set(TaskStatus) == reached
    for status in TASK_MOVES:
        seen, rest = set(), [status]
        while rest:
            now = rest.pop()
            if now not in seen:
                seen.add(now)
                rest += TASK_MOVES.get(now, ())
        assert seen & TERMINAL, f"{status} never ends"


def test_what_holds_capacity_is_not_terminal() -> None:
    assert not HOLDING & TERMINAL
