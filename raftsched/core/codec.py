"""Entries and snapshots as bytes.  Both carry a version; what is not known is not guessed at.

Whatever the bytes are, reading them ends in a value, ``versions.UnknownVersion`` or
``msgspec.DecodeError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from sys import intern
from typing import TypeVar

import msgspec

from raftsched.core.commands import Entry
from raftsched.core.lifecycle import HOLDING
from raftsched.core.loading import (
    end_schedules,
    load_keys,
    load_schedules,
    load_tasks,
    load_templates,
)
from raftsched.core.model import Attempt, Check, KeyRecord, Limit, Node, Queue, Settings, Task
from raftsched.core.schedule import Schedule, Slot
from raftsched.core.state import State
from raftsched.core.template import Template
from raftsched.core.versions import SUPPORTED, Supports, written
from raftsched.core.versions import check as check_version

#: Version of the snapshot format this code writes once the cluster's version is as high, and the
#: lowest it reads.
SNAPSHOT_VERSION = 7
SNAPSHOT_VERSION_MIN = 2
#: Rows encoded into one chunk of a snapshot.
CHUNK_ROWS = 1_000
#: A chunk of rows is closed when it reaches this size.
CHUNK_BYTES = 256 * 1024


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
    # Since version 3, and passed over by those who read version 2.
    clock_resets: int = 0
    check: Check | None = None
    suspect: bool = False
    # Since version 4.
    queues: tuple[Queue, ...] = ()
    limits: tuple[Limit, ...] = ()
    # Since version 6: how many rows follow.
    schedules: int = 0
    slots: int = 0
    # Since version 7.
    templates: int = 0


class _Rows(msgspec.Struct, frozen=True, array_like=True):
    tasks: tuple[Task, ...] = ()
    keys: tuple[tuple[str, KeyRecord], ...] = ()
    # Since version 6.
    schedules: tuple[Schedule, ...] = ()
    slots: tuple[Slot, ...] = ()
    # Since version 7.
    templates: tuple[Template, ...] = ()


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


def decode_entry(data: bytes, supports: Supports = SUPPORTED) -> Entry:
    """The entry the log stored.  Raises UnknownVersion, or msgspec.DecodeError for damage."""
    supports = Supports(1, supports.highest)
    try:
        entry = _decode(_entries, data)
    except msgspec.DecodeError:
        _check(data, supports, "entry")
        raise
    if not 1 <= entry.version <= supports.highest:
        _check(data, supports, "entry")
    return entry


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    """The value.  What msgspec lets through of damage that it meets is made a DecodeError."""
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"damaged: {error}") from error


def _check(data: bytes, supports: Supports, what: str) -> None:
    """Raises UnknownVersion, or DecodeError if there is no version at all."""
    parts = _decode(_versions, data)
    if not parts:
        raise msgspec.DecodeError(f"{what} without a version")
    version = _decode(_integer, bytes(parts[0]))
    if version < 1:
        raise msgspec.DecodeError(f"{what} version {version}")
    check_version(version, supports, what)


def snapshot_chunks(state: State) -> Iterator[bytes]:
    """The state as it is now, as chunks; they may be drawn in another thread while it goes on.

    The first chunk is the header.  The caller calls ``state.end_snapshot`` afterwards.
    """
    header = _Header(
        min(SNAPSHOT_VERSION, written(state.version)),
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
        state.clock_resets,
        state.check,
        state.suspect,
        tuple(state.queues[name] for name in sorted(state.queues)),
        tuple(state.limits[key] for key in sorted(state.limits)),
        len(state.schedules),
        len(state.slots),
        len(state.templates),
    )
    return chain(
        _draw(header, state.tasks.freeze(), state.keys.freeze()),
        _draw_schedules(state.schedules.freeze(), state.slots.freeze()),
        _draw_templates(state.templates.freeze()),
    )


def _draw(
    header: _Header,
    tasks: list[dict[str, Task]],
    keys: list[dict[str, KeyRecord]],
) -> Iterator[bytes]:
    yield _encoder.encode(header)
    rows: list[Task] = []
    size = 0
    for shard in tasks:
        for task in shard.values():
            rows.append(task)
            size += len(task.spec) + 200
            size += sum([100 + len(attempt.output_tail) for attempt in task.attempts])
            if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield _encoder.encode(_Rows(tasks=tuple(rows)))
                rows, size = [], 0
    if rows:
        yield _encoder.encode(_Rows(tasks=tuple(rows)))
    records: list[tuple[str, KeyRecord]] = []
    for kept in keys:
        records += kept.items()
        while len(records) >= CHUNK_ROWS:
            yield _encoder.encode(_Rows(keys=tuple(records[:CHUNK_ROWS])))
            del records[:CHUNK_ROWS]
    if records:
        yield _encoder.encode(_Rows(keys=tuple(records)))


def _draw_schedules(
    schedules: list[dict[str, Schedule]], slots: list[dict[str, Slot]]
) -> Iterator[bytes]:
    for rows in _batches(row for shard in schedules for row in shard.values()):
        yield _encoder.encode(_Rows(schedules=rows))
    for kept in _batches(row for shard in slots for row in shard.values()):
        yield _encoder.encode(_Rows(slots=kept))


def _draw_templates(templates: list[dict[str, Template]]) -> Iterator[bytes]:
    rows: list[Template] = []
    size = 0
    for row in chain.from_iterable(shard.values() for shard in templates):
        rows.append(row)
        size += len(row.document)
        if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield _encoder.encode(_Rows(templates=tuple(rows)))
            rows, size = [], 0
    if rows:
        yield _encoder.encode(_Rows(templates=tuple(rows)))


def _batches(rows: Iterator[_T]) -> Iterator[tuple[_T, ...]]:
    while batch := tuple(islice(rows, CHUNK_ROWS)):
        yield batch


def restore_state(chunks: Iterable[bytes], supports: Supports = SUPPORTED) -> State:
    """The state of a snapshot.  Raises UnknownVersion, or msgspec.DecodeError for damage."""
    drawn = iter(chunks)
    header = _read_header(next(drawn, b""), supports)
    state = State(header.cluster_id)
    state.now, state.index = header.now, header.index
    state.version, state.next_token = header.behaviour, header.next_token
    state.next_order = header.next_order
    state.settings = header.settings
    state.clock_resets = header.clock_resets
    state.check, state.suspect = header.check, header.suspect
    for node in header.nodes:
        state.put_node(node)
    for queue in header.queues:
        state.put_queue(queue.name, queue)
    for limit in header.limits:
        state.put_limit(limit.key, limit)
    try:
        _load(state, header, drawn)
    except msgspec.DecodeError:
        raise
    except ValueError as error:
        raise msgspec.DecodeError(f"damaged: {error}") from error
    return state


def _load(state: State, header: _Header, chunks: Iterator[bytes]) -> None:
    """All rows.  Raises DecodeError, and ValueError for a row that stands there twice."""
    share = _Sharing(state)
    tasks: list[Task] = []
    keys = schedules = slots = templates = 0
    for chunk in chunks:
        rows = _decode(_rows, chunk)
        # Hashed at once, as long as they are in the processor's cache.
        state.tasks.sum.add([(task.id, task) for task in rows.tasks])
        tasks += share.tasks(rows.tasks)
        keys += len(rows.keys)
        load_keys(state, rows.keys)
        schedules += len(rows.schedules)
        slots += len(rows.slots)
        load_schedules(state, rows.schedules, rows.slots)
        templates += len(rows.templates)
        load_templates(state, rows.templates)
    if templates != header.templates:
        raise msgspec.DecodeError(
            f"{templates} templates in a snapshot of {header.templates}: "
            "chunks are missing or doubled"
        )
    if (schedules, slots) != (header.schedules, header.slots):
        raise msgspec.DecodeError(
            f"{schedules} schedules and {slots} slots in a snapshot of "
            f"{header.schedules} and {header.slots}: chunks are missing or doubled"
        )
    if (len(tasks), keys, len(state.keys)) != (header.tasks, header.keys, header.keys):
        raise msgspec.DecodeError(
            f"{len(tasks)} tasks and {keys} keys in a snapshot of "
            f"{header.tasks} and {header.keys}: chunks are missing or doubled"
        )
    load_tasks(state, tasks)
    end_schedules(state)


def _read_header(data: bytes, supports: Supports) -> _Header:
    readable = Supports(SNAPSHOT_VERSION_MIN, min(SNAPSHOT_VERSION, supports.highest))
    try:
        header = _decode(_headers, data)
    except msgspec.DecodeError:
        _check(data, readable, "snapshot")
        raise
    if not readable.lowest <= header.version <= readable.highest:
        _check(data, readable, "snapshot")
    check_version(header.behaviour, supports, "snapshot of cluster")
    return header


class _Sharing:
    """Restored rows with what most of them have in common kept once, not once a row."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._numbers: dict[int, int] = {}

    def tasks(self, tasks: Iterable[Task]) -> list[Task]:
        """The rows.  Raises DecodeError for one that no state can hold."""
        nodes, number, share = self._state.nodes, self._numbers.setdefault, self._state.share_terms
        rows: list[Task] = []
        terms = None
        for task in tasks:
            attempts = task.attempts
            if task.status in HOLDING and not (attempts and attempts[-1].node in nodes):
                raise msgspec.DecodeError(f"task {task.id} is {task.status} on no node")
            if task.terms != terms:
                terms = share(task.terms)
            rows.append(
                Task(
                    task.id,
                    task.spec,
                    terms,
                    number(task.created_at, task.created_at),
                    number(task.create_index, task.create_index),
                    task.order,
                    task.status,
                    number(task.modify_index, task.modify_index),
                    intern(task.reason) if task.reason else "",
                    task.losses,
                    task.paused,
                    task.finished_at,
                    tuple([_shared_attempt(attempt) for attempt in attempts]) if attempts else (),
                    task.ready_at,
                    task.extra,
                )
            )
        return rows


def _shared_attempt(attempt: Attempt) -> Attempt:
    return msgspec.structs.replace(
        attempt, node=intern(attempt.node), incarnation=intern(attempt.incarnation)
    )
