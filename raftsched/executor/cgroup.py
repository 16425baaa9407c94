"""A control group per attempt, where the configuration names a directory that is ours to use.

What an attempt starts cannot leave its group, whatever else it leaves: killing the group ends all
of it at once.  Where the memory controller is there, the group is what the memory limit is of.
Only cgroup v2.  Where none is named, one is used that the service manager marked as this service's
(`delegated`), and only for what needs it: memory limits.  In a hierarchy that others manage nothing
is guessed.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PROCS = "cgroup.procs"
#: What systemd marks a group with whose inside is its service's own.
_DELEGATED = ("user.delegate", "trusted.delegate")
OWN = Path("/proc/self/cgroup")
MOUNTS = Path("/proc/self/mountinfo")


class Groups:
    """The groups of one node's attempts, all in a directory of its own."""

    def __init__(self, parent: Path, mark: str, *, is_for_all: bool = True) -> None:
        """Make the node's directory under ``parent``; what is left there is killed.

        ``is_for_all``: for attempts without a memory limit, too.  Raises OSError when ``parent``
        is not there, not writable, or no cgroup v2.
        """
        if not (parent / _PROCS).exists() or not (parent / "cgroup.kill").exists():
            # A root has no cgroup.kill, and is nobody's to use.
            raise NotADirectoryError(f"{parent} is no group of cgroup v2 below its root")
        self._folder = parent / f"raftsched-{mark[:12]}"
        self._folder.mkdir(exist_ok=True)
        for left in self._folder.iterdir():
            if left.is_dir():
                Group(left, has_memory=False).remove(kill=True)
        self._has_memory = _enable_memory(parent) and _enable_memory(self._folder)
        self._is_for_all = is_for_all

    def has_one_for(self, memory_bytes: int) -> bool:
        """Is an attempt with this limit (0: none) to get a group?"""
        return self._is_for_all or (self._has_memory and memory_bytes > 0)

    def open(self, token: int, memory_bytes: int) -> Group:
        """An attempt's group.  Raises OSError."""
        path = self._folder / str(token)
        path.mkdir(exist_ok=True)
        group = Group(path, has_memory=self._has_memory and memory_bytes > 0)
        if group.has_memory:
            (path / "memory.max").write_text(str(memory_bytes))
            with contextlib.suppress(OSError):
                # All of the attempt ends, not the one process that asked last.
                (path / "memory.oom.group").write_text("1")
        return group

    def close(self) -> None:
        """The runner ends."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class Group:
    """The group of one attempt."""

    __slots__ = ("_path", "has_memory")

    def __init__(self, path: Path, *, has_memory: bool) -> None:
        self._path = path
        #: The memory limit is the group's; the processes need none of their own.
        self.has_memory = has_memory

    def join(self) -> None:
        """Put this very process into it.  Raises OSError."""
        (self._path / _PROCS).write_text("0")

    def kill(self) -> None:
        """SIGKILL to all that is in it."""
        with contextlib.suppress(OSError):
            (self._path / "cgroup.kill").write_text("1")

    def is_empty(self) -> bool:
        """Does nothing live in it?"""
        try:
            return "populated 0" in (self._path / "cgroup.events").read_text()
        except OSError:
            return True

    def ran_out_of_memory(self) -> bool:
        """Did the kernel kill something in it for want of memory?"""
        if not self.has_memory:
            return False
        try:
            events = (self._path / "memory.events").read_text().split()
            return events[events.index("oom_kill") + 1] != "0"
        except (OSError, ValueError, IndexError):
            return False

    def remove(self, *, kill: bool = False) -> None:
        """Give it back; one in which something lives stays for the next runner."""
        if kill:
            self.kill()
        with contextlib.suppress(OSError):
            os.rmdir(self._path)  # noqa: PTH106 - of every attempt


def delegated() -> Path | None:
    """The group that is this service's own, if the service manager made one; else None.

    That is the parent of the one this process is in (``DelegateSubgroup=``): a group with processes
    in it cannot give memory limits to others below it.
    """
    try:
        mounts = [line.split(" - ") for line in MOUNTS.read_text().splitlines()]
        mount = next(each[0].split()[4] for each in mounts if each[1].startswith("cgroup2 "))
        own = next(line for line in OWN.read_text().splitlines() if line.startswith("0::/"))
    except (OSError, StopIteration, IndexError):
        return None
    if own == "0::/":
        return None
    parent = Path(mount, own.removeprefix("0::/")).parent
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(parent, name) == b"1":
                return parent
    return None


def _enable_memory(group: Path) -> bool:
    """Let groups below this one have memory limits; False where they cannot."""
    with contextlib.suppress(OSError):
        if "memory" not in (group / "cgroup.controllers").read_text().split():
            return False
        (group / "cgroup.subtree_control").write_text("+memory")
        return True
    return False
