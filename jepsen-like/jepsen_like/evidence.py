"""All that a run left behind, read once; judges get this and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec

from jepsen_like.history import (
    BadEvidence,
    Call,
    Effect,
    FaultEvent,
    Final,
    LogEntry,
    Operation,
    Replayed,
    Run,
    Sample,
    T,
    calls,
    read_document,
    read_lines,
)

HISTORY = "history.jsonl"
FAULTS = "faults.jsonl"
STATES = "states.jsonl"
LOG = "log.jsonl"
RUN = "run.json"
EFFECTS = "effects"
FINAL = "final"
LOGS = "logs"
REPLAYED = "replayed"

#: Lines of one peer's log that are looked at; of a longer one its verdict is unknown.
LOG_LINES_MAX = 1_000_000
LOG_LINE_CHARACTERS_MAX = 2_000


class PeerLog(msgspec.Struct, frozen=True):
    """What a peer wrote to its log."""

    peer: str
    lines: tuple[str, ...]
    #: There was more than is looked at.
    is_cut: bool = False


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A run as seen from outside; everything in order of time."""

    run: Run
    calls: tuple[Call, ...] = ()
    effects: tuple[Effect, ...] = ()
    faults: tuple[FaultEvent, ...] = ()
    samples: tuple[Sample, ...] = ()
    finals: tuple[Final, ...] = ()
    #: The committed log, applied again; None: nobody did.
    log: tuple[LogEntry, ...] | None = None
    #: What each peer's log came to.
    replayed: tuple[Replayed, ...] = ()
    logs: tuple[PeerLog, ...] = ()


def read_evidence(directory: Path) -> Evidence:
    """The evidence of a run's directory; what is not there is empty.

    Raises BadEvidence for a file that is damaged or cannot be read, and without a ``run.json``.
    """
    try:
        return _read(directory)
    except OSError as error:
        raise BadEvidence(f"{error.filename or directory}: {error.strerror or error}") from error


def _read(directory: Path) -> Evidence:
    run = read_document(directory / RUN, Run)
    if run.format != 1:
        raise BadEvidence(f"{directory / RUN}: format {run.format} is not known here, only 1")
    effects: list[Effect] = []
    for path in sorted((directory / EFFECTS).glob("*.jsonl")):
        effects.extend(read_lines(path, Effect))
    log = directory / LOG
    return Evidence(
        run=run,
        calls=tuple(calls(_lines(directory / HISTORY, Operation))),
        effects=tuple(sorted(effects, key=lambda effect: effect.at)),
        faults=tuple(sorted(_lines(directory / FAULTS, FaultEvent), key=lambda fault: fault.at)),
        samples=tuple(sorted(_lines(directory / STATES, Sample), key=lambda sample: sample.at)),
        finals=tuple(
            read_document(path, Final) for path in sorted((directory / FINAL).glob("*.json"))
        ),
        replayed=tuple(
            read_document(path, Replayed) for path in sorted((directory / REPLAYED).glob("*.json"))
        ),
        log=tuple(sorted(_lines(log, LogEntry), key=lambda e: e.index)) if log.exists() else None,
        logs=tuple(_read_log(path) for path in sorted((directory / LOGS).glob("*.log"))),
    )


def _lines(path: Path, kind: type[T]) -> list[T]:
    return list(read_lines(path, kind)) if path.exists() else []


def _read_log(path: Path) -> PeerLog:
    lines: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if len(lines) == LOG_LINES_MAX:
                return PeerLog(path.stem, tuple(lines), is_cut=True)
            lines.append(line.rstrip("\n")[:LOG_LINE_CHARACTERS_MAX])
    return PeerLog(path.stem, tuple(lines))
