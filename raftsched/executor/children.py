"""The runner's children: who is told when one of them ends, and that nothing of it is left.

Rules
1. Whoever was started here leads a process group of its own, and the group ends with it.
2. What left the group (``setsid``, a daemon) is an orphan once its parents are dead, and orphans
   come to the runner, which is their subreaper: such a stray ends with the attempt it is of.
3. Nobody is told of an end before the strays are dead, or ``STRAY_SECONDS`` have passed.
4. A stray is of the child whose session or fencing token it has.  One that shows neither is of any
   of the attempts that ran when it was first seen, and ends with the last of them; one with the
   node's mark alone is of any of the workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from raftsched.executor.cgroup import Group
from raftsched.executor.ledger import Ledger
from raftsched.executor.leftovers import MARK
from raftsched.executor.orphans import adopt_orphans, children

#: Names the attempt in its environment, and in that of all it starts.
TOKEN = "RAFTSCHED_FENCING_TOKEN"
#: The end of an attempt waits at most so long for its strays to die.
STRAY_SECONDS = 2.0
#: Bytes of a stray's environment that are read.
_ENVIRON_MAX = 256 * 1024

OnExit = Callable[[int], None]


class _Ending:
    """A child that is dead, whose strays may not be."""

    __slots__ = ("group", "on_exit", "pid", "status", "until")

    def __init__(
        self, pid: int, status: int, on_exit: OnExit, group: Group | None, now: float
    ) -> None:
        self.pid = pid
        self.group = group
        self.status = status
        self.on_exit = on_exit
        self.until = now + STRAY_SECONDS


class Children:
    """Every process the runner started and has not seen dead, and the strays of these."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        """``ledger``: where they are written down for whoever comes after this process."""
        self._ledger = ledger
        self._on_exit: dict[int, OnExit] = {}
        self._pids: dict[int, int] = {}
        self._tokens: dict[int, int] = {}
        self._groups: dict[int, Group] = {}
        self._endings: dict[int, _Ending] = {}
        #: Stray -> the children it may be of; one of none is to die.
        self._strays: dict[int, set[int]] = {}
        #: Of them, those that stand in the ledger.
        self._noted: set[int] = set()
        self._listing = adopt_orphans()

    def add(self, pid: int, on_exit: OnExit, token: int = 0, group: Group | None = None) -> None:
        """``on_exit`` is called by `reap`, with the status that ``waitpid`` gives.

        ``token`` is the attempt's, when the process is one; ``group`` its control group.
        """
        if self._ledger is not None:
            self._ledger.add(pid)
        self._on_exit[pid] = on_exit
        if group is not None:
            self._groups[pid] = group
        if token:
            self._pids[token], self._tokens[pid] = pid, token

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a child's process group; not once it was reaped."""
        if pid in self._on_exit:
            signal_group(pid, number)
            if number == signal.SIGKILL and pid in self._groups:
                self._groups[pid].kill()

    def is_dead(self, pid: int) -> bool:
        """Has the child ended, though nobody was told yet?"""
        return pid not in self._on_exit or is_dead(pid)

    def reap(self) -> None:
        """Collect the dead, end what they left, and tell of those of whom nothing is left."""
        now = time.monotonic()
        while (pid := _next_dead()) is not None:
            on_exit = self._on_exit.get(pid)
            if on_exit is not None:
                self.signal(pid, signal.SIGKILL)
                if self._ledger is not None:
                    self._ledger.remove(pid)
            _, code = os.waitpid(pid, 0)
            self._strays.pop(pid, None)
            if pid in self._noted and self._ledger is not None:
                self._noted.discard(pid)
                self._ledger.remove(pid)
            if on_exit is not None:
                del self._on_exit[pid]
                group = self._groups.pop(pid, None)
                self._endings[pid] = _Ending(pid, code, on_exit, group, now)
        if self._endings:
            self._end_strays()
            self._tell(now)

    def _tell(self, now: float) -> None:
        held = {pid for owners in self._strays.values() for pid in self._dead_owners(owners)}
        for ending in list(self._endings.values()):
            is_left = ending.group is not None and not ending.group.is_empty()
            if ending.pid in held or is_left:
                if now < ending.until:
                    continue
                print(f"what {ending.pid} left does not die", file=sys.stderr)
            del self._endings[ending.pid]
            self._pids.pop(self._tokens.pop(ending.pid, 0), None)
            ending.on_exit(ending.status)

    def _dead_owners(self, owners: set[int]) -> set[int]:
        """Whose end waits for this stray: nobody's while one it may be of lives."""
        return owners if owners.isdisjoint(self._on_exit) else set()

    # Strays --------------------------------------------------------------------------------------

    def note_strays(self) -> None:
        """Write down those that came as orphans, for whoever comes after this process."""
        if self._ledger is None:
            return
        for pid in self._listed():
            if pid not in self._on_exit and pid not in self._noted:
                self._noted.add(pid)
                self._ledger.add(pid)

    def _end_strays(self) -> None:
        listed = self._listed()
        for pid in list(self._strays):
            if pid not in listed:
                del self._strays[pid]
        for pid in listed:
            if pid in self._on_exit:
                continue
            # Whose it is cannot be read in the middle of an exec; later it may.
            if len(self._strays.get(pid, ())) != 1:
                self._strays[pid] = self._owners(pid)
            if self._on_exit.keys().isdisjoint(self._strays[pid]):
                # Reaped by nobody but us, so the pid is still its.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def _listed(self) -> list[int]:
        """Pids of all children, those that came as orphans among them."""
        return children(self._listing) if self._listing >= 0 else []

    def _owners(self, pid: int) -> set[int]:
        """Those of which a stray may be; none when its attempt ended long ago."""
        known = self._on_exit.keys() | self._endings.keys()
        with contextlib.suppress(OSError):
            session = os.getsid(pid)
            if session in known:
                return {session}
        is_marked, token = _marks_of(pid)
        if token:
            return {self._pids[token]} if token in self._pids else set()
        if pid in self._strays:
            return self._strays[pid]
        # Workers, which have no token, live long: not for their sake does it stay.
        likely = {other for other in known if (other in self._tokens) is not is_marked}
        return likely or set(known)


def _marks_of(pid: int) -> tuple[bool, int]:
    """(it has a node's mark, its fencing token or 0), as its environment says."""
    try:
        with Path("/proc", str(pid), "environ").open("rb", buffering=0) as file:
            variables = dict(v.partition(b"=")[::2] for v in file.read(_ENVIRON_MAX).split(b"\0"))
        return MARK.encode() in variables, int(variables.get(TOKEN.encode(), b"0"))
    except (OSError, ValueError):
        return False, 0


def _next_dead() -> int | None:
    """A child that can be reaped."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the process group of a child that was not reaped; nobody may be left."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # Forked a moment ago, it does not lead its group yet.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    except PermissionError:
        pass


def is_dead(pid: int) -> bool:
    """Has the child ended, though it was not reaped yet?"""
    return bool(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
