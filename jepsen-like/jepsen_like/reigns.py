"""Who led when, from what peers said of themselves."""

from __future__ import annotations

from collections.abc import Iterable

from jepsen_like.history import Record, Sample


class Reign(Record, frozen=True):
    """A leader of one term, from the first sample that shows it to the last."""

    peer: str
    term: int
    from_at: int
    to_at: int


def reigns(samples: Iterable[Sample]) -> list[Reign]:
    """Reigns in the order of their terms; a leader that was elected anew begins another one."""
    seen: dict[tuple[int, str], list[int]] = {}
    for sample in samples:
        if sample.reachable and sample.role == "leader":
            seen.setdefault((sample.term, sample.peer), []).append(sample.at)
    return [Reign(peer, term, min(at), max(at)) for (term, peer), at in sorted(seen.items())]
