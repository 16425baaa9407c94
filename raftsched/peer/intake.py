"""The leader's side of proposing: commands of all peers, in order, into few entries of the log.

Rules
1. What is taken in a term is appended in that term or refused back to its sender; nothing waits
   over a change of terms.
2. Per (origin, session) sequences have no gap: what was taken is dropped, what is missing is asked
   for.  What was taken in a term is never refused later, and what was refused never taken.
3. There is no time window: a few entries are in flight, and what comes meanwhile makes the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from raftsched.core import codec
from raftsched.core.commands import ActivateVersion, Batch, Entry
from raftsched.peer.messages import Refused, Resend
from raftsched.peer.sizes import ENTRY_WEIGHT_MAX, NOTHING, Size, size_of
from raftsched.peer.stamping import Head
from raftsched.raft.log import ENTRY_BYTES_MAX, LogClosed, LogFull, NotLeader, ReplicatedLog, Role

logger = logging.getLogger(__name__)

#: Items that may wait at the leader for a place in an entry.
INTAKE_ITEMS_MAX = 200_000
#: Entries appended and not yet applied; the round in flight is the batching window.
ENTRIES_IN_FLIGHT_MAX = 4


class Companion(Protocol):
    """Whoever may add commands of the leader's own to an entry that is about to be appended."""

    def along(self, batches: Sequence[Batch]) -> Batch | None:
        """What goes along behind ``batches``, if anything; it may yet not be appended."""

    def appended_along(self) -> None:
        """It was."""


class _Waiting(NamedTuple):
    batch: Batch
    size: Size


