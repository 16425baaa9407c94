"""Attempts as their own programs saw them, from the effects they left."""

from __future__ import annotations

from collections.abc import Iterable

from jepsen_like.history import Effect, Record


class Attempt(Record, frozen=True):
    """One token's run of a task on one node, from its process' beginning to its last sign of life.

    A program that is killed says no ``end``; its last beat proves that it ran until then, and
    nothing is claimed of what came after.
    """

    task: str
    number: int
    token: int
    node: str
    #: When its process was made, else its first sign of life; and its last sign of life.  In ns.
    from_at: int
    to_at: int
    #: When it said ``start``, oldest first; more than one is a program that was started twice.
    starts: tuple[int, ...]
    ended_at: int | None = None
    exit: int | None = None
    slot: int | None = None
    schedule: str = ""
    index: int | None = None

    @property
    def succeeded(self) -> bool:
        return self.ended_at is not None and self.exit in (None, 0)

    @property
    def failed(self) -> bool:
        """It came to its end by itself and said that it failed."""
        return self.ended_at is not None and self.exit not in (None, 0)


def attempts(effects: Iterable[Effect]) -> dict[str, list[Attempt]]:
    """Task -> its attempts by token.  What sinks wrote is not a sign of life."""
    found: dict[tuple[str, int, int, str], list[Effect]] = {}
    for effect in effects:
        if effect.event != "write":
            key = (effect.task, effect.token, effect.attempt, effect.node)
            found.setdefault(key, []).append(effect)
    by_task: dict[str, list[Attempt]] = {}
    for key in sorted(found):
        by_task.setdefault(key[0], []).append(_attempt(found[key]))
    return by_task


def _attempt(effects: list[Effect]) -> Attempt:
    first, last = effects[0], effects[-1]
    ends = [effect for effect in effects if effect.event == "end"]
    return Attempt(
        task=first.task,
        number=first.attempt,
        token=first.token,
        node=first.node,
        from_at=min([first.at, *(e.born for e in effects if e.born is not None)]),
        to_at=last.at,
        starts=tuple(effect.at for effect in effects if effect.event == "start"),
        ended_at=ends[0].at if ends else None,
        exit=ends[0].exit if ends else None,
        slot=next((e.slot for e in effects if e.slot is not None), None),
        schedule=next((e.schedule for e in effects if e.schedule), ""),
        index=next((e.index for e in effects if e.index is not None), None),
    )
