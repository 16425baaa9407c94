"""The records of a run: what clients, effects, faults and probes left behind, as JSON lines.

Instants (``at``) are nanoseconds of ``CLOCK_MONOTONIC`` of the one machine that all of them share.
Unknown fields are let through: a record may say more than a checker reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

import msgspec

#: One file of evidence; a larger one is a run that went wrong.
FILE_BYTES_MAX = 1 << 30


class BadEvidence(Exception):
    """A file cannot be what a run wrote; names the file, the line and what is wrong."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Anything that stands in a line of its own."""


class Operation(Record, frozen=True):
    """One half of what a client did: the question or what came of it."""

    n: int
    #: A process asks one thing at a time, and nothing more after an ``info``.
    process: int
    type: Literal["invoke", "ok", "fail", "info"]
    f: str
    at: int
    peer: str = ""
    value: dict[str, Any] = {}
    #: The index the answer says it was given at.
    index: int | None = None
    error: dict[str, Any] | None = None


class Effect(Record, frozen=True):
    """What a task's own program did (``start``, ``beat``, ``end``), or a sink (``write``)."""

    task: str
    attempt: int
    token: int
    node: str
    event: Literal["start", "beat", "end", "write"]
    at: int
    #: Nominal instant of the schedule's slot, unix ms.
    slot: int | None = None
    schedule: str = ""
    #: Which item of a map.
    index: int | None = None
    exit: int | None = None
    #: Of a start: when the kernel made its process, at the latest.
    born: int | None = None
    #: Of a write: did the sink take it?
    accepted: bool | None = None
    #: What it was told of the tasks before it.
    inputs: list[dict[str, Any]] | None = None


class FaultEvent(Record, frozen=True):
    """A fault was put in place or taken away; ``skip``: this machine cannot do it."""

    fault: str
    event: Literal["begin", "end", "skip"]
    at: int
    targets: list[str] = []
    #: Did a probe see it? None: nothing was probed.
    verified: bool | None = None
    detail: str = ""
    #: What a target may do because of it: ``exit:70`` (that code), ``exit`` (any), ``traceback``.
    allows: list[str] = []
    #: By how much the cluster's time may be wrong because of it.
    shift_ms: int = 0
    #: What a peer did that no peer may, whatever the fault; empty: nothing.
    broken: str = ""


class Sample(Record, frozen=True):
    """What a peer said of itself when it was asked in passing."""

    at: int
    peer: str
    reachable: bool = False
    role: str = ""
    term: int = 0
    leader: str | None = None
    applied: int = 0
    ready: bool = False


class Row(Record, frozen=True):
    """A task as the committed log left it."""

    state: str
    attempt: int = 0
    #: More of it, each by the name that answers have for it; what is not here is not known.
    told: dict[str, Any] = {}


class Ordered(Record, frozen=True):
    """A command of the log, and what came of it."""

    command: str
    #: Whom a client asked.
    peer: str
    is_accepted: bool
    #: Ids of what it is about.
    about: list[str] = []
    reason: str = ""


class LogEntry(Record, frozen=True):
    """What an entry of the log did: rows that it changed (None: it deleted the row), and why."""

    index: int
    rows: dict[str, Row | None] = {}
    #: Those that clients ask for about a task.
    commands: list[Ordered] = []


class Position(Record, frozen=True, array_like=True):
    """An entry of one peer's log."""

    index: int
    term: int
    #: Of all that it did, and of the state behind it.
    sum: str


class Replayed(Record, frozen=True):
    """One peer's log, applied again once the peer had ended."""

    peer: str
    entries: list[Position] = []
    #: Up to here its own disk says that the cluster agreed.
    committed_index: int = 0
    #: Why there is nothing; empty: there is.
    why_not: str = ""
    #: The program under test has no such command.
    is_impossible: bool = False


class FinalTask(Record, frozen=True):
    """A task as a peer shows it when all is over."""

    id: str
    state: str
    reason: str = ""
    attempt: int = 0
    attempts_max: int = 1
    parent: str = ""
    paused: bool = False
    retry_of: str = ""
    schedule: str = ""


class Final(Record, frozen=True):
    """All that one peer holds after the heal, at one index."""

    peer: str
    applied: int
    digest: str = ""
    tasks: list[FinalTask] = []
    schedules: list[dict[str, Any]] = []


class Phase(Record, frozen=True, rename={"from_": "from"}):
    """A stretch of the run: ``before``, ``during`` or ``healed``."""

    name: str
    from_: int
    to: int


class Clock(Record, frozen=True):
    """One instant by both clocks, so that nominal times can be compared with effects."""

    at: int
    unix_ms: int


class Exit(Record, frozen=True):
    """A peer's process ended; ``asked``: the harness did it."""

    peer: str
    at: int
    code: int
    asked: bool = False


class Earn(Record, frozen=True):
    """What has to have happened for a pass to count; None: as the run's faults ask for."""

    #: Successful operations in each phase.
    operations: int = 10
    leader_changes: int | None = None
    #: An attempt was running when each fault began; None: if the workload runs any.
    in_flight: bool | None = None


