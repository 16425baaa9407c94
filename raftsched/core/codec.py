"""Entries and snapshots as bytes.  Both carry a version; what is not known is not guessed at.

Whatever the bytes are, reading them ends in a value, `UnknownVersion` or ``msgspec.DecodeError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from sys import intern
from typing import TypeVar

import msgspec

from raftsched.core.commands import ENTRY_VERSION, Entry
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import Attempt, KeyRecord, Node, Settings, Task
from raftsched.core.state import State

#: Version of the snapshot format this code writes, and the only one it reads.
SNAPSHOT_VERSION = 2
#: Rows encoded into one chunk of a snapshot.
CHUNK_ROWS = 1_000
#: A chunk of rows is closed when it reaches this size.
CHUNK_BYTES = 256 * 1024


class UnknownVersion(Exception):
    """Written by another version of raftsched, most likely a newer one: upgrade this peer."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    version: int
    cluster_id: str
    now: int
    index: int
    behaviour: int
    next_token: int
    next_order: int
    #: How many rows follow; fewer or more mean that chunks are missing or doubled.
    tasks: int
    keys: int
    settings: Settings
    nodes: tuple[Node, ...]


class _Rows(msgspec.Struct, frozen=True, array_like=True):
    tasks: tuple[Task, ...] = ()
    keys: tuple[tuple[str, KeyRecord], ...] = ()


_T = TypeVar("_T")

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
        entry = _decode(_entries, data)
    except msgspec.DecodeError:
        _check(data, 1, ENTRY_VERSION, "entry")
        raise
    if not 1 <= entry.version <= ENTRY_VERSION:
        _check(data, 1, ENTRY_VERSION, "entry")
    return entry


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    """The value.  What msgspec lets through of damage that it meets is made a DecodeError."""
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"damaged: {error}") from error


def _check(data: bytes, lowest: int, highest: int, what: str) -> None:
    """Raises UnknownVersion, or DecodeError if there is no version at all."""
    parts = _decode(_versions, data)
    if not parts:
        raise msgspec.DecodeError(f"{what} without a version")
    version = _decode(_integer, bytes(parts[0]))
    if version < 1:
        raise msgspec.DecodeError(f"{what} version {version}")
    if not lowest <= version <= highest:
        raise UnknownVersion(f"{what} version {version}, known are {lowest} to {highest}")


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
        state.next_order,
        len(state.tasks),
        len(state.keys),
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
    header = _read_header(next(drawn, b""))
    state = State(header.cluster_id)
    state.now, state.index = header.now, header.index
    state.version, state.next_token = header.behaviour, header.next_token
    state.next_order = header.next_order
    state.settings = header.settings
    for node in header.nodes:
        state.put_node(node)
    share = _Sharing(state)
    tasks: list[Task] = []
    keys = 0
    for chunk in drawn:
        rows = _decode(_rows, chunk)
        tasks += [share.task(task) for task in rows.tasks]
        keys += len(rows.keys)
        for key, record in rows.keys:
            state.put_key(key, record)
    if (len(tasks), keys, len(state.keys)) != (header.tasks, header.keys, header.keys):
        raise msgspec.DecodeError(
            f"{len(tasks)} tasks and {keys} keys in a snapshot of "
            f"{header.tasks} and {header.keys}: chunks are missing or doubled"
        )
    try:
        state.load(tasks)
    except ValueError as error:
        raise msgspec.DecodeError(f"damaged: {error}") from error
    return state


def _read_header(data: bytes) -> _Header:
    try:
        header = _decode(_headers, data)
    except msgspec.DecodeError:
        _check(data, SNAPSHOT_VERSION, SNAPSHOT_VERSION, "snapshot")
        raise
    if header.version != SNAPSHOT_VERSION:
        _check(data, SNAPSHOT_VERSION, SNAPSHOT_VERSION, "snapshot")
    return header


class _Sharing:
    """Restored rows with what most of them have in common kept once, not once a row."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._numbers: dict[int, int] = {}

    def task(self, task: Task) -> Task:
        """The row.  Raises DecodeError for one that no state can hold."""
        if task.status in HOLDING and not (
            task.attempts and task.attempts[-1].node in self._state.nodes
        ):
            raise msgspec.DecodeError(f"task {task.id} is {task.status} on no node")
        number = self._numbers.setdefault
        return Task(
            task.id,
            task.spec,
            self._state.share_terms(task.terms),
            number(task.created_at, task.created_at),
            number(task.create_index, task.create_index),
            task.order,
            task.status,
            number(task.modify_index, task.modify_index),
            intern(task.reason) if task.reason else "",
            task.losses,
            task.paused,
            task.finished_at,
            tuple([_shared_attempt(attempt) for attempt in task.attempts]),
        )


def _shared_attempt(attempt: Attempt) -> Attempt:
    return msgspec.structs.replace(
        attempt, node=intern(attempt.node), incarnation=intern(attempt.incarnation)
    )
