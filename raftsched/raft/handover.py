"""Handing leadership over to a peer that has the whole log, without stranding anybody's command."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from raftsched.raft.engine import Engine
from raftsched.raft.log import NoQuorum, NotLeader
from raftsched.raft.membership import Membership

logger = logging.getLogger(__name__)

#: How often it is looked whether a peer has caught up, and whether it leads.
_LOOK_SECONDS = 0.02
#: A peer that was asked to take over gets so long before it, or another one, is asked.
_ASK_AGAIN_SECONDS = 0.5
#: With nobody connected who could take over, for so long, there is nothing to wait for.
_ALONE_SECONDS = 0.3


class HandOver:
    """The leader's side of it."""

    def __init__(
        self,
        membership: Membership,
        engine: Engine,
        connected: Callable[[], tuple[str, ...]],
        changed: Callable[[], None],
    ) -> None:
        """``changed`` is called when `is_active` was."""
        self._membership = membership
        self._engine = engine
        self._connected = connected
        self._changed = changed
        #: Calls of `run` under way: an operator's may overlap with one for the clock's sake.
        self._running = 0

    @property
    def is_active(self) -> bool:
        """Intake pauses, so that the target can catch up."""
        return self._running > 0

    async def run(self, target: str | None, timeout_seconds: float) -> str:
        """The new leader.  Raises NotLeader, or NoQuorum: nobody took over and this one goes on."""
        engine = self._engine
        if not engine.is_leader:
            raise NotLeader(engine.leader)
        voters = self._membership.other_voters
        if target is not None and target not in voters:
            raise NoQuorum(f"{target!r} is not another voter; there are: {', '.join(voters)}")
        self._count(1)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._until_another_leads(engine.term, target)
        except TimeoutError:
            raise NoQuorum(f"nobody took over within {timeout_seconds:.1f} s") from None
        finally:
            self._count(-1)

    async def _until_another_leads(self, term: int, target: str | None) -> str:
        engine, loop = self._engine, asyncio.get_running_loop()
        ask_at = seen_at = loop.time()
        while True:
            leader = engine.leader
            if engine.term > term and leader not in (None, self._membership.peer_id):
                assert leader is not None
                return leader
            connected = self._voters_connected()
            if target in connected or (target is None and connected):
                seen_at = loop.time()
            elif loop.time() - seen_at > _ALONE_SECONDS:
                raise NoQuorum(f"{target} is not connected" if target else "no peer is connected")
            ready = self._ready(target)
            if engine.is_leader and ready and loop.time() >= ask_at:
                ask_at = loop.time() + _ASK_AGAIN_SECONDS
                if not engine.hand_over(ready[0]):
                    logger.info("hand-over to %s not begun", ready[0])
            await asyncio.sleep(_LOOK_SECONDS)

    def _ready(self, target: str | None) -> list[str]:
        connected = self._voters_connected()
        return [
            peer_id
            for peer_id in ([target] if target else connected)
            if peer_id in connected and self._engine.match_index(peer_id) == self._engine.last_index
        ]

    def _voters_connected(self) -> list[str]:
        voters = self._membership.other_voters
        return [peer_id for peer_id in self._connected() if peer_id in voters]

    def _count(self, change: int) -> None:
        was_active = self.is_active
        self._running += change
        if self.is_active != was_active:
            self._changed()
