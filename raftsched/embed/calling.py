"""One call of a program: tried again until its time is over, its trouble in the program's words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from raftsched.api.context import Context
from raftsched.api.problems import Problem
from raftsched.core.commands import (
    AddSubtasks,
    AnyCommand,
    PutSchedule,
    SubmitTasks,
    TriggerSchedule,
)
from raftsched.core.model import Task
from raftsched.core.outcomes import Outcome, Reason, Rejected, Submitted
from raftsched.core.state import State
from raftsched.peer.config import PeerConfig
from raftsched.peer.errors import (
    IndexNotReached,
    NoLeader,
    OutputGone,
    Overloaded,
    PeerError,
    ReadTimeout,
    UnknownOutcome,
)
from raftsched.peer.host import PeerHost
from raftsched.peer.ids import uuid7
from raftsched.peer.peer import Peer as _Peer

#: Between tries of a command while nobody leads.
AGAIN_SECONDS = 0.1
#: One try of a read.
READ_SECONDS = 5.0
#: How long a call is tried again unless it says otherwise.
CALL_SECONDS = 30.0

#: Of these the state knows again what a try before has done, and does not refuse it.
_KNOWN_AGAIN = (AddSubtasks, SubmitTasks, TriggerSchedule)
_NOT_THERE = {"no-result", "no-subtasks"}
_GONE = {"output-gone", "node-unreachable"}

Document = dict[str, Any]

_json = msgspec.json.Encoder()
_objects = msgspec.json.Decoder(dict[str, Any])


class Call(Context):
    """What the API's own functions ask of a peer, for as long as a program is ready to wait.

    Every command may be applied twice without harm: it has its ids, or a key, or says as what it
    is to leave a row.
    """

    def __init__(self, peer: Calling, timeout_seconds: float) -> None:
        super().__init__(peer, peer.scanning)
        self._peer = peer
        self._deadline = peer.clock.monotonic() + timeout_seconds
        #: Something was refused that a try before, of unknown outcome, may have done.
        self.is_doubtful = False

    @property
    def left(self) -> float:
        """Seconds until its time is over; negative behind it."""
        return self._deadline - self._peer.clock.monotonic()

    def now_ms(self) -> int:
        """The cluster's time, about."""
        return max(self._peer.state.now, self._peer.clock.wall_ms())

    def new_id(self) -> str:
        """An id that nobody else has."""
        return self._peer.new_id()

    async def read(self) -> State:
        """The state as it is now.  Raises PeerError."""
        while True:
            seconds = max(AGAIN_SECONDS, min(READ_SECONDS, self.left))
            try:
                return await self._peer.read(timeout_seconds=seconds)
            except (ReadTimeout, IndexNotReached):
                if self.left <= AGAIN_SECONDS:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def outcome(self, command: AnyCommand) -> Outcome:
        """What became of a command; one that a new cluster may not know yet is tried again."""
        while True:
            left = self.left
            outcome = await self._again(command)
            # Its peers are about to agree.
            is_early = isinstance(outcome, Rejected) and outcome.reason is Reason.NEEDS_VERSION
            if not is_early or left <= AGAIN_SECONDS:
                return outcome
            await asyncio.sleep(AGAIN_SECONDS)

    async def _again(self, command: AnyCommand) -> Outcome:
        """The error of the end tells of the whole time, and is UnknownOutcome if any try's was."""
        began = self._peer.clock.monotonic()
        unknown: UnknownOutcome | None = None
        while True:
            left = self.left
            try:
                outcome = await self._peer.propose(command, max(AGAIN_SECONDS, left))
                if unknown is not None and isinstance(outcome, Rejected):
                    self.is_doubtful |= not _knows_again(command, outcome.reason)
                return outcome
            except UnknownOutcome as error:
                unknown, self.was_unknown = error, True
                if left <= AGAIN_SECONDS:
                    raise
            except (NoLeader, Overloaded) as error:
                if left <= AGAIN_SECONDS:
                    waited = self._peer.clock.monotonic() - began
                    raise unknown or self._not_taken(error, waited) from error
            except PeerError as error:
                if unknown is None:
                    raise
                # That this try was surely not applied says nothing of the one before.
                raise unknown from error
            await asyncio.sleep(AGAIN_SECONDS)

    def _not_taken(self, error: NoLeader | Overloaded, waited: float) -> NoLeader | Overloaded:
        """The last of many errors, in words for all of them."""
        if isinstance(error, Overloaded):
            again = error.retry_after_seconds
            return Overloaded(f"overloaded for {waited:.1f} s: {error}", retry_after_seconds=again)
        status, members = self._peer.status(), self._peer.log.members()
        peers = f"{len(status.connected) + 1} of {len(members.voters)} peers reachable"
        why = f"intake is paused ({status.paused})" if status.paused else "no leader"
        if status.leader is not None and not status.paused:
            why = f"the leader {status.leader} took nothing in"
        return NoLeader(f"{why} for {waited:.1f} s ({peers})", leader=error.leader)

    async def removed(self, command: AnyCommand, unknown: str) -> bool:
        """Carry out what removes a thing; False: there is none (the problem ``unknown``)."""
        try:
            await self.propose(command)
        except Problem as problem:
            if problem.code != unknown:
                raise
            return self.was_unknown
        return True

    def made(self, submitted: Submitted) -> Task:
        """The one task of a submission.  Raises Problem when it is not there any more."""
        [task_id] = submitted.task_ids
        task = self._peer.state.tasks.get(task_id)
        if task is None:
            text = f"task {task_id} of this idempotency key has been deleted"
            raise Problem("idempotency-key-reused", text)
        return task


