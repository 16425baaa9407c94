"""What every workload is: the operations that clients do, and what is read in the end."""

from __future__ import annotations

import random
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from jepsen_like.client import Client, Outcome, Process, Question
from jepsen_like.documents import task_of
from jepsen_like.history import Earn
from jepsen_like.peers import NotReady

#: What is asked for again and again does not depend on how often it was done.
_MAKE_TRIES = 5
_BUSY_MS, _DEAF_MS = (2_000, 3_000, 12_000), 5_000
_PAYLOAD = Path(__file__).parents[1] / "payload.py"


class Workload(ABC):
    """One run's operations.  Subclasses say which."""

    name = ""
    #: What it exercises, a line for ``list``.
    about = ""
    #: How many processes at once, and how long each waits between two operations, on average.
    processes = 6
    think_seconds = 0.15
    #: Attempts that may hold a limit at once.
    limits: dict[str, int] = {}
    earn = Earn()
    #: Does every task of it come to its end by itself?
    all_end = True
    #: Does it have schedules that go by clocks on walls?
    has_crons = False
    #: Before all ids.
    prefix = ""

    def __init__(self, client: Client, directory: Path, chance: random.Random) -> None:
        """``directory``: of the run."""
        self.client = client
        self.chance = chance
        self.effects = directory / "effects" / "effects.jsonl"
        self.sink = directory / "sink.sock"
        self.effects.parent.mkdir(parents=True, exist_ok=True)
        self._number = 0
        #: Ids that somebody was told of, the latest last.
        self.known: list[str] = []

    async def set_up(self) -> None:
        """Before the clock of the run starts."""
        return

    @abstractmethod
    async def step(self, process: Process) -> None:
        """One operation, whatever comes of it."""

    async def make(self, process: Process, question: Question) -> None:
        """What the run is about, before its clock starts.  Raises NotReady."""
        for _ in range(_MAKE_TRIES):
            outcome = await process.ask(question, self.client.any_peer(self.chance))
            if outcome.is_ok:
                return
        raise NotReady(f"{question.method} {question.path} does not succeed: {outcome}")

    async def keep_busy(self, process: Process) -> None:
        """A task that runs for a while, so that there is one whenever something breaks.

        Some outlast the lease that they had when their machine was cut off, and do not listen.
        """
        runs_ms = self.chance.choice(_BUSY_MS)
        deaf = ["--ignores-sigterm"] if runs_ms > _DEAF_MS else []
        told = {"runs_ms": runs_ms, "fails": 0, "max_attempts": 3}
        command = self.command(*deaf, runs_ms=runs_ms)
        body = {"command": command, "retry": {"max_attempts": 3}, "grace": "1s"}
        task_id = self.next_id("busy")
        await self.submit(process, task_id, told, body, key=f"key-{task_id}")

    async def wind_down(self, process: Process) -> None:
        """After the heal: nothing new comes from here on."""
        return

    async def read_again(self, process: Process) -> None:
        """Once all tasks have ended: what is then to be seen, beside the tasks themselves."""
        return

    async def tear_down(self) -> None:
        """Give back what `set_up` took."""
        return

    # What the subclasses are made of --------------------------------------------------------------

    def next_id(self, prefix: str = "t") -> str:
        """An id that was not used."""
        self._number += 1
        return f"{self.prefix}{prefix}{self._number}"

    def command(self, *options: str, runs_ms: int, fails: int = 0) -> list[str]:
        """A command that leaves effects."""
        words = [sys.executable, "-I", "-S", str(_PAYLOAD), str(self.effects)]
        words += ["--runs-ms", str(runs_ms)]
        return [*words, *(["--fails", str(fails)] if fails else []), *options]

    def recent(self, count: int = 30) -> str | None:
        """One of the latest known ids; None: there is none yet."""
        return self.chance.choice(self.known[-count:]) if self.known else None

    async def submit(
        self,
        process: Process,
        task_id: str,
        told: dict[str, Any],
        body: dict[str, Any],
        *,
        key: str = "",
        peer: str = "",
    ) -> Outcome:
        """``told``: what the history says of it, ``body``: what the peer is asked."""
        value = {"id": task_id, "key": key, "task": told}
        question = Question(
            "submit", value, "POST", "/v1/tasks", {"id": task_id, **body}, key, task_of
        )
        outcome = await process.ask(question, peer or self.client.any_peer(self.chance))
        if outcome.is_ok:
            self.known.append(task_id)
        return outcome

    async def read(
        self, process: Process, task_id: str, consistency: str = "", *, peer: str = ""
    ) -> Outcome:
        """One task, at any peer unless it is named; linearizable unless asked otherwise."""
        value = {"id": task_id, "consistency": consistency or "linearizable"}
        path = f"/v1/tasks/{task_id}" + (f"?consistency={consistency}" if consistency else "")
        question = Question("read", value, "GET", path, told=task_of, may_be_unknown=True)
        return await process.ask(question, peer or self.client.any_peer(self.chance))

    async def change(self, process: Process, verb: str, task_id: str, key: str = "") -> Outcome:
        """cancel, pause, resume or retry a task."""
        value = {"id": task_id, **({"key": key} if key else {})}
        question = Question(verb, value, "POST", f"/v1/tasks/{task_id}/{verb}", {}, key, task_of)
        return await process.ask(question, self.client.any_peer(self.chance))
