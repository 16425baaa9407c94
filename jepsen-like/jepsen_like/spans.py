"""Faults as stretches of time."""

from __future__ import annotations

from collections.abc import Iterable

from jepsen_like.history import FaultEvent, Record

#: The end of a fault that was never taken away.
NEVER = (1 << 63) - 1


class Span(Record, frozen=True):
    """A fault from its beginning to its end."""

    fault: str
    targets: tuple[str, ...]
    from_at: int
    to_at: int
    #: False: a probe looked and did not see it (or still saw it after its end).
    verified: bool | None
    detail: str = ""
    allows: tuple[str, ...] = ()


def spans(faults: Iterable[FaultEvent]) -> list[Span]:
    """Faults that really were, by their beginning.  One without an end lasts for ever.

    An end belongs to the oldest open beginning with the same name and targets, else name.
    """
    open_: list[FaultEvent] = []
    found: list[Span] = []
    for event in sorted(faults, key=lambda event: event.at):
        if event.event == "begin":
            open_.append(event)
        elif event.event == "end":
            same = [b for b in open_ if b.fault == event.fault]
            begin = next((b for b in same if b.targets == event.targets), same[0] if same else None)
            if begin is not None:
                open_.remove(begin)
                found.append(_span(begin, event))
    found.extend(_span(begin, None) for begin in open_)
    return sorted(found, key=lambda span: span.from_at)


def _span(begin: FaultEvent, end: FaultEvent | None) -> Span:
    said = [event.verified for event in (begin, end) if event and event.verified is not None]
    return Span(
        fault=begin.fault,
        targets=tuple(begin.targets),
        from_at=begin.at,
        to_at=end.at if end else NEVER,
        verified=all(said) if said else None,
        detail="; ".join(e.detail for e in (begin, end) if e and e.detail),
        allows=tuple(sorted({*begin.allows, *(end.allows if end else ())})),
    )
