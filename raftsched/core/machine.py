"""Apply: one entry of the log changes the state, the same on every peer.

Rules
1. A handler (``handlers``) reads the state and the command, nothing else, and puts the rows it
   wants into `Changes`.  They are written only when the handler returned, so a refused command and
   an unexpected exception change nothing.
2. A refusal is a value.  An exception is a bug: the command ends ``Rejected(INTERNAL)``, identical
   on every peer.  MemoryError and RecursionError are this machine's own trouble and go through.
3. While the replicas differ without a majority (``State.suspect``), only facts are taken in.
"""

from __future__ import annotations

from raftsched.core.changes import Changes
from raftsched.core.commands import AnyCommand, Entry
from raftsched.core.handlers import HANDLERS, TAKEN_WHEN_SUSPECT
from raftsched.core.outcomes import Accepted, Applied, Event, Outcome, Reason, Rejected
from raftsched.core.state import State
from raftsched.core.versions import BOUNDED_TIME

#: An entry moves the clock no further, unless a majority of peers agrees with its stamp; and two
#: clocks agree if they differ by no more.
CLOCK_SKEW_MS_MAX = 2_000


def apply(state: State, index: int, entry: Entry) -> Applied:
    """Apply one committed entry, whose term the caller has checked; bad commands never raise."""
    _advance_clock(state, entry)
    outcomes: list[list[Outcome]] = []
    events: list[Event] = []
    for batch in entry.batches:
        answers: list[Outcome] = []
        for command in batch.commands:
            changes = Changes(state, index, entry)
            outcome = _handle(changes, command)
            if isinstance(outcome, Accepted):
                changes.write()
                events += changes.events
            answers.append(outcome)
        outcomes.append(answers)
    state.index = index
    return Applied(outcomes, events)


def _advance_clock(state: State, entry: Entry) -> None:
    """The clock never falls; the first entry of all sets it."""
    now = entry.now
    if not entry.agreed and state.now and state.version >= BOUNDED_TIME:
        now = min(now, state.now + CLOCK_SKEW_MS_MAX)
    state.now = max(state.now, now)


def _handle(changes: Changes, command: AnyCommand) -> Outcome:
    if changes.suspect and type(command) not in TAKEN_WHEN_SUSPECT:
        return Rejected(
            Reason.REPLICA_DIVERGENCE,
            "the replicas differ and no majority of them agrees; see 'raftsched cluster verify'",
        )
    try:
        return HANDLERS[type(command)](changes, command)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        return Rejected(Reason.INTERNAL, f"{type(error).__name__}: {error}")


def handles(command: AnyCommand) -> bool:
    """Is there a handler for this command?  The tests hold that there is one for each."""
    return type(command) in HANDLERS