class Calling(_Peer):
    """A member of the cluster that programs call."""

    def __init__(self, config: PeerConfig, *, host: PeerHost | None = None) -> None:
        super().__init__(config, host=host)
        #: Held by the one list that may look at rows in this pass of the loop.
        self.scanning = asyncio.Lock()

    def new_id(self) -> str:
        """An id that nobody else has."""
        return uuid7(self.clock.wall_ms(), self._host.unique_bytes(10))

    @contextlib.contextmanager
    def _calling(self, timeout_seconds: float) -> Iterator[Call]:
        """Carry out a call; what the API would answer as a problem is raised in Python's words."""
        call = Call(self, timeout_seconds)
        try:
            yield call
        except Problem as problem:
            raise _error(problem, is_doubtful=call.is_doubtful) from problem
        except PeerError as error:
            if not call.is_doubtful:
                raise
            raise _doubtful(error) from error

    async def _current(self, timeout_seconds: float) -> State:
        """The state as it is now.  Raises PeerError."""
        return await Call(self, timeout_seconds).read()


def _knows_again(command: AnyCommand, reason: Reason) -> bool:
    """Would this not have been refused, had a try before done it?"""
    if isinstance(command, PutSchedule) and command.is_new:
        return reason is not Reason.SCHEDULE_EXISTS
    return isinstance(command, _KNOWN_AGAIN)


def _doubtful(error: Exception) -> UnknownOutcome:
    return UnknownOutcome(f"{error}; a try before, of unknown outcome, may have done it")


def _error(problem: Problem, *, is_doubtful: bool) -> Exception:
    """What a program is told instead of a problem."""
    code, text = problem.code, str(problem)
    if is_doubtful:
        return _doubtful(problem)
    # Also when a part of it was done, and the rest refused.
    if code == "outcome-unknown" or problem.extra.get("applied") == "unknown":
        return UnknownOutcome(text)
    if code.startswith("unknown-"):
        return KeyError(text)
    if code in _NOT_THERE:
        return LookupError(text)
    if code in _GONE:
        return OutputGone(text)
    return ValueError(f"{problem.pointer}: {text}" if problem.pointer else text)


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as the API takes it.  Raises ValueError for what is no JSON."""
    try:
        return _json.encode(document)
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from error


def as_document(view: msgspec.Struct) -> Document:
    """What the API would answer, as a client has it."""
    document: Document = _objects.decode(_json.encode(view))
    return document
