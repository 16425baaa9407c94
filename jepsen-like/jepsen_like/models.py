"""Sequential specifications of one task, and how calls are put to them.

A write that answers with the task's state is two operations in the same stretch of time: the write,
and a read of what the answer shows.  The peer renders the row after it has applied the write, when
another one may have come in between.

`REGISTER` is exact: a task that never runs is queued, paused or cancelled, as clients made it.
`TASK` is a task that runs: between two operations the system itself moves it, along the states that
may follow one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jepsen_like.asked import TERMINAL
from jepsen_like.history import Call
from jepsen_like.linear import Model, Op

#: What an operation does: a verb, and of a read what it saw.
Does = tuple[str, str | None, int | None]

#: Task states that hold a node; they follow an assignment with a new attempt number.
HOLDING = frozenset({"assigned", "running"})
LIVE = HOLDING | {"waiting", "queued", "retrying", "paused"}


def is_read(op: Op) -> bool:
    """Does it only look?"""
    does = op.does
    return isinstance(does, tuple) and does[0] == "read"


def _register(state: str | None, does: Does) -> Sequence[str | None]:
    verb, saw, _ = does
    if verb == "read":
        # A task that waits for a far instant is as good as queued.
        return (state,) if ("queued" if saw == "waiting" else saw) == state else ()
    if verb == "submit":
        return ("queued",) if state is None else (state,)
    if state is None:
        return ()
    if verb == "cancel":
        return ("cancelled",)
    if state == "cancelled":
        return ()
    return ("paused",) if verb == "pause" else ("queued",)


#: What is known of a running task: state as last seen, its attempt, was it asked to stop, to pause.
Known = tuple[str, int, bool, bool]


def _task(known: Known | None, does: Does) -> Sequence[Known | None]:
    verb, saw, attempt = does
    if verb == "submit":
        return (("new", 0, False, False),) if known is None else (known,)
    if verb == "submit-may-cancel":
        # One that depends on others is cancelled when they end otherwise.
        return (("new", 0, True, False),) if known is None else (known,)
    if known is None:
        return (None,) if verb == "read" and saw is None else ()
    state, number, may_cancel, may_pause = known
    if verb == "read":
        if saw is None or not _may_follow(known, saw, attempt):
            return ()
        return ((saw, number if attempt is None else attempt, may_cancel, may_pause),)
    if state in TERMINAL:
        # Cancelling what is cancelled may be accepted; nothing else is, of what has ended.
        return (known,) if verb == "cancel" and state == "cancelled" else ()
    if verb == "cancel":
        return (("stopping", number, True, may_pause),)
    return ((state, number, may_cancel, verb == "pause"),)


def _may_follow(known: Known, saw: str, attempt: int | None) -> bool:
    """May a task that was known as this be seen as that, without any client's doing?"""
    state, number, may_cancel, may_pause = known
    if attempt is not None and attempt < number:
        return False
    is_same = attempt is None or attempt == number
    if state in TERMINAL:
        return saw == state and is_same
    if saw == "cancelled" and not may_cancel:
        return False
    if state in ("stopping", "cancelling"):
        # Nothing new is assigned, so the attempt stays what it is once it was seen.
        return saw in TERMINAL or saw == "cancelling"
    if saw == "cancelling":
        return may_cancel
    if saw == "paused":
        return may_pause
    if saw in HOLDING and is_same and number > 0 and attempt is not None:
        # The same attempt is not assigned again, nor once it was given up.
        return state == "new" or state == saw or (state == "assigned" and saw == "running")
    return saw in LIVE or saw in TERMINAL


REGISTER = Model(None, _register)
TASK = Model(None, _task)


def ops_of(call: Call, may_cancel: bool) -> Iterator[Op]:
    """What a call is to the models: nothing, one operation, or a write and a read."""
    if call.outcome == "fail":
        return
    verb = "submit" if call.f in ("submit", "retry") else call.f
    if verb == "submit" and may_cancel:
        verb = "submit-may-cancel"
    if verb not in ("read", "final"):
        yield Op(call.invoked_at, call.ended_at, (verb, None, None))
    elif call.value.get("consistency") == "local":
        return
    if call.is_ok and "state" in call.answer and not call.answer.get("replayed"):
        attempt = call.answer.get("attempt")
        saw = call.answer["state"]
        if saw == "waiting" and call.answer.get("reason") == "cancelled":
            saw = "cancelling"  # A whole that was told to end waits for its parts.
        yield Op(call.invoked_at, call.ended_at, ("read", saw, None if saw is None else attempt))
