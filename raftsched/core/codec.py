"""Entries and snapshots as bytes.  Both carry a version; a newer one is refused, not guessed at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from sys import intern

import msgspec

from raftsched.core.commands import ENTRY_VERSION, Entry
from raftsched.core.model import KeyRecord, Node, Settings, Task
from raftsched.core.state import State

#: Version of the snapshot format this code writes.
SNAPSHOT_VERSION = 1
#: Rows encoded into one chunk of a snapshot.
CHUNK_ROWS = 1_000
#: A chunk of rows is closed when it reaches this size.
CHUNK_BYTES = 256 * 1024


class UnknownVersion(Exception):
    """Written by a newer version of raftsched: upgrade this peer before it goes on."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    version: int
    cluster_id: str
    now: int
    index: int
    behaviour: int
    next_token: int
    settings: Settings
    nodes: tuple[Node, ...]


class _Rows(msgspec.Struct, frozen=True, array_like=True):
    tasks: tuple[Task, ...] = ()
    keys: tuple[tuple[str, KeyRecord], ...] = ()


_encoder = msgspec.msgpack.Encoder()
_entries = msgspec.msgpack.Decoder(Entry)
_versions = msgspec.msgpack.Decoder(list[msgspec.Raw])
_integer = msgspec.msgpack.Decoder(int)
_headers = msgspec.msgpack.Decoder(_Header)
_rows = msgspec.msgpack.Decoder(_Rows)


def encode_entry(entry: Entry) -> bytes:
    """The entry as the log stores it."""
    return _encoder.encode(entry)


def decode_entry(data: bytes) -> Entry:
    """The entry the log stored.  Raises UnknownVersion, or msgspec.DecodeError for damage."""
    try:
        entry: Entry = _entries.decode(data)
    except msgspec.DecodeError:
        _check(data, ENTRY_VERSION, "entry")
        raise
    if entry.version > ENTRY_VERSION:
        raise UnknownVersion(f"entry version {entry.version}, known up to {ENTRY_VERSION}")
    return entry


def _check(data: bytes, known: int, what: str) -> None:
    version = _integer.decode(_versions.decode(data)[0])
    if version > known:
        raise UnknownVersion(f"{what} version {version}, known up to {known}")


def snapshot_chunks(state: State) -> Iterator[bytes]:
    """The state as it is now, as chunks; they may be drawn in another thread while it goes on.

    The first chunk is the header.  The caller calls ``state.end_snapshot`` afterwards.
    """
    header = _Header(
        SNAPSHOT_VERSION,
        state.cluster_id,
        state.now,
        state.index,
        state.version,
        state.next_token,
        state.settings,
        tuple(state.nodes[node_id] for node_id in sorted(state.nodes)),
    )
    return _draw(header, state.tasks.freeze(), state.keys.freeze())


def _draw(
    header: _Header,
    tasks: list[dict[str, Task]],
    keys: list[dict[str, KeyRecord]],
) -> Iterator[bytes]:
    yield _encoder.encode(header)
    for shard in tasks:
        rows: list[Task] = []
        size = 0
        for task in shard.values():
            rows.append(task)
            size += len(task.spec) + 200
            size += sum([100 + len(attempt.output_tail) for attempt in task.attempts])
            if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield _encoder.encode(_Rows(tasks=tuple(rows)))
                rows, size = [], 0
        if rows:
            yield _encoder.encode(_Rows(tasks=tuple(rows)))
    for records in keys:
        items = list(records.items())
        for start in range(0, len(items), CHUNK_ROWS):
            yield _encoder.encode(_Rows(keys=tuple(items[start : start + CHUNK_ROWS])))


def restore_state(chunks: Iterable[bytes]) -> State:
    """The state of a snapshot.  Raises UnknownVersion, or msgspec.DecodeError for damage."""
    drawn = iter(chunks)
    first = next(drawn)
    try:
        header: _Header = _headers.decode(first)
    except msgspec.DecodeError:
        _check(first, SNAPSHOT_VERSION, "snapshot")
        raise
    if header.version > SNAPSHOT_VERSION:
        raise UnknownVersion(f"snapshot version {header.version}, known up to {SNAPSHOT_VERSION}")
    state = State(header.cluster_id)
    state.now, state.index = header.now, header.index
    state.version, state.next_token = header.behaviour, header.next_token
    state.settings = header.settings
    for node in header.nodes:
        state.put_node(node)
    tasks: list[Task] = []
    for chunk in drawn:
        rows: _Rows = _rows.decode(chunk)
        tasks += [_shared(task) for task in rows.tasks]
        for key, record in rows.keys:
            state.put_key(key, record)
    state.load(tasks)
    return state


def _shared(task: Task) -> Task:
    """The row with the words that most tasks have in common kept once, not once a task."""
    return msgspec.structs.replace(
        task,
        namespace=intern(task.namespace),
        queue=intern(task.queue),
        strategy=intern(task.strategy),
        attempts=tuple(
            [
                msgspec.structs.replace(a, node=intern(a.node), incarnation=intern(a.incarnation))
                for a in task.attempts
            ]
        ),
    )
