"""Rows of schedules: what is to run again and again, and what became of each time it was due.

When a schedule is due is opaque here (`Schedule.timing`): the leader reckons it, and `apply` only
holds the leader to what the rows say (``handlers.schedules``).
"""

from __future__ import annotations

import msgspec

from raftsched.core.model import NewTask, Task
from raftsched.core.words import Word

#: `Schedule.next_at` until the leader has reckoned it.
UNRECKONED = -1
#: An instant that is this much in the past when it fires is late; which of the late ones run says
#: the schedule.
LATE_MS = 10_000
#: Slots kept of each schedule; the oldest go first.
SLOTS_MAX = 100
#: Runs of one schedule that wait for one another, with ``overlap: queue``.
QUEUED_RUNS_MAX = 100
#: Late instants that run at most, with ``misfire: all``.
MISFIRE_LIMIT_MAX = 100
#: Longest name of a schedule, in characters: the ids of its tasks begin with it.
NAME_MAX = 40


class Misfire(Word):
    """Which of the instants run that were due while nobody could fire them."""

    #: None.
    SKIP = "skip"
    #: The last one.
    LATEST = "latest"
    #: The last ``misfire_limit``, one after the other.
    ALL = "all"


class Overlap(Word):
    """What an instant does whose forerunner still runs."""

    ALLOW = "allow"
    #: It is passed over.
    SKIP = "skip"
    #: It waits for its forerunner's end.
    QUEUE = "queue"
    #: It ends its forerunner, and waits until nothing of that runs.
    REPLACE = "replace"


class SlotStatus(Word):
    """What became of an instant."""

    #: A task was made for it, which has not ended; later as that ended.
    FIRED = "fired"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"
    #: Nobody could fire it in time.
    MISSED = "missed"
    #: It was not to run: overlap, or a pause.
    SKIPPED = "skipped"


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to run, when, and how far it is."""

    name: str
    #: What runs; its id is not used.
    task: NewTask
    #: ``msgspec.msgpack.encode(cron.Timing)``; not looked into by ``apply``.
    timing: bytes
    namespace: str = "default"
    misfire: Misfire = Misfire.LATEST
    misfire_limit: int = 10
    #: Late instants that are older do not run, in milliseconds.
    window_ms: int = 3_600_000
    overlap: Overlap = Overlap.SKIP
    #: A run begins up to so much later, by a hash of name and instant.
    jitter_ms: int = 0
    paused: bool = False
    #: Rises with every change of what or when.
    version: int = 1
    #: The next instant, in milliseconds since the Unix epoch; 0: none comes any more.
    next_at: int = UNRECKONED
    #: While that is unreckoned: the instant behind which it lies.
    after: int = 0
    #: While that is unreckoned: until then it was paused, and what was due is not to run; 0: it
    #: was not.
    resumed_at: int = 0
    created_at: int = 0
    modify_index: int = 0
    #: The index of the last command that somebody gave about it, since version 7; 0: none did.
    edit_index: int = 0
    #: What it was asked for with, as JSON; not looked into by ``apply``.
    document: bytes = b""
    #: Idempotency key of the request that made it; empty: it had none.
    key: str = ""
    #: Runs in a row that succeeded, or that did not; one of them is 0.
    successes: int = 0
    failures: int = 0


class Slot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An instant that was due, or a range of them that has the same fate."""

    schedule: str
    #: The instant, in milliseconds since the Unix epoch; of a range the first and the last.
    at: int
    upto: int
    #: How many instants of the schedule are in the range.
    count: int
    status: SlotStatus
    #: The task that was made for it; empty: none was.
    task_id: str = ""
    #: Why, a stable word: ``overlap``, ``late``, ``superseded``, ``paused``, ``overloaded``, ...
    reason: str = ""
    #: The cluster's time when it was decided, and the place in the order of all that was.
    fired_at: int = 0
    order: int = 0


def edited_at(row: Schedule) -> int:
    """The index that an edit names: that the schedule fired meanwhile is no conflict."""
    return row.edit_index or row.modify_index


def slot_key(schedule: str, at: int) -> str:
    """The key of a slot's row."""
    return f"{schedule}\0{at}"


def schedule_of(task: Task) -> str:
    """The name of the schedule that made it; empty: none did."""
    return "" if task.extra is None else task.extra.schedule
