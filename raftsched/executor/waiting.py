"""Attempts that wait in the runner for their turn: oldest first, but none behind another kind.

Attempts that need the same thing stand in one lane.  A lane whose thing has no room holds up
nobody else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from raftsched.executor.messages import StartAttempt

#: The lane of those that had their turn already.
_AGAIN = " again"


class Waiting:
    """By lane, oldest first, which is by token."""

    def __init__(self) -> None:
        #: Ordered ones: of a plain dict the first key is ever harder to find as keys are taken out.
        self._lanes: dict[str, OrderedDict[int, StartAttempt]] = {}
        self._lane_of: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._lane_of)

    def __contains__(self, token: int) -> bool:
        return token in self._lane_of

    def __iter__(self) -> Iterator[StartAttempt]:
        return iter([spec for lane in self._lanes.values() for spec in lane.values()])

    def add(self, spec: StartAttempt, *, again: bool = False) -> None:
        """At the end of its lane; ``again``: it had its turn, so that it is older than those."""
        name = lane_of(spec) + (_AGAIN if again else "")
        self._lane_of[spec.token] = name
        self._lanes.setdefault(name, OrderedDict())[spec.token] = spec

    def pop(self, token: int) -> StartAttempt | None:
        """Take this one out, if it is here."""
        name = self._lane_of.pop(token, None)
        if name is None:
            return None
        lane = self._lanes[name]
        spec = lane.pop(token)
        if not lane:
            del self._lanes[name]
        return spec

    def next(self, has_room: Callable[[StartAttempt], bool]) -> StartAttempt | None:
        """Take the oldest for whose kind there is room."""
        found: StartAttempt | None = None
        for lane in self._lanes.values():
            head = lane[next(iter(lane))]
            if (found is None or head.token < found.token) and has_room(head):
                found = head
        if found is not None:
            self.pop(found.token)
        return found


def lane_of(spec: StartAttempt) -> str:
    """What it needs: a function's worker, or nothing that others could hold up."""
    python = spec.spec.python
    return "" if python is None else python.function
