"""Evidence of one schedule in a few words: every 2 s from the epoch on, put at 1 s."""

from __future__ import annotations

from typing import Any

from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Effect, Final, FinalTask
from tests.jepsen.builders import EPOCH_MS, attempt, call, evidence, finals

EVERY = 2_000
#: Seconds of the instants that are due until it is read, at 29.5 s.
DUE = list(range(2, 30, 2))


def slot(
    second: float, task: str | None = None, state: str = "succeeded", **more: Any
) -> dict[str, Any]:
    """A row for an instant of the run."""
    task = f"s-{second:g}" if task is None and state == "succeeded" else task
    return {"at_ms": EPOCH_MS + round(second * 1_000), "state": state, "task": task, **more}


ROWS = [slot(second) for second in DUE]


def ran(second: float, task: str = "", late: float = 100, token: int = 0) -> list[Effect]:
    """The program of a slot, ``late`` ms after it."""
    at = second * 1_000 + late
    slot_ms = EPOCH_MS + round(second * 1_000)
    token = token or round(second)
    task = task or f"s-{second:g}"
    return attempt(task, token, at, at + 60, slot=slot_ms, schedule="s")


def instead(effects: list[Effect], *of: float) -> list[Effect]:
    """Every instant run, but of these what is given."""
    return [*effects, *(e for second in DUE if second not in of for e in ran(second))]


def put(**more: Any) -> Call:
    document = {"name": "s", "every_ms": EVERY, "start": EPOCH_MS, **more}
    return call("put-schedule", 1_000, 1_100, document, {"name": "s"})


def pause(at: float = 29_000, is_open: bool = False) -> Call:
    """It is paused; open: nobody knows."""
    until, answer = (None, None) if is_open else (at + 10, {"name": "s"})
    return call("pause-schedule", at, until, {"name": "s"}, answer)


def slots(rows: list[dict[str, Any]], at: float = 29_500) -> Call:
    return call("slots", at, at + 10, {"name": "s"}, {"slots": rows})


def held(rows: list[dict[str, Any]], **states: str) -> tuple[Final, ...]:
    """All peers hold the tasks of these rows, as they ended or in other states."""
    tasks = [str(row["task"]) for row in rows if row["task"]]
    return finals(*[FinalTask(t, states.get(t, "succeeded"), schedule="s") for t in tasks])


def whole(
    rows: list[dict[str, Any]],
    effects: list[Effect] | None = None,
    policies: dict[str, Any] | None = None,
    more: tuple[Call, ...] = (),
    **parts: Any,
) -> Evidence:
    """Rows as they were read, every instant run, and all ended."""
    if effects is None:
        effects = [e for second in DUE for e in ran(second)]
    parts.setdefault("finals", held(rows))
    calls = [put(**(policies or {})), slots(rows), *more]
    return evidence("schedules", calls=calls, effects=effects, **parts)
