"""The machine a peer runs on: what its log needs, and the runner that owns its attempts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from raftsched.core.model import Task
from raftsched.core.state import State
from raftsched.executor import leftovers
from raftsched.executor.client import RunnerClient
from raftsched.executor.inputs import InputFiles
from raftsched.executor.items import items_of
from raftsched.executor.messages import AttemptReport, Running, StartAttempt
from raftsched.executor.removal import OutputRemoval
from raftsched.raft import host


class Runner(Protocol):
    """A connection to the node's runner, as `executor.client.RunnerClient` makes it."""

    #: Called with news, in order.
    on_reports: Callable[[list[AttemptReport]], None]
    #: Called when the connection ends without `close`.
    on_lost: Callable[[], object]
    #: True when the runner was there already, with what it ran.
    adopted: bool
    #: True when nothing of earlier runners of this node can still run.
    clean: bool
    incarnation: str

    @property
    def inventory(self) -> Mapping[int, Running]:
        """What it had when the connection was made, by token."""

    def start(self, attempts: Sequence[StartAttempt], slots: int) -> None:
        """Run these attempts, never more than ``slots`` at once."""

    def serve_apps(
        self,
        generation: str,
        applications: Sequence[str],
        workers: int,
        home: tuple[str, str] = ("", ""),
    ) -> None:
        """Have so many workers of each of these applications; a new generation imports anew."""

    def configure(self, *, http_private: bool, http_metadata: bool, cgroup: str) -> None:
        """How attempts are run from now on; what these mean is in `messages.Configure`."""

    def stop(self, token: int, reason: str) -> None:
        """End an attempt, with its own grace."""

    def renew(self, granted_at: float, lease_seconds: float) -> None:
        """Leases are counted from this instant of the host's monotonic clock, in seconds.

        ``lease_seconds``: the node's own, of attempts that have none.
        """

    def forget(self, tokens: Sequence[int]) -> None:
        """The state has answered these attempts' reports."""

    async def watch(self, patience_seconds: float) -> None:
        """Return once the runner has not answered for so long."""

    async def close(self, *, stop_runner: bool) -> None:
        """Hang up; with ``stop_runner`` the runner ends if nothing runs."""


class Removal(Protocol):
    """Removes the output of tasks that are no more, as `executor.removal.OutputRemoval` does."""

    def look(self) -> None:
        """Tasks were deleted, or may have been."""

    async def run(self, is_current: asyncio.Event) -> None:
        """Until cancelled; nothing before ``is_current`` is set."""


class Inputs(Protocol):
    """Tells attempts what became of the tasks that theirs depend on, as `executor.inputs` does."""

    def path(self, token: int, task_id: str, when_ready: Callable[[], None]) -> str | None:
        """The file of an attempt; empty: it depends on nothing; None: ``when_ready`` will say."""

    def forget(self, token: int) -> None:
        """The attempt is over."""

    def keep(self, living: Collection[int]) -> None:
        """There are no attempts but these."""


class PeerHost(host.Host):
    """This machine with its processes."""

    @property
    def cpus(self) -> int:
        """How many there are."""
        return os.cpu_count() or 1

    @property
    def memory_bytes(self) -> int:
        """What the machine has, as the kernel says."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    async def runner(self, directory: Path, lease_seconds: float) -> Runner:
        """The node's runner, found alive or started.  Raises RunnerLost."""
        return await RunnerClient.adopt_or_start(directory, lease_seconds=lease_seconds)

    async def end_runner(self, directory: Path) -> None:
        """Kill a runner that hangs, with its attempts."""
        await asyncio.to_thread(leftovers.end_runner, directory)

    def removal(self, directory: Path, is_known: Callable[[str], bool]) -> Removal:
        """What removes output; ``is_known``: does the state have a task of this id?"""
        return OutputRemoval(directory, is_known)

    def inputs(self, directory: Path, state: Callable[[], State]) -> Inputs:
        """What tells attempts what became of the tasks that theirs depend on."""
        return InputFiles(directory, state)

    async def items(self, directory: Path, source: Task) -> list[Any]:
        """What a task that ran here named as items.  Raises NoItems."""
        return await asyncio.to_thread(items_of, directory, source)
