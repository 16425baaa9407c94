"""From a caller's command to its outcome, on any peer, across leader changes.

Every peer has one proposer.  It numbers its callers' commands, hands them to the leader of the
present term (itself, or over the log's connections), and resolves a caller when the entry with its
command is applied *here*, so that the caller reads its own write.

Rules
1. A command stands in at most one term at a time.  It is sent again only when it surely is not,
   and never will be, in the log: the leader refused it, or an entry of a higher term was applied
   here without it (terms never fall along the log, and a leader appends only under the term its
   sender named).
2. Within (origin, session, term) sequences have no gap; a leader that sees one asks for the rest
   and drops what it already has.
3. A caller whose deadline passes hears `NoLeader` if the command was never sent or surely died,
   else `UnknownOutcome`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from raftsched.core import codec
from raftsched.core.commands import (
    ENTRY_VERSION,
    AnyCommand,
    Batch,
    Entry,
    Outcome,
    ReportAttempts,
    SubmitTasks,
)
from raftsched.peer.clock import Clock
from raftsched.peer.errors import NoLeader, Overloaded, PeerStopped, UnknownOutcome
from raftsched.peer.messages import AnyFrame, Forward, Refused, Resend
from raftsched.raft.log import LogClosed, LogFull, LogStatus, NotLeader, ReplicatedLog, Role

logger = logging.getLogger(__name__)

#: Commands of this peer's callers that may wait for an outcome at once.
PENDING_MAX = 20_000
#: Tasks and reports that may wait at the leader for a place in an entry.
INTAKE_ITEMS_MAX = 200_000
#: Items (tasks, assignments, reports, other commands) one entry carries.
ENTRY_ITEMS_MAX = 2_000
#: Bytes of specs and outputs one entry carries, well under the log's own limit.
ENTRY_WEIGHT_MAX = 2 * 1024 * 1024
#: Entries appended and not yet applied; the round in flight is the batching window.
ENTRIES_IN_FLIGHT_MAX = 4
#: How long a command waits for somebody to lead before its caller hears `NoLeader`.
LEADER_WAIT_SECONDS = 0.9
#: How often deadlines are looked at and refused commands are tried again.
SWEEP_SECONDS = 0.05


class _Pending:
    """One caller's command on its way."""

    __slots__ = (
        "command",
        "created",
        "deadline",
        "future",
        "items",
        "sent_term",
        "sequence",
        "waiting_since",
    )

    def __init__(
        self, command: AnyCommand, future: asyncio.Future[Outcome], created: float, deadline: float
    ) -> None:
        self.command = command
        self.future = future
        self.created = created
        #: Since when it is in no log.
        self.waiting_since = created
        self.deadline = deadline
        #: Term it was sent in; 0 means it is surely in no log.
        self.sent_term = 0
        self.sequence = 0


def item_count(command: AnyCommand) -> int:
    """How many rows a command asks for, the unit of the bounds above."""
    if isinstance(command, SubmitTasks):
        return max(1, len(command.tasks))
    if isinstance(command, ReportAttempts):
        return max(1, len(command.started) + len(command.finished))
    return 1


def _weight(command: AnyCommand) -> int:
    if isinstance(command, SubmitTasks):
        return 64 + sum(len(task.spec) + 96 for task in command.tasks)
    if isinstance(command, ReportAttempts):
        return (
            64
            + 40 * len(command.started)
            + sum(len(report.output_tail) + 128 for report in command.finished)
        )
    return 128


class Companion(Protocol):
    """Whoever may add commands of the leader's own to an entry that is about to be appended."""

    def along(self, batches: Sequence[Batch]) -> Batch | None:
        """What goes along behind ``batches``, if anything; it may yet not be appended."""

    def appended_along(self) -> None:
        """It was."""


