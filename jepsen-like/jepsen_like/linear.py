"""Is there one order of operations that explains all answers?

Wing and Gong's search with Lowe's memo: take an operation that nothing pending must precede, apply
it to the model, go on; at a return whose operation is not taken yet, go back.  A pair (operations
taken, state) that was seen is not tried again.  Iterative, on a linked list of calls and returns.

An operation without an end may be taken at any time after its call, or never.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

#: Steps between two looks at the clock.
STEPS_PER_LOOK = 4_096


class Op(NamedTuple):
    """What was asked, and when; ``does`` is what the model understands, answer included."""

    from_at: int
    #: None: nobody knows whether it happened.
    to_at: int | None
    does: Hashable


#: State and operation -> states that may follow; none: the operation cannot be answered so.
Step = Callable[[Any, Any], Sequence[Any]]


class Budget:
    """Steps and seconds that searches may take together."""

    def __init__(self, steps: int = 5_000_000, seconds: float = 60.0) -> None:
        self.steps = steps
        self._until = time.monotonic() + seconds

    def spend(self, steps: int) -> bool:
        """Take steps; False when there are none left, or no time."""
        self.steps -= steps
        return self.steps > 0 and time.monotonic() < self._until


class Model:
    """A sequential specification; remembers what follows what, for all keys alike."""

    def __init__(self, initial: Hashable, step: Step) -> None:
        self.initial = initial
        self._step = step
        self._known: dict[tuple[Any, Any], Sequence[Any]] = {}

    def after(self, state: Any, does: Any) -> Sequence[Any]:
        key = (state, does)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tuple(self._step(state, does))
        return found


def linearizable(ops: Sequence[Op], model: Model, budget: Budget) -> bool | None:
    """Is the history of one object linearizable?  None: not found out within the budget."""
    ops = sorted(ops, key=_by_call)
    state, done = _alone(ops, model)
    if state is None:
        return False
    return done == len(ops) or _search(ops[done:], state[0], model, budget)


def _by_call(op: Op) -> int:
    return op.from_at


def _alone(ops: Sequence[Op], model: Model) -> tuple[tuple[Any] | None, int]:
    """Take from the front what runs alone and leads to one state: no choice, so no search.

    Answers the state (None: an answer cannot be) and how many were taken.
    """
    state, after = model.initial, model.after
    last = len(ops) - 1
    for place, (_, to_at, does) in enumerate(ops):
        if to_at is None or (place < last and ops[place + 1].from_at <= to_at):
            return (state,), place
        states = after(state, does)
        if len(states) != 1:
            return ((state,), place) if states else (None, place)
        state = states[0]
    return (state,), last + 1


def _search(ops: Sequence[Op], initial: Any, model: Model, budget: Budget) -> bool | None:
    # At one instant calls come before returns: such operations are concurrent.
    events = [(op.from_at, 0, i) for i, op in enumerate(ops)]
    events += [(op.to_at, 1, i) for i, op in enumerate(ops) if op.to_at is not None]
    events.sort()
    size = len(events)
    # Node 0 is the head; node k stands for events[k - 1].
    following = list(range(1, size + 2))
    before = list(range(-1, size + 1))
    who = [0] * (size + 1)
    returns = [0] * len(ops)
    for node, (_, is_return, i) in enumerate(events, 1):
        who[node] = -1 if is_return else i
        if is_return:
            returns[i] = node
    after = model.after
    seen: set[tuple[int, Any]] = set()
    taken: list[tuple[int, int, Any, int]] = []
    left = size - len(ops)
    state, done, node, choice, steps = initial, 0, following[0], 0, 0
    while left:
        steps += 1
        if steps == STEPS_PER_LOOK:
            if not budget.spend(steps):
                return None
            steps = 0
        i = who[node]
        if i < 0:
            # Its operation had to be taken by now.
            if not taken:
                return False
            node, choice, state, done = taken.pop()
            i = who[node]
            back = returns[i]
            if back:
                left += 1
                following[before[back]] = before[following[back]] = back
            following[before[node]] = before[following[node]] = node
            choice += 1
        mark_done = done | (1 << i)
        states = after(state, ops[i].does)
        while choice < len(states):
            mark = (mark_done, states[choice])
            if mark not in seen:
                break
            choice += 1
        else:
            node, choice = following[node], 0
            continue
        seen.add(mark)
        taken.append((node, choice, state, done))
        done, state = mark
        one, two = before[node], following[node]
        following[one], before[two] = two, one
        back = returns[i]
        if back:
            left -= 1
            one, two = before[back], following[back]
            following[one], before[two] = two, one
        node, choice = following[0], 0
    return True
