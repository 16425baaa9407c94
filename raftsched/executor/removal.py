"""Output and results of tasks that are no more: removed from the disk of the node that ran them.

Level-triggered: a pass compares the files with the tasks the state knows.  So a task deleted while
its node was down, or skipped over by a snapshot, needs no path of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from raftsched.executor import output

logger = logging.getLogger(__name__)

#: What is deleted within this is removed together.
GATHER_SECONDS = 0.5
#: Passes take at most this part of the time, however many files there are.
SHARE_MAX = 0.02
#: Files looked at in one step on the loop, and removed in one step off it.
STEP_FILES = 1_000


class OutputRemoval:
    """Removes the output of unknown tasks from one node's directory."""

    def __init__(self, directory: Path, is_known: Callable[[str], bool]) -> None:
        self._folder = directory / "output"
        #: Does the state have a task of this id?  Asked on the loop.
        self._is_known = is_known
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Tasks were deleted, or may have been: look soon."""
        self._wake.set()

    async def run(self, is_current: asyncio.Event) -> None:
        """Pass by pass, a first one in any case, until cancelled.

        Nothing is removed before ``is_current`` is set: the state must then know every task whose
        attempts ever ran here and which was not deleted.
        """
        loop = asyncio.get_running_loop()
        self._wake.set()
        while True:
            await is_current.wait()
            await self._wake.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._wake.clear()
            began = loop.time()
            try:
                await self.step()
            except OSError as error:
                logger.warning("output of deleted tasks stays for now: %s", error)
            await asyncio.sleep((loop.time() - began) / SHARE_MAX)

    async def step(self) -> None:
        """One pass.  Raises OSError when a file cannot be removed."""
        names = await asyncio.to_thread(_names, self._folder)
        for begin in range(0, len(names), STEP_FILES):
            found = names[begin : begin + STEP_FILES]
            gone = [name for name in found if self._is_gone(name)]
            if gone:
                await asyncio.to_thread(_remove, self._folder, gone)
            else:
                await asyncio.sleep(0)

    def _is_gone(self, name: str) -> bool:
        parts = name.rsplit(".", 2)
        is_output = len(parts) == 3 and parts[1].isdigit() and parts[2] in output.KINDS
        return is_output and not self._is_known(parts[0])


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - of very many files, only the names
    except FileNotFoundError:
        return []


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)  # noqa: PTH108 - very many
