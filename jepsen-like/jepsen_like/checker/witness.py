"""G4, by the indexes: every answer is the row as of the index it names, and no answer is stale.

Linearizability asks whether *some* order explains the answers; the committed log says *which*
order there was, so this is judged without a search, for any number of operations:

1. An answer's index is no lower than that of any answer that was there before it was asked for
   (reads with ``consistency=local`` excepted).
2. The same for a task's ``modify_index``; and one ``modify_index`` is one row.
3. With ``log.jsonl``: what was answered is the row as of that index, for local reads as well, what
   was done or refused is so in the log, and what was written is there (`explained`).
"""

from __future__ import annotations

from collections.abc import Iterable

from jepsen_like.checker import explained
from jepsen_like.checker.explained import task_id_of
from jepsen_like.checker.verdict import Checker, Findings, workloads
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call

#: What answers with the state of one task.
ABOUT_ONE = frozenset({"submit", "cancel", "retry", "read", "pause", "resume", "final"})


def look(evidence: Evidence, findings: Findings) -> None:
    answers = [call for call in evidence.calls if call.is_ok and call.ended_at is not None]
    refusals = [call for call in evidence.calls if call.outcome == "fail" and call.index]
    indexed = [call for call in answers if call.index is not None]
    findings.saw("answers", len(indexed))
    _rises("index", ((call, call.index or 0) for call in indexed), findings)
    versions: dict[str, list[tuple[Call, int]]] = {}
    for call in answers:
        version = call.answer.get("modify_index")
        if call.f in ABOUT_ONE and version is not None:
            versions.setdefault(task_id_of(call), []).append((call, int(version)))
    for task_id, of_task in sorted(versions.items()):
        findings.saw("versions", len(of_task))
        _rises(f"modify_index of {task_id}", of_task, findings)
        _one_row(task_id, of_task, findings)
    explained.look(evidence, [call for call in answers if call.f in ABOUT_ONE], refusals, findings)


def _is_local(call: Call) -> bool:
    return call.f in ("read", "final") and call.value.get("consistency") == "local"


def _rises(name: str, numbered: Iterable[tuple[Call, int]], findings: Findings) -> None:
    """No number is below one that was there before it was asked for."""
    pairs = list(numbered)
    ended = sorted(pairs, key=lambda pair: pair[0].ended_at or 0)
    place, highest = 0, None
    for call, number in sorted(pairs, key=lambda pair: pair[0].invoked_at):
        while place < len(ended) and (ended[place][0].ended_at or 0) < call.invoked_at:
            if highest is None or ended[place][1] > highest[1]:
                highest = ended[place]
            place += 1
        if highest is not None and number < highest[1] and not _is_local(call):
            findings.broken(
                f"stale: {call.f} at {call.peer} answered with {name} {number}, after "
                f"{highest[0].peer} had answered with {highest[1]}",
                [highest[0].ended_at or 0, call.invoked_at],
                [task_id_of(call)],
                [highest[0], call],
            )


def _one_row(task_id: str, versions: list[tuple[Call, int]], findings: Findings) -> None:
    rows: dict[int, Call] = {}
    for call, version in versions:
        first = rows.setdefault(version, call)
        same = ("state", "attempt")
        if any(first.answer.get(word) != call.answer.get(word) for word in same):
            findings.broken(
                f"task {task_id} was shown as two rows with modify_index {version}: "
                f"{first.answer.get('state')} and {call.answer.get('state')}",
                [first.ended_at or 0, call.ended_at or 0],
                [task_id],
                [first, call],
            )


CHECKER = Checker(
    "witness",
    "G4",
    "answers",
    workloads("tasks", "register", "mixed"),
    look,
    "Was every answer the row as of its index, and none older than what was known before?",
)
