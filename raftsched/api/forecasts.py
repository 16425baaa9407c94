"""What is to come: the instants of one schedule, before it is saved or after, and of all."""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import NamedTuple

import msgspec
from aiohttp import web

from raftsched.api.context import Context, body_of, decode, integer
from raftsched.api.listing import Words, instant_of, words_of
from raftsched.api.problems import Problem
from raftsched.api.schedule_documents import (
    PreviewRequest,
    check_rest,
    checked_name,
    timing_of,
)
from raftsched.api.schedule_views import UNKNOWN
from raftsched.api.scheduling import known_schedule
from raftsched.api.times import instant
from raftsched.core import reckon
from raftsched.core.cron.english import english
from raftsched.core.cron.preview import Change, Preview, preview, warnings
from raftsched.core.cron.slots import following, starts_at
from raftsched.core.cron.timing import Timing
from raftsched.core.cron.zones import tzdata_version
from raftsched.core.schedule import Schedule
from raftsched.core.state import State

#: Instants of one preview.
PREVIEW_MAX = 100
#: Days behind the begin of a preview that are looked over for changes of the clocks.
WARN_MS = 400 * 86_400_000
DAY_MS = 86_400_000
#: Longest time that a forecast is of.
FORECAST_MS_MAX = 400 * DAY_MS
#: Reckoning goes on for so long before everything else has its turn.
SLICE_SECONDS = 0.005
#: For a schedule that has no name yet.
NAMELESS = "preview"


class PreviewSlot(msgspec.Struct, frozen=True):
    """An instant that will be due."""

    at: str | None
    #: With the jitter.
    starts_at: str | None
    #: What the clocks of the zone show, and how far they are ahead of UTC: ``"+02:00"``.
    local: str
    offset: str
    #: What a change of the clocks has to do with it.
    change: Change
    #: For ``gap``: the time that the clocks do not show on that day.
    instead_of: str | None


class PreviewView(msgspec.Struct, frozen=True):
    """When a schedule will be due."""

    name: str
    english: str
    zone: str
    #: Release of the time zone data that this was reckoned with.
    tzdata: str
    items: list[PreviewSlot]
    warnings: list[str]


class Expected(msgspec.Struct, frozen=True):
    """An instant of a schedule that will be due."""

    schedule: str
    at: str | None
    #: With the jitter.
    starts_at: str | None


class ForecastView(msgspec.Struct, frozen=True):
    """Instants of all schedules that are not paused, the earliest first."""

    items: list[Expected]
    next_cursor: str | None
    #: Schedules that this peer cannot reckon.
    unknown: list[str]
    index: int


_previews = msgspec.json.Decoder(PreviewRequest)


async def preview_of(context: Context, request: web.Request) -> web.StreamResponse:
    """The next instants of a schedule document, or of a schedule by its name; nothing is saved."""
    body = await body_of(request)
    n = integer(request, "n", 10, 1, PREVIEW_MAX)
    after = instant_of(words_of(request), "after")
    now = context.now_ms()
    return context.answer(previewed(await context.read(), body, n, after, now))


def previewed(state: State, body: bytes, n: int, after: int | None, now: int) -> PreviewView:
    """The next ``n`` instants (None: from now on) of a document.  Raises Problem."""
    asked: PreviewRequest = decode(_previews, body)
    if asked.cron or asked.every or asked.at or not asked.name:
        name = checked_name(asked, "") if asked.name else NAMELESS
        timing, known = timing_of(asked, name), state.schedules.get(name)
        anchor = known.created_at if known is not None else now
        check_rest(state, asked, body, name)
    else:
        name = asked.name
        known = known_schedule(state, name)
        timing, anchor = _timing_of(known), known.created_at
    after = now if after is None else after
    slots = preview(timing, name, anchor, after, n)
    upto = max(after + WARN_MS, slots[-1].at if slots else 0)
    return PreviewView(
        name,
        english(timing, name),
        timing.zone,
        tzdata_version(),
        [_slot(slot) for slot in slots],
        list(warnings(timing, name, after, upto)),
    )


def _timing_of(row: Schedule) -> Timing:
    try:
        return reckon.timing_of(row.timing)
    except UNKNOWN as error:
        raise Problem("needs-version", f"this peer cannot reckon {row.name}: {error}") from None


