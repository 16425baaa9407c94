"""Schedules that fire all the while: every slot once, whoever leads."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any, NamedTuple

from jepsen_like.client import Client, Process, Question
from jepsen_like.workload.base import Workload
from jepsen_like.zones import NAME, Zone

#: Milliseconds between two slots, by schedule.
_EVERY_MS = (1_000, 1_000, 1_000, 2_000, 2_000, 5_000)
#: One whose runs take longer than from one slot to the next, and may not overlap: slots that find
#: one under way are passed over.
_LONG = {"runs_ms": 1_600, "overlap": "skip", "misfire": "latest"}
#: All others: nothing is ever in their way, and nothing of them is written off.
_SHORT = {"runs_ms": 100, "overlap": "allow", "misfire": "all"}
_MISFIRE_LIMIT = 100
#: Times of a zone whose clocks change all the while: a rhythm and a fixed time, each by the usual
#: policies and by others.
_TIMES: tuple[dict[str, str], ...] = (
    {"cron": "*/3 * * * * *"},
    {"cron": "*/3 0-59 0-23 * * *"},
    {"cron": "*/5 * * * * *", "gap": "shift", "fold": "second"},
    {"cron": "*/5 0-59 0-23 * * *", "gap": "skip", "fold": "both"},
)


class Timing(NamedTuple):
    """When a schedule is due."""

    #: As the history has it for the judge, and as a peer is asked.
    told: dict[str, Any]
    asked: dict[str, Any]
    #: How long its runs take, and what becomes of those that cannot be at once or in time.
    terms: dict[str, Any] = _SHORT


def _timings(zone: Zone | None) -> list[Timing]:
    found = [Timing({"every_ms": every}, {"every": every / 1_000}) for every in _EVERY_MS]
    found.append(Timing({"every_ms": 1_000}, {"every": 1.0}, _LONG))
    if zone is not None:
        offsets = [list(offset) for offset in zone.offsets]
        found += [Timing({**t, "offsets": offsets}, {**t, "zone": NAME}) for t in _TIMES]
    return found


class Schedules(Workload):
    name = "schedules"
    about = "schedules of one to five seconds, also by clocks that change; slots read at any peer"
    processes = 3
    think_seconds = 0.4
    has_crons = True

    def __init__(self, client: Client, directory: Path, chance: random.Random) -> None:
        super().__init__(client, directory, chance)
        self._timings = _timings(client.zone)

    async def set_up(self) -> None:
        process = self.client.process()
        for number in range(len(self._timings)):
            await self.make(process, self._put(number))

    async def step(self, process: Process) -> None:
        number = self.chance.randrange(len(self._timings))
        if self.chance.random() < 0.2:
            # The same again changes nothing, and no slot comes twice for it.
            await process.ask(self._put(number), self._any())
        else:
            await process.ask(self._slots(number), self._any())

    async def wind_down(self, process: Process) -> None:
        for number in range(len(self._timings)):
            name = f"s{number}"
            pause = Question(
                "pause-schedule", {"name": name}, "POST", f"/v1/schedules/{name}/pause", {}
            )
            await process.ask(pause, self._any())
            await process.ask(self._slots(number), self._any())

    async def read_again(self, process: Process) -> None:
        for number in range(len(self._timings)):
            await process.ask(self._slots(number), self._any())

    def _any(self) -> str:
        return self.client.any_peer(self.chance)

    def _put(self, number: int) -> Question:
        name, timing = f"s{number}", self._timings[number]
        runs_ms, overlap, misfire = (timing.terms[k] for k in ("runs_ms", "overlap", "misfire"))
        policies = {"overlap": overlap, "misfire": misfire, "misfire_limit": _MISFIRE_LIMIT}
        value = {"name": name, **timing.told, "task": {"runs_ms": runs_ms}, **policies}
        body = {**timing.asked, **policies, "task": {"command": self.command(runs_ms=runs_ms)}}
        return Question("put-schedule", value, "PUT", f"/v1/schedules/{name}", body)

    def _slots(self, number: int) -> Question:
        name = f"s{number}"
        path = f"/v1/schedules/{name}/slots?limit=1000"
        return Question("slots", {"name": name}, "GET", path, told=_slots_told)


def _slots_told(document: Any) -> dict[str, Any]:
    return {
        "slots": [
            {
                "at_ms": _unix_ms(slot["at"]), "upto_ms": _unix_ms(slot["upto"] or slot["at"]),
                "count": slot["count"], "state": slot["status"], "reason": slot["reason"],
                "task": slot["task"],
            }
            for slot in document["items"]
        ]
    }  # fmt: skip


def _unix_ms(instant: str) -> int:
    return round(dt.datetime.fromisoformat(instant).timestamp() * 1000)