class Proposer:
    """Carries commands to the log and outcomes back.  Lives on the loop; no locks."""

    def __init__(
        self,
        log: ReplicatedLog,
        clock: Clock,
        peer_id: str,
        session: int,
        send: Callable[[str, AnyFrame], bool],
        companion: Companion | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._peer_id = peer_id
        #: New at every start, so that answers to an earlier life are not taken for ours.
        self._session = session
        self._send = send
        self._companion = companion
        self._loop = asyncio.get_running_loop()
        #: Not in any log, oldest first.
        self._unsent: deque[_Pending] = deque()
        #: Sent in ``_sent_term`` by sequence, oldest first.
        self._sent: dict[int, _Pending] = {}
        self._sent_term = 0
        self._sent_leader: str | None = None
        self._next_sequence = 1
        self._flush_scheduled = False
        self._closed = False
        # Leader's side.
        self._intake: deque[Batch] = deque()
        self._intake_items = 0
        self._intake_term = 0
        #: Last sequence taken per (origin, session) in the intake's term.
        self._taken: dict[tuple[str, int], int] = {}
        self._in_flight = 0
        self._pump_scheduled = False
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    # Callers ---------------------------------------------------------------------------------

    async def propose(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        """The command's outcome, once it is applied on this peer.

        Raises NoLeader, Overloaded or PeerStopped (surely not applied), or UnknownOutcome.
        """
        if self._closed:
            raise PeerStopped("this peer is stopping; send the request to another one")
        if len(self._unsent) + len(self._sent) >= PENDING_MAX:
            raise Overloaded(f"{PENDING_MAX} commands are under way at this peer; retry later")
        now = self._clock.monotonic()
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._unsent.append(_Pending(command, future, now, now + timeout_seconds))
        self._schedule_flush()
        return await future

    def close(self) -> None:
        """Fail what is open: surely-not-applied where that is known, unknown otherwise."""
        self._closed = True
        self._sweeper.cancel()
        for pending in self._unsent:
            _fail(pending, PeerStopped("this peer is stopping; it was not applied"))
        for pending in self._sent.values():
            _fail(pending, UnknownOutcome("this peer stopped before the outcome was known"))
        self._unsent.clear()
        self._sent.clear()

    @property
    def depth(self) -> int:
        """Commands of this peer's callers without an outcome yet."""
        return len(self._unsent) + len(self._sent)

    # What happens around us ------------------------------------------------------------------

    def status_changed(self, status: LogStatus) -> None:
        """The role, term or leader changed: what died may be sent again, what waits may go."""
        if status.term != self._intake_term or status.role is not Role.LEADER:
            self._drop_intake(status.term)
        if status.is_current and self._sent and status.term > self._sent_term:
            self._revive(0)
        self._schedule_flush()
        self._schedule_pump()

    def entry_applied(self, entry: Entry, outcomes: list[list[Outcome]]) -> None:
        """An entry of this term's leader was applied here: answer our own callers."""
        for batch, answers in zip(entry.batches, outcomes, strict=True):
            if batch.origin != self._peer_id or batch.session != self._session:
                continue
            if entry.term != self._sent_term:
                continue
            for offset, outcome in enumerate(answers):
                pending = self._sent.pop(batch.sequence + offset, None)
                if pending is not None and not pending.future.done():
                    pending.future.set_result(outcome)
        if entry.term == self._intake_term and self._in_flight:
            self._in_flight -= 1
            if self._intake:
                self._schedule_pump()

    def restored(self) -> None:
        """A snapshot replaced the state: outcomes inside the jump are not known any more."""
        for pending in self._sent.values():
            _fail(pending, UnknownOutcome("this peer caught up by a snapshot past the command"))
        self._sent.clear()
        self._schedule_flush()

    # Sending ---------------------------------------------------------------------------------

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled and not self._closed:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send everything that waits to the leader of this term, in order."""
        self._flush_scheduled = False
        if not self._unsent or self._closed:
            return
        status = self._log.status()
        if status.leader is None or status.paused:
            return
        if self._sent and self._sent_term != status.term:
            return  # What was sent before must be settled first; status_changed comes back here.
        if self._sent_term != status.term or self._sent_leader != status.leader:
            self._sent_term = status.term
            self._sent_leader = status.leader
            self._next_sequence = 1
        while self._unsent:
            if not self._send_some(status):
                return

    def _send_some(self, status: LogStatus) -> bool:
        """One batch of bounded size; False when it could not go now."""
        assert status.leader is not None
        chosen: list[_Pending] = []
        items = weight = 0
        for pending in self._unsent:
            items += item_count(pending.command)
            weight += _weight(pending.command)
            if chosen and (items > ENTRY_ITEMS_MAX or weight > ENTRY_WEIGHT_MAX):
                break
            chosen.append(pending)
        batch = Batch(
            origin=self._peer_id,
            session=self._session,
            sequence=self._next_sequence,
            commands=tuple(pending.command for pending in chosen),
        )
        if status.leader == self._peer_id:
            refusal = self._take(status.term, 1, batch)
            if isinstance(refusal, Refused):
                if refusal.why == "overloaded":
                    self._fail_overloaded([self._unsent.popleft() for _ in chosen])
                    self._next_sequence += len(chosen)
                    return True
                return False
        elif not self._send(status.leader, Forward(term=status.term, base=1, batch=batch)):
            return False
        for pending in chosen:
            self._unsent.popleft()
            pending.sent_term = status.term
            pending.sequence = self._next_sequence
            self._sent[self._next_sequence] = pending
            self._next_sequence += 1
        return True

    def _revive(self, from_sequence: int) -> None:
        """What was sent from a sequence on is surely in no log: it waits again, in order."""
        back = [p for sequence, p in self._sent.items() if sequence >= from_sequence]
        for pending in back:
            del self._sent[pending.sequence]
            pending.sent_term = 0
            pending.waiting_since = self._clock.monotonic()
        if from_sequence:
            self._next_sequence = from_sequence
        self._unsent.extendleft(p for p in reversed(back) if not p.future.done())

    def _fail_overloaded(self, pendings: list[_Pending]) -> None:
        for pending in pendings:
            _fail(pending, Overloaded("the leader's intake is full; retry later"))

    def _sweep(self) -> None:
        """Deadlines, and another try for what was refused."""
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        now = self._clock.monotonic()
        if self._unsent:
            status = self._log.status()
            keep: deque[_Pending] = deque()
            reachable = status.leader == self._peer_id or status.leader in status.connected
            stuck = bool(status.paused) or not reachable
            for pending in self._unsent:
                if pending.future.done():
                    continue
                waited = now - pending.waiting_since
                if now >= pending.deadline or (waited >= LEADER_WAIT_SECONDS and stuck):
                    _fail(pending, self._no_leader(status, waited))
                else:
                    keep.append(pending)
            self._unsent = keep
            self._schedule_flush()
        for pending in self._sent.values():
            if now >= pending.deadline and not pending.future.done():
                _fail(
                    pending,
                    UnknownOutcome(
                        f"no outcome within {pending.deadline - pending.created:.1f} s; "
                        "it may or may not take effect: ask again with the same key or id"
                    ),
                )
        self._ask_again(now)
        self._schedule_pump()

    def _ask_again(self, now: float) -> None:
        """Repeat the oldest unanswered batch to a leader that may have lost it with a connection.

        The leader drops what it has and asks for what it misses, so a repeat is harmless.
        """
        if not self._sent or self._sent_leader in (None, self._peer_id):
            return
        oldest = next(iter(self._sent.values()))
        if now - oldest.created < 10 * SWEEP_SECONDS:
            return
        status = self._log.status()
        if status.term == self._sent_term and status.leader == self._sent_leader:
            self._repeat(oldest.sequence)

    def _repeat(self, from_sequence: int) -> None:
        """Send again, under the same sequences, what was sent from a sequence on."""
        run = [p for sequence, p in self._sent.items() if sequence >= from_sequence]
        items = weight = 0
        chosen: list[_Pending] = []
        for pending in run:
            items += item_count(pending.command)
            weight += _weight(pending.command)
            if chosen and (items > ENTRY_ITEMS_MAX or weight > ENTRY_WEIGHT_MAX):
                break
            if chosen and pending.sequence != chosen[-1].sequence + 1:
                break
            chosen.append(pending)
        if not chosen or self._sent_leader is None:
            return
        batch = Batch(
            origin=self._peer_id,
            session=self._session,
            sequence=chosen[0].sequence,
            commands=tuple(pending.command for pending in chosen),
        )
        self._send(self._sent_leader, Forward(term=self._sent_term, base=1, batch=batch))

    def _no_leader(self, status: LogStatus, waited: float) -> NoLeader:
        reachable = len(status.connected) + 1
        cause = f"intake is paused ({status.paused})" if status.paused else "no leader"
        return NoLeader(
            f"{cause} for {waited:.1f} s ({reachable} peers reachable); retry later",
            leader=status.leader,
        )

    # The leader's side -----------------------------------------------------------------------

    def frame(self, sender: str, frame: Forward | Resend | Refused) -> None:
        """A frame of another peer's proposer."""
        if isinstance(frame, Forward):
            answer = self._take(frame.term, frame.base, frame.batch)
            if answer is not None:
                self._send(sender, answer)
        elif frame.session != self._session or frame.term != self._sent_term:
            return
        elif isinstance(frame, Resend):
            self._repeat(frame.expected)
        elif frame.why == "not-leader":
            self._revive(frame.sequence)
        else:
            numbers = range(frame.sequence, frame.sequence + frame.count)
            self._fail_overloaded([self._sent.pop(n) for n in numbers if n in self._sent])

    def _take(self, term: int, base: int, batch: Batch) -> Refused | Resend | None:
        """Take a batch into the intake, or say why not."""
        count = len(batch.commands)
        status = self._log.status()
        if status.role is not Role.LEADER or status.term != term or status.paused or self._closed:
            return Refused(term, batch.session, batch.sequence, count, "not-leader")
        if self._intake_term != term:
            self._drop_intake(term)
        who = (batch.origin, batch.session)
        taken = self._taken.get(who, base - 1)
        if batch.sequence > taken + 1:
            return Resend(term, batch.session, taken + 1)
        fresh = batch.commands[taken + 1 - batch.sequence :]
        if not fresh:
            return None
        items = sum(item_count(command) for command in fresh)
        self._taken[who] = taken + len(fresh)
        if self._intake_items + items > INTAKE_ITEMS_MAX:
            return Refused(term, batch.session, taken + 1, len(fresh), "overloaded")
        self._intake.append(Batch(batch.origin, batch.session, taken + 1, fresh))
        self._intake_items += items
        self._schedule_pump()
        return None

    def _drop_intake(self, term: int) -> None:
        """Another term: nothing that waits here may be appended any more."""
        dropped, self._intake = self._intake, deque()
        self._intake_items = 0
        self._in_flight = 0
        old_term, self._intake_term = self._intake_term, term
        self._taken.clear()
        for batch in dropped:
            refused = Refused(
                old_term, batch.session, batch.sequence, len(batch.commands), "not-leader"
            )
            if batch.origin == self._peer_id:
                self.frame(self._peer_id, refused)
            else:
                self._send(batch.origin, refused)

    def _schedule_pump(self) -> None:
        if self._intake and not self._pump_scheduled and not self._closed:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Append what waits, as few entries as their bounds allow."""
        self._pump_scheduled = False
        while self._intake and self._in_flight < ENTRIES_IN_FLIGHT_MAX and not self._closed:
            batches: list[Batch] = []
            items = weight = 0
            for batch in self._intake:
                items += sum(item_count(command) for command in batch.commands)
                weight += sum(_weight(command) for command in batch.commands)
                if batches and (items > ENTRY_ITEMS_MAX or weight > ENTRY_WEIGHT_MAX):
                    break
                batches.append(batch)
            count = len(batches)
            along = self._companion.along(batches) if self._companion is not None else None
            if along is not None:
                batches.append(along)
            entry = Entry(ENTRY_VERSION, self._intake_term, self._clock.wall_ms(), tuple(batches))
            try:
                self._log.propose(codec.encode_entry(entry))
            except (LogFull, LogClosed) as error:
                logger.debug("entry waits: %s", error)
                return  # The sweep tries again; callers have deadlines.
            except NotLeader:
                self._drop_intake(0)
                return
            self._in_flight += 1
            if self._companion is not None and along is not None:
                self._companion.appended_along()
            for batch in batches[:count]:
                self._intake.popleft()
                self._intake_items -= sum(item_count(command) for command in batch.commands)


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)
