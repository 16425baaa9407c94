"""What the configuration in force means for this peer: whom it talks to, and whether it belongs.

A peer that was removed is told so by those who know that its removal is committed (a message, or a
refused handshake), as its own log may never say it: nobody sends it entries any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from raftsched.raft.changing import MemberChanges
from raftsched.raft.config import LogConfig
from raftsched.raft.elections import Elections
from raftsched.raft.engine import Engine
from raftsched.raft.log import MustStop, RemovedFromCluster
from raftsched.raft.membership import Configuration, Membership
from raftsched.raft.transport import Transport

logger = logging.getLogger(__name__)

#: A peer without word of a leader for so long hears also peers that it does not know: those that
#: it does know may all have been replaced (Raft thesis, 4.1).
UNKNOWN_AFTER_SECONDS = 10.0


class Belonging:
    """Keeps engine and connections to the members of one peer's configuration."""

    def __init__(
        self,
        config: LogConfig,
        membership: Membership,
        engine: Engine,
        elections: Elections,
        changes: MemberChanges,
        transport: Transport,
        now: Callable[[], float],
    ) -> None:
        """``now``: monotonic seconds."""
        self._config = config
        self._membership = membership
        self._engine = engine
        self._elections = elections
        self._changes = changes
        self._transport = transport
        self._now = now
        self._started_at = now()
        #: The configurations (in force, committed) that connections were last made for.
        self._settled: tuple[Configuration | None, Configuration | None] = (None, None)
        self._is_removed = False
        #: Called once when this peer learns that it was removed.
        self.on_removed: Callable[[MustStop], None] = lambda error: None
        membership.on_change = self._changed
        transport.on_removed = self._removed
        transport.is_open_to_all = self._is_lost
        if membership.now.recovered:
            logger.warning("this cluster goes on by force: %s", membership.now.recovered)
        self.settle()

    def _changed(self) -> None:
        """Another configuration is in force; perhaps in the middle of a message or a tick."""
        self._engine.configure()
        now = self._membership.now
        named = ", ".join(sorted(now.voters)) or "none yet"
        learning = f", learning: {', '.join(sorted(now.learners))}" if now.learners else ""
        logger.info("voters from index %d on: %s%s", self._membership.index, named, learning)

    def settle(self) -> None:
        """In every pass: connections follow the members; who was removed for good is told so."""
        now, committed = self._membership.now, self._changes.committed
        if self._settled[0] is now and self._settled[1] is committed:
            return
        self._settled = (now, committed)
        # Whose removal is not committed may be needed to commit it, or to undo it.
        addresses = {p: a.raft for p, a in {**committed.members, **now.members}.items()}
        self._transport.set_members(addresses or self._config.peers, committed.removed)
        if self._config.peer_id in committed.removed:
            self._removed("its own log")

    def _is_lost(self) -> bool:
        """Has this peer heard of no leader for so long that it may not know who is a member?"""
        if self._engine.is_leader:
            return False
        led_at = self._elections.led_at
        since = self._started_at if led_at is None else led_at
        return self._membership.now.is_empty or self._now() - since > UNKNOWN_AFTER_SECONDS

    def _removed(self, who: str) -> None:
        if self._is_removed:
            return
        self._is_removed = True
        self._changes.was_removed()
        me, cluster = self._config.peer_id, self._config.cluster_id
        self.on_removed(
            RemovedFromCluster(
                f"peer {me!r} was removed from cluster {cluster!r} (says {who}); to have this "
                "machine in it again, add it under a new id with an empty directory"
            )
        )
