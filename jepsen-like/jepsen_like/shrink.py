"""The part of a history that no order explains, as small as it can be had.

Forward through calls and returns go all *configurations*: the state, and which pending operations
it has in it.  At the first return that none of them survives the answer cannot be.

Whatever is left out on the way to the smallest part, what is kept is refuted all the more:

- what had not returned when it was certain is open, and what was called later is not there;
- what had returned at a cut is left out, and any state that the task was ever in may be the one
  behind it; what was pending at the cut may happen later, or never;
- a read is left out; a write is left out only if the rest has no order even when what it does may
  happen at any time, any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from jepsen_like.linear import Model, Op

#: Configurations that one search for the smallest part may look at.
STEPS_MAX = 500_000


class TooLong(Exception):
    """It takes more steps than allowed."""


class Steps:
    """What may still be spent, here and on the whole."""

    def __init__(self, left: int, whole: Steps | None = None) -> None:
        self.left: int = left if whole is None else min(left, whole.left)
        self._whole = whole

    def spend(self) -> None:
        """Raises TooLong when there is nothing left."""
        if self.left == 0:
            raise TooLong
        self.left -= 1
        if self._whole is not None:
            self._whole.left -= 1


class Part(msgspec.Struct, frozen=True):
    """Operations that no order explains."""

    ops: list[Op]
    #: The return at which it was certain, ns; None: that takes too long to find out.
    at: int | None = None
    #: What came before it does not matter; else it begins when there is nothing yet.
    is_cut: bool = False


def smallest(
    ops: Sequence[Op], model: Model, is_read: Callable[[Op], bool], whole: Steps | None = None
) -> Part:
    """Of a history that is not linearizable, a smallest part that is not by itself."""
    steps = Steps(STEPS_MAX, whole)
    states: set[Any] = {model.initial}
    try:
        at = refuted_at(ops, [model.initial], model, steps, states=states)
    except TooLong:
        at = None
    if at is None:
        return Part(list(ops))
    search = _Search(model, steps, [model.initial], _until(ops, at))
    try:
        search.cut(list(states), at)
        search.drop(is_read, stays=False)
        search.drop(lambda op: not is_read(op), stays=True)
    except TooLong:
        pass  # What is kept by now is refuted as well.
    return Part(search.kept, at, search.is_cut)


class _Search:
    """What is kept, and what it may begin with; ``kept`` is refuted at all times."""

    def __init__(self, model: Model, steps: Steps, initial: list[Any], kept: list[Op]) -> None:
        self.kept = kept
        self.is_cut = False
        self._model = model
        self._steps = steps
        self._initial = initial
        self._anytime: set[Hashable] = set()

    def _is_bad(self, ops: Sequence[Op], initial: Iterable[Any], anytime: set[Hashable]) -> bool:
        return refuted_at(ops, initial, self._model, self._steps, anytime=anytime) is not None

    def cut(self, states: list[Any], at: int) -> None:
        """Leave out what had returned, up to the latest return at which that can be done."""
        ends = sorted({op.to_at for op in self.kept if op.to_at is not None and op.to_at < at})
        whole = self.kept

        def is_bad(place: int) -> bool:
            return self._is_bad(_since(whole, ends[place]), states, set())

        # Twice as far back each time, and then halfway.
        bad, fine = -1, len(ends)
        back = 1
        while fine - back > bad:
            if is_bad(fine - back):
                bad = fine - back
                break
            fine, back = fine - back, back * 2
        while fine - bad > 1:
            middle = (bad + fine) // 2
            if is_bad(middle):
                bad = middle
            else:
                fine = middle
        if bad >= 0:
            self.kept, self._initial, self.is_cut = _since(whole, ends[bad]), states, True

    def drop(self, which: Callable[[Op], bool], *, stays: bool) -> None:
        """Leave out those that need not be there, many at a time and then one by one.

        ``stays``: what they do may then happen at any time.
        """
        size = max(1, len(self.kept) // 2)
        while True:
            for gone in list(_chunks([op for op in self.kept if which(op)], size)):
                ids = set(map(id, gone))
                fewer = [op for op in self.kept if id(op) not in ids]
                anytime = self._anytime | ({op.does for op in gone} if stays else set())
                if self._is_bad(fewer, self._initial, anytime):
                    self.kept, self._anytime = fewer, anytime
            if size == 1:
                return
            size //= 2


def _chunks(ops: list[Op], size: int) -> Iterator[list[Op]]:
    for place in range(0, len(ops), size):
        yield ops[place : place + size]


def _until(ops: Sequence[Op], at: int) -> list[Op]:
    """The history as it was at an instant."""
    return [
        op if op.to_at is None or op.to_at <= at else op._replace(to_at=None)
        for op in ops
        if op.from_at <= at
    ]


def _since(ops: Sequence[Op], at: int) -> list[Op]:
    """What had not returned by an instant; what was pending then may have to happen no more."""
    return [
        op if op.from_at > at else op._replace(to_at=None)
        for op in ops
        if op.to_at is None or op.to_at > at
    ]


def refuted_at(
    ops: Sequence[Op],
    initial: Iterable[Any],
    model: Model,
    steps: Steps,
    *,
    anytime: Iterable[Hashable] = (),
    states: set[Any] | None = None,
) -> int | None:
    """The first return that no order explains; None: there is an order.

    ``anytime``: what may happen besides, as often as one likes.  ``states`` is filled with those
    that it may have been in between.  Raises TooLong.
    """
    # At one instant calls come before returns: such operations are concurrent.
    events = [(op.from_at, 0, i) for i, op in enumerate(ops)]
    events += [(op.to_at, 1, i) for i, op in enumerate(ops) if op.to_at is not None]
    wild = tuple(anytime)
    pending: set[int] = set()
    found: set[tuple[int, Any]] = {(0, state) for state in initial}
    for at, is_return, i in sorted(events):
        if not is_return:
            pending.add(i)
            continue
        found = _taken(i, found, [(j, ops[j].does) for j in sorted(pending)], wild, model, steps)
        pending.discard(i)
        if not found:
            return at
        if states is not None:
            states.update(state for _, state in found)
    return None


def _taken(
    must: int,
    found: set[tuple[int, Any]],
    pending: list[tuple[int, Any]],
    wild: Sequence[Any],
    model: Model,
    steps: Steps,
) -> set[tuple[int, Any]]:
    """All configurations that have this operation in them, which is then forgotten."""
    bit = 1 << must
    seen = set(found)
    left = list(found)
    there: set[tuple[int, Any]] = set()
    while left:
        mask, state = left.pop()
        if mask & bit:
            there.add((mask ^ bit, state))
            continue
        steps.spend()
        after = [(mask, other) for does in wild for other in model.after(state, does)]
        after += [
            (mask | 1 << j, other)
            for j, does in pending
            if not mask >> j & 1
            for other in model.after(state, does)
        ]
        for config in after:
            if config not in seen:
                seen.add(config)
                left.append(config)
    return there
