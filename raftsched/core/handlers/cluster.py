"""What is the whole cluster's: its version and its clock."""

from __future__ import annotations

from raftsched.core.changes import Changes
from raftsched.core.commands import ActivateVersion, ResetClock
from raftsched.core.limits import settled
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.versions import written

#: The last millisecond of the year 9999: what every calendar can show.
CLOCK_MS_MAX = 253_402_300_799_999


def activate_version(changes: Changes, command: ActivateVersion) -> Outcome:
    """No value."""
    in_force = changes.state.version
    if command.version <= written(in_force):
        return Rejected(Reason.INVALID, f"version {in_force} is in force, and never a lower one")
    if command.version != changes.entry.version:
        # A peer that does not know the version would not have noticed before it applied this.
        return Rejected(Reason.INVALID, f"stands in an entry of version {changes.entry.version}")
    changes.state.version = command.version
    return Accepted()


def reset_clock(changes: Changes, command: ResetClock) -> Outcome:
    """Value: what the clock said before, in milliseconds."""
    state = changes.state
    if not 0 < command.now <= CLOCK_MS_MAX:
        return Rejected(Reason.INVALID, f"the clock is set to 1 ms to {CLOCK_MS_MAX} ms")
    before, state.now = state.now, command.now
    state.clock_resets += 1
    state.board.reset()
    for key, limit in state.limits.items():
        changes.others.limits[key] = settled(limit, state.now)
    return Accepted(before)
