"""Who is next among attempts that wait."""

from __future__ import annotations

from raftsched.core.spec import PythonCall, TaskSpec
from raftsched.executor.messages import StartAttempt
from raftsched.executor.waiting import Waiting


def command(token: int) -> StartAttempt:
    return StartAttempt(token, f"t{token}", 1, TaskSpec(("true",)))


def call(token: int, function: str = "m:f") -> StartAttempt:
    return StartAttempt(token, f"t{token}", 1, TaskSpec(python=PythonCall(function)))


def drained(waiting: Waiting, *full: str) -> list[int]:
    def has_room(spec: StartAttempt) -> bool:
        return spec.spec.python is None or spec.spec.python.function not in full

    found = []
    while (spec := waiting.next(has_room)) is not None:
        found.append(spec.token)
    return found


def waiting_of(*specs: StartAttempt) -> Waiting:
    waiting = Waiting()
    for spec in specs:
        waiting.add(spec)
    return waiting


def test_oldest_is_first_whatever_its_kind() -> None:
    waiting = waiting_of(call(1), command(2), call(3, "m:g"), call(4), command(5))
    assert len(waiting) == 5 and 3 in waiting
    assert drained(waiting) == [1, 2, 3, 4, 5]
    assert len(waiting) == 0 and 3 not in waiting


def test_lane_without_room_holds_up_no_other() -> None:
    waiting = waiting_of(call(1), command(2), call(3), call(4, "m:g"))
    assert drained(waiting, "m:f") == [2, 4]
    assert [spec.token for spec in waiting] == [1, 3]


def test_one_that_came_back_is_before_those_that_had_no_turn() -> None:
    waiting = waiting_of(call(3), call(4))
    for token in (1, 2):
        waiting.add(call(token), again=True)
    assert drained(waiting) == [1, 2, 3, 4]


def test_one_is_taken_out_once() -> None:
    waiting = waiting_of(call(1), call(2))
    spec = waiting.pop(1)
    assert spec is not None and spec.token == 1
    assert waiting.pop(1) is None
    assert drained(waiting) == [2]
