"""Claims about nodes as users write them, and back: ``zone = a``, ``disk in [ssd, nvme]``."""

from __future__ import annotations

import re

from raftsched.core.constraints import constraint_text
from raftsched.core.policy import Constraint, Op

__all__ = ["constraint_text", "parse_constraint"]

#: Characters of one claim.
TEXT_MAX = 1_000
VALUES_MAX = 100

_LABEL = r"[0-9A-Za-z][0-9A-Za-z._/-]{0,127}"
_VALUE = re.compile(r"[0-9A-Za-z._/:@+-]{0,255}")
_EQUAL = re.compile(rf"({_LABEL})\s*(!=|==?)\s*(.*)")
_AMONG = re.compile(rf"({_LABEL})\s+(not\s+in|in)\s*\[(.*)\]")
_THERE = re.compile(rf"({_LABEL})\s+(exists|absent)")


def parse_constraint(text: str) -> Constraint:
    """The claim that the text makes.  Raises ValueError, which says how to write one."""
    text = text.strip()
    if len(text) <= TEXT_MAX:
        if found := _THERE.fullmatch(text):
            return Constraint(found[1], Op(found[2]))
        if found := _AMONG.fullmatch(text):
            op = Op.IN if found[2] == "in" else Op.NOT_IN
            values = [_value(part) for part in found[3].split(",") if part.strip()]
            if 0 < len(values) <= VALUES_MAX:
                return Constraint(found[1], op, tuple(sorted(set(values))))
        elif found := _EQUAL.fullmatch(text):
            op = Op.NOT_EQUAL if found[2] == "!=" else Op.EQUAL
            return Constraint(found[1], op, (_value(found[3]),))
    raise ValueError(
        f'{text[:100]!r} is no claim about a node; write "zone = a", "zone != a", '
        '"disk in [ssd, nvme]", "disk not in [hdd]", "gpu exists" or "gpu absent"'
    )


def _value(text: str) -> str:
    text = text.strip().strip("\"'")
    if not _VALUE.fullmatch(text):
        raise ValueError(f"{text[:100]!r} cannot be a label's value")
    return text
