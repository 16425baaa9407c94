"""A file system in memory that loses at a power cut what was not synced: one disk of one machine.

Run as a program, in a mount namespace of its own (``unshare --mount``, without root ``unshare
--user --map-root-user --mount``), it mounts itself at a path and takes orders, one a line, on
stdin::

    cut           the power goes: from now on every call fails, and what is not durable is gone
    cut SEED      the same, but some of what is not durable did reach the disk, torn or not
    cut-at N [S]  the power goes by itself at the N-th write, sync or change of names from now on
    tear-at N S [P]  the same at the N-th write to a file whose name begins with P, of which write
                  only a first part reaches the disk
    up            the power is back: mounted again, with what is durable
    full [N]      there are N blocks of 4096 bytes more than are used, as it comes none
    slow A B      each sync takes A to B seconds; all else goes on
    bad-syncs     syncs fail (EIO), and what they were to make durable never is
    bad-writes    writes fail (EIO)
    trap STEP P   the next write, sync, rename or unlink of a file whose name begins with P hangs
                  for two seconds; all else goes on
    deaf          syncs are answered and do nothing: a disk that lies
    well          no more of that, and nothing that was to come comes; the power stays as it is
    state         says "on" or "off"
    torn          says "NAME KEPT/ALL" of the write that was torn last, or "none"
    trapped       says "STEP NAME" of what hung last, or "none"
    counts        says what was done and felt since the start, as JSON

and answers each with one line.  It ends with its stdin.

What is durable is for `durable` to say.

It speaks the kernel's protocol itself (linux/fuse.h, version 7.31): no library is needed.  Nothing
is cached by the kernel (direct I/O, names and attributes valid for no time).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import heapq
import json
import os
import random
import select
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jepsen_like.disk.ills import Later, PowerCut
from jepsen_like.disk.tree import WRITE_BYTES_MAX, Disk

_HEADER = struct.Struct("<IIQQIIII")
_REPLY = struct.Struct("<IiQ")
_MNT_DETACH = 2


class Mount:
    """One mount of a disk, from power on to power off."""

    _libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = os.fsencode(path)
        self._disk = disk
        #: (when, number of the request, what is done and answered then).
        self._late: list[tuple[float, int, Callable[[], bytes]]] = []
        self._buffer = memoryview(bytearray(WRITE_BYTES_MAX + 8192))
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        if self._libc.mount(b"powerfs", self._path, b"fuse", 0, options.encode()):
            number = ctypes.get_errno()
            raise OSError(number, f"mount: {os.strerror(number)}")

    def cut(self) -> None:
        """Every call from now on fails, those under way too; the path leads nowhere else."""
        os.close(self.fd)

    def remove(self) -> None:
        """Uncover the path; who still has a file open gets no further."""
        self._libc.umount2(self._path, _MNT_DETACH)

    def answer(self) -> None:
        """One request of the kernel.  Raises PowerCut."""
        try:
            size = os.readv(self.fd, [self._buffer])
        except (FileNotFoundError, InterruptedError):  # Interrupted before it was read.
            return
        _, opcode, unique, number, *_ = _HEADER.unpack_from(self._buffer)
        if opcode in (2, 36, 42):  # FORGET, INTERRUPT and BATCH_FORGET want no answer.
            return
        call = self._disk.calls.get(opcode, _unknown)
        body = bytes(self._buffer[_HEADER.size : size])
        self._do(unique, functools.partial(call, number, body))

    def answer_late(self) -> float | None:
        """Answer what is late enough; seconds until the next is, None: nothing is.

        Raises PowerCut.
        """
        while self._late and self._late[0][0] <= time.monotonic():
            _, unique, do = heapq.heappop(self._late)
            self._do(unique, do)
        return max(self._late[0][0] - time.monotonic(), 0.0) if self._late else None

    def _do(self, unique: int, do: Callable[[], bytes]) -> None:
        try:
            self._reply(unique, do)
        except Later as later:
            at = time.monotonic() + later.seconds
            heapq.heappush(self._late, (at, unique, later.then or do))

    def _reply(self, unique: int, do: Callable[[], bytes]) -> None:
        error, reply = 0, b""
        try:
            reply = do()
        except OSError as refusal:
            error = -(refusal.errno or errno.EIO)
        except KeyError:
            error = -errno.ESTALE
        try:
            os.writev(self.fd, [_REPLY.pack(_REPLY.size + len(reply), error, unique), reply])
        except FileNotFoundError:  # The caller was killed meanwhile.
            return


def _unknown(number: int, body: bytes) -> bytes:
    raise OSError(errno.ENOSYS, "")


class Machine:
    """Takes orders and requests in turn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._disk = Disk()
        self._mount = Mount(path, self._disk)
        self._is_on = True
        #: Of a cut that is to come.
        self._seed: tuple[str, ...] = ()

    def _cut(self, *seed: str) -> None:
        if self._is_on:
            self._is_on = False
            self._mount.cut()
            self._disk.lose(random.Random(int(seed[0])) if seed else None)

    def _up(self) -> None:
        if not self._is_on:
            self._mount.remove()
            self._mount = Mount(self._path, self._disk)
            self._is_on = True

    def _obey(self, order: str, *words: str) -> str:
        ills = self._disk.ills
        match order:
            case "cut":
                self._cut(*words)
            case "cut-at":
                ills.cut_at, self._seed = ills.operations + int(words[0]), words[1:]
            case "tear-at":
                self._seed = ()
                prefix = words[2] if len(words) > 2 else ""
                ills.aim_tear(int(words[0]), int(words[1]), os.fsencode(prefix))
            case "up":
                self._up()
            case "full":
                ills.blocks_max = self._disk.used() + int(words[0] if words else 0)
            case "slow":
                ills.sync_seconds = float(words[0]), float(words[1])
            case "bad-syncs":
                ills.has_bad_syncs = True
            case "bad-writes":
                ills.has_bad_writes = True
            case "deaf":
                ills.is_deaf = True
            case "well":
                ills.cure()
            case "state":
                return "on" if self._is_on else "off"
            case "torn":
                return ills.torn or "none"
            case "trap":
                ills.set_trap(words[0], os.fsencode(words[1]))
            case "trapped":
                return ills.trapped or "none"
            case "counts":
                return json.dumps({"operations": ills.operations, **ills.counts})
            case _:
                return f"no such order: {order}"
        return "ok"

    def run(self) -> None:
        """Until stdin ends."""
        while True:
            try:
                late = self._mount.answer_late() if self._is_on else None
                fds = [0, *([self._mount.fd] if self._is_on else [])]
                ready, _, _ = select.select(fds, [], [], late)
                if 0 in ready:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    print(self._answer(line), flush=True)
                elif ready:
                    self._mount.answer()
            except PowerCut:
                self._cut(*self._seed)

    def _answer(self, line: str) -> str:
        try:
            return self._obey(*line.split())
        except (ValueError, IndexError, TypeError, OSError) as error:
            return f"{type(error).__name__}: {error}"


def main() -> None:
    """The program; its one word is the path."""
    try:
        machine = Machine(Path(sys.argv[1]))
    except OSError as trouble:
        sys.exit(str(trouble))
    print("ok", flush=True)
    machine.run()


if __name__ == "__main__":
    main()
