"""What the log drives in the bench: a counter, or the scheduler's own state with all its tasks."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable

import msgspec

from raftsched.core import codec
from raftsched.core.commands import (
    ENTRY_VERSION,
    AnyCommand,
    Batch,
    CancelTask,
    DeleteTask,
    Entry,
    SubmitTasks,
)
from raftsched.core.model import NewTask
from raftsched.core.spec import TaskSpec
from raftsched.peer.ids import uuid7
from raftsched.peer.replica import Replica

#: First byte of entries that are only counted; the scheduler's own are MessagePack arrays.
PLAIN = b"p"
COMMAND_BYTES = 200
#: Different commands, hexadecimal: stock PySyncObj compresses what it sends, and pickles an object
#: that occurs twice but once.
_COMMANDS = [os.urandom(COMMAND_BYTES // 2).hex().encode() for _ in range(10_000)]
_plain = msgspec.msgpack.Decoder(tuple[int, list[bytes]])
_SPEC = msgspec.msgpack.encode(TaskSpec(command=("/bin/true",)))


def plain_commands(count: int) -> list[bytes]:
    """So many of `COMMAND_BYTES` each, at most 10,000, all different."""
    at = random.randrange(len(_COMMANDS) - count + 1)
    return _COMMANDS[at : at + count]


def plain_entry(owner: int, count: int) -> bytes:
    """``count`` commands proposed by ``owner``."""
    return PLAIN + msgspec.msgpack.encode((owner, plain_commands(count)))


def _entry(owner: str, term: int, commands: tuple[AnyCommand, ...]) -> bytes:
    batch = Batch(owner, 1, 1, commands)
    return codec.encode_entry(Entry(ENTRY_VERSION, term, time.time_ns() // 1_000_000, (batch,)))


def _new_tasks(count: int) -> tuple[NewTask, ...]:
    now = time.time_ns() // 1_000_000
    return tuple([NewTask(uuid7(now), _SPEC) for _ in range(count)])


def submit_entry(owner: str, term: int, count: int) -> bytes:
    """``count`` tasks that stay in the queue."""
    return _entry(owner, term, (SubmitTasks(_new_tasks(count)),))


def churn_entry(owner: str, term: int, count: int) -> bytes:
    """``count`` tasks submitted, cancelled and removed: work that leaves the state as it was."""
    tasks = _new_tasks(count)
    cancelled = [CancelTask(task.id) for task in tasks]
    deleted = [DeleteTask(task.id) for task in tasks]
    return _entry(owner, term, (SubmitTasks(tasks), *cancelled, *deleted))


class BenchMachine:
    """Implements the log's ``StateMachine`` and ``LoadsAside``."""

    def __init__(self, cluster_id: str) -> None:
        self.replica = Replica(cluster_id)
        #: Called after each entry: (term, owner of a plain one).
        self.on_applied: Callable[[int, int], None] = lambda term, owner: None
        #: Begin and end of each snapshot, in monotonic seconds; the last may be under way.
        self.snapshots: list[list[float]] = []
        #: How long the last snapshot took to be read, checked and decoded; 0.0: there was none.
        self.load_seconds = 0.0

    def apply(self, index: int, term: int, entry: bytes) -> None:
        """Count, or hand on to the scheduler's state."""
        if entry[:1] == PLAIN:
            owner, _ = _plain.decode(memoryview(entry)[1:])
            self.replica.state.index = index
            self.on_applied(term, owner)
        else:
            self.replica.apply(index, term, entry)
            self.on_applied(term, 0)

    def begin_snapshot(self) -> Iterable[bytes]:
        """As the scheduler does."""
        self.snapshots.append([time.monotonic()])
        return self.replica.begin_snapshot()

    def end_snapshot(self) -> None:
        """As the scheduler does."""
        self.replica.end_snapshot()
        self.snapshots[-1].append(time.monotonic())

    def restore(self, index: int, chunks: Iterable[bytes]) -> None:
        """As the scheduler does."""
        self.replica.restore(index, chunks)

    def load(self, index: int, chunks: Iterable[bytes]) -> Callable[[], Iterable[object]]:
        """As the scheduler does, with a stop watch."""
        begin = time.monotonic()
        try:
            return self.replica.load(index, chunks)
        finally:
            self.load_seconds = time.monotonic() - begin
