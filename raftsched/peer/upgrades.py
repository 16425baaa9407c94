"""The leader's part of a rolling upgrade: a version comes into force once every member knows it.

What a member knows it says in its answers to probes, so it is what runs there now.  It is not
replicated: before a version is in force, the versions before could not keep it in their rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from raftsched.core.commands import ActivateVersion
from raftsched.core.cron.zones import tzdata_version
from raftsched.core.outcomes import Rejected
from raftsched.core.versions import UNSPOKEN, Supports, next_version
from raftsched.peer.replica import Replica
from raftsched.peer.reports import Propose
from raftsched.peer.service import Told
from raftsched.raft.host import Clock
from raftsched.raft.log import PeerView, ReplicatedLog

logger = logging.getLogger(__name__)

#: A member that has said nothing for so long counts as not heard.
HEARD_SECONDS_MAX = 5.0


def about(supports: Supports, software: str) -> dict[str, Any]:
    """What a peer says of itself to whoever leads (``PySyncObjLog.about``)."""
    return {"versions": list(supports), "software": software, "tzdata": tzdata_version()}


def supports_of(view: PeerView) -> Supports:
    """What a member said it can apply."""
    versions = view.about.get("versions")
    if not isinstance(versions, list) or len(versions) != 2:
        return UNSPOKEN
    lowest, highest = versions
    if not isinstance(lowest, int) or not isinstance(highest, int):
        return UNSPOKEN
    return Supports(lowest, highest)


def told_by(view: PeerView, offset_ms: float | None) -> Told:
    """What a member told, for people to see."""
    offset = None if offset_ms is None else round(offset_ms)
    about = view.about
    software, zones = str(about.get("software", "")), str(about.get("tzdata", ""))
    return Told(software, supports_of(view).highest, offset, zones)


class Upgrades:
    """One peer's; acts only while `step` is called, by the leader loop."""

    def __init__(
        self,
        replica: Replica,
        log: ReplicatedLog,
        clock: Clock,
        others: Callable[[], tuple[str, ...]],
        propose: Propose,
    ) -> None:
        """``others``: the members beside this peer, now, whether they vote or not."""
        self._replica = replica
        self._log = log
        self._clock = clock
        self._others = others
        self._propose = propose
        self._told = ""
        #: Releases of tzdata by peer, where they are not this one's.
        self._other_zones: dict[str, str] = {}

    async def step(self) -> None:
        """Propose the highest version that all members know, if it is not in force.

        Raises PeerError.
        """
        self._compare_zones()
        in_force, own = self._replica.state.version, self._replica.supports
        if in_force >= own.highest:
            return
        known = self._known()
        version = next_version(in_force, [own, *known.values()])
        if version is None:
            self._tell_what_lacks(in_force, own.highest, known)
            return
        outcome = await self._propose(ActivateVersion(version), 10.0)
        if isinstance(outcome, Rejected):
            logger.warning("version %d was not activated: %s", version, outcome.detail)

    def _compare_zones(self) -> None:
        """Peers that know other time zones than this one would reckon other slots as leaders."""
        own = tzdata_version()
        others = {
            peer_id: str(view.about["tzdata"])
            for peer_id, view in sorted(self._log.peer_views().items())
            if view.about.get("tzdata", own) != own
        }
        if others != self._other_zones:
            self._other_zones = others
            if others:
                names = ", ".join(f"{peer_id} {release}" for peer_id, release in others.items())
                logger.warning(
                    "peers have other time zones than this one, which has tzdata %s: %s; slots "
                    "may differ after a change of leader: install the same release everywhere",
                    own,
                    names,
                )

    def _known(self) -> dict[str, Supports | None]:
        """By member, in order; None: not heard of late."""
        views, now = self._log.peer_views(), self._clock.monotonic()
        known: dict[str, Supports | None] = {}
        for peer_id in self._others():
            view = views.get(peer_id)
            is_heard = view is not None and now - view.heard_at <= HEARD_SECONDS_MAX
            known[peer_id] = supports_of(view) if view is not None and is_heard else None
        return known

    def _tell_what_lacks(
        self, in_force: int, wanted: int, known: dict[str, Supports | None]
    ) -> None:
        lacking = [
            f"{peer_id} ({'not heard' if supports is None else f'knows {supports.highest}'})"
            for peer_id, supports in known.items()
            if supports is None or supports.highest < wanted
        ]
        told = f"version {in_force} stays in force, not {wanted}: waits for {', '.join(lacking)}"
        if told != self._told:
            self._told = told
            logger.info("%s", told)
