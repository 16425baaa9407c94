"""Changes of the group, asked for on any peer, and what there is to know of its members.

Whoever leads does it (`raft.changing`); another peer asks it over the log's connections.  What was
begun goes on without anybody waiting for it, and asking for the same thing again is harmless, so an
answer that is lost costs nothing but the question.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

from raftsched.core.commands import NodeLeft
from raftsched.core.model import NodeStatus
from raftsched.core.versions import MEMBERSHIP
from raftsched.peer import messages
from raftsched.peer.errors import (
    ChangeRefused,
    NeedsVersion,
    NoLeader,
    PeerError,
    PeerStopped,
    UnknownPeer,
)
from raftsched.peer.messages import ChangeMembers, MemberRow, MembersTold
from raftsched.peer.replica import Replica
from raftsched.peer.reports import Propose
from raftsched.raft import log as raft
from raftsched.raft.host import Clock
from raftsched.raft.membership import Address, Configuration
from raftsched.raft.pysyncobj_log import PySyncObjLog

logger = logging.getLogger(__name__)

#: A leader that does not answer for so long beyond what it was given is asked no more.
ANSWER_SECONDS = 2.0
#: Between two looks for somebody who leads.
AGAIN_SECONDS = 0.05
#: A new cluster has its version in force after less than this: it is waited for.
VERSION_SECONDS = 2.0
#: Questions of others that are worked on at once; more are not answered.
ASKED_MAX = 16
#: Trouble in an answer -> what is raised for it.
_ERRORS: dict[str, type[PeerError]] = {
    "refused": ChangeRefused,
    "unknown": UnknownPeer,
    "needs-version": NeedsVersion,
    "stopping": PeerStopped,
}


class Members:
    """One peer's desk for it."""

    def __init__(
        self,
        log: PySyncObjLog,
        clock: Clock,
        peer_id: str,
        send: Callable[[str, messages.AnyFrame], bool],
        in_force: Callable[[], int],
    ) -> None:
        """``in_force``: the cluster's version, as applied here."""
        self._in_force = in_force
        self._log = log
        self._clock = clock
        self._peer_id = peer_id
        self._send = send
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[MembersTold]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    # What is asked here ------------------------------------------------------------------------

    async def change(
        self, add: dict[str, Address], remove: str, timeout_seconds: float
    ) -> MembersTold:
        """Have members added, removed or replaced; with nothing to do, only what there is.

        ``is_done`` of the answer says whether all of it is committed; if not, it goes on, and
        ``detail`` says what it waits for.  Raises NoLeader (nothing was changed, or it will be gone
        on with), ChangeRefused or NeedsVersion (surely nothing was changed), or PeerStopped.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        no_wait = timeout_seconds - min(timeout_seconds, VERSION_SECONDS)
        while True:
            left = max(0.0, deadline - self._clock.monotonic())
            told = await self._ask_leader(add, remove, left)
            comes_soon = told is not None and told.trouble == "needs-version" and left > no_wait
            if told is not None and told.trouble != "not-leader" and not comes_soon:
                error = _ERRORS.get(told.trouble)
                if error is not None:
                    raise error(told.detail)
                return told
            if left <= 0:
                raise NoLeader(
                    "nobody leads who could do it; retry later", leader=self._log.status().leader
                )
            await asyncio.sleep(AGAIN_SECONDS)

    async def _ask_leader(
        self, add: dict[str, Address], remove: str, seconds: float
    ) -> MembersTold | None:
        """Its answer; None: there is none, or it did not answer."""
        question = ChangeMembers(next(self._numbers), add, remove, int(1000 * seconds))
        leader = self._log.status().leader
        if leader == self._peer_id:
            return await self._work(question)
        future: asyncio.Future[MembersTold] = asyncio.get_running_loop().create_future()
        self._asked[question.number] = future
        try:
            if leader is None or not self._send(leader, question):
                return None
            async with asyncio.timeout(seconds + ANSWER_SECONDS):
                return await future
        except TimeoutError:
            return None
        finally:
            del self._asked[question.number]

    def rows(self) -> tuple[MemberRow, ...]:
        """The members, sorted; how far each has the log is known on the leader only."""
        log, now = self._log, self._clock.monotonic()
        status, views = log.status(), log.peer_views()
        leads = status.role is raft.Role.LEADER
        configuration, rows = log.members(), []
        for peer_id, address in sorted(configuration.members.items()):
            match = log.match_index(peer_id) if leads else None
            view = views.get(peer_id) if leads else None
            is_self = peer_id == self._peer_id
            rows.append(
                MemberRow(
                    id=peer_id,
                    role="voter" if peer_id in configuration.voters else "learner",
                    raft=address.raft,
                    api=address.api,
                    is_leader=peer_id == status.leader,
                    connected=is_self or peer_id in status.connected,
                    replaces=configuration.replaces.get(peer_id, ""),
                    match_index=match,
                    lag_entries=None if match is None else max(0, status.last_index - match),
                    heard_ms=None if view is None else int(1000 * (now - view.heard_at)),
                )
            )
        return tuple(rows)

    # What others ask, and answer ---------------------------------------------------------------

    def frame(self, sender: str, frame: ChangeMembers | MembersTold) -> None:
        """Another peer asks, or answers."""
        if isinstance(frame, MembersTold):
            future = self._asked.get(frame.number)
            if future is not None and not future.done():
                future.set_result(frame)
        elif len(self._tasks) < ASKED_MAX:
            task = asyncio.create_task(self._answer(sender, frame))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _answer(self, sender: str, question: ChangeMembers) -> None:
        self._send(sender, await self._work(question))

    async def _work(self, question: ChangeMembers) -> MembersTold:
        """On the leader: do it, and say what came of it."""
        trouble, detail = "", ""
        try:
            if (question.add or question.remove) and (why := self._too_early()):
                trouble, detail = "needs-version", why
            elif question.add or question.remove:
                await self._log.change_membership(
                    question.add, question.remove or None, question.wait_ms / 1000
                )
            elif self._log.status().role is not raft.Role.LEADER:
                trouble = "not-leader"
        except raft.NotLeader:
            trouble = "not-leader"
        except raft.NoQuorum as error:
            trouble, detail = "waits", str(error)
        except raft.LogClosed as error:
            trouble, detail = "stopping", str(error)
        except raft.UnknownMember as error:
            trouble, detail = "unknown", str(error)
        except (raft.ChangeRefused, raft.LogFull) as error:
            trouble, detail = "refused", str(error)
        detail = detail or self._log.change_waits_for
        rows = self.rows()
        if not trouble:
            # A leader that was removed has not got the entry that says so.
            rows = tuple(row for row in rows if row.id != question.remove)
        return MembersTold(question.number, trouble, detail, rows)

    def _too_early(self) -> str:
        """Why a leader changes nothing yet; empty if it may, or does not lead."""
        in_force = self._in_force()
        if in_force >= MEMBERSHIP or self._log.status().role is not raft.Role.LEADER:
            return ""
        return (
            f"a change of the peers needs cluster version {MEMBERSHIP}, {in_force} is in force; "
            "it rises once every peer is up with a program that knows it"
        )

    async def close(self) -> None:
        """Nobody is answered any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Departures:
    """The leader's part when a peer was removed: its node gets nothing more.

    What runs there ends with the node's lease, which nobody renews any more.
    """

    def __init__(
        self, replica: Replica, members: Callable[[], Configuration], propose: Propose
    ) -> None:
        self._replica = replica
        self._members = members
        self._propose = propose

    async def step(self) -> None:
        """Say good-bye for nodes of removed peers.  Raises PeerError."""
        removed = frozenset(self._members().removed)
        nodes = self._replica.state.nodes.values()
        gone = [n for n in nodes if n.id in removed and n.status is NodeStatus.UP]
        for node in gone:
            logger.info("node %s left: its peer was removed", node.id)
            await self._propose(NodeLeft(node.id, node.incarnation), 10.0)
