"""What a peer keeps that found itself in the minority, and what keeps it from starting again.

``<data_dir>/evidence/diverged.json`` says what was found; a directory that has it belongs to no
peer any more.  Beside it ``state.snap``: the whole state, in the form of a snapshot of the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from raftsched.core.model import Check
from raftsched.core.state import State
from raftsched.peer.errors import ReplicaDiverged
from raftsched.raft.files import REMEDY, Disk, read_file, write_atomic
from raftsched.raft.loading import off_loop
from raftsched.raft.snapshot_file import Draft, SnapshotMeta, SnapshotWriter

DIRECTORY = "evidence"
REPORT = "diverged.json"
#: What the report is called once somebody decided to go on with this replica all the same.
OVERRULED = "overruled.json"
STATE = "state.snap"


class Evidence(msgspec.Struct, frozen=True):
    """The content of ``diverged.json``; digests in hexadecimal."""

    what: str
    cluster_id: str
    peer_id: str
    check_index: int
    majority: str
    #: By peer, this one's too.
    reports: dict[str, str]
    digest_format: int
    #: What ``state.snap`` was taken at, which is behind the check.
    state_index: int
    state_digest: str
    behaviour: int
    written_at_ms: int


def diverged(check: Check, data_dir: Path) -> ReplicaDiverged:
    """The error for a peer that ``check`` shows to be in the minority."""
    return ReplicaDiverged(
        f"this replica differs from the majority at index {check.index}; evidence in "
        f"{data_dir / DIRECTORY}; refill: {REMEDY}",
        check,
    )


def of(state: State, check: Check, peer_id: str, what: str, now_ms: int) -> Evidence:
    """What is known when the peer stops.  Takes as long as the rows that are not hashed yet."""
    return Evidence(
        what=what,
        cluster_id=state.cluster_id,
        peer_id=peer_id,
        check_index=check.index,
        majority=check.majority.hex(),
        reports={report.peer: report.digest.hex() for report in check.reports},
        digest_format=check.format,
        state_index=state.index,
        state_digest=state.digest().hex(),
        behaviour=state.version,
        written_at_ms=now_ms,
    )


def keep(disk: Disk, data_dir: Path, evidence: Evidence, chunks: Iterable[bytes]) -> None:
    """Write it down, what refuses a start first; slow with many tasks.  Raises OSError."""
    directory = data_dir / DIRECTORY
    disk.make_directory(directory)
    document = msgspec.json.format(msgspec.json.encode(evidence))
    write_atomic(disk, directory / REPORT, document)
    disk.sync_directory(data_dir)
    draft = Draft(disk, directory / f"{STATE}.tmp")
    try:
        index = evidence.state_index
        meta = SnapshotMeta(evidence.cluster_id, (b"", index - 1, 0), (b"", index, 0))
        writer = SnapshotWriter(draft, meta)
        for chunk in chunks:
            writer.add(chunk)
        writer.end()
        draft.seal()
        disk.rename(directory / f"{STATE}.tmp", directory / STATE)
    except BaseException:
        draft.abort()
        raise


async def refuse(disk: Disk, data_dir: Path) -> None:
    """Raises ReplicaDiverged if a peer stopped in this directory for good."""
    what = await off_loop(lambda: reported(disk, data_dir))
    if what:
        raise ReplicaDiverged(what)


def reported(disk: Disk, data_dir: Path) -> str:
    """Why a peer stopped in this directory for good; empty if none did."""
    path = data_dir / DIRECTORY / REPORT
    data = _read(disk, path)
    if data is None:
        return ""
    try:
        return msgspec.json.decode(data, type=Evidence).what
    except msgspec.DecodeError:
        return f"this replica differed from the majority; evidence in {path.parent}: {REMEDY}"


def overrule(disk: Disk, data_dir: Path) -> None:
    """Let this replica start again, whatever is reported of it; durable.  Raises OSError."""
    directory = data_dir / DIRECTORY
    disk.rename(directory / REPORT, directory / OVERRULED)
    disk.sync_directory(directory)


def overruled_index(disk: Disk, data_dir: Path) -> int:
    """Checks up to this index do not count against this replica any more; 0: all count.

    The log still has them, and comes to the same end at every start.  Raises OSError.
    """
    data = _read(disk, data_dir / DIRECTORY / OVERRULED)
    if data is None:
        return 0
    try:
        return msgspec.json.decode(data, type=Evidence).state_index
    except msgspec.DecodeError:
        return 0


def _read(disk: Disk, path: Path) -> bytes | None:
    try:
        return read_file(disk, path)
    except FileNotFoundError:
        return None