class Run(Record, frozen=True, omit_defaults=False):
    """``run.json``: what was run, and when."""

    workload: str
    format: int = 1
    nemesis: list[str] = []
    seed: int = 0
    time_limit_seconds: float = 0
    peers: list[str] = []
    backend: str = ""
    lease_seconds: float = 15.0
    phases: list[Phase] = []
    clock: Clock | None = None
    #: Peers that were left dead on purpose; nothing is read from them.
    dead: list[str] = []
    #: Limit -> attempts that may hold it at once; a limit that is not named is a mutex.
    limits: dict[str, int] = {}
    exits: list[Exit] = []
    earn: Earn = Earn()
    #: Why it did not come to its end; empty: it did.
    trouble: str = ""
    #: Defaults of the peers' program that were others: of what function in what module.
    presets: dict[str, Any] = {}
    #: Somebody else started the peers: there are no logs of them, nor what they ended with.
    is_attached: bool = False
    #: Losses after which a task that names no number has failed.
    max_losses: int = 3

    def phase(self, name: str) -> Phase | None:
        """The phase of that name; None when the run has none."""
        return next((p for p in self.phases if p.name == name), None)

    def unix_ms(self, at: int) -> int | None:
        """A monotonic instant on the machine's wall clock; None without a ``clock``."""
        if self.clock is None:
            return None
        return self.clock.unix_ms + (at - self.clock.at) // 1_000_000


class Call(Record, frozen=True):
    """A question with what came of it; an open one (``info``) has no end."""

    n: int
    process: int
    f: str
    peer: str
    invoked_at: int
    ended_at: int | None
    outcome: Literal["ok", "fail", "info"]
    value: dict[str, Any]
    answer: dict[str, Any] = {}
    index: int | None = None
    error: dict[str, Any] | None = None

    @property
    def is_ok(self) -> bool:
        return self.outcome == "ok"

    @property
    def id(self) -> str:
        """The task it is about, as asked or as answered; empty when neither says."""
        return str(self.value.get("id") or self.answer.get("id") or "")


def calls(operations: Iterable[Operation]) -> list[Call]:
    """Questions paired with their ends, in the order asked.

    One without an end is open, as after an ``info``.  Raises BadEvidence when a process asks twice
    at once, ends what it did not ask, goes on after an ``info``, or time runs backwards in it.
    """
    asked: dict[int, Operation] = {}
    over: set[int] = set()
    done: list[Call] = []
    for op in operations:
        if op.process in over:
            raise BadEvidence(f"operation {op.n}: process {op.process} goes on after an info")
        if op.type == "invoke":
            if op.process in asked:
                raise BadEvidence(f"operation {op.n}: process {op.process} asks twice at once")
            asked[op.process] = op
            continue
        first = asked.pop(op.process, None)
        if first is None or first.f != op.f:
            raise BadEvidence(f"operation {op.n}: process {op.process} did not ask for {op.f!r}")
        if op.at < first.at:
            raise BadEvidence(f"operation {op.n}: ends before it was asked")
        if op.type == "info":
            over.add(op.process)
        done.append(_call(first, op))
    done.extend(_call(op, None) for op in asked.values())
    return sorted(done, key=lambda call: (call.invoked_at, call.n))


def _call(first: Operation, last: Operation | None) -> Call:
    is_open = last is None or last.type == "info"
    return Call(
        n=first.n,
        process=first.process,
        f=first.f,
        peer=(last.peer if last else "") or first.peer,
        invoked_at=first.at,
        ended_at=None if is_open or last is None else last.at,
        outcome=_ended(last),
        value=first.value,
        answer=last.value if last else {},
        index=last.index if last else None,
        error=last.error if last else None,
    )


def _ended(last: Operation | None) -> Literal["ok", "fail", "info"]:
    if last is None or last.type == "info":
        return "info"
    return "ok" if last.type == "ok" else "fail"


T = TypeVar("T", bound=Record)


def read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    """The records of a file.  A last line that was cut off is left out, as a kill leaves it.

    Raises BadEvidence, which names the line.
    """
    if path.stat().st_size > FILE_BYTES_MAX:
        raise BadEvidence(f"{path}: larger than {FILE_BYTES_MAX} bytes")
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                if not line.endswith(b"\n"):
                    return
                raise BadEvidence(f"{path}, line {number}: {error}") from error


def read_document(path: Path, kind: type[T]) -> T:
    """The one record of a file.  Raises BadEvidence."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError as error:
        raise BadEvidence(f"{path}: not there; is this the directory of a run?") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadEvidence(f"{path}: {error}") from error


class Writer:
    """Appends records to a file, each at once and whole: a killed harness leaves evidence."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder()

    def write(self, record: Record) -> None:
        self._stream.write(self._encoder.encode(record) + b"\n")

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_document(path: Path, record: Record) -> None:
    """Write a record as a file of its own; a reader sees it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rough = path.with_name(path.name + ".part")
    rough.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    rough.replace(path)
