"""Who may keep running: the leader's side of node leases.

The leader grants a node's lease only while a quorum confirmed its term within the grant window,
and declares a node lost only after the last possible grant, by any leader, has surely run out:
``last grant + lease + window + drift``.  A new leader counts every node's timer from its own
election.  The argument is in ``docs/consistency.md``; nothing here reads a clock.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from raftsched.core.leases import held_leases
from raftsched.core.state import State

#: A grant needs a quorum that answered, in this term, something sent within this window.
GRANT_WINDOW_SECONDS = 1.5
#: Clocks of two machines drift apart by less than this during one lease.
DRIFT_MARGIN_SECONDS = 0.5
#: A node that is not heard of for so long is given nothing new: it renews every second.
SILENT_SECONDS = 3.0
#: What is behind the last grant by more than this and a lease is surely over.
MARGIN_SECONDS = GRANT_WINDOW_SECONDS + DRIFT_MARGIN_SECONDS


class Verdict(NamedTuple):
    """No lease of at most ``silent_ms`` is in effect for this incarnation."""

    node_id: str
    incarnation: str
    silent_ms: int


class LeaseBook:
    """When each incarnation was last granted its lease in this term.  Not replicated."""

    def __init__(self, lease_seconds: float) -> None:
        #: Of nodes that have not said what their own is.
        self.lease_seconds = lease_seconds
        self._elected_at: float | None = None
        self._granted_at: dict[tuple[str, str], float] = {}
        #: Incarnations a verdict was proposed for: never granted again in this term.
        self._condemned: set[tuple[str, str]] = set()

    def elected(self, now: float) -> None:
        """This peer leads from ``now`` (monotonic seconds) on: all timers start anew."""
        self._elected_at = now
        self._granted_at.clear()
        self._condemned.clear()

    def deposed(self) -> None:
        """This peer does not lead any more."""
        self._elected_at = None

    def grant(
        self, node_id: str, incarnation: str, now: float, quorum_age_seconds: float | None
    ) -> bool:
        """May this incarnation keep its attempts?  Remembers the grant if so."""
        who = (node_id, incarnation)
        if self._elected_at is None or who in self._condemned:
            return False
        if quorum_age_seconds is None or quorum_age_seconds > GRANT_WINDOW_SECONDS:
            return False
        self._granted_at[who] = now
        return True

    def seen(self, node_id: str, incarnation: str, now: float) -> None:
        """An incarnation registered: its timer starts now, later than any grant it has."""
        self._granted_at[(node_id, incarnation)] = now

    def age(self, node_id: str, incarnation: str, now: float) -> float:
        """Seconds since the last grant, or since the election; 0 when this peer does not lead."""
        if self._elected_at is None:
            return 0.0
        return now - self._granted_at.get((node_id, incarnation), self._elected_at)

    def is_silent(self, node_id: str, incarnation: str, now: float) -> bool:
        """Was it not granted lately, or not at all in this term?  It may be dead already."""
        granted_at = self._granted_at.get((node_id, incarnation))
        return granted_at is None or now - granted_at > SILENT_SECONDS

    def condemned(self, state: State, now: float) -> list[Verdict]:
        """Incarnations of which something has surely no lease any more, and still holds it.

        Each is returned once until it is pardoned; the caller proposes the verdict.
        """
        if self._elected_at is None:
            return []
        silent: dict[tuple[str, str], int] = {}
        for node_id, incarnation, lease_ms in held_leases(state):
            who = (node_id, incarnation)
            if who in self._condemned:
                continue
            silent_ms = ceil((self.age(*who, now) - MARGIN_SECONDS) * 1000) - 1
            if silent_ms >= (lease_ms or self.lease_seconds * 1000):
                silent[who] = silent_ms
        self._condemned.update(silent)
        return [Verdict(*who, silent_ms) for who, silent_ms in silent.items()]

    def pardon(self, node_id: str, incarnation: str) -> None:
        """A verdict was applied (or surely was not): the incarnation may register again."""
        self._condemned.discard((node_id, incarnation))
