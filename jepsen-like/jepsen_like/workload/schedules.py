"""Schedules that fire all the while: every slot once, whoever leads."""

from __future__ import annotations

import datetime as dt
from typing import Any

from jepsen_like.client import Process, Question
from jepsen_like.workload.base import Workload

#: Milliseconds between two slots, by schedule.
_EVERY_MS = (1_000, 1_000, 1_000, 2_000, 2_000, 5_000)


class Schedules(Workload):
    name = "schedules"
    about = "schedules that fire every one to five seconds; slots read at any peer"
    processes = 3
    think_seconds = 0.4

    async def set_up(self) -> None:
        process = self.client.process()
        for number, every_ms in enumerate(_EVERY_MS):
            outcome = await process.ask(self._put(f"s{number}", every_ms), self._any())
            assert outcome.is_ok, outcome

    async def step(self, process: Process) -> None:
        number = self.chance.randrange(len(_EVERY_MS))
        if self.chance.random() < 0.2:
            # The same again changes nothing, and no slot comes twice for it.
            await process.ask(self._put(f"s{number}", _EVERY_MS[number]), self._any())
        else:
            await process.ask(self._slots(f"s{number}"), self._any())

    async def wind_down(self, process: Process) -> None:
        for number in range(len(_EVERY_MS)):
            name = f"s{number}"
            pause = Question(
                "pause-schedule", {"name": name}, "POST", f"/v1/schedules/{name}/pause", {}
            )
            await process.ask(pause, self._any())
            await process.ask(self._slots(name), self._any())

    def _any(self) -> str:
        return self.client.any_peer(self.chance)

    def _put(self, name: str, every_ms: int) -> Question:
        value = {"name": name, "every_ms": every_ms, "task": {"runs_ms": 100}, "overlap": "allow",
                 "misfire": "all"}  # fmt: skip
        body = {
            "every": every_ms / 1000, "overlap": "allow", "misfire": "all", "misfire_limit": 100,
            "task": {"command": self.command(runs_ms=100)},
        }  # fmt: skip
        return Question("put-schedule", value, "PUT", f"/v1/schedules/{name}", body)

    def _slots(self, name: str) -> Question:
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
