"""Changes of the group, driven by whoever leads: one small step after the other.

What is wanted stands in the configuration itself (a learner is to vote once it has caught up, a
member that `replaces` another is to see it off), so a next leader goes on where the last one ended,
and nobody has to ask twice.

Rules
1. One change at a time: none before the one before is committed.
2. None before an entry of the leader's own term is committed: without it two leaders could each
   make a change of their own to the same configuration, and their majorities would not meet
   (the correction of 2015 to chapter 4 of the Raft thesis).
3. None that would leave voters without a majority that answers: the change itself, and everything
   after it, would wait for ever.
4. A leader does not remove itself.  PySyncObj counts a leader always, so it hands over first, and
   the next leader removes it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from raftsched.raft.engine import Engine
from raftsched.raft.handover import HandOver
from raftsched.raft.log import ChangeRefused, LogClosed, NoQuorum, NotLeader, UnknownMember
from raftsched.raft.membership import (
    MEMBERS_MAX,
    Address,
    Configuration,
    Membership,
    with_learner,
    with_voter,
    without,
)
from raftsched.raft.quorum import Prober

logger = logging.getLogger(__name__)

#: A learner that lacks no more entries than this votes: the rest arrives in one message.
LAG_ENTRIES_MAX = 300
#: Who has not answered for so long does not count for rule 3.
ANSWERED_SECONDS = 1.0
#: What a peer says of itself that understands configurations (``PeerView.about``).
KNOWS = "membership"
#: A leader that is to be removed gives the hand-over so long, and so long between two tries.
HAND_OVER_SECONDS = 3.0


class MemberChanges:
    """The leader's steps, and who waits for them on any peer."""

    def __init__(
        self,
        membership: Membership,
        engine: Engine,
        prober: Prober,
        hand_over: HandOver,
        connected: Callable[[], tuple[str, ...]],
        now: Callable[[], float],
    ) -> None:
        """``now``: monotonic seconds."""
        self._connected = connected
        self._membership = membership
        self._engine = engine
        self._prober = prober
        self._hand_over = hand_over
        self._now = now
        self._handing_over: asyncio.Task[None] | None = None
        self._hand_over_at = 0.0
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._is_removed = False
        #: When this peer was first seen to lead in this reign.
        self._leads_since = math.inf
        #: What the next step waits for, in a line; empty when there is none.
        self.waits_for = ""

    @property
    def committed(self) -> Configuration:
        """The newest configuration that is known here to be committed."""
        return self._membership.at(self._engine.commit_index)

    # The leader's steps ------------------------------------------------------------------------

    def step(self) -> None:
        """In every pass: the next step of what is wanted, if it may be taken now."""
        self._wake()
        now = self._membership.now
        if not self._engine.is_leader:
            self._leads_since = math.inf
        elif self._leads_since == math.inf:
            self._leads_since = self._now()
        if not self._engine.is_leader or not (now.learners or now.replaces):
            self.waits_for = ""
            return
        self.waits_for = self._not_now() or self._next_step(now)

    def _next_step(self, now: Configuration) -> str:
        """Take it; or what it waits for."""
        waits = ""
        for peer_id in sorted(now.learners):
            waits = self._behind(peer_id) or self._not_safe(with_voter(now, peer_id))
            if not waits:
                logger.info("%s has caught up and votes from here on", peer_id)
                self._engine.append_configuration(with_voter(now, peer_id))
                return ""
        for peer_id, old in sorted(now.replaces.items()):
            if peer_id in now.voters:
                return self._see_off(now, peer_id, old)
        return waits

    def _see_off(self, now: Configuration, peer_id: str, old: str) -> str:
        """``peer_id`` votes, so the one that it replaces goes."""
        waits = self._not_safe(without(now, old))
        if waits:
            return waits
        if old == self._membership.peer_id:
            self._begin_hand_over()
            return "leadership is handed over before its holder is removed"
        logger.info("%s is removed, %s stands for it", old, peer_id)
        self._engine.append_configuration(without(now, old))
        return ""

    def _begin_hand_over(self) -> None:
        if self._now() < self._hand_over_at or self._handing_over is not None:
            return
        self._hand_over_at = self._now() + HAND_OVER_SECONDS
        self._handing_over = asyncio.create_task(self._give_up_leadership())

    async def _give_up_leadership(self) -> None:
        try:
            leader = await self._hand_over.run(None, HAND_OVER_SECONDS)
            logger.info("%s leads, as this peer is to be removed", leader)
        except (NoQuorum, NotLeader) as error:
            logger.warning("this peer is to be removed and still leads: %s", error)
        finally:
            self._handing_over = None

    def _not_now(self) -> str:
        """Why no change at all may be begun; empty if one may.  Rules 1 and 2."""
        engine, membership = self._engine, self._membership
        if engine.commit_index < membership.index:
            return f"the change at index {membership.index} is not committed yet"
        if not engine.is_current:
            return f"the leader of term {engine.term} has not applied an entry of it yet"
        if self._hand_over.is_active:
            return "leadership is being handed over"
        return ""

    def _not_safe(self, then: Configuration) -> str:
        """Why the voters of the next configuration might get stuck; empty if not.  Rule 3."""
        if not then.voters:
            return "no voter would be left"
        views, since = self._prober.views, self._now() - ANSWERED_SECONDS
        connected = self._connected()
        alive = {p for p, view in views.items() if view.heard_at >= since and p in connected}
        alive.add(self._membership.peer_id)
        if then.is_majority(frozenset(alive)):
            return ""
        silent = sorted(then.voters.keys() - alive)
        return (
            f"of the {len(then.voters)} voters that there would be, {', '.join(silent)} "
            f"did not answer in the last {ANSWERED_SECONDS:g} s, so nothing could be committed"
        )

    def _not_understood(self) -> str:
        """Who would take a configuration for nothing, being of a version before; empty: nobody."""
        views = self._prober.views
        is_new = self._now() < self._leads_since + ANSWERED_SECONDS
        for peer_id in self._connected():
            if peer_id in self._membership.others:
                if peer_id not in views and is_new:
                    return f"{peer_id} has not answered yet; retry in a moment"
                if peer_id in views and not views[peer_id].about.get(KNOWS):
                    return f"{peer_id} runs a program that knows no changes; upgrade it first"
        return ""

    def _behind(self, peer_id: str) -> str:
        """Why a learner may not vote yet; empty if it may."""
        view = self._prober.views.get(peer_id)
        if view is None or view.heard_at < self._now() - ANSWERED_SECONDS:
            return f"{peer_id} does not answer"
        behind = self._engine.last_index - self._engine.match_index(peer_id)
        if behind > LAG_ENTRIES_MAX:
            return f"{peer_id} lacks {behind} entries"
        return ""

    # What is asked -----------------------------------------------------------------------------

    async def run(
        self, add: dict[str, Address], remove: str | None, timeout_seconds: float
    ) -> None:
        """See `log.ReplicatedLog.change_membership`."""
        me = self._membership.peer_id
        if remove == me and not add and self._engine.is_leader and not self._not_now():
            if why := self._not_safe(without(self._membership.now, me)):
                raise ChangeRefused(f"{me} cannot be removed: {why}")
            raise NotLeader(await self._hand_over.run(None, timeout_seconds))
        self.begin(add, remove)
        await self.wait(add, remove, timeout_seconds)

    def begin(self, add: dict[str, Address], remove: str | None) -> None:
        """Append the first entry of a change; a change that stands already is not made again.

        Of several peers to add the last one replaces ``remove``.  Raises NotLeader or
        ChangeRefused: surely nothing was changed.
        """
        if not self._engine.is_leader:
            raise NotLeader(self._engine.leader)
        now = self._membership.now
        new = [peer_id for peer_id in add if peer_id not in now.members]
        for peer_id, address in add.items():
            known = now.members.get(peer_id, address)
            if known.raft != address.raft:
                raise ChangeRefused(
                    f"{peer_id} is a member already, at {known.raft}; a peer that moves is started "
                    "at its new address with every other's file saying so"
                )
        if not new and (remove is None or remove not in now.members):
            self._check_known(now, add, remove)
            return
        if why := self._not_now():
            raise ChangeRefused(f"{why}; one change at a time, retry in a moment")
        if why := self._not_understood():
            raise ChangeRefused(why)
        if new:
            then = self._with_new(now, new[0], add[new[0]], remove)
        elif add and remove is not None:
            then = self._with_replacement(now, next(reversed(add)), remove)
        else:
            assert remove is not None
            then = self._without(now, remove)
        if then != now:
            self._engine.append_configuration(then)

    def _check_known(self, now: Configuration, add: dict[str, Address], remove: str | None) -> None:
        if not add and remove is not None and remove not in now.removed:
            known = ", ".join(sorted(now.members))
            raise UnknownMember(f"{remove!r} is not a member; there are: {known}")

    def _with_new(
        self, now: Configuration, peer_id: str, address: Address, replaces: str | None
    ) -> Configuration:
        if peer_id in now.removed:
            raise ChangeRefused(
                f"{peer_id!r} was removed before; an id never comes back, take a new one"
            )
        if len(now.members) >= MEMBERS_MAX:
            raise ChangeRefused(f"there are {len(now.members)} peers, {MEMBERS_MAX} are the most")
        if now.learners:
            waits = ", ".join(sorted(now.learners))
            raise ChangeRefused(f"{waits} is being added; wait for its end, or remove it")
        taken = {a.raft: p for p, a in sorted(now.members.items())}
        if address.raft in taken and taken[address.raft] != replaces:
            raise ChangeRefused(f"{address.raft} is the address of {taken[address.raft]}")
        if replaces is not None and replaces not in now.members:
            raise UnknownMember(f"{replaces!r} is not a member, so nobody can replace it")
        return with_learner(now, peer_id, address, replaces or "")

    def _with_replacement(self, now: Configuration, peer_id: str, old: str) -> Configuration:
        """Both are members already: the old one is to go."""
        if now.replaces.get(peer_id) == old:
            return now
        if peer_id == old:
            raise ChangeRefused(f"{peer_id!r} cannot replace itself")
        if peer_id in now.learners:
            raise ChangeRefused(f"{peer_id} is being added and replaces nobody; wait for its end")
        return self._without(now, old)

    def _without(self, now: Configuration, peer_id: str) -> Configuration:
        then = without(now, peer_id)
        if why := self._not_safe(then):
            raise ChangeRefused(f"{peer_id} cannot be removed: {why}")
        if peer_id == self._membership.peer_id:
            raise ChangeRefused(f"{peer_id} leads; leadership has to be handed over first")
        return then

    async def wait(self, add: dict[str, Address], remove: str | None, timeout: float) -> None:
        """Return once it is committed that ``add`` vote and ``remove`` is gone; on any peer.

        Raises NoQuorum at the deadline (whoever leads goes on with it) or LogClosed.
        """

        def is_done() -> bool:
            committed = self.committed
            if self._is_removed and remove == self._membership.peer_id:
                return True  # Its own removal is the one entry that a peer need not be sent.
            return add.keys() <= committed.voters.keys() and remove not in committed.members

        if is_done():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (is_done, future)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            why = self.waits_for or self._not_now() or "the leader has not said more"
            raise NoQuorum(f"not within {timeout:g} s, it goes on: {why}") from None
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def was_removed(self) -> None:
        """This peer is told that it was removed."""
        self._is_removed = True
        self._wake()

    def _wake(self) -> None:
        for is_done, future in self._waiting:
            if not future.done() and is_done():
                future.set_result(None)

    async def close(self) -> None:
        """Nobody is waited for any more."""
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(LogClosed("the log was stopped"))
        if self._handing_over is not None:
            self._handing_over.cancel()
            await asyncio.gather(self._handing_over, return_exceptions=True)
