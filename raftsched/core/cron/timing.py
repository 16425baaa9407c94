"""When a schedule is due, as a row.

The rules of ``model`` hold here: no row changes, and no float is in one.  Instants are milliseconds
since the Unix epoch, days are counted from 1970-01-01, which is 0.
"""

from __future__ import annotations

import msgspec

from raftsched.core.words import Word

#: Expressions, instants, and ranges of excluded days of one schedule at most.
CRONS_MAX = 20
AT_MAX = 1_000
EXCLUDE_MAX = 500
#: Of these so many are of every year.
YEARLY_MAX = 20
#: Of an interval.
EVERY_MS_MIN = 100
EVERY_MS_MAX = 3_660 * 86_400_000
JITTER_MS_MAX = 86_400_000
#: Year 9000: no slot is later, and no sum of ours leaves what a date can hold.
INSTANT_MS_MAX = 221_845_392_000_000
DAY_MAX = INSTANT_MS_MAX // 86_400_000


class Gap(Word):
    """What becomes of a wall-clock time that a day does not have: the clocks went forward."""

    #: Fixed times as ``shift``, rhythms as ``skip``.
    USUAL = "usual"
    #: No slot.
    SKIP = "skip"
    #: The first instant after the gap.
    SHIFT = "shift"


class Fold(Word):
    """What becomes of a wall-clock time that a day has twice: the clocks went back."""

    #: Fixed times as ``first``, rhythms as ``both``.
    USUAL = "usual"
    FIRST = "first"
    BOTH = "both"
    SECOND = "second"


class Timing(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What a user asked for, checked.  A slot is an instant that any of the three names.

    Only what is not as usual is written, so that fields can be added; a program that does not know
    one that is written cannot reckon the schedule.
    """

    #: Cron expressions of 5 or 6 fields, ``@hourly`` to ``@yearly``; ``H`` is still in them.
    crons: tuple[str, ...] = ()
    #: Distance of slots; 0: none.  They are counted from ``start_at``, else from the anchor.
    every_ms: int = 0
    #: Single instants, rising.
    at: tuple[int, ...] = ()
    #: IANA name: where ``crons`` and ``exclude`` are read.
    zone: str = "UTC"
    gap: Gap = Gap.USUAL
    fold: Fold = Fold.USUAL
    #: No slot is before the first or at or after the second; 0: no such bound.
    start_at: int = 0
    end_at: int = 0
    #: (first, last) local days without slots; rising, neither touching nor overlapping.
    exclude: tuple[tuple[int, int], ...] = ()
    #: (first, last) local days of every year without slots, each month * 100 + day; the last before
    #: the first: over New Year.
    exclude_yearly: tuple[tuple[int, int], ...] = ()
    #: A slot's start is less than this later than its nominal instant; 0: not at all.
    jitter_ms: int = 0
