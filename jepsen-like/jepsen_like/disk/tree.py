"""A disk as the kernel asks for it: the tree of files, and every call of the protocol.

The numbers are those of linux/fuse.h, version 7.31.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import struct
from collections.abc import Callable

from jepsen_like.disk.durable import Directory, File, Node
from jepsen_like.disk.ills import BLOCK_BYTES, Ills, Later, PowerCut, blocks

WRITE_BYTES_MAX = 128 * 1024
_ATTRIBUTES = struct.Struct("<6Q10I")
_INIT = struct.Struct("<4I2H2I2HI7I")
_BIG_WRITES, _DIRECT_IO, _FATTR_MODE, _FATTR_SIZE = 1 << 5, 1, 1, 1 << 3
_ROOT = 1
#: Blocks of a disk that nobody filled.
_BLOCKS = 1 << 20


class Disk:
    """The tree and the kernel's requests about it."""

    def __init__(self) -> None:
        self._next = _ROOT
        self._nodes: dict[int, Node] = {}
        root = self._new(Directory, 0o755)
        assert isinstance(root, Directory)
        self.root = root
        self.ills = Ills()
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
            14: self._open,
            15: self._read,
            16: self._write,
            17: self._room,
            18: self._release,
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
        self.ills.cut_at = self.ills.tear_in = 0
        self.root.lose(chance)
        self._nodes = {_ROOT: self.root}
        todo: list[Directory] = [self.root]
        while todo:
            for node in todo.pop().names.values():
                # A name that was given or taken may be so no more: count again.
                node.links = 1 + (node.links if node.number in self._nodes else 0)
                node.opens = 0
                if node.number not in self._nodes and isinstance(node, Directory):
                    todo.append(node)
                self._nodes[node.number] = node

    def used(self) -> int:
        """Blocks that are taken."""
        return sum(blocks(node.size) for node in self._nodes.values())

    def _grow(self, node: Node, size: int) -> None:
        """A file is to have this size.  Raises OSError."""
        more = blocks(size) - blocks(node.size)
        if more > 0 and self.ills.blocks_max is not None:
            self.ills.before_growth(more, self.used())

    def _forget(self, node: Node) -> None:
        """Nobody can reach it any more, but for a durable name that the power may bring back."""
        if not node.links and not node.opens:
            self._nodes.pop(node.number, None)

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
            self.ills.before_change()
            self._grow(node, size)
            self._file(number).resize(size)
        return self._attributes(node)

    def _make(self, number: int, name: bytes, kind: type[Node], mode: int) -> Node:
        if name in self._directory(number).names:
            raise OSError(errno.EEXIST, "")
        self.ills.before_change()
        if self.ills.blocks_max is not None:
            self.ills.before_growth(1, self.used())
        node = self._new(kind, mode)
        node.name = name
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
        node.opens += 1
        return self._entry(node) + struct.pack("<QII", 0, _DIRECT_IO, 0)

    def _unlink(self, number: int, body: bytes) -> bytes:
        node = self._find(number, body[:-1])
        self.ills.before_step("unlink", body[:-1])
        self.ills.before_change()
        node.links -= 1
        self._directory(number).change({body[:-1]: None})
        self._forget(node)
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
        self.ills.before_step("rename", old)
        self.ills.before_change()
        covered = self._directory(number).names.get(new)
        self._directory(number).change({old: None, new: node})
        node.name = new
        if covered is not None and covered is not node:
            covered.links -= 1
            self._forget(covered)
        return b""

    def _link(self, number: int, body: bytes) -> bytes:
        node = self._nodes[struct.unpack_from("<Q", body)[0]]
        name = body[8:-1]
        if name in self._directory(number).names:
            raise OSError(errno.EEXIST, "")
        self.ills.before_change()
        node.links += 1
        self._directory(number).change({name: node})
        return self._entry(node)

    def _read(self, number: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return bytes(self._file(number).data[offset : offset + size])

    def _write(self, number: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        file, data = self._file(number), body[40 : 40 + size]
        self.ills.before_step("write", file.name)
        self.ills.before_change()
        self.ills.before_write()
        kept = self.ills.tear(file.name, size)
        if kept is not None:
            file.write(offset, data[:kept])
            file.sync()
            raise PowerCut
        self._grow(file, max(file.size, offset + size))
        file.write(offset, data)
        return struct.pack("<II", size, 0)

    def _allocate(self, number: int, body: bytes) -> bytes:
        _, offset, length = struct.unpack_from("<3Q", body)
        file = self._file(number)
        self.ills.before_change()
        self._grow(file, max(file.size, offset + length))
        file.resize(max(file.size, offset + length))
        return b""

    def _sync(self, number: int, body: bytes) -> bytes:
        self.ills.before_step("sync", self._nodes[number].name)
        self.ills.before_change()
        delay = self.ills.sync_delay()
        if delay:
            raise Later(delay, lambda: self.sync(number, body))
        return self.sync(number, body)

    def sync(self, number: int, body: bytes) -> bytes:
        """What is written is durable, unless the disk fails or lies.  Raises OSError."""
        node = self._nodes[number]
        if self.ills.has_bad_syncs:
            self.ills.counts["bad_syncs"] += 1
            if isinstance(node, File):
                # As Linux has it: the pages count as clean, so the next sync knows nothing of it.
                node.forget()
            raise OSError(errno.EIO, "")
        if not self.ills.is_deaf and isinstance(node, File | Directory):
            node.sync()
        return b""

    def _open(self, number: int, body: bytes) -> bytes:
        self._nodes[number].opens += 1
        return struct.pack("<QII", 0, _DIRECT_IO, 0)

    def _release(self, number: int, body: bytes) -> bytes:
        node = self._nodes[number]
        node.opens -= 1
        self._forget(node)
        return b""

    def _room(self, number: int, body: bytes) -> bytes:
        most = self.ills.blocks_max
        free = _BLOCKS if most is None else max(0, most - self.used())
        return struct.pack(
            "<5Q10I",
            _BLOCKS,
            free,
            free,
            _BLOCKS,
            _BLOCKS,
            BLOCK_BYTES,
            255,
            BLOCK_BYTES,
            *(0,) * 7,
        )

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
    fixed = (7, 31, 0, _BIG_WRITES, 16, 12, WRITE_BYTES_MAX, 1, 0, 0, 0)
    return _INIT.pack(*fixed, *(0,) * 7)