class Intake:
    """Batches on their way into the log of this leader.  Lives on the loop; no locks."""

    def __init__(
        self,
        log: ReplicatedLog,
        head: Callable[[], Head],
        refuse: Callable[[str, Refused], None],
        companion: Companion | None = None,
    ) -> None:
        self._log = log
        #: What an entry that is made now begins with.
        self._head = head
        #: Tells an origin that its batch was surely not appended.
        self._refuse = refuse
        self._companion = companion
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._items = 0
        #: The term this peer led last.
        self._term = 0
        #: In that term, per (origin, session): the last sequence taken, and the last one refused.
        #: Kept when leadership ends: what was taken stays in the log, and may yet be committed.
        self._taken: dict[tuple[str, int], int] = {}
        self._refused: dict[tuple[str, int], int] = {}
        self._in_flight = 0
        self._pump_scheduled = False
        self._closed = False

    def close(self) -> None:
        """Append nothing any more."""
        self._closed = True

    def term_changed(self, term: int, *, leads: bool) -> None:
        """The log's term or role may have changed."""
        if term != self._term or not leads:
            self._drop()
        if leads:
            self._lead(term)

    def _lead(self, term: int) -> None:
        if term != self._term:
            self._term = term
            self._taken.clear()
            self._refused.clear()

    def take(self, term: int, base: int, batch: Batch) -> Refused | Resend | None:
        """Take a batch that was sent for ``term``, or say why not.

        ``base``: whatever its origin sent in this term under lower sequences is settled.  A refusal
        is for good: what its origin had sent before it heard of it comes under an old base.
        """
        status = self._log.status()
        leads = status.role is Role.LEADER and status.term == term
        if leads:
            self._lead(term)
        if self._term != term:
            # Perhaps an earlier life of this peer led it: who knows what is in the log?
            return None
        who = (batch.origin, batch.session)
        taken = max(self._taken.get(who, 0), base - 1)
        fresh = batch.commands[max(taken + 1 - batch.sequence, 0) :]
        if not fresh:
            return None
        if not leads or status.paused or self._closed or base <= self._refused.get(who, 0):
            self._refused[who] = max(self._refused.get(who, 0), batch.sequence, taken + 1)
            return Refused(term, batch.session, taken + 1, len(fresh), "not-leader")
        if batch.sequence > taken + 1:
            return Resend(term, batch.session, taken + 1)
        size = NOTHING
        for command in fresh:
            size = size.plus(size_of(command))
        self._taken[who] = taken + len(fresh)
        if self._items + size.items > INTAKE_ITEMS_MAX:
            return Refused(term, batch.session, taken + 1, len(fresh), "overloaded")
        batch = Batch(batch.origin, batch.session, taken + 1, fresh)
        self._waiting.append(_Waiting(batch, size))
        self._items += size.items
        self.schedule()
        return None

    def applied(self, term: int) -> None:
        """An entry of ``term`` was applied here: another may go."""
        if term == self._term and self._in_flight:
            self._in_flight -= 1
            self.schedule()

    @property
    def has_waiting(self) -> bool:
        """Something waits for a place in an entry."""
        return bool(self._waiting)

    def schedule(self) -> None:
        """Append what waits, after the other callbacks of this pass had their say."""
        if self._waiting and not self._pump_scheduled and not self._closed:
            self._pump_scheduled = True
            self._loop.call_soon(self._pump)

    def _drop(self) -> None:
        """This peer leads that term no more: nothing that waits may be appended any more."""
        dropped, self._waiting = self._waiting, deque()
        self._items = 0
        self._in_flight = 0
        for batch, _ in dropped:
            who, count = (batch.origin, batch.session), len(batch.commands)
            self._taken[who] = min(self._taken.get(who, 0), batch.sequence - 1)
            self._refused[who] = max(self._refused.get(who, 0), batch.sequence + count - 1)
            refused = Refused(self._term, batch.session, batch.sequence, count, "not-leader")
            self._refuse(batch.origin, refused)

    def _pump(self) -> None:
        self._pump_scheduled = False
        while self._waiting and self._in_flight < ENTRIES_IN_FLIGHT_MAX and not self._closed:
            batches = self._next_batches()
            count = len(batches)
            along = self._companion.along(batches) if self._companion is not None else None
            if along is not None:
                batches.append(along)
            data = self._encode(batches)
            if data is None:
                self._take_apart(count)
                continue
            try:
                self._log.propose(data)
            except (LogFull, LogClosed) as error:
                logger.debug("entry waits: %s", error)
                return  # The proposer's sweep tries again; callers have deadlines.
            except NotLeader:
                self._drop()
                return
            self._in_flight += 1
            if self._companion is not None and along is not None:
                self._companion.appended_along()
            for _ in range(count):
                self._items -= self._waiting.popleft().size.items

    def _encode(self, batches: list[Batch]) -> bytes | None:
        """The entry; None if the log would not take it."""
        version, now, agreed = self._head()
        for batch in batches:
            for command in batch.commands:
                if type(command) is ActivateVersion:
                    # In an entry of its own version, which a peer that does not know it refuses.
                    version = max(version, command.version)
        entry = Entry(version, self._term, now, tuple(batches), agreed)
        try:
            data = codec.encode_entry(entry)
        except (ValueError, OverflowError, TypeError) as error:
            logger.error("an entry cannot be encoded: %s", error)
            return None
        return data if len(data) <= ENTRY_BYTES_MAX else None

    def _take_apart(self, count: int) -> None:
        """The oldest ``count`` batches do not go together: each command alone, or not at all."""
        taken = [self._waiting.popleft() for _ in range(count)]
        alone = [
            _Waiting(
                Batch(batch.origin, batch.session, batch.sequence + at, (command,)),
                size_of(command)._replace(weight=ENTRY_WEIGHT_MAX + 1),
            )
            for batch, _ in taken
            for at, command in enumerate(batch.commands)
        ]
        if len(alone) > 1:
            self._waiting.extendleft(reversed(alone))
            return
        [(batch, size)] = alone
        self._items -= size.items
        logger.error("a command of %s is too large for an entry and was refused", batch.origin)
        refused = Refused(self._term, batch.session, batch.sequence, 1, "too-large")
        self._refuse(batch.origin, refused)

    def _next_batches(self) -> list[Batch]:
        """The oldest that fit into one entry; at least one."""
        chosen: list[Batch] = []
        total = NOTHING
        for batch, size in self._waiting:
            total = total.plus(size)
            if chosen and not total.fits:
                break
            chosen.append(batch)
        return chosen
