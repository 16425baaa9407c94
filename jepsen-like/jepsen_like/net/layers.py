"""What several faults do to one direction at once: each lays its rule over those of the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Direction = tuple[str, str]
#: The words of `Net.shape`.
Rule = dict[str, Any]
_SUMS = frozenset({"delay_ms", "jitter_ms"})


class Layers:
    """The rules of all directions, by who laid them."""

    def __init__(self) -> None:
        self._laid: dict[Direction, dict[object, Rule]] = {}

    def lay(self, who: object, direction: Direction, rule: Rule) -> Rule:
        """Add a rule, or replace one's own; what holds there now."""
        laid = self._laid.setdefault(direction, {})
        laid[who] = rule
        return together(laid.values())

    def lift(self, who: object, direction: Direction) -> Rule:
        """Take one's rule away, if there is one; what holds there now."""
        laid = self._laid.get(direction, {})
        laid.pop(who, None)
        return together(laid.values())

    def lies(self, direction: Direction) -> bool:
        """Has anybody laid a rule there?"""
        return bool(self._laid.get(direction))

    def clear(self) -> None:
        """Take all away."""
        self._laid.clear()


def together(rules: Iterable[Rule]) -> Rule:
    """One rule that does what all of them do, as if a packet met one after the other."""
    found: Rule = {}
    for rule in rules:
        for what, value in rule.items():
            before = found.get(what, 0)
            if isinstance(value, bool):
                found[what] = bool(before) or value
            elif what in _SUMS:
                found[what] = before + value
            else:
                found[what] = 1 - (1 - before) * (1 - value)
    return found
