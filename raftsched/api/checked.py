"""Fields that stand for a number: parsed, bounded, and refused where they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftsched.api.problems import Problem
from raftsched.api.times import Duration, parse_duration

#: Largest number a row holds; more could not be encoded into an entry.
ROW_INTEGER_MAX = (1 << 63) - 1


def checked(parse: Callable[[Any], int], value: Any, pointer: str) -> int:
    """The number a field stands for; most fields have their default, 0.  Raises Problem."""
    if value == 0:
        return 0
    try:
        number = parse(value)
    except ValueError as error:
        raise Problem("invalid", str(error), pointer=pointer) from None
    if not 0 <= number <= ROW_INTEGER_MAX:
        raise Problem("invalid", f"{value!r} is negative or too large", pointer=pointer)
    return number


def milliseconds(value: Duration, pointer: str) -> int:
    """A duration.  Raises Problem."""
    return checked(parse_duration, value, pointer)
