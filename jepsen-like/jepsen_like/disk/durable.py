"""Files and directories that know what of them is durable: the memory of `powerfs`.

What is durable, as POSIX promises it and no more: the bytes of a file as of its last fsync or
fdatasync, the names in a directory as of the last fsync of that directory.  When the power goes,
the rest is lost; or, given a source of chance, every write since then is kept, lost or torn on its
own, and of the changes of names a first part is kept, as by a file system with a journal.
"""

from __future__ import annotations

import random
import stat


class Node:
    """What has an inode."""

    def __init__(self, number: int, mode: int) -> None:
        self.number = number
        self.mode = mode
        #: The last one that it was given.
        self.name = b""
        self.links = 1
        self.opens = 0

    @property
    def size(self) -> int:
        return 0


class File(Node):
    """Bytes, those of them that are durable, and what happened since."""

    def __init__(self, number: int, mode: int) -> None:
        super().__init__(number, mode)
        self.data = bytearray()
        self._durable = bytearray()
        #: (offset, bytes) of a write, (size, None) of a truncation or extension.
        self._unsynced: list[tuple[int, bytes | None]] = []

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, offset: int, data: bytes) -> None:
        self._unsynced.append((offset, data))
        _change(self.data, offset, data)

    def resize(self, size: int) -> None:
        self._unsynced.append((size, None))
        _change(self.data, size, None)

    def sync(self) -> None:
        for where, data in self._unsynced:
            _change(self._durable, where, data)
        self._unsynced.clear()

    def forget(self) -> None:
        """What was written is seen until the power goes, and no sync will make it durable."""
        self._unsynced.clear()

    def lose(self, chance: random.Random | None) -> None:
        """The power goes; with ``chance`` some of what is not durable stays."""
        for where, data in self._unsynced if chance else ():
            assert chance is not None
            fate = chance.choice(("kept", "lost", "torn"))
            if fate == "torn" and data is not None:
                data = data[: chance.randrange(len(data) + 1)]
            if fate != "lost":
                _change(self._durable, where, data)
        self._unsynced.clear()
        self.data = bytearray(self._durable)


def _change(content: bytearray, where: int, data: bytes | None) -> None:
    end = where if data is None else where + len(data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is None:
        del content[where:]
    else:
        content[where:end] = data


class Directory(Node):
    """Names, those of them that are durable, and the changes since, each atomic."""

    def __init__(self, number: int, mode: int) -> None:
        super().__init__(number, stat.S_IFDIR | mode)
        self.names: dict[bytes, Node] = {}
        self._durable: dict[bytes, Node] = {}
        self._unsynced: list[dict[bytes, Node | None]] = []

    def change(self, names: dict[bytes, Node | None]) -> None:
        """Give these names to these nodes, or to nobody."""
        self._unsynced.append(names)
        _rename(self.names, names)

    def sync(self) -> None:
        for names in self._unsynced:
            _rename(self._durable, names)
        self._unsynced.clear()

    def lose(self, chance: random.Random | None) -> None:
        """The power goes, here and below."""
        kept = chance.randrange(len(self._unsynced) + 1) if chance else 0
        for names in self._unsynced[:kept]:
            _rename(self._durable, names)
        self._unsynced.clear()
        self.names = dict(self._durable)
        for name in sorted(self.names):
            node = self.names[name]
            if isinstance(node, File | Directory):
                node.lose(chance)


def _rename(table: dict[bytes, Node], names: dict[bytes, Node | None]) -> None:
    for name, node in names.items():
        if node is None:
            table.pop(name, None)
        else:
            table[name] = node
