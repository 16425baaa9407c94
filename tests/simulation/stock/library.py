"""What stands between the unmodified library and the simulated machines.

The library finds its machine by names of its modules.  `in_the_world` puts simulated ones there and
takes them away again; `running` says whose machine they are: all peers live in one process.
"""

from __future__ import annotations

import contextlib
import logging
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

import pysyncobj.journal
import pysyncobj.monotonic
import pysyncobj.poller
import pysyncobj.serializer
import pysyncobj.syncobj
import pysyncobj.tcp_connection
import pysyncobj.tcp_server
import pysyncobj.transport

from tests.simulation.stock import files, sockets

if TYPE_CHECKING:
    from tests.simulation.stock.machine import StockMachine

#: What asking for the time costs: a loop that waits for time to pass ends.
CLOCK_SECONDS = 2e-6

#: A module, and what it is to have by which name.
Names = tuple[Any, dict[str, Any]]

_running: list[StockMachine] = []


@contextlib.contextmanager
def running(machine: StockMachine) -> Iterator[None]:
    """The library is called on this machine."""
    _running.append(machine)
    try:
        yield
    finally:
        _running.pop()


def _process() -> StockMachine:
    return _running[-1]


def _monotonic() -> float:
    machine = _running[-1]
    machine.world.lag += CLOCK_SECONDS
    return float(machine.clock.monotonic())


class ForkingSerializer(pysyncobj.serializer.Serializer):  # type: ignore[misc]
    """The library's own, whose forked child is simulated."""

    def serialize(self, data: Any, id: int) -> None:
        """The code behind ``fork`` runs as the child's; then we are the parent again."""
        try:
            super().serialize(data, id)
        except files.ChildExit:
            self._Serializer__pid = _process().launch_child()


def file_names(system: files.System) -> list[Names]:
    """By which names the library deals with files."""
    return [
        (
            pysyncobj.journal,
            {"open": system.open, "os": system.os, "mmap": system.mmap, "shutil": system.shutil},
        ),
        (
            pysyncobj.serializer,
            {
                "open": system.open,
                "os": system.os,
                "gzip": system.gzip,
                "atomicReplace": system.rename,
            },
        ),
        (pysyncobj.syncobj, {"os": system.os}),
    ]


@contextlib.contextmanager
def replaced(names: list[Names]) -> Iterator[None]:
    """While this is entered, these modules have these names."""
    with contextlib.ExitStack() as stack:
        for module, values in names:
            for name, value in values.items():
                stack.enter_context(mock.patch.object(module, name, value, create=True))
        yield


@contextlib.contextmanager
def in_the_world() -> Iterator[None]:
    """While this is entered, the library runs on simulated machines only."""
    disk, wires = files.System(_process), sockets.System(_process)
    chance = types.SimpleNamespace(random=lambda: _process().chance.random())
    names = [
        *file_names(disk),
        (
            pysyncobj.syncobj,
            {
                "random": chance,
                "monotonicTime": _monotonic,
                # A test before this one may have left others there.
                "createJournal": pysyncobj.journal.createJournal,
                "createPoller": pysyncobj.poller.createPoller,
                "Serializer": ForkingSerializer,
            },
        ),
        (pysyncobj.transport, {"monotonicTime": _monotonic}),
        (pysyncobj.tcp_connection, {"monotonicTime": _monotonic, "socket": wires.socket}),
        (pysyncobj.tcp_server, {"socket": wires.socket}),
        (pysyncobj.poller, {"select": wires.select}),
    ]
    log = logging.getLogger("pysyncobj")
    level = log.level
    with replaced(names), contextlib.ExitStack() as stack:
        stack.callback(log.setLevel, level)
        log.setLevel(logging.CRITICAL + 1)
        yield
