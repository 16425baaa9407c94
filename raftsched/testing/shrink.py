"""Making a failing plan of faults small: leave out what is not needed for it to fail.

Delta debugging (Zeller and Hildebrandt, 2002): try without ever smaller parts of the plan, keep
every smaller plan that still fails, stop when no single fault can be left out.  Then shorten what
is left.  Any broken promise counts as failing: the smallest plan may break another one first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftsched.testing.faults import Fault


def shrink(
    faults: Sequence[Fault],
    fails: Callable[[Sequence[Fault]], bool],
    runs_max: int = 200,
) -> list[Fault]:
    """The smallest plan found; ``faults`` fails.  Calls ``fails`` at most ``runs_max`` times."""
    runs = 0

    def still_fails(candidate: Sequence[Fault]) -> bool:
        nonlocal runs
        runs += 1
        return runs <= runs_max and fails(candidate)

    plan = list(faults)
    if still_fails([]):
        return []
    parts = 2
    while len(plan) > 1:
        size = -(-len(plan) // parts)
        for begin in range(0, len(plan), size):
            rest = plan[:begin] + plan[begin + size :]
            if still_fails(rest):
                plan, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(plan))
    for position, fault in enumerate(plan):
        for seconds in (fault.seconds / 8, fault.seconds / 2):
            shorter = [*plan]
            shorter[position] = fault._replace(seconds=seconds)
            if still_fails(shorter):
                plan = shorter
                break
    return plan