def _slot(slot: Preview) -> PreviewSlot:
    minutes, rest = divmod(abs(slot.offset_seconds), 60)
    offset = f"{'-' if slot.offset_seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return PreviewSlot(
        instant(slot.at),
        instant(slot.starts_at),
        slot.local,
        offset + (f":{rest:02}" if rest else ""),
        slot.change,
        slot.instead_of or None,
    )


async def forecast(context: Context, request: web.Request) -> web.StreamResponse:
    """When all schedules are due, in a stretch of time."""
    limit = integer(request, "limit", 50, 1, 1000)
    span = span_of(words_of(request), context.now_ms())
    state = await context.state(request)
    return context.answer(await coming(context, state, span, limit, request.query.get("cursor")))


class Span(NamedTuple):
    """A stretch of time, in milliseconds since the Unix epoch."""

    begin: int
    end: int
    #: When it was asked for.
    now: int


def span_of(words: Words, now: int) -> Span:
    """From ``from`` (not said: now) until ``to`` (a day later).  Raises Problem."""
    begin = instant_of(words, "from")
    begin = now if begin is None else begin
    end = instant_of(words, "to")
    end = begin + DAY_MS if end is None else end
    if not begin < end <= begin + FORECAST_MS_MAX:
        days = FORECAST_MS_MAX // DAY_MS
        raise Problem("invalid", f"it ends after its begin, by at most {days} days", pointer="?to")
    return Span(begin, end, now)


async def coming(
    context: Context, state: State, span: Span, limit: int, cursor: str | None
) -> ForecastView:
    """A page of the instants of all schedules.  Raises Problem."""
    index = state.index
    rows = [row for _, row in state.schedules.items() if not row.paused]
    found = _Coming(_place(cursor, span.begin), span.end, span.now)
    async with context.scanning:
        until = time.perf_counter() + SLICE_SECONDS
        for row in rows:
            found.add(row)
            if time.perf_counter() >= until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE_SECONDS
        while len(found.items) < limit and found.step():
            if time.perf_counter() >= until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE_SECONDS
    return ForecastView(found.items, found.cursor(), sorted(found.unknown)[:100], index)


class _Coming:
    """The instants of many schedules, merged."""

    def __init__(self, place: tuple[int, str], end: int, now: int) -> None:
        #: Behind this instant and name it begins.
        self._after, self._name = place
        self._end = end
        self._now = now
        self._heap: list[tuple[int, str, Schedule, Timing]] = []
        self._last: tuple[int, str] | None = None
        self.items: list[Expected] = []
        self.unknown: list[str] = []

    def add(self, row: Schedule) -> None:
        """A schedule's first instant."""
        after = self._after if row.name <= self._name else self._after - 1
        try:
            timing = reckon.timing_of(row.timing)
            # What the row has is what fires next, whatever the time zone data here says.
            is_next = row.next_at > after >= self._now - 1
            at = row.next_at if is_next else self._following(row, timing, after)
        except UNKNOWN:
            self.unknown.append(row.name)
            return
        self._push(at, row, timing)

    def step(self) -> bool:
        """Take the earliest instant; False: there is none."""
        if not self._heap:
            return False
        at, name, row, timing = heapq.heappop(self._heap)
        self.items.append(Expected(name, instant(at), instant(starts_at(timing, name, at))))
        self._last = (at, name)
        self._push(self._following(row, timing, at), row, timing)
        return True

    def cursor(self) -> str | None:
        """Where the next page begins; None: there is nothing more."""
        if not self._heap or self._last is None:
            return None
        return f"{self._last[0]}:{self._last[1]}"

    def _push(self, at: int, row: Schedule, timing: Timing) -> None:
        if 0 < at < self._end:
            heapq.heappush(self._heap, (at, row.name, row, timing))

    def _following(self, row: Schedule, timing: Timing, after: int) -> int:
        return following(timing, row.name, row.created_at, after)


def _place(cursor: str | None, begin: int) -> tuple[int, str]:
    """Where the page begins: behind an instant of a schedule."""
    if not cursor:
        return begin, ""
    at, _, name = cursor.partition(":")
    if not at.isdecimal() or len(at) > 15:
        raise Problem("invalid", "not a cursor of this list", pointer="?cursor")
    return max(begin, int(at)), name
