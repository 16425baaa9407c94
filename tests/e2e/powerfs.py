"""A file system in memory that loses at a power cut what was not synced: one disk of one machine.

Run as a program, in a user and mount namespace of its own (``unshare --user --map-root-user
--mount``), it mounts itself at a path and takes orders, one a line, on stdin::

    cut           the power goes: from now on every call fails, and what is not durable is gone
    cut SEED      the same, but some of what is not durable did reach the disk, torn or not
    cut-at N [S]  the power goes by itself at the N-th write, sync or change of names from now on
    up            the power is back: mounted again, with what is durable
    deaf          syncs are answered and do nothing, until ``hear``: a disk that lies
    state         says "on" or "off"

and answers each with one line.  It ends with its stdin.

What is durable is for `durable` to say.

It speaks the kernel's protocol itself (linux/fuse.h, version 7.31): no library is needed.  Nothing
is cached by the kernel (direct I/O, names and attributes valid for no time).
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import select
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.durable import Directory, File, Node

_HEADER = struct.Struct("<IIQQIIII")
_REPLY = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<6Q10I")
_INIT = struct.Struct("<4I2H2I2HI7I")
_WRITE_BYTES_MAX = 128 * 1024
_BIG_WRITES, _DIRECT_IO, _FATTR_MODE, _FATTR_SIZE = 1 << 5, 1, 1, 1 << 3
_MNT_DETACH = 2
_ROOT = 1


class PowerCut(Exception):
    """The operation that was to come is the one the power goes at."""


class Disk:
    """The tree and the kernel's requests about it."""

    def __init__(self) -> None:
        self._next = _ROOT
        self._nodes: dict[int, Node] = {}
        root = self._new(Directory, 0o755)
        assert isinstance(root, Directory)
        self.root = root
        self.is_deaf = False
        #: Writes, syncs and changes of names so far, and the one the power goes at.
        self.operations = 0
        self.cut_at = 0
        self.calls: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup,
            3: lambda number, body: self._attributes(self._nodes[number]),
            4: self._set_attributes,
            8: self._make_node,
            9: self._make_directory,
            10: self._unlink,
            11: self._remove_directory,
            12: lambda number, body: self._rename(number, body, 8),
            13: self._link,
            14: lambda number, body: struct.pack("<QII", 0, _DIRECT_IO, 0),
            15: self._read,
            16: self._write,
            17: lambda number, body: struct.pack(
                "<5Q10I", *(1 << 20,) * 5, 4096, 255, 4096, *(0,) * 7
            ),
            18: _nothing,
            20: self._sync,
            26: _init,
            27: lambda number, body: struct.pack("<QII", 0, 0, 0),
            28: self._list,
            29: _nothing,
            30: self._sync,
            35: self._create,
            43: self._allocate,
            45: lambda number, body: self._rename(number, body, 16),
        }

    def lose(self, chance: random.Random | None) -> None:
        """The power goes; only what has a durable name is left."""
        self.cut_at = 0
        self.root.lose(chance)
        self._nodes = {_ROOT: self.root}
        todo: list[Directory] = [self.root]
        while todo:
            for node in todo.pop().names.values():
                # A name that was given or taken may be so no more: count again.
                node.links = 1 + (node.links if node.number in self._nodes else 0)
                if node.number not in self._nodes and isinstance(node, Directory):
                    todo.append(node)
                self._nodes[node.number] = node

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self.cut_at:
            raise PowerCut

    def _new(self, kind: type[Node], mode: int) -> Node:
        node = self._nodes[self._next] = kind(self._next, mode)
        self._next += 1
        return node

    def _directory(self, number: int) -> Directory:
        node = self._nodes[number]
        assert isinstance(node, Directory)
        return node

    def _file(self, number: int) -> File:
        node = self._nodes[number]
        assert isinstance(node, File)
        return node

    def _fields(self, node: Node) -> bytes:
        blocks = (node.size + 511) // 512
        owner = os.getuid()
        return _ATTRIBUTES.pack(
            *(node.number, node.size, blocks, 0, 0, 0),
            *(0, 0, 0, node.mode, node.links, owner, owner, 0, 4096, 0),
        )

    def _attributes(self, node: Node) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._fields(node)

    def _entry(self, node: Node) -> bytes:
        return struct.pack("<4Q2I", node.number, 0, 0, 0, 0, 0) + self._fields(node)

    def _find(self, number: int, name: bytes) -> Node:
        node = self._directory(number).names.get(name)
        if node is None:
            raise OSError(errno.ENOENT, "")
        return node

    def _lookup(self, number: int, body: bytes) -> bytes:
        return self._entry(self._find(number, body[:-1]))

    def _set_attributes(self, number: int, body: bytes) -> bytes:
        (valid,), (size,) = struct.unpack_from("<I", body), struct.unpack_from("<Q", body, 16)
        node = self._nodes[number]
        if valid & _FATTR_MODE:
            (mode,) = struct.unpack_from("<I", body, 68)
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        if valid & _FATTR_SIZE:
            self._count()
            self._file(number).resize(size)
        return self._attributes(node)

    def _make(self, number: int, name: bytes, kind: type[Node], mode: int) -> Node:
        if name in self._directory(number).names:
            raise OSError(errno.EEXIST, "")
        self._count()
        node = self._new(kind, mode)
        self._directory(number).change({name: node})
        return node

    def _make_node(self, number: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        kind = File if stat.S_ISREG(mode) else Node
        return self._entry(self._make(number, body[16:-1], kind, mode))

    def _make_directory(self, number: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        return self._entry(self._make(number, body[8:-1], Directory, stat.S_IMODE(mode)))

    def _create(self, number: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<4xI", body)
        node = self._make(number, body[16:-1], File, mode)
        return self._entry(node) + struct.pack("<QII", 0, _DIRECT_IO, 0)

    def _unlink(self, number: int, body: bytes) -> bytes:
        node = self._find(number, body[:-1])
        self._count()
        node.links -= 1
        self._directory(number).change({body[:-1]: None})
        return b""

    def _remove_directory(self, number: int, body: bytes) -> bytes:
        node = self._find(number, body[:-1])
        if isinstance(node, Directory) and node.names:
            raise OSError(errno.ENOTEMPTY, "")
        return self._unlink(number, body)

    def _rename(self, number: int, body: bytes, fixed: int) -> bytes:
        (target,) = struct.unpack_from("<Q", body)
        old, new, _ = body[fixed:].split(b"\0")
        node = self._find(number, old)
        if target != number:
            raise OSError(errno.EXDEV, "")  # Not atomic here, and not needed.
        self._count()
        self._directory(number).change({old: None, new: node})
        return b""

    def _link(self, number: int, body: bytes) -> bytes:
        node = self._nodes[struct.unpack_from("<Q", body)[0]]
        name = body[8:-1]
        if name in self._directory(number).names:
            raise OSError(errno.EEXIST, "")
        self._count()
        node.links += 1
        self._directory(number).change({name: node})
        return self._entry(node)

    def _read(self, number: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return bytes(self._file(number).data[offset : offset + size])

    def _write(self, number: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        self._count()
        self._file(number).write(offset, body[40 : 40 + size])
        return struct.pack("<II", size, 0)

    def _allocate(self, number: int, body: bytes) -> bytes:
        _, offset, length = struct.unpack_from("<3Q", body)
        file = self._file(number)
        self._count()
        file.resize(max(file.size, offset + length))
        return b""

    def _sync(self, number: int, body: bytes) -> bytes:
        node = self._nodes[number]
        self._count()
        if not self.is_deaf and isinstance(node, File | Directory):
            node.sync()
        return b""

    def _list(self, number: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        names = sorted(self._directory(number).names.items())
        rows = [(b".", self._nodes[number]), (b"..", self._nodes[number]), *names]
        reply = b""
        for position, (name, node) in enumerate(rows[offset:], offset + 1):
            kind = stat.S_IFMT(node.mode) >> 12
            row = struct.pack("<QQII", node.number, position, len(name), kind) + name
            row += bytes(-len(row) % 8)
            if len(reply) + len(row) > size:
                break
            reply += row
        return reply


def _nothing(number: int, body: bytes) -> bytes:
    return b""


def _init(number: int, body: bytes) -> bytes:
    fixed = (7, 31, 0, _BIG_WRITES, 16, 12, _WRITE_BYTES_MAX, 1, 0, 0, 0)
    return _INIT.pack(*fixed, *(0,) * 7)


class Mount:
    """One mount of a disk, from power on to power off."""

    _libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = os.fsencode(path)
        self._disk = disk
        self._buffer = memoryview(bytearray(_WRITE_BYTES_MAX + 8192))
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
        error, reply = 0, b""
        try:
            call = self._disk.calls.get(opcode)
            if call is None:
                raise OSError(errno.ENOSYS, "")
            reply = call(number, bytes(self._buffer[_HEADER.size : size]))
        except OSError as refusal:
            error = -(refusal.errno or errno.EIO)
        except KeyError:
            error = -errno.ESTALE
        try:
            os.writev(self.fd, [_REPLY.pack(_REPLY.size + len(reply), error, unique), reply])
        except FileNotFoundError:  # The caller was killed meanwhile.
            return


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
        disk = self._disk
        if order == "cut":
            self._cut(*words)
        elif order == "cut-at":
            disk.cut_at, self._seed = disk.operations + int(words[0]), words[1:]
        elif order == "up":
            self._up()
        elif order in ("deaf", "hear"):
            disk.is_deaf = order == "deaf"
        elif order == "state":
            return "on" if self._is_on else "off"
        else:
            return f"no such order: {order}"
        return "ok"

    def run(self) -> None:
        """Until stdin ends."""
        while True:
            ready, _, _ = select.select([0, *([self._mount.fd] if self._is_on else [])], [], [])
            if 0 in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                print(self._obey(*line.split()), flush=True)
            else:
                try:
                    self._mount.answer()
                except PowerCut:
                    self._cut(*self._seed)


if __name__ == "__main__":
    try:
        machine = Machine(Path(sys.argv[1]))
    except OSError as trouble:
        sys.exit(str(trouble))
    print("ok", flush=True)
    machine.run()
