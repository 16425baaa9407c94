"""All that was seen of one schedule: its document, its rows, and what was due of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from jepsen_like.ahead import Ahead
from jepsen_like.asked import TERMINAL
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call
from jepsen_like.slots import CannotTell, due

#: Is told of an instant, and of the answer that has two rows for it.
Twice = Callable[[int, Call], None]


class Row(msgspec.Struct, frozen=True):
    """A row as the first answer had it that showed it so."""

    at_ms: int
    #: Of a row for several instants the last one, else the same.
    upto_ms: int
    #: Empty: it has none.
    task: str
    state: str
    reason: str
    call: Call


class Sight(msgspec.Struct):
    """What clients asked and were told of one schedule."""

    name: str
    document: dict[str, Any]
    put: Call | None = None
    #: All that may have paused it, and the first that did; None also if it was resumed.
    pauses: list[Call] = []
    pause: Call | None = None
    answers: list[Call] = []
    #: Other documents were sent under its name, so what is due is not known.
    is_changed: bool = False
    #: Nominal instant -> tasks that rows name, with the answer that did.
    tasks: dict[int, dict[str, Call]] = {}
    #: Nominal instants with a row of their own.
    rows: dict[int, Call] = {}
    #: Ranges of rows without a task.
    ranges: list[tuple[int, int, Call]] = []
    #: Rows without a task, by their first instant.
    idle: dict[int, Row] = {}
    #: Task -> the row that said to what end it came.
    ends: dict[str, Row] = {}

    def is_covered(self, at: int) -> bool:
        """Has the instant a row?"""
        return at in self.rows or any(low <= at <= high for low, high, _ in self.ranges)


class Due(msgspec.Struct, frozen=True):
    """What was due of a schedule."""

    instants: set[int]
    #: Unix ms.  What was due at the put itself may be of either side of it, and behind the last
    #: instant nothing is known.
    after_ms: int
    upto_ms: int
    #: It was paused at the last instant: nothing is due behind it.
    is_over: bool

    def has_not(self, at: int) -> bool:
        """Is that surely none of the instants?"""
        is_known = self.after_ms < at and (self.is_over or at <= self.upto_ms)
        return is_known and at not in self.instants


def sight_of(evidence: Evidence, name: str, document: dict[str, Any], twice: Twice) -> Sight:
    """Gather it.  ``twice`` is told of every instant with two rows in one answer."""
    seen = Sight(name, document)
    is_resumed = False
    for call in evidence.calls:
        if call.value.get("name") != name:
            continue
        if call.f == "put-schedule":
            seen.is_changed = seen.is_changed or call.value != document
            seen.put = call if seen.put is None and call.is_ok else seen.put
        elif call.f == "pause-schedule" and call.outcome != "fail":
            seen.pauses.append(call)
            seen.pause = call if seen.pause is None and call.is_ok else seen.pause
        elif call.f == "resume-schedule":
            is_resumed = True
        elif call.f == "slots" and call.is_ok:
            seen.answers.append(call)
    if is_resumed:
        seen.pause = None
    for call in seen.answers:
        _read(seen, call, twice)
    return seen


def _read(seen: Sight, call: Call, twice: Twice) -> None:
    own: set[int] = set()
    for slot in call.answer.get("slots") or ():
        at = int(slot["at_ms"])
        upto = int(slot.get("upto_ms") or at)
        task, state = str(slot.get("task") or ""), str(slot.get("state") or "")
        row = Row(at, upto, task, state, str(slot.get("reason") or ""), call)
        if not task:
            seen.idle.setdefault(at, row)
        else:
            seen.tasks.setdefault(at, {}).setdefault(task, call)
            if state in TERMINAL:
                seen.ends.setdefault(task, row)
        if upto > at:
            seen.ranges.append((at, upto, call))
            continue
        if at in own:
            twice(at, call)
        own.add(at)
        seen.rows.setdefault(at, call)


def due_of(evidence: Evidence, seen: Sight) -> Due | None:
    """What was due from the first word of it to the last; None: nobody was told that it is there.

    Raises CannotTell.
    """
    if evidence.run.clock is None:
        raise CannotTell("run.json has no clock, so nobody can say what was due")
    if seen.put is None:
        return None
    if seen.is_changed:
        raise CannotTell(f"{seen.name} was changed, so what is due of it is not known")
    after = evidence.run.unix_ms(seen.put.invoked_at)
    assert after is not None
    last = max((call.ended_at or 0 for call in seen.answers), default=0)
    if seen.pause is not None:
        last = seen.pause.ended_at or last
    upto = Ahead(evidence).latest_ms(last)
    anchor = min(seen.rows, default=None)
    try:
        instants = set(due(seen.document, after, upto, anchor))
    except CannotTell as error:
        raise CannotTell(f"what is due of {seen.name} is not known: {error}") from error
    return Due(instants, after, upto, seen.pause is not None)
