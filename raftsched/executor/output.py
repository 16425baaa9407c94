"""Output on the node's disk: one file an attempt (both streams as written), bounded, by offset.

A child writes straight into its file.  The runner looks at the files of running attempts and, past
the bound, moves the newest half aside and truncates; offsets count all bytes ever written, so a
reader sees a gap rather than the wrong bytes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

#: Bytes of one stream kept while an attempt runs; half of it survives a rotation.
STREAM_BYTES_MAX = 16 * 1024 * 1024
#: Bytes of all output on one node; the oldest files go first.
NODE_BYTES_MAX = 1024 * 1024 * 1024
STREAMS = ("out",)


def file_name(task_id: str, number: int, stream: str) -> str:
    """A stream's file in the output directory.  Ids are checked by the API; none may climb."""
    name = f"{task_id}.{number}.{stream}"
    if "/" in name or name.startswith("."):
        raise ValueError(f"{task_id!r} cannot be a task id")
    return name


def stream_path(directory: Path, task_id: str, number: int, stream: str) -> Path:
    """Where a stream of an attempt is, once something is in it.  Raises ValueError."""
    return directory / "output" / file_name(task_id, number, stream)


def rotate(path: Path) -> None:
    """Keep the newest half of a stream beside it and start its file anew."""
    size = path.stat().st_size
    keep = STREAM_BYTES_MAX // 2
    with path.open("r+b") as file:
        file.seek(max(0, size - keep))
        tail = file.read(keep)
        older = path.with_name(path.name + ".1")
        older.write_bytes(tail)
        base = base_of(path) + size
        path.with_name(path.name + ".base").write_text(str(base))
        file.truncate(0)


def base_of(path: Path) -> int:
    """How many bytes were written before the file's first."""
    try:
        return int(path.with_name(path.name + ".base").read_text())
    except (FileNotFoundError, ValueError):
        return 0


def tail_of(path: Path, limit: int) -> tuple[bytes, int]:
    """(the last bytes of a stream, how many were written in all)."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - limit))
            return file.read(limit), base_of(path) + size
    except FileNotFoundError:
        return b"", 0


def remove(path: Path) -> None:
    """Remove a stream and what its rotation left beside it."""
    for beside in ("", ".1", ".base"):
        path.with_name(path.name + beside).unlink(missing_ok=True)


def sweep(directory: Path, spare: set[str]) -> None:
    """Remove the oldest output past the node's bound; names in ``spare`` are in use."""
    entries = []
    for entry in os.scandir(directory / "output"):
        with contextlib.suppress(FileNotFoundError):
            stat = entry.stat()
            entries.append((stat.st_mtime_ns, entry.name, stat.st_size))
    total = sum(size for _, _, size in entries)
    for _, name, size in sorted(entries):
        if total <= NODE_BYTES_MAX:
            return
        if name not in spare:
            (directory / "output" / name).unlink(missing_ok=True)
            total -= size


class OutputReader:
    """Reads what attempts on this node wrote."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(
        self, task_id: str, number: int, stream: str, offset: int, limit: int
    ) -> tuple[bytes, int, bool]:
        """(data, next offset, at the end for now).  Raises FileNotFoundError.

        An attempt that wrote nothing has no file.  A negative offset counts from the end.
        """
        path = stream_path(self._directory, task_id, number, stream)
        base = base_of(path)
        size = path.stat().st_size
        if offset < 0:
            offset = max(base, base + size + offset)
        data = b""
        older = path.with_name(path.name + ".1")
        if offset < base and older.exists():
            start = base - older.stat().st_size
            offset = max(offset, start)
            with older.open("rb") as file:
                file.seek(offset - start)
                data = file.read(limit)
            return data, offset + len(data), False
        offset = max(offset, base)
        with path.open("rb") as file:
            file.seek(offset - base)
            data = file.read(limit)
        return data, offset + len(data), offset + len(data) >= base + size
