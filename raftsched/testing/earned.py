"""A pass must be earned: runs in which nothing happened prove nothing.

What is asked for is two thirds of what eight runs of any profile were ever seen to do, so that only
runs that went wrong in themselves fall short: no clients, no faults, a cluster that stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from raftsched.testing.profiles import PROFILES
from raftsched.testing.simulation import Result

#: So many runs are judged together: one alone may be quiet, and is run to look at it.
GROUP = 8
#: Shorter runs have hardly begun.
SECONDS_MIN = 20.0
#: What there was of each, and at least so much for every operation that clients are to ask for.
_BY_OPERATION: dict[str, tuple[Callable[[Result], int], float]] = {
    "operations that succeeded": (lambda run: run.operations_ok, 0.25),
    "entries": (lambda run: run.committed, 0.8),
    "attempts": (lambda run: run.attempts, 0.3),
    "reads": (lambda run: run.reads, 0.01),
}
#: Faults in a second; the first leader of a run, and changes of leaders in a second.
_FAULTS = 0.1
_FIRST_LEADER, _LEADER_CHANGES = 1.0, 0.02


def shortfalls(runs: Sequence[Result]) -> Iterator[str]:
    """What too little was done of, in each group of `GROUP` runs; a line each.

    Those left over belong to the last group.  Fewer runs than a group are not judged, nor are
    short ones, nor those with a violation, which end there.
    """
    judged = [run for run in runs if run.seconds >= SECONDS_MIN and not run.violations]
    for first in range(0, len(judged) - GROUP + 1, GROUP):
        is_last = first + 2 * GROUP > len(judged)
        yield from _of_group(judged[first : None if is_last else first + GROUP])


def _of_group(runs: Sequence[Result]) -> Iterator[str]:
    where = f"seeds {runs[0].seed} to {runs[-1].seed}"
    asked = sum(PROFILES[run.profile].per_second * run.seconds for run in runs)
    seconds = sum(run.seconds for run in runs)
    wanted = [
        (name, sum(map(count, runs)), rate * asked) for name, (count, rate) in _BY_OPERATION.items()
    ]
    faults = sum(sum(run.faults.values()) for run in runs)
    leaders = sum(run.leader_changes for run in runs)
    wanted += [
        ("faults", faults, _FAULTS * seconds),
        ("leaders", leaders, _FIRST_LEADER * len(runs) + _LEADER_CHANGES * seconds),
    ]
    for name, found, least in wanted:
        if found < least:
            yield f"{where}: {found} {name}, and at least {least:.0f} were expected"
    for run in runs:
        if not run.operations_ok or not run.leader_changes:
            yield f"seed {run.seed} of {run.profile}: nobody led, or no operation succeeded"
