"""The schedule document of a request, checked, and the row it asks for.

A row keeps its document as it was given, without name and pause: what is shown, and what a change
is merged into, is what was asked for and not what became of it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec

from raftsched.api.checked import milliseconds
from raftsched.api.context import decode, pointer_of
from raftsched.api.defaults import with_defaults
from raftsched.api.documents import TaskRequest, to_new_task
from raftsched.api.expansion import expanded, uses_templates
from raftsched.api.forks import check_whole
from raftsched.api.problems import Problem
from raftsched.api.secrets import restored
from raftsched.api.times import Duration
from raftsched.core.cron.parse import Asked, ParseError, must_come, parse
from raftsched.core.cron.timing import Timing
from raftsched.core.model import NewTask
from raftsched.core.schedule import MISFIRE_LIMIT_MAX, NAME_MAX, Misfire, Overlap, Schedule
from raftsched.core.state import State
from raftsched.core.words import Word

#: Bytes of one schedule's document.
DOCUMENT_BYTES_MAX = 128 * 1024

#: What the schedule itself says.
_NOT_OF_TASKS = {
    "id": "every run gets an id of its own, by the schedule's name and the instant",
    "unique": "overlap says what becomes of a run whose forerunner has not ended",
    "not_before": "the schedule says when; jitter spreads the starts",
    "depends_on": "a run waits for no other task; a workflow's parts wait for one another",
}
_NAME = re.compile(rf"[0-9A-Za-z][0-9A-Za-z._-]{{0,{NAME_MAX - 1}}}")
_POINTERS = {"start_at": "start", "end_at": "end"}

Limit = Annotated[int, msgspec.Meta(ge=1, le=MISFIRE_LIMIT_MAX)]
W = TypeVar("W", bound=Word)


class Times(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When it is due, and all else a schedule says but what runs."""

    name: str = ""
    #: An expression of 5 or 6 fields, ``@daily`` and the like; or several.
    cron: str | list[str] = []
    every: Duration = 0
    #: Instants, or wall-clock times of the zone.
    at: list[str] = []
    zone: str = "UTC"
    gap: str = "usual"
    fold: str = "usual"
    start: str = ""
    end: str = ""
    #: Days, or ranges ``2026-12-24..2026-12-31``; without the year those of every year.
    exclude: list[str] = []
    jitter: Duration = 0
    misfire: str = Misfire.LATEST.value
    misfire_limit: Limit = 10
    misfire_window: Duration = 3_600
    overlap: str = Overlap.SKIP.value
    #: Not said: as it was.
    paused: bool | None = None


