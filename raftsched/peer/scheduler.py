"""What the leader does beside Raft: plan, grant leases, declare nodes lost, clean up.

Every peer has one; it acts only while its log says that this peer leads and its state is that of
the present term.  It proposes and is never trusted: ``apply`` verifies each command again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from raftsched.core import planner
from raftsched.core.commands import (
    AnyCommand,
    ApplyRetention,
    AssignTasks,
    Batch,
    Entry,
    FireTimers,
    LoseAttempts,
    NodeLost,
    RegisterNode,
    ReportAttempts,
    SubmitTasks,
)
from raftsched.core.leases import draining, evictable
from raftsched.core.outcomes import Accepted, Applied, Outcome, Rejected
from raftsched.core.versions import POLICIES
from raftsched.peer.errors import PeerError, UnknownOutcome
from raftsched.peer.firing import Firing
from raftsched.peer.leases import LeaseBook, Verdict
from raftsched.peer.messages import Grant, Renew
from raftsched.peer.pace import Pace
from raftsched.peer.replica import Replica
from raftsched.peer.speculating import Speculating
from raftsched.raft.host import Clock
from raftsched.raft.log import LogStatus, ReplicatedLog, Role

logger = logging.getLogger(__name__)

#: Assignments proposed in one entry.
ASSIGNMENTS_MAX = 1_000
#: Timers are looked at this often when nothing happens.
IDLE_SECONDS = 0.2
#: Retention runs this often, this many rows in a pass.
RETENTION_SECONDS = 10.0
RETENTION_ROWS = 2_000
#: Timers fired by one entry, and the shortest pause between two looks at them.
TIMERS_MAX = 1_000
TIMER_SECONDS_MIN = 0.005
#: Origin of such assignments, which nobody waits for.
ALONG = ""
#: New tasks that get their assignment in their own entry; more than that are a burst, planned as
#: one a round later.
ALONG_MAX = 64

Propose = Callable[[AnyCommand, float], Awaitable[Outcome]]


class Scheduler:
    """The leader loop.  ``run`` is the only task; everything else is a callback on the loop."""

    def __init__(
        self,
        replica: Replica,
        log: ReplicatedLog,
        clock: Clock,
        lease_seconds: float,
        propose: Propose,
        now_ms: Callable[[], int],
        chores: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """``now_ms``: what an entry made now would be stamped.

        ``chores``: what else a leader sees to, every ``IDLE_SECONDS``; may raise PeerError.
        """
        self._replica = replica
        self._log = log
        self._clock = clock
        self._propose = propose
        self._now_ms = now_ms
        self._chores = tuple(chores)
        self.book = LeaseBook(lease_seconds)
        self._leading_term = 0
        self._wake = asyncio.Event()
        self._judge_at = 0.0
        self._retention_at = 0.0
        self.firing = Firing(propose, now_ms)
        self.speculating = Speculating(propose, now_ms)
        self._pace = Pace()
        #: Assignments are on their way that the state does not show yet.
        self._proposed = 0
        self.assignments = 0
        #: When a rate lets the next task start, in milliseconds of the cluster's time; 0: never.
        self._rate_due = 0

    def status_changed(self, status: LogStatus) -> None:
        """Start or stop leading."""
        leads = status.role is Role.LEADER and status.is_current
        if leads and self._leading_term != status.term:
            self._leading_term = status.term
            self.book.elected(self._clock.monotonic())
            self._proposed = 0
            self._wake.set()
        elif not leads and self._leading_term:
            self._leading_term = 0
            self.book.deposed()

    def entry_applied(self, entry: Entry, applied: Applied) -> None:
        """Something changed: there may be something to plan."""
        if not self._leading_term:
            return
        for batch, outcomes in zip(entry.batches, applied.outcomes, strict=True):
            for command, outcome in zip(batch.commands, outcomes, strict=True):
                if isinstance(command, RegisterNode):
                    if isinstance(outcome, Accepted):
                        now = self._clock.monotonic()
                        self.book.seen(command.node_id, command.incarnation, now)
                elif isinstance(command, NodeLost | LoseAttempts):
                    # Also of one whose proposer did not hear what became of it.
                    if command.term == self._leading_term:
                        self.book.pardon(command.node_id, command.incarnation)
                elif isinstance(command, ReportAttempts) and command.finished:
                    self._pace.ended(
                        command.node_id, len(command.finished), self._clock.monotonic()
                    )
                elif isinstance(command, AssignTasks):
                    self.assignments += len(command.assignments)
                    if batch.origin == ALONG:
                        self._proposed = max(0, self._proposed - 1)
        if len(self._replica.state.ready) or self._is_slot_due():
            self._wake.set()

    def _is_slot_due(self) -> bool:
        state = self._replica.state
        return 0 < self.firing.due(state) <= state.now  # What comes later has its own wake.

    def along(self, batches: Sequence[Batch]) -> Batch | None:
        """Assignments for the new tasks of an entry that is about to be appended, if there is room.

        One round of the log instead of two between a submission and its start.
        """
        if not self._leading_term or self._proposed or self._replica.state.suspect:
            return None
        new = [
            task
            for batch in batches
            for command in batch.commands
            if isinstance(command, SubmitTasks)
            for task in command.tasks
        ]
        if not new or len(new) > ALONG_MAX:
            return None
        assignments = planner.plan_new(self._replica.state, new, self._policy())
        return Batch(ALONG, 0, 0, (AssignTasks(assignments),)) if assignments else None

    def appended_along(self) -> None:
        """The entry that `along` was asked for, with its answer, is in this peer's log."""
        self._proposed += 1

    def renewal(self, renew: Renew) -> Grant | None:
        """Answer a node that asks for its lease; None when this peer may not grant it."""
        status = self._log.status()
        if not self._leading_term or status.term != self._leading_term:
            return None
        node = self._replica.state.nodes.get(renew.node_id)
        if node is None or node.incarnation != renew.incarnation:
            return None
        age = None if status.last_contact_ms is None else status.last_contact_ms / 1000
        now = self._clock.monotonic()
        was_silent = self.book.is_silent(node.id, node.incarnation, now)
        if not self.book.grant(node.id, node.incarnation, now, age):
            return None
        if was_silent and len(self._replica.state.ready):
            self._wake.set()
        return Grant(
            term=status.term,
            incarnation=node.incarnation,
            sent_at=renew.sent_at,
            applied_index=status.applied_index,
        )

    async def run(self) -> None:
        """Lead whenever this peer leads, until cancelled."""
        while True:
            try:
                await self.step()
            except PeerError as error:
                # Not the leader any more, or overloaded: the next pass looks again.
                logger.debug("leader loop: %s", error)
                await asyncio.sleep(IDLE_SECONDS / 4)
            try:
                async with asyncio.timeout(self._idle_seconds()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def step(self) -> None:
        """One pass: verdicts, assignments until nothing is left to place, twins, retention."""
        if not self._leading_term:
            return
        if self._clock.monotonic() >= self._judge_at:
            self._judge_at = self._clock.monotonic() + IDLE_SECONDS
            await self._judge()
            for chore in self._chores:
                if self._leading_term:
                    await chore()
        if self._replica.state.suspect:
            return  # Whatever it would propose now is refused.
        await self._fire()
        await self.firing.run(self._replica.state, lambda: bool(self._leading_term))
        while self._leading_term and not self._proposed:
            plan = planner.plan(self._replica.state, self._policy())
            self._rate_due = plan.due
            if plan.is_partial and not plan.assignments:
                await asyncio.sleep(0)  # Whatever else there is to do has its turn in between.
                continue
            if not plan.assignments:
                break
            self._proposed += 1
            try:
                outcome = await self._propose(AssignTasks(plan.assignments), 10.0)
            finally:
                self._proposed = max(0, self._proposed - 1)
            if isinstance(outcome, Rejected) or all(isinstance(o, Rejected) for o in outcome.value):
                break  # Planned again at once, that would be the same: first what else is due.
        now = self._clock.monotonic()
        if self._leading_term and self.speculating.is_due(self._replica.state, now):
            await self.speculating.look(self._replica.state, now, self._silent(now))
        if self._leading_term and now >= self._retention_at:
            outcome = await self._propose(ApplyRetention(RETENTION_ROWS), 10.0)
            # With more to remove it goes on at the next pass.
            is_done = not isinstance(outcome, Accepted) or max(outcome.value) < RETENTION_ROWS
            self._retention_at = now + RETENTION_SECONDS if is_done else now

    def _idle_seconds(self) -> float:
        """Until the next pass, if nothing happens before."""
        state = self._replica.state
        if not self._leading_term or state.suspect:
            return IDLE_SECONDS
        instants = (state.timers.first(), self._rate_due, self.firing.due(state))
        due = [at for at in instants if at]
        if not due:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(TIMER_SECONDS_MIN, (min(due) - self._now_ms()) / 1000))

    async def _fire(self) -> None:
        """Let happen what is due."""
        while self._leading_term and self._is_due():
            outcome = await self._propose(FireTimers(TIMERS_MAX), 10.0)
            if not isinstance(outcome, Accepted) or outcome.value < TIMERS_MAX:
                return

    def _is_due(self) -> bool:
        state = self._replica.state
        if state.version < POLICIES:
            return False
        first = state.timers.first()
        if not first and not any(node.drain_at for node in state.nodes.values()):
            return False
        now = self._now_ms()
        if 0 < first <= now:
            return True
        return any(next(evictable(state, node), None) for node in draining(state, now))

    def _policy(self) -> planner.PlanPolicy:
        state, now = self._replica.state, self._clock.monotonic()
        nodes = state.nodes.values()
        beyond = {n.id: state.usage[n.id].attempts - n.slots for n in nodes}
        ahead = self._pace.ahead(now, beyond)
        # Only rates ask for the time, and it takes a look at all clocks.
        now_ms = self._now_ms() if state.limits else 0
        return planner.PlanPolicy(ASSIGNMENTS_MAX, ahead, now_ms, self._silent(now))

    def _silent(self, now: float) -> frozenset[str]:
        """Ids of nodes that this leader has not heard of lately."""
        nodes = self._replica.state.nodes.values()
        return frozenset(n.id for n in nodes if self.book.is_silent(n.id, n.incarnation, now))

    async def _judge(self) -> None:
        """Propose the verdict on every node whose lease has surely run out."""
        term = self._leading_term
        for verdict in self.book.condemned(self._replica.state, self._clock.monotonic()):
            if self._leading_term != term:
                return
            node_id, incarnation, _ = verdict
            try:
                await self._propose(self._sentence(verdict, term), 10.0)
            except UnknownOutcome:
                continue  # It may yet commit, so this incarnation stays condemned in this term.
            except PeerError:
                self.book.pardon(node_id, incarnation)
                raise
            self.book.pardon(node_id, incarnation)

    def _sentence(self, verdict: Verdict, term: int) -> AnyCommand:
        """What to propose about an incarnation that is silent."""
        node_id, incarnation, silent_ms = verdict
        state, why = self._replica.state, "lease-expired"
        node = state.nodes.get(node_id)
        if state.version < POLICIES or node is None or not node.lease_ms:
            logger.warning("node %s is lost: no renewal within its lease", node_id)
            return NodeLost(node_id, incarnation, why, term)
        if silent_ms >= node.lease_ms:
            logger.warning("node %s is lost: no renewal within its lease", node_id)
        return LoseAttempts(node_id, incarnation, term, silent_ms, why)
