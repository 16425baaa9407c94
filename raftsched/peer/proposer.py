"""From a caller's command to its outcome, on any peer, across leader changes.

Every peer has one proposer.  It numbers its callers' commands, hands them to the leader of the
present term (its own ``intake``, or another peer over the log's connections), and resolves a caller
when the entry with its command is applied *here*, so that the caller reads its own write.

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
from collections import deque
from collections.abc import Callable, Iterable

from raftsched.core.commands import AnyCommand, Batch, Entry
from raftsched.core.outcomes import Outcome
from raftsched.peer.errors import NoLeader, Overloaded, PeerStopped, TooLarge, UnknownOutcome
from raftsched.peer.intake import Companion, Intake
from raftsched.peer.messages import AnyFrame, Forward, Refused, Resend
from raftsched.peer.sizes import NOTHING, size_of
from raftsched.peer.stamping import Head
from raftsched.raft.host import Clock
from raftsched.raft.log import LogStatus, ReplicatedLog, Role

#: Commands of this peer's callers that may wait for an outcome at once.
PENDING_MAX = 20_000
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
        "sent_term",
        "sequence",
        "size",
        "waiting_since",
    )

    def __init__(
        self, command: AnyCommand, future: asyncio.Future[Outcome], created: float, deadline: float
    ) -> None:
        self.command = command
        self.size = size_of(command)
        self.future = future
        self.created = created
        #: Since when it is in no log.
        self.waiting_since = created
        self.deadline = deadline
        #: Term it was sent in; 0 means it is surely in no log, and then it has no sequence.
        self.sent_term = 0
        self.sequence = 0


def _oldest_that_fit(pendings: Iterable[_Pending]) -> list[_Pending]:
    """The first ones that go into one entry together, sequences without a gap; at least one."""
    chosen: list[_Pending] = []
    total = NOTHING
    for pending in pendings:
        total = total.plus(pending.size)
        if chosen and not (total.fits and pending.sequence in (0, chosen[-1].sequence + 1)):
            break
        chosen.append(pending)
    return chosen


class Proposer:
    """Carries commands to the log and outcomes back.  Lives on the loop; no locks."""

    def __init__(
        self,
        log: ReplicatedLog,
        clock: Clock,
        peer_id: str,
        session: int,
        send: Callable[[str, AnyFrame], bool],
        head: Callable[[], Head],
        companion: Companion | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._peer_id = peer_id
        #: New at every start, so that answers to an earlier life are not taken for ours.
        self._session = session
        self._send = send
        self._intake = Intake(log, head, self._refuse, companion)
        self._loop = asyncio.get_running_loop()
        #: Not in any log, oldest first.
        self._unsent: deque[_Pending] = deque()
        #: Sent in ``_sent_term`` by sequence, oldest first.
        self._sent: dict[int, _Pending] = {}
        self._sent_term = 0
        self._sent_leader: str | None = None
        self._next_sequence = 1
        #: Everything sent in this term under a lower sequence is settled or in ``_sent``.
        self._base = 1
        self._flush_scheduled = False
        self._closed = False
        self._sweeper: asyncio.TimerHandle | None = None

    # Callers ---------------------------------------------------------------------------------

    async def propose(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        """The command's outcome, once it is applied on this peer.

        Raises NoLeader, Overloaded, TooLarge or PeerStopped (surely not applied), UnknownOutcome,
        or what encoding raises for a command that cannot be encoded.
        """
        if self._closed:
            raise PeerStopped("this peer is stopping; send the request to another one")
        if len(self._unsent) + len(self._sent) >= PENDING_MAX:
            raise Overloaded(f"{PENDING_MAX} commands are under way at this peer; retry later")
        now = self._clock.monotonic()
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._unsent.append(_Pending(command, future, now, now + timeout_seconds))
        self._schedule_flush()
        self._watch()
        return await future

    def close(self) -> None:
        """Fail what is open: surely-not-applied where that is known, unknown otherwise."""
        self._closed = True
        self._intake.close()
        if self._sweeper is not None:
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
        self._intake.term_changed(status.term, leads=status.role is Role.LEADER)
        if status.is_current and self._sent and status.term > self._sent_term:
            self._revive(0)
        self._schedule_flush()
        self._intake.schedule()

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
        self._intake.applied(entry.term)

    def restored(self) -> None:
        """A snapshot replaced the state: outcomes inside the jump are not known any more."""
        for pending in self._sent.values():
            _fail(pending, UnknownOutcome("this peer caught up by a snapshot past the command"))
        self._sent.clear()
        # They may never have come to the leader, which must not wait for them.
        self._base = self._next_sequence
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
            self._next_sequence = self._base = 1
        while self._unsent:
            if not self._send_some(status):
                return

    def _send_some(self, status: LogStatus) -> bool:
        """One batch of bounded size; False when it could not go now."""
        assert status.leader is not None
        chosen = _oldest_that_fit(self._unsent)
        batch = Batch(
            origin=self._peer_id,
            session=self._session,
            sequence=self._next_sequence,
            commands=tuple(pending.command for pending in chosen),
        )
        if status.leader == self._peer_id:
            refusal = self._intake.take(status.term, self._base, batch)
            if isinstance(refusal, Refused):
                if refusal.why == "overloaded":
                    self._fail_overloaded([self._unsent.popleft() for _ in chosen])
                    self._next_sequence += len(chosen)
                    return True
                self._next_sequence += len(chosen)
                self._base = self._next_sequence
                return False
        elif not self._send(status.leader, Forward(status.term, self._base, batch)):
            return False
        for pending in chosen:
            self._unsent.popleft()
            pending.sent_term = status.term
            pending.sequence = self._next_sequence
            self._sent[self._next_sequence] = pending
            self._next_sequence += 1
        return True

    def _revive(self, from_sequence: int) -> None:
        """What was sent from a sequence on is surely in no log: it waits again, in order.

        A refusal of what was sent under an earlier base says nothing of what was sent since.
        """
        is_old = 0 < from_sequence < self._base
        end = self._base if is_old else self._next_sequence
        back = [p for sequence, p in self._sent.items() if from_sequence <= sequence < end]
        for pending in back:
            del self._sent[pending.sequence]
            pending.sent_term = pending.sequence = 0
            pending.waiting_since = self._clock.monotonic()
        # Copies of it may be on their way yet: its sequences are not used again.
        if not is_old:
            self._base = self._next_sequence
        self._unsent.extendleft(p for p in reversed(back) if not p.future.done())

    def _fail_overloaded(self, pendings: list[_Pending]) -> None:
        for pending in pendings:
            _fail(pending, Overloaded("the leader's intake is full; retry later"))

    def _watch(self) -> None:
        """Sweep soon, if anything is open."""
        is_open = self._unsent or self._sent or self._intake.has_waiting
        if self._sweeper is None and is_open and not self._closed:
            self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Deadlines, and another try for what was refused."""
        self._sweeper = None
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
        self._intake.schedule()
        self._watch()

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
        chosen = _oldest_that_fit(run)
        if not chosen or self._sent_leader is None:
            return
        batch = Batch(
            origin=self._peer_id,
            session=self._session,
            sequence=chosen[0].sequence,
            commands=tuple(pending.command for pending in chosen),
        )
        base = min(self._base, batch.sequence)
        self._send(self._sent_leader, Forward(self._sent_term, base, batch))

    def _no_leader(self, status: LogStatus, waited: float) -> NoLeader:
        reachable = len(status.connected) + 1
        cause = f"intake is paused ({status.paused})" if status.paused else "no leader"
        return NoLeader(
            f"{cause} for {waited:.1f} s ({reachable} peers reachable); retry later",
            leader=status.leader,
        )

    # Other peers -----------------------------------------------------------------------------

    def frame(self, sender: str, frame: Forward | Resend | Refused) -> None:
        """A frame of another peer's proposer."""
        if isinstance(frame, Forward):
            answer = self._intake.take(frame.term, frame.base, frame.batch)
            if answer is not None:
                self._send(sender, answer)
            self._watch()
        elif frame.session != self._session or frame.term != self._sent_term:
            return
        elif isinstance(frame, Resend):
            self._repeat(frame.expected)
        elif frame.why == "not-leader":
            self._revive(frame.sequence)
        else:
            numbers = range(frame.sequence, frame.sequence + frame.count)
            refused = [self._sent.pop(n) for n in numbers if n in self._sent]
            if frame.why == "overloaded":
                self._fail_overloaded(refused)
            for pending in refused:
                _fail(pending, TooLarge("no entry of the log can carry this command"))

    def _refuse(self, origin: str, refused: Refused) -> None:
        if origin == self._peer_id:
            self.frame(self._peer_id, refused)
        else:
            self._send(origin, refused)


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.future.done():
        pending.future.set_exception(error)
