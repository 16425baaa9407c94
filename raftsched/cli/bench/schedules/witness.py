"""Schedules of a cluster of our own: making them, and reading what became of their slots."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from raftsched.cli.bench.cluster import OwnCluster, wait_until
from raftsched.cli.bench.schedules.evidence import (
    Row,
    Shown,
    Slot,
    Start,
    account,
    due,
    instant_ms,
    rows,
    starts,
)
from raftsched.cli.exits import Failure
from raftsched.core.versions import SCHEDULES

Report = dict[str, Any]

#: What each run calls, with the file that it appends to.
NOTING = "raftsched.cli.bench.noop:note_run"
#: Requests under way at once while schedules are made.
MAKERS = 8
READY_SECONDS_MAX = 30.0
#: Schedules read a second while others fire, so that reading takes no part.
READS_PER_SECOND = 50


class Watched:
    """The schedules of one case, by name, and everything that is known of their slots."""

    def __init__(self, cluster: OwnCluster, path: Path) -> None:
        self._cluster = cluster
        self._path = path
        self.steps: dict[str, int] = {}
        self.first: dict[str, int] = {}
        self._rows: dict[Slot, Row] = {}

    def in_force(self) -> None:
        """Wait until the new cluster has agreed that all its peers know schedules."""
        with self._cluster.client() as client:
            wait_until(
                lambda: client.cluster()["cluster_version"] >= SCHEDULES,
                READY_SECONDS_MAX,
                "schedules are in force",
            )

    def make(self, documents: Mapping[str, Mapping[str, Any]], step_ms: int) -> None:
        """Make schedules whose instants are so far apart.  Raises Failure."""
        task = {"python": {"function": NOTING, "args": [str(self._path)]}}
        names = list(documents)
        with ThreadPoolExecutor(MAKERS) as pool:
            parts = [
                pool.submit(self._put, names[n::MAKERS], documents, task) for n in range(MAKERS)
            ]
            for part in parts:
                self.first.update(part.result())
        self.steps.update(dict.fromkeys(names, step_ms))

    def _put(
        self, names: Iterable[str], documents: Mapping[str, Mapping[str, Any]], task: Any
    ) -> dict[str, int]:
        """First instants."""
        found = {}
        with self._cluster.client() as client:
            for name in names:
                view = client.put_schedule(name, **documents[name], task=task)
                found[name] = instant_ms(view["next_at"])
        return found

    def read(self, per_second: float = 0.0) -> None:
        """Read the slots that are kept now, so many schedules a second (0: as it goes)."""
        with self._cluster.client() as client:
            for name, step_ms in self.steps.items():
                begin = time.monotonic()
                self._rows.update(rows(name, client.slots(name), step_ms))
                if per_second:
                    time.sleep(max(0.0, 1 / per_second - (time.monotonic() - begin)))

    def starts(self) -> list[Start]:
        """What the functions noted so far; a line that is being written is left out."""
        if not self._path.exists():
            return []
        text = self._path.read_text(encoding="ascii")
        return starts(text[: text.rfind("\n") + 1])

    def wait(self, count: int, seconds: float) -> None:
        """Wait until so many runs were noted, or that time is over."""
        with suppress(Failure):
            wait_until(lambda: self._lines() >= count, seconds, "runs start")

    def _lines(self) -> int:
        return self._path.read_bytes().count(b"\n") if self._path.exists() else 0

    def account(self, before: int) -> Report:
        """Everything that was due before an instant; reads slots and tasks.  See `evidence`."""
        self.read()
        with self._cluster.client() as client:
            tasks = [
                (str(task["schedule"]), instant_ms(task["slot"]))
                for task in client.list(page=1_000)
                if task.get("schedule") in self.steps
            ]
        wanted = due(self.first, self.steps, before)
        return account(wanted, self.starts(), Shown(tasks, self._rows))
