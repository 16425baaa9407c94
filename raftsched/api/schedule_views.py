"""Schedules and their slots as users see them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from raftsched.api.schedule_documents import document_of
from raftsched.api.secrets import hidden
from raftsched.api.times import instant
from raftsched.core.cron.english import english
from raftsched.core.cron.slots import following
from raftsched.core.reckon import timing_of
from raftsched.core.schedule import UNRECKONED, Schedule, Slot, SlotStatus, edited_at, slot_key
from raftsched.core.state import State

#: Tasks of a schedule that are named in its view.
RUNNING_MAX = 20
#: What a timing of a newer program, or a zone that this one does not have, comes to.
UNKNOWN = (msgspec.DecodeError, KeyError, ValueError)


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule: its document, and how far it is."""

    name: str
    cron: str | list[str]
    every: str | int | float
    at: list[str]
    zone: str
    gap: str
    fold: str
    start: str
    end: str
    exclude: list[str]
    jitter: str | int | float
    misfire: str
    misfire_limit: int
    misfire_window: str | int | float
    overlap: str
    paused: bool
    #: As it was given; values of headers that carry secrets are not shown.
    task: Any
    #: When it is due, in words.
    english: str
    #: The next instant; null: it is paused, or none comes.
    next_at: str | None
    #: Rises with every change of what or when.
    version: int
    #: Runs in a row that succeeded, or that did not.
    successes: int
    failures: int
    #: Its tasks that have not ended, the oldest first; at most 20.
    running: list[str]
    created_at: str | None
    #: The ETag: of the last time that somebody changed it; that it fired is no change.
    modify_index: int


class SchedulePage(msgspec.Struct, frozen=True):
    """Schedules, by name."""

    items: list[ScheduleView]
    next_cursor: str | None
    index: int


class SlotView(msgspec.Struct, frozen=True):
    """An instant that was due, or a range of them that has the same fate."""

    at: str | None
    #: Of a range the last one.
    upto: str | None
    #: How many instants it stands for.
    count: int
    status: SlotStatus
    #: Why, a stable word.
    reason: str
    task: str | None
    #: When it was decided.
    fired_at: str | None


class SlotPage(msgspec.Struct, frozen=True):
    """Slots, the one that was decided last at the front."""

    items: list[SlotView]
    next_cursor: str | None
    index: int


#: Fields of the document.
_SHOWN = ScheduleView.__struct_fields__[:17]


def schedule_view(state: State, row: Schedule) -> ScheduleView:
    """A schedule as users see it."""
    told = document_of(row)
    told["task"] = hidden(told.get("task"))
    return ScheduleView(
        **{name: told[name] for name in _SHOWN},
        english=_words(row.timing, row.name),
        next_at=instant(_next_at(row)),
        version=row.version,
        successes=row.successes,
        failures=row.failures,
        running=state.firings.runs_of(row.name)[:RUNNING_MAX],
        created_at=instant(row.created_at),
        modify_index=edited_at(row),
    )


def slot_views(state: State, name: str) -> list[tuple[int, SlotView]]:
    """Slots with their place in the order, the one that was decided last at the front."""
    found = [state.slots.get(slot_key(name, at)) for at in state.firings.slots_of(name)]
    slots = sorted((slot for slot in found if slot is not None), key=_order, reverse=True)
    return [(slot.order, slot_view(slot)) for slot in slots]


def _order(slot: Slot) -> int:
    return slot.order


def slot_view(slot: Slot) -> SlotView:
    return SlotView(
        instant(slot.at), instant(slot.upto), slot.count, slot.status, slot.reason,
        slot.task_id or None, instant(slot.fired_at),
    )  # fmt: skip


@lru_cache(maxsize=2_000)
def _words(timing: bytes, name: str) -> str:
    try:
        return english(timing_of(timing), name)
    except UNKNOWN:
        return ""


def _next_at(row: Schedule) -> int:
    if row.paused:
        return 0
    if row.next_at != UNRECKONED:
        return row.next_at
    # The leader is about to say it.
    try:
        after = max(row.after, row.resumed_at)
        return following(timing_of(row.timing), row.name, row.created_at, after)
    except UNKNOWN:
        return 0
