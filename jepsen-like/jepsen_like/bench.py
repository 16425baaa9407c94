"""How fast the linearizability search is: `PYTHONPATH=jepsen-like python -m jepsen_like.bench`.

A made-up history of tasks as registers, with operations that overlap and some that are open.
"""

from __future__ import annotations

import random
import sys
import time

from jepsen_like.linear import Budget, Op, linearizable
from jepsen_like.models import REGISTER

OPERATIONS = 100_000
KEYS = 5_000


def history(dice: random.Random, count: int) -> list[Op]:
    """Operations of one task; answers come from one order, so there is one."""
    state: object = None
    ops: list[Op] = []
    for number in range(count):
        verb = "submit" if number == 0 else dice.choice(("pause", "resume", "read", "read"))
        if verb != "read":
            state = REGISTER.after(state, (verb, None, None))[0]
        begin = 10 * number + dice.randint(-6, 4)
        end = None if verb != "read" and dice.random() < 0.02 else 10 * number + dice.randint(5, 16)
        ops.append(Op(begin, end, (verb, state if verb == "read" else None, None)))
    return ops


def main() -> None:
    dice = random.Random(1)
    histories = [history(dice, OPERATIONS // KEYS) for _ in range(KEYS)]
    budget = Budget(seconds=600.0)
    begun = time.monotonic()
    bad = sum(linearizable(ops, REGISTER, budget) is not True for ops in histories)
    took = time.monotonic() - begun
    print(f"{OPERATIONS} operations of {KEYS} tasks in {took:.2f} s; {bad} not linearizable")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
