"""Evidence in a few words: a run that is whole and good, which each test then spoils."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from jepsen_like.evidence import Evidence, PeerLog
from jepsen_like.history import (
    Call,
    Clock,
    Effect,
    FaultEvent,
    Final,
    FinalTask,
    Operation,
    Phase,
    Record,
    Run,
    Sample,
    Writer,
    write_document,
)

MS = 1_000_000
PEERS = ["n1", "n2", "n3"]
#: Unix time of monotonic instant 0, ms.
EPOCH_MS = 1_700_000_000_000


def run(workload: str = "tasks", **changes: Any) -> Run:
    """A run of 30 s: faults from 10 s on, healed at 20 s."""
    fields: dict[str, Any] = {
        "workload": workload,
        "peers": PEERS,
        "phases": [
            Phase("before", 0, 10_000 * MS),
            Phase("during", 10_000 * MS, 20_000 * MS),
            Phase("healed", 20_000 * MS, 30_000 * MS),
        ],
        "clock": Clock(0, EPOCH_MS),
        **changes,
    }
    return Run(**fields)


def call(
    f: str,
    at: float,
    until: float | None,
    value: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
    **more: Any,
) -> Call:
    """A call from ``at`` to ``until`` (ms); without an end it is open, with no answer it failed."""
    outcome: Literal["ok", "fail", "info"] = "ok"
    if until is None:
        outcome = "info"
    elif answer is None:
        outcome = "fail"
    return Call(
        n=int(at * 10),
        process=more.pop("process", 0),
        f=f,
        peer=more.pop("peer", "n1"),
        invoked_at=int(at * MS),
        ended_at=None if until is None else int(until * MS),
        outcome=outcome,
        value=value or {},
        answer=answer or {},
        **more,
    )


def submit(
    task: str, at: float, until: float | None, state: str | None = "queued", **asked: Any
) -> Call:
    """A submission; ``state=None`` is a refusal."""
    answer = {"id": task, "state": state, "attempt": 0, "replayed": False} if state else None
    value = {"id": task, "key": f"key-{task}", "task": asked}
    return call("submit", at, until, value, answer if until is not None else None)


def read(task: str, at: float, until: float, state: str | None, **more: Any) -> Call:
    """A read that answered the state; None: there is no such task."""
    consistency = more.pop("consistency", "linearizable")
    answer = {"id": task, "state": state, **more.pop("answer", {})}
    return call("read", at, until, {"id": task, "consistency": consistency}, answer, **more)


def cancel(task: str, at: float, until: float | None, state: str = "cancelled") -> Call:
    """A cancel that was accepted, or is open."""
    answer = None if until is None else {"id": task, "state": state}
    return call("cancel", at, until, {"id": task}, answer)


def attempt(
    task: str,
    token: int,
    at: float,
    until: float,
    number: int = 1,
    node: str = "n1",
    exit: int | None = 0,
    **more: Any,
) -> list[Effect]:
    """Start, beats every 50 ms, end (ms); ``exit=None``: it was killed, and said no end."""
    of = {"task": task, "attempt": number, "token": token, "node": node, **more}
    effects = [Effect(event="start", at=int(at * MS), **of)]
    beat = at + 50
    while beat < until:
        effects.append(Effect(event="beat", at=int(beat * MS), **of))
        beat += 50
    last = {"event": "end", "exit": exit} if exit is not None else {"event": "beat"}
    return [*effects, Effect(at=int(until * MS), **{**of, **last})]


def final(peer: str, *tasks: FinalTask, **changes: Any) -> Final:
    return Final(**{"peer": peer, "applied": 100, "digest": "d1", "tasks": list(tasks), **changes})


def finals(*tasks: FinalTask) -> tuple[Final, ...]:
    """The same on every peer."""
    return tuple(final(peer, *tasks) for peer in PEERS)


def fault(
    name: str, at: float, until: float | None, *targets: str, **more: Any
) -> list[FaultEvent]:
    """A fault that a probe saw, and its end if it has one."""
    fields = {"targets": list(targets), "verified": True, **more}
    events = [FaultEvent(fault=name, event="begin", at=int(at * MS), **fields)]
    if until is not None:
        events.append(FaultEvent(fault=name, event="end", at=int(until * MS), **fields))
    return events


def leads(peer: str, term: int, *instants: float) -> list[Sample]:
    """Samples of a peer that leads."""
    return [
        Sample(int(at * MS), peer, reachable=True, role="leader", term=term, leader=peer)
        for at in instants
    ]


def evidence(workload: str = "tasks", **parts: Any) -> Evidence:
    """A run with these parts; lists become tuples, in order of time."""
    given: dict[str, Any] = {"run": run(workload)}
    given["logs"] = tuple(PeerLog(peer, ("ready",)) for peer in PEERS)
    for name, value in parts.items():
        given[name] = tuple(value) if isinstance(value, list) else value
    for name in ("effects", "faults", "samples"):
        given[name] = tuple(sorted(given.get(name, ()), key=lambda record: record.at))
    given["calls"] = tuple(sorted(given.get("calls", ()), key=lambda c: c.invoked_at))
    return Evidence(**given)


def with_run(whole: Evidence, **changes: Any) -> Evidence:
    """The same with other words in ``run.json``."""
    return msgspec.structs.replace(whole, run=msgspec.structs.replace(whole.run, **changes))


def good() -> Evidence:
    """A run of workload ``tasks`` that earns its pass: 3 x 12 tasks, a kill of the leader."""
    calls, effects, rows = [], [], []
    for number in range(36):
        task, at = f"t{number}", 500 + number * 750.0
        calls.append(submit(task, at, at + 10))
        effects += attempt(task, number + 1, at + 20, at + 720, node=PEERS[number % 3])
        ended = {"attempt": 1, "modify_index": number + 1}
        calls.append(read(task, at + 725, at + 730, "succeeded", index=number + 1, answer=ended))
        rows.append(FinalTask(task, "succeeded", attempt=1))
    last = submit("last", 29_000, 29_010)
    cancelled = cancel("last", 29_020, 29_030)
    rows.append(FinalTask("last", "cancelled"))
    return evidence(
        calls=[*calls, last, cancelled, read("last", 29_040, 29_050, "cancelled")],
        effects=effects,
        faults=fault("kill-leader", 12_000, 14_000, "n1"),
        samples=[*leads("n1", 1, 1_000, 11_900), *leads("n2", 2, 13_000, 29_000)],
        finals=finals(*rows),
    )


def write_run(directory: Path, whole: Evidence) -> None:
    """The evidence as the files that a run leaves."""
    write_document(directory / "run.json", whole.run)
    halves: list[Operation] = []
    for asked in whole.calls:
        # Every call has a process of its own, so that none is asked of twice at once.
        of: dict[str, Any] = {"process": asked.n, "f": asked.f, "peer": asked.peer}
        first = Operation(n=0, type="invoke", at=asked.invoked_at, value=asked.value, **of)
        halves.append(first)
        if asked.ended_at is not None:
            last = Operation(
                n=0,
                type=asked.outcome,
                at=asked.ended_at,
                value=asked.answer,
                index=asked.index,
                error=asked.error,
                **of,
            )
            halves.append(last)
    halves.sort(key=lambda half: (half.at, half.type != "invoke"))
    lines: list[tuple[str, Sequence[Record]]] = [
        ("history.jsonl", [msgspec.structs.replace(op, n=n) for n, op in enumerate(halves)]),
        ("effects/all.jsonl", whole.effects),
        ("faults.jsonl", whole.faults),
        ("states.jsonl", whole.samples),
    ]
    for name, records in lines:
        with Writer(directory / name) as writer:
            for record in records:
                writer.write(record)
    for last_read in whole.finals:
        write_document(directory / "final" / f"{last_read.peer}.json", last_read)
    (directory / "logs").mkdir()
    for log in whole.logs:
        (directory / "logs" / f"{log.peer}.log").write_text("\n".join(log.lines) + "\n")
