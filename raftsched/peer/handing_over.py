"""Leadership handed over because somebody asked, on whichever peer: followers ask the leader."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from raftsched.peer import messages
from raftsched.peer.errors import NoLeader
from raftsched.raft.host import Clock
from raftsched.raft.log import LogClosed, NoQuorum, NotLeader, ReplicatedLog, Role

logger = logging.getLogger(__name__)

#: A leader gets this long to find somebody who takes over.
HAND_OVER_SECONDS = 3.0
#: Whoever asked the leader looks this often whether another one leads.
_LOOK_SECONDS = 0.05


class HandOvers:
    """One peer's part of it."""

    def __init__(
        self,
        log: ReplicatedLog,
        clock: Clock,
        send: Callable[[str, messages.AnyFrame], bool],
    ) -> None:
        self._log = log
        self._clock = clock
        self._send = send
        #: What another peer asked for and is under way.
        self._asked: asyncio.Task[None] | None = None
        self._is_closed = False

    async def run(self, target: str | None) -> str:
        """The new leader: ``target``, or whoever takes over.  Raises NoLeader."""
        status = self._log.status()
        if target is not None and target == status.leader:
            return target
        if status.role is Role.LEADER:
            try:
                return await self._log.transfer_leadership(target, HAND_OVER_SECONDS)
            except (NotLeader, NoQuorum, LogClosed) as error:
                raise NoLeader(f"leadership was not handed over: {error}") from error
        if status.leader is None or not self._send(status.leader, messages.HandOver(target)):
            raise NoLeader("the leader cannot be reached; retry later", leader=status.leader)
        deadline = self._clock.monotonic() + 2 * HAND_OVER_SECONDS
        while self._clock.monotonic() < deadline:
            now = self._log.status()
            if now.leader not in (None, status.leader) and now.term > status.term:
                assert now.leader is not None
                return now.leader
            await asyncio.sleep(_LOOK_SECONDS)
        raise NoLeader(
            f"{status.leader} did not hand over leadership in time", leader=status.leader
        )

    def asked(self, target: str | None) -> None:
        """Another peer was asked for it, and takes this one for the leader; one at a time."""
        if self._is_closed or self._log.status().role is not Role.LEADER:
            return
        if self._asked is not None and not self._asked.done():
            logger.warning("asked to hand leadership to %s while it is handed over", target)
            return
        self._asked = asyncio.create_task(self._obey(target))

    async def close(self) -> None:
        """Drop what is under way; nothing is begun any more."""
        self._is_closed = True
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.gather(self._asked, return_exceptions=True)

    async def _obey(self, target: str | None) -> None:
        try:
            await self._log.transfer_leadership(target, HAND_OVER_SECONDS)
        except (NotLeader, NoQuorum, LogClosed) as error:
            logger.warning("a peer asked to hand leadership over: %s", error)
