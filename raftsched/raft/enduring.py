"""What a peer does while its disk is full: look for room, and let somebody else lead."""

from __future__ import annotations

import asyncio
import contextlib

from raftsched.raft.engine import Engine
from raftsched.raft.handover import HandOver
from raftsched.raft.journal import Journal
from raftsched.raft.log import NoQuorum, NotLeader
from raftsched.raft.membership import Membership

#: A full disk is looked at this often.
RESUME_SECONDS = 1.0


class FullDisk:
    """The one under a peer's journal, from when it is full until there is room again."""

    def __init__(
        self, journal: Journal, membership: Membership, engine: Engine, hand_over: HandOver
    ) -> None:
        self._journal = journal
        self._membership = membership
        self._engine = engine
        self._hand_over = hand_over
        #: When it is looked at again, in monotonic seconds; 0: not full, as far as is known.
        self._resume_at = 0.0
        self._giving_up: asyncio.Task[None] | None = None

    def step(self, now: float) -> None:
        """To be called in every turn while the journal is paused."""
        if now < self._resume_at:
            return
        is_new, self._resume_at = self._resume_at == 0.0, now + RESUME_SECONDS
        if self._journal.try_resume():
            self._resume_at = 0.0
        elif self._engine.is_leader and self._membership.other_voters:
            if is_new:
                self._giving_up = asyncio.create_task(self._give_up())
            else:
                self._engine.resign()

    async def close(self) -> None:
        """Wait until nobody is being asked to take over."""
        if self._giving_up is not None:
            await asyncio.gather(self._giving_up, return_exceptions=True)

    async def _give_up(self) -> None:
        """Hand leadership to whoever takes it."""
        with contextlib.suppress(NotLeader, NoQuorum):
            await self._hand_over.run(None, RESUME_SECONDS / 2)
