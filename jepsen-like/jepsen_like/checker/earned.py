"""A pass must be earned: did the run do, break and see enough for its verdicts to mean anything?

This never finds a promise broken; it says ``"unknown"``, which fails the run.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from jepsen_like.attempts import attempts
from jepsen_like.checker.verdict import Checker, Findings, always
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Phase
from jepsen_like.reigns import reigns
from jepsen_like.spans import NEVER, Span, spans

#: An attempt this close to a fault was in flight: beats are 50 ms apart.
NEAR_NS = 150_000_000
#: What was broken off less than so long before need not run again when the next fault begins.
AFTER_NS = 5_000_000_000
#: Workloads whose tasks never run.
WITHOUT_ATTEMPTS = frozenset({"register"})
#: Statuses by which a cluster that works says no: 404, 409, 410, 412, 422; not *not now* (429).
REFUSALS = frozenset({404, 409, 410, 412, 422})


def look(evidence: Evidence, findings: Findings) -> None:
    if evidence.run.trouble:
        findings.doubt(f"the run did not come to its end: {evidence.run.trouble}")
    run = evidence.run
    faults = spans(evidence.faults)
    findings.saw("operations_ok", sum(call.is_ok for call in evidence.calls))
    for name in ("before", "during", "healed") if faults else ("healed",):
        phase = run.phase(name)
        if phase is None:
            findings.doubt(f"run.json has no phase {name!r}")
        else:
            _phase(evidence, phase, findings)
    _faults(evidence, faults, findings)
    changes = max(0, len(reigns(evidence.samples)) - 1)
    wanted = run.earn.leader_changes
    wanted = int(bool(faults)) if wanted is None else wanted
    findings.saw("leader_changes", changes)
    findings.measures["leader_changes_asked_for"] = wanted
    if changes < wanted:
        findings.doubt(f"leadership changed {changes} times; at least {wanted} are asked for")
    in_flight = run.earn.in_flight
    if run.workload not in WITHOUT_ATTEMPTS if in_flight is None else in_flight:
        _in_flight(evidence, faults, findings)
    _last(evidence, findings)


def _phase(evidence: Evidence, phase: Phase, findings: Findings) -> None:
    done = sum(
        call.is_ok and phase.from_ <= (call.ended_at or 0) <= phase.to for call in evidence.calls
    )
    findings.saw(f"operations_{phase.name}", done)
    if done < evidence.run.earn.operations:
        findings.doubt(
            f"{done} operations succeeded in phase {phase.name!r}; "
            f"at least {evidence.run.earn.operations} are asked for"
        )


def _faults(evidence: Evidence, faults: list[Span], findings: Findings) -> None:
    findings.saw("faults", len(faults))
    for span in faults:
        if span.verified is False:
            findings.doubt(
                f"{span.fault} of {', '.join(span.targets) or 'nobody'} was not what a probe saw"
                + (f": {span.detail}" if span.detail else "")
            )
        elif span.verified is None:
            findings.saw("faults_not_probed")
    if faults and all(span.verified is None for span in faults):
        findings.doubt("no probe saw any of the faults")
    skipped = sorted({event.fault for event in evidence.faults if event.event == "skip"})
    findings.measures["faults_skipped"] = skipped
    asked = [name for name in evidence.run.nemesis if name not in ("", "none")]
    if asked and not faults and not skipped:
        findings.doubt(f"asked for {', '.join(asked)}, and no fault was recorded")
    if asked and not faults and skipped:
        findings.doubt(f"all that was asked for was skipped: {', '.join(skipped)}")
    for span in faults:
        if span.to_at == NEVER and not set(span.targets) <= set(evidence.run.dead):
            findings.doubt(f"{span.fault} of {', '.join(span.targets)} was never healed")


def _in_flight(evidence: Evidence, faults: list[Span], findings: Findings) -> None:
    """Was an attempt running when each fault began, or had just been broken off by another?"""
    runs = [run for tries in attempts(evidence.effects).values() for run in tries]
    begins = sorted(run.from_at for run in runs)
    ends = sorted(run.to_at for run in runs)
    broken_off = sorted(run.to_at for run in runs if run.ended_at is None)
    for span in faults:
        begun = bisect_right(begins, span.from_at + NEAR_NS)
        over = bisect_left(ends, span.from_at - NEAR_NS)
        last = bisect_left(broken_off, span.from_at)
        if begun > over:
            findings.saw("faults_with_attempts")
        elif last and broken_off[last - 1] >= span.from_at - AFTER_NS:
            findings.saw("faults_behind_others")
        else:
            findings.doubt(
                f"no attempt was running when {span.fault} of {', '.join(span.targets)} began"
            )


def _last(evidence: Evidence, findings: Findings) -> None:
    """The cluster was left working: the last operation succeeded."""
    ended = [call for call in evidence.calls if call.ended_at is not None]
    last = max(ended, key=lambda call: call.ended_at or 0, default=None)
    if last is None:
        findings.doubt("no operation ended")
    elif not _is_answered(last):
        findings.doubt(f"the last operation ({last.f} at {last.peer}) did not succeed")
    elif any(
        call.invoked_at > last.invoked_at for call in evidence.calls if not _is_answered(call)
    ):
        findings.doubt("an operation asked for after the last success has not succeeded")


def _is_answered(call: Call) -> bool:
    """A cluster that works refuses what cannot be, such as the pause of what has ended."""
    return call.is_ok or (call.error or {}).get("status") in REFUSALS


CHECKER = Checker(
    "earned",
    "",
    "operations_ok",
    always,
    look,
    "Did the run do, break and see enough for a pass to mean anything?",
)