class ScheduleRequest(Times, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The schedule document: when, and what runs."""

    #: The task document without id, unique and instants.
    task: TaskRequest


class PreviewRequest(Times, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A schedule document, for which what runs need not be known; or the name of a schedule."""

    task: TaskRequest | None = None


_plain = msgspec.json.Decoder(dict[str, Any])
_requests = msgspec.json.Decoder(ScheduleRequest)
_tasks = msgspec.json.Decoder(TaskRequest)
_json = msgspec.json.Encoder()
_rows = msgspec.msgpack.Encoder()
_DEFAULTS: dict[str, Any] = {
    field.name: field.default if field.default_factory is msgspec.NODEFAULT else []
    for field in msgspec.structs.fields(Times)
}


def wanted_row(
    state: State, name: str, body: bytes, now_ms: int, known: Schedule | None, key: str = ""
) -> Schedule:
    """The row that a document asks for under a name (empty: that of the document).

    Raises Problem for the first thing that is wrong.
    """
    parsed: ScheduleRequest = decode(_requests, body)
    document = _plain.decode(body)
    if known is not None:
        document["task"] = restored(document["task"], given_of(known).get("task"))
    name = checked_name(parsed, name)
    if known is not None and known.name != name:
        known = None
    timing = timing_of(parsed, name)
    if known is None or _rows.encode(timing) != known.timing:
        _must_come(parsed, timing, name, known.created_at if known else now_ms, now_ms)
    task = _task(state, document["task"], name)
    paused = parsed.paused
    misfire, window_ms, overlap = _policies(parsed)
    return Schedule(
        name,
        task[0],
        _rows.encode(timing),
        namespace=task[1],
        misfire=misfire,
        misfire_limit=parsed.misfire_limit,
        window_ms=window_ms,
        overlap=overlap,
        jitter_ms=timing.jitter_ms,
        paused=(known is not None and known.paused) if paused is None else paused,
        document=_kept(document),
        key=key,
    )


def check_fields(patch: dict[str, Any]) -> None:
    """May these fields be changed?  Raises Problem."""
    for name in patch:
        if name == "name":
            raise Problem("invalid", "this stays as it is", pointer="/name")
        if name not in ScheduleRequest.__struct_fields__:
            raise Problem("invalid", "unknown field", pointer=pointer_of(name))


def check_rest(state: State, parsed: PreviewRequest, body: bytes, name: str) -> None:
    """What a preview does not need of a document.  Raises Problem."""
    _policies(parsed)
    if parsed.task is not None:
        _task(state, _plain.decode(body)["task"], name)


def checked_name(parsed: Times, name: str) -> str:
    """The schedule's name: of the address, or of the document.  Raises Problem."""
    if name and parsed.name not in ("", name):
        raise Problem("invalid", f"the address says {name!r}; leave it out", pointer="/name")
    name = name or parsed.name
    if not _NAME.fullmatch(name):
        raise Problem(
            "invalid",
            f"a name has 1 to {NAME_MAX} letters, digits, points, hyphens and underscores, "
            "and begins with a letter or a digit",
            pointer="/name",
        )
    return name


def timing_of(parsed: Times, name: str) -> Timing:
    """When it is due.  Raises Problem."""
    asked = Asked(
        crons=(parsed.cron,) if isinstance(parsed.cron, str) else tuple(parsed.cron),
        every=_duration(parsed.every),
        at=tuple(parsed.at),
        zone=parsed.zone,
        gap=parsed.gap,
        fold=parsed.fold,
        start_at=parsed.start,
        end_at=parsed.end,
        exclude=tuple(parsed.exclude),
        jitter=_duration(parsed.jitter),
    )
    try:
        return parse(asked, name)
    except ParseError as error:
        raise _problem(parsed, error) from None


def _must_come(parsed: Times, timing: Timing, name: str, anchor_ms: int, now_ms: int) -> None:
    try:
        must_come(timing, name, anchor_ms, now_ms)
    except ParseError as error:
        raise _problem(parsed, error) from None


def _problem(parsed: Times, error: ParseError) -> Problem:
    """The same where the document has it."""
    first, *rest = error.pointer.lstrip("/").split("/")
    if first == "crons":
        first, rest = "cron", [] if isinstance(parsed.cron, str) else rest
    pointer = "/".join(["", _POINTERS.get(first, first), *rest])
    return Problem("invalid", error.text, pointer=pointer)


def _duration(value: Duration) -> str:
    """A duration as the text that is parsed; a number is of seconds."""
    if isinstance(value, str) or not value:
        return str(value or "")
    # Of a whole number there may be more digits than a float has room for.
    text = str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")
    return text + "s"


def _policies(parsed: Times) -> tuple[Misfire, int, Overlap]:
    return (
        _word(Misfire, parsed.misfire, "/misfire"),
        milliseconds(parsed.misfire_window, "/misfire_window"),
        _word(Overlap, parsed.overlap, "/overlap"),
    )


def _word(kind: type[W], text: str, pointer: str) -> W:
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(kind)
        why_not = f"{text[:40]!r} is unknown; there are {known}"
        raise Problem("invalid", why_not, pointer=pointer) from None


def _task(state: State, document: dict[str, Any], name: str) -> tuple[NewTask, str]:
    """What runs, and its namespace.  Raises Problem."""
    data = _json.encode(document)
    parsed: TaskRequest = decode(_tasks, data)
    try:
        if uses_templates(parsed):
            parsed, data = expanded(state, data, name)
            document = _plain.decode(data)
        for field, why_not in _NOT_OF_TASKS.items():
            if document.get(field) is not None:
                raise Problem("invalid", why_not, pointer=f"/{field}")
        if not parsed.name:
            data = _json.encode({**document, "name": name})
            parsed = decode(_tasks, data)
        check_whole(parsed)
        new = to_new_task(with_defaults(state, parsed, data), "")
    except Problem as problem:
        pointer = "/task" + problem.pointer.rstrip("/")
        raise Problem(problem.code, problem.detail, pointer=pointer) from None
    if new.extra is not None and new.extra.deadline:
        raise Problem(
            "invalid",
            f"{document.get('deadline')!r} is one instant for all runs; a duration such as "
            '"1h" counts from the begin of each',
            pointer="/task/deadline",
        )
    fork = None if new.extra is None else new.extra.fork
    if fork is not None and fork.is_open:
        text = "the map of a schedule has its items in it, at most 1,000; or let a workflow's task "
        raise Problem("too-large", text + "name them", pointer="/task/map")
    return new, parsed.namespace


# Documents that are kept ---------------------------------------------------------------------


def _kept(document: dict[str, Any]) -> bytes:
    try:
        data = _json.encode({k: v for k, v in document.items() if k not in ("name", "paused")})
    except RecursionError:
        raise Problem("invalid", "it is nested too deep", pointer="/") from None
    if len(data) > DOCUMENT_BYTES_MAX:
        raise Problem("too-large", f"a schedule may have {DOCUMENT_BYTES_MAX} bytes")
    return data


def document_of(row: Schedule) -> dict[str, Any]:
    """What was asked for; what was not said is as by default."""
    told = _plain.decode(row.document) if row.document else {}
    return {**_DEFAULTS, **told, "name": row.name, "paused": row.paused}


def given_of(row: Schedule) -> dict[str, Any]:
    """What was asked for, and nothing else: what a change is merged into."""
    return _plain.decode(row.document) if row.document else {}


def differences(known: Schedule, wanted: Schedule) -> list[str]:
    """Fields of the document that ask for something else; empty: nothing does."""
    if _asks(known) == _asks(wanted):
        return []
    old, new = document_of(known), document_of(wanted)
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    # What the queue says for its tasks was changed.
    return names or ["task"]


def _asks(row: Schedule) -> tuple[Any, ...]:
    return (
        row.task, row.timing, row.namespace, row.misfire, row.misfire_limit, row.window_ms,
        row.overlap, row.jitter_ms, row.paused,
    )  # fmt: skip
