"""What a runner started and has not seen dead, in a file that outlives it: pids and start times.

Beside them stands the runner's pulse, for its keeper.

Rules
1. The keeper makes the file and removes it once it has seen everything dead; so a file that is
   there, and that nobody has locked, is of a runner *and* a keeper that were killed.
2. A slot says: this pid was a child's at that tick.  So a process with that pid which started no
   later is the child; any other is never signalled.
3. It must outlive processes, not the machine: nothing is synced, and another boot's is void.  Its
   name says which, for one whose head went with the power.  One that has no such name was never
   finished, so its keeper had no runner.
4. Nothing is said to be dead that could not be told: a full ledger, or what is left of a session
   whose leader has gone, makes the answer "not known".
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import time
from pathlib import Path
from typing import NamedTuple

from raftsched.executor import proc
from raftsched.executor.proc import Process

#: The files' directory in the node's.
FOLDER = "ledgers"
#: Processes in one ledger; far more than run at once.
SLOTS_MAX = 4_096
#: A keeper that still works is waited for in steps of this.
STEP_SECONDS = 0.01
#: One that was stopped by a signal is told to go on after this.
NUDGE_SECONDS = 0.2
#: Whether all is in here, and the boot id.
_HEAD = struct.Struct("<8s40s")
_COMPLETE, _INCOMPLETE = b"raftled1", b"raftgap1"
#: Begins the name of one without a head yet.
_UNFINISHED = "unfinished-"
#: Milliseconds of the monotonic clock: see `Pulse`.
_PULSE = struct.Struct("<QQ")
#: Pid and tick.
_SLOT = struct.Struct("<QQ")
_SLOTS_AT = _HEAD.size + _PULSE.size
_BYTES = _SLOTS_AT + SLOTS_MAX * _SLOT.size


class Pulse(NamedTuple):
    """That a runner works, on the monotonic clock."""

    #: When it last did.
    beat_at: float
    #: What runs has leases until then; not one of it may run on without a runner that works.
    until: float


class Ledger:
    """The runner's own; its calls take about two microseconds and raise nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._slots: dict[int, int] = {}
        self._free = list(range(SLOTS_MAX - 1, -1, -1))
        #: What is started is not all in here, and that is not written either.
        self._owes = False

    def add(self, pid: int) -> None:
        """This child was started just now."""
        try:
            slot = self._free.pop()
        except IndexError:
            self._admit()
            return
        self._slots[pid] = slot
        # Written, not mapped: a disk that is full must not kill the runner.
        try:
            os.pwrite(self._descriptor, _SLOT.pack(pid, proc.ticks_now()), _at(slot))
        except OSError:
            self._admit()

    def remove(self, pid: int) -> None:
        """It is dead, and about to be reaped."""
        slot = self._slots.pop(pid, None)
        if slot is not None:
            self._free.append(slot)
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, _SLOT.pack(0, 0), _at(slot))

    def beat(self, pulse: Pulse) -> None:
        """The runner works."""
        if self._owes:
            self._admit()
        data = _PULSE.pack(int(pulse.beat_at * 1000), int(pulse.until * 1000))
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, data, _HEAD.size)

    def _admit(self) -> None:
        """It is not all in here."""
        self._owes = True
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, _INCOMPLETE, 0)
            self._owes = False


def _at(slot: int) -> int:
    return _SLOTS_AT + slot * _SLOT.size


def create(directory: Path) -> tuple[Path, int]:
    """A new ledger of a node's directory, locked while its descriptor is open anywhere.

    Raises OSError.
    """
    folder = directory / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    boot = proc.boot_id()
    name = f"{time.time_ns():x}-{os.getpid()}"
    path, unfinished = folder / f"{boot}-{name}", folder / f"{_UNFINISHED}{name}"
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.posix_fallocate(descriptor, 0, _BYTES)
        os.pwrite(descriptor, _HEAD.pack(_COMPLETE, boot.encode()), 0)
        unfinished.rename(path)  # Fails if somebody settled it before it was locked.
    except OSError:
        os.close(descriptor)
        unfinished.unlink(missing_ok=True)
        raise
    return path, descriptor


def pulse(descriptor: int) -> Pulse | None:
    """The latest beat; None before the first."""
    beat_at, until = _PULSE.unpack(os.pread(descriptor, _PULSE.size, _HEAD.size))
    return Pulse(beat_at / 1000, until / 1000) if beat_at else None


