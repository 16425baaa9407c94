"""G2: a submission repeated with the same key takes effect once, on any peer."""

from __future__ import annotations

from itertools import pairwise

from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call


def look(evidence: Evidence, findings: Findings) -> None:
    present = {task.id: task for final in evidence.finals for task in final.tasks}
    by_key: dict[tuple[str, str], list[Call]] = {}
    for call in evidence.calls:
        key = str(call.value.get("key") or "")
        if call.f in ("submit", "retry") and key:
            by_key.setdefault((call.f, key), []).append(call)
    for (_, key), calls in sorted(by_key.items()):
        findings.saw("keys")
        done = [call for call in calls if call.is_ok]
        findings.saw("keys_repeated", int(len(calls) > 1))
        findings.saw("keys_at_two_peers_at_once", int(_at_once(calls)))
        findings.saw("repeats_acknowledged", max(0, len(done) - 1))
        ids = sorted({str(call.answer.get("id") or call.id) for call in done})
        if len(ids) > 1:
            findings.broken(
                f"key {key} was answered with {len(ids)} tasks: {', '.join(ids)}",
                [call.ended_at or 0 for call in done],
                [key, *ids],
                done,
            )
        first = [call for call in done if call.answer.get("replayed") is False]
        if len(first) > 1:
            findings.broken(
                f"key {key} took effect {len(first)} times: that often the answer was not one "
                "to an earlier request",
                [call.ended_at or 0 for call in first],
                [key, *ids],
                first,
            )
        asked = sorted({str(call.value["id"]) for call in calls if call.value.get("id")})
        there = [task_id for task_id in asked if task_id in present]
        if calls[0].f == "submit" and len(there) > 1:
            findings.broken(
                f"key {key} made {len(there)} tasks: {', '.join(there)}",
                [call.invoked_at for call in calls],
                [key, *there],
                [*calls, *[present[task_id] for task_id in there]],
            )


def _at_once(calls: list[Call]) -> bool:
    return any(
        one.peer != two.peer and two.invoked_at < (one.ended_at or two.invoked_at + 1)
        for one, two in pairwise(calls)
    )


CHECKER = Checker(
    "once",
    "G2",
    "keys",
    workloads("tasks", "mixed"),
    look,
    "Did a repeated submission take effect once?",
)
