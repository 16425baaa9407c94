"""Files that survive a power cut, and a directory that belongs to one peer.

Errors
------
::

    StorageError
    +-- DirectoryLocked   another process uses the data directory
    +-- WrongOwner        the data directory belongs to another cluster or peer
    +-- Damaged           a file is not what was written; names file, offset and remedy
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

REMEDY = (
    "do not start it as it is: move the data directory away and give the peer a new one under "
    "a new id, or restore the file from a copy"
)


class StorageError(Exception):
    """The data directory cannot be used; one line says why and what to do."""


class DirectoryLocked(StorageError):
    """Another process uses this data directory."""


class WrongOwner(StorageError):
    """This data directory belongs to another cluster or peer."""


class Damaged(StorageError):
    """A file does not hold what was written into it."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"{path} is damaged at offset {offset}: {what}; {REMEDY}")
        self.path = path
        self.offset = offset


def sync_directory(directory: Path) -> None:
    """Make renames, creations and removals in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file so that a crash leaves the old or the new one, whole."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


class DirectoryLock:
    """Holds a data directory for one process until `release`; the kernel drops it at a crash."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / "lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise DirectoryLocked(
                f"{directory} is in use by another process; stop it, or choose another --data-dir"
            ) from None

    def release(self) -> None:
        """Give the directory free."""
        os.close(self._descriptor)


def claim(directory: Path, cluster_id: str, peer_id: str) -> None:
    """Mark a new directory as this peer's, or check that it is.  Raises WrongOwner."""
    path = directory / "identity.json"
    owner = {"cluster_id": cluster_id, "peer_id": peer_id}
    if not path.exists():
        write_durably(path, json.dumps(owner).encode())
        return
    try:
        found = json.loads(path.read_bytes())
        text = f"peer {found['peer_id']!r} of cluster {found['cluster_id']!r}"
    except (ValueError, KeyError, TypeError):
        raise Damaged(path, 0, "not the identity of a peer") from None
    if found != owner:
        raise WrongOwner(
            f"{directory} belongs to {text}, not to peer {peer_id!r} of cluster {cluster_id!r}; "
            "choose another --data-dir"
        )