# After the runner's death ------------------------------------------------------------------------


def settle(directory: Path, deadline: float) -> bool:
    """Wait for keepers, end what is in ledgers without one, and see it dead.

    False if at the deadline (``time.monotonic``) anything lives or may live.  The directory's
    runner is dead.
    """
    try:
        paths = sorted((directory / FOLDER).iterdir())
    except FileNotFoundError:
        return True
    settled = [_settle(path, deadline) for path in paths]  # Each, also after one that cannot be.
    return all(settled)


def _settle(path: Path, deadline: float) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if not _wait(descriptor, deadline):
            return False
        is_settled = not path.exists() or end(_read(path.name, descriptor), deadline)
    finally:
        os.close(descriptor)
    if is_settled:
        path.unlink(missing_ok=True)
    return is_settled


def _wait(descriptor: int, deadline: float) -> bool:
    """Until its keeper is gone."""
    nudge_at = time.monotonic() + NUDGE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            now = time.monotonic()
        if now > deadline:
            return False
        if now >= nudge_at:
            nudge_at = deadline
            for process in openers(os.fstat(descriptor)):
                proc.send(process, signal.SIGCONT)
        time.sleep(STEP_SECONDS)


def openers(file: os.stat_result) -> list[Process]:
    """Processes, but for this one, that have a file open, as far as they can be looked into."""
    found = []
    for pid in proc.pids():
        process = proc.look(pid)
        if process is not None and _has_open(pid, file):
            found.append(process)
    return found


def _has_open(pid: int, file: os.stat_result) -> bool:
    with contextlib.suppress(OSError):  # Not ours to look into, or gone.
        for entry in Path("/proc", str(pid), "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(entry.stat(), file):
                    return True
    return False


class Entries(NamedTuple):
    """What a ledger says."""

    #: Pid -> a tick at which it was the runner's child.
    seen: dict[int, int]
    #: Nothing else was started.
    is_complete: bool = True


def _read(name: str, descriptor: int) -> Entries:
    data = os.pread(descriptor, _BYTES, 0).ljust(_BYTES, b"\0")
    kind, head = _HEAD.unpack_from(data)
    this = proc.boot_id()
    boot = head.rstrip(b"\0").decode(errors="replace")
    if kind not in (_COMPLETE, _INCOMPLETE) or not boot:
        kind, boot = _INCOMPLETE, name[: len(this)]
    if boot != this:
        return Entries({})
    slots = _SLOT.iter_unpack(data[_SLOTS_AT:])
    return Entries({pid: tick for pid, tick in slots if pid}, kind == _COMPLETE)


def end(entries: Entries, deadline: float) -> bool:
    """Kill these with their sessions and descendants; are they seen dead, and was that all?"""
    known: dict[int, Process] = {}
    stopped: set[tuple[int, int]] = set()
    while True:
        table = proc.everyone()
        targets = _targets(entries.seen, known, table)
        if not targets:
            return entries.is_complete and not _has_orphans(entries.seen, table)
        known |= {process.pid: process for process in targets}
        # All stand still before the first dies: what is forked meanwhile would lose its parent.
        moving = [each for each in targets if (each.pid, each.started) not in stopped]
        is_late = time.monotonic() > deadline
        for process in targets if is_late else moving or targets:
            proc.send(process, signal.SIGSTOP if moving and not is_late else signal.SIGKILL)
        if is_late:
            return False
        stopped.update((each.pid, each.started) for each in moving)
        if not moving:
            time.sleep(STEP_SECONDS)


def _targets(
    seen: dict[int, int], known: dict[int, Process], table: dict[int, Process]
) -> list[Process]:
    """What lives of the runner's children, of their sessions and of all their descendants."""
    found: dict[int, Process] = {}
    for pid, process in table.items():
        is_child = pid in seen and process.started <= seen[pid]
        is_known = pid in known and process.started == known[pid].started
        if is_child or is_known:
            found[pid] = process
    size = -1
    while size != len(found):
        size = len(found)
        for process in table.values():
            if process.parent in found or process.session in found:
                found[process.pid] = process
    return [process for process in found.values() if not process.is_dead]


def _has_orphans(seen: dict[int, int], table: dict[int, Process]) -> bool:
    """Does a session live whose leader was a child, and is gone?  It may be anybody's by now."""
    return any(
        process.session in seen and process.session not in table and not process.is_dead
        for process in table.values()
    )
