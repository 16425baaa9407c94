"""``results.json``: the verdicts of a run with what they rest on.  Its schema is in the README."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from jepsen_like.attempts import attempts
from jepsen_like.availability import Outage, outages
from jepsen_like.checker import CHECKERS, Valid, Verdict, overall
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Record, write_document
from jepsen_like.reigns import reigns
from jepsen_like.spans import NEVER, Span, spans
from jepsen_like.statistics import distribution

RESULTS = "results.json"
FORMAT = 1


class Promise(Record, frozen=True):
    """A promise of ``docs/consistency.md`` and what became of it."""

    name: str
    #: None: no checker had anything to look at, and the workload gives it nothing.
    valid: Valid | None
    checkers: list[str]


class Verb(Record, frozen=True):
    """What clients asked for by one name."""

    ok: int
    fail: int
    #: Nobody knows whether it happened.
    info: int
    latency_ms: dict[str, float]


class Results(Record, frozen=True, kw_only=True, omit_defaults=False):
    """All that is said about a run."""

    format: int = FORMAT
    valid: Valid
    run: dict[str, Any]
    #: ns: first and last instant of the evidence.
    from_at: int
    to_at: int
    promises: list[Promise]
    checkers: list[Verdict]
    operations: dict[str, Verb]
    attempts: int
    leader_changes: int
    #: How often a probe saw each fault.
    faults: dict[str, int]
    #: Faults that were asked for and could not be had -> why.
    faults_skipped: dict[str, str]
    #: Faults of which no probe said that they worked.
    faults_not_verified: int
    outages: list[Outage]


def results(evidence: Evidence, verdicts: list[Verdict]) -> Results:
    """The verdicts, with counts and times of what they rest on."""
    faults = spans(evidence.faults)
    from_at, to_at = stretch(evidence, faults)
    told = {name: getattr(evidence.run, name) for name in _OF_RUN}
    return Results(
        valid=overall(verdicts),
        run=told,
        from_at=from_at,
        to_at=to_at,
        promises=_promises(verdicts),
        checkers=verdicts,
        operations=_operations(evidence.calls),
        attempts=sum(len(runs) for runs in attempts(evidence.effects).values()),
        leader_changes=max(0, len(reigns(evidence.samples)) - 1),
        faults=dict(sorted(Counter(span.fault for span in faults if span.verified).items())),
        faults_skipped={f.fault: f.detail for f in evidence.faults if f.event == "skip"},
        faults_not_verified=sum(span.verified is not True for span in faults),
        outages=outages(evidence.calls, faults, to_at),
    )


_OF_RUN = (
    "workload",
    "nemesis",
    "seed",
    "time_limit_seconds",
    "peers",
    "backend",
    "lease_seconds",
    "dead",
)


def stretch(evidence: Evidence, faults: list[Span]) -> tuple[int, int]:
    """First and last instant of anything that was recorded."""
    instants = [phase.from_ for phase in evidence.run.phases]
    instants += [phase.to for phase in evidence.run.phases]
    instants += [call.invoked_at for call in evidence.calls]
    instants += [call.ended_at for call in evidence.calls if call.ended_at is not None]
    instants += [effect.at for effect in evidence.effects]
    instants += [sample.at for sample in evidence.samples]
    instants += [span.from_at for span in faults]
    instants += [span.to_at for span in faults if span.to_at != NEVER]
    return (min(instants), max(instants)) if instants else (0, 0)


def _promises(verdicts: list[Verdict]) -> list[Promise]:
    """In the order of the page that states them."""
    names = {checker.promise for checker in CHECKERS if checker.promise}
    found = []
    for name in sorted(names, key=lambda name: int(name[1:])):
        of_name = [verdict for verdict in verdicts if verdict.promise == name]
        was_seen = any(not v.vacuous or v.valid is not True for v in of_name)
        found.append(
            Promise(name, overall(of_name) if was_seen else None, [v.checker for v in of_name])
        )
    return found


def _operations(calls: tuple[Call, ...]) -> dict[str, Verb]:
    by_verb: dict[str, list[Call]] = {}
    for call in calls:
        is_local = call.value.get("consistency") == "local"
        by_verb.setdefault(f"{call.f}:local" if is_local else call.f, []).append(call)
    return {verb: _verb(of_verb) for verb, of_verb in sorted(by_verb.items())}


def _verb(calls: list[Call]) -> Verb:
    def count(outcome: Literal["ok", "fail", "info"]) -> int:
        return sum(call.outcome == outcome for call in calls)

    took = [(c.ended_at - c.invoked_at) / 1e6 for c in calls if c.is_ok and c.ended_at is not None]
    return Verb(count("ok"), count("fail"), count("info"), distribution(took))


def write_results(directory: Path, found: Results) -> None:
    """Write ``results.json`` into the run's directory."""
    write_document(directory / RESULTS, found)
