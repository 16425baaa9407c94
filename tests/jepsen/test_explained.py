"""Answers that only the committed log can refute."""

from __future__ import annotations

from typing import Any

import pytest

from jepsen_like.checker import CHECKERS, replicas
from jepsen_like.checker.verdict import Verdict
from jepsen_like.checker.witness import CHECKER
from jepsen_like.history import Call, LogEntry, Ordered, Position, Replayed, Row
from tests.jepsen.builders import call, evidence, final, finals, read, submit, with_run

#: What a change of a task's row left, beside state and attempt.
FIRST = {"modify_index": 5, "token": None, "node": None, "paused": False}
RUNS = {"modify_index": 8, "token": 3, "node": "n2", "paused": False}
LOG = [
    LogEntry(1),
    LogEntry(5, {"t": Row("queued", 0, FIRST)}),
    LogEntry(7, {}, [Ordered("PauseTask", "n1", True, ["t"])]),
    LogEntry(8, {"t": Row("running", 1, RUNS)}),
    LogEntry(9, {}, [Ordered("CancelTask", "n1", False, ["u"], "unknown-task")]),
    LogEntry(12, {"t": Row("succeeded", 1)}, [Ordered("CancelTask", "n2", True, ["t"])]),
    LogEntry(20, {"t": None}),
]


def judged(*calls: Call, log: list[LogEntry] | None = LOG, **parts: Any) -> Verdict:
    return CHECKER(evidence(calls=list(calls), log=log, **parts))


def verb(f: str, at: float, index: int, peer: str = "n1") -> Call:
    """One that was done to ``t``."""
    return call(f, at, at + 5, {"id": "t"}, {"id": "t"}, index=index, peer=peer)


def refused(f: str, at: float, code: str, index: int, task: str = "t") -> Call:
    return call(f, at, at + 5, {"id": task}, None, index=index, error={"code": code})


@pytest.mark.parametrize(
    "wrong",
    [{"token": 2}, {"node": "n1"}, {"modify_index": 7}, {"paused": True}, {"attempt": 2}],
)
def test_any_field_that_is_not_the_row_s_is_found_though_nobody_contradicts_it(
    wrong: dict[str, Any],
) -> None:
    right = {"attempt": 1, **RUNS}
    good = read("t", 0, 10, "running", index=10, answer=right)
    assert judged(good).valid is True
    bad = read("t", 0, 10, "running", index=10, answer={**right, **wrong})
    whole = evidence(calls=[submit("t", -9, -5), bad], log=LOG)
    broken = [checker.name for checker in CHECKERS if checker(whole).valid is False]
    assert broken == ["witness"]
    (name,) = wrong
    assert f"{name} {wrong[name]!r} where the log has" in CHECKER(whole).violations[0].says


def test_a_stale_answer_under_a_new_index_is_found_with_nobody_to_contradict_it() -> None:
    behind = read("t", 0, 10, "queued", index=8, answer={"attempt": 0})
    assert CHECKER(evidence(calls=[behind])).valid is True
    (violation,) = judged(behind).violations
    assert "answered at index 8 state 'queued' where the log has 'running'" in violation.says
    assert [record["record"] for record in violation.history] == ["call", "row"]


def test_a_local_read_is_the_row_as_of_the_index_it_names() -> None:
    old = read("t", 0, 10, "queued", index=6, consistency="local")
    new = read("t", 0, 10, "queued", index=8, consistency="local")
    assert (judged(old).valid, judged(new).valid) == (True, False)


def test_what_was_done_is_in_the_log_behind_all_that_was_known() -> None:
    verdict = judged(verb("pause", 0, 7), verb("cancel", 20, 13, "n2"))
    assert (verdict.valid, verdict.checked["commands_found"]) == (True, 2)
    for wrong in (
        [verb("resume", 0, 7)],
        [verb("pause", 0, 6)],
        [verb("pause", 0, 7, "n3")],
        [read("t", 0, 5, "running", index=8), verb("pause", 10, 9)],
    ):
        (violation,) = judged(*wrong).violations
        assert "was acknowledged by" in violation.says, violation.says


def test_what_was_refused_and_is_only_rejected_in_the_log_was_not_done() -> None:
    log = [LogEntry(1), LogEntry(2, {}, [Ordered("PauseTask", "n1", False, ["t"], "x")])]
    assert judged(verb("pause", 0, 2), log=log).valid is False


@pytest.mark.parametrize(
    ("code", "index", "valid"),
    [
        ("unknown-task", 4, True),
        ("unknown-task", 8, True),
        ("unknown-task", 20, True),
        ("task-terminal", 12, True),
        ("task-terminal", 11, False),
        ("task-succeeded", 15, True),
        ("task-succeeded", 8, False),
        ("task-not-terminal", 8, True),
        ("no-leader", 8, True),
    ],
)
def test_a_refusal_is_what_the_task_was(code: str, index: int, valid: bool) -> None:
    assert (not judged(refused("cancel", 0, code, index)).violations) is valid


def test_a_refusal_may_not_rest_on_what_was_known_to_be_past() -> None:
    known = read("t", 0, 10, "running", index=8)
    late = refused("cancel", 20, "unknown-task", 9)
    (violation,) = judged(known, late).violations
    assert "refused at index 9 with unknown-task, where the log has running" in violation.says
    # Asked at once it may have been refused before the task was there.
    assert judged(known, refused("cancel", 5, "unknown-task", 9)).valid is True


#: Begins behind a snapshot.
TAIL = [
    LogEntry(101),
    LogEntry(105, {"t": Row("running", 1)}),
    LogEntry(109, {"t": Row("succeeded", 1)}),
]


def test_what_a_compacted_log_does_not_tell_is_not_compared() -> None:
    verdict = judged(
        submit("old", 0, 10),
        read("t", 20, 30, "queued", index=102),
        read("t", 40, 50, "running", index=106),
        read("u", 60, 70, "running", index=109),
        read("t", 80, 90, "succeeded", index=110),
        refused("cancel", 95, "task-terminal", 109, "u"),
        log=TAIL,
    )
    assert not verdict.violations
    assert verdict.checked["answers_replayed"] == 1
    assert verdict.checked["answers_outside_the_log"] == 3
    assert verdict.measures["share_replayed"] == 0.25
    wrong = read("t", 0, 10, "queued", index=106)
    assert judged(wrong, log=TAIL).valid is False


def test_a_run_of_which_too_little_can_be_compared_is_in_doubt() -> None:
    calls = [read("t", 0, 10, "running", index=8), read("t", 20, 30, "succeeded", index=21)]
    whole = evidence(calls=calls, log=LOG)
    verdict = CHECKER(whole)
    assert verdict.valid == "unknown"
    assert verdict.doubts == ["only 1 of 2 answers could be compared with the log"]
    small = with_run(whole, presets={"module": {}})
    assert CHECKER(small).valid is True


def test_a_program_without_the_command_is_told_and_no_doubt() -> None:
    seen = read("t", 0, 10, "running", index=8)
    none = tuple(
        Replayed(peer, why_not="exit code 2: no such command", is_impossible=True)
        for peer in ("n1", "n2", "n3")
    )
    verdict = judged(seen, log=None, replayed=none)
    assert verdict.valid is True
    assert verdict.measures["replay"].startswith("not available (n1: exit code 2: no such")
    assert judged(seen, log=None).measures["replay"] == "not available (nobody asked for it)"


def test_a_log_that_cannot_be_had_is_a_doubt_unless_its_peer_is_dead() -> None:
    whole = evidence(
        calls=[read("t", 0, 10, "running", index=8)],
        log=LOG,
        replayed=[Replayed("n1", why_not="exit code 14: damaged")],
    )
    assert CHECKER(whole).doubts == [
        "the log of n1 could not be applied again: exit code 14: damaged"
    ]
    assert CHECKER(with_run(whole, dead=["n1"])).valid is True


def positions(*sums: str, first: int = 1, term: int = 1) -> list[Position]:
    return [Position(first + number, term, sum_) for number, sum_ in enumerate(sums)]


def test_logs_that_differ_where_both_were_applied_are_found() -> None:
    one, two = Replayed("n1", positions(*"abc")), Replayed("n2", positions(*"abx"))
    alike = (final("n1", applied=2), final("n2", applied=2))
    verdict = replicas.CHECKER(evidence(finals=alike, replayed=(one, two)))
    assert (verdict.valid, verdict.checked["entries"]) == (True, 2)
    both = tuple(final(peer, applied=3) for peer in ("n1", "n2"))
    (violation,) = replicas.CHECKER(evidence(finals=both, replayed=(one, two))).violations
    assert violation.ids == ["n1", "n2"]
    assert "not the same from index 3 on" in violation.says


def test_logs_that_begin_elsewhere_are_compared_where_they_overlap() -> None:
    logs = (
        Replayed("n1", positions(*"abcd")),
        Replayed("n2", positions(*"cd", first=3)),
        Replayed("n3", positions(*"bcd", first=2, term=2)),
    )
    (violation,) = replicas.CHECKER(evidence(finals=finals(), replayed=logs)).violations
    assert violation.ids == ["n2", "n3"]
    assert "terms 1 and 2" in violation.says
    assert replicas.CHECKER(evidence(finals=finals(), replayed=logs[:2])).valid is True


def test_an_answer_and_a_snapshot_prove_that_an_entry_was_applied() -> None:
    one, two = Replayed("n1", positions(*"ab")), Replayed("n2", positions(*"ax"))
    answers = [read("t", 0, 10, "queued", index=2, peer=peer) for peer in ("n1", "n2")]
    differ = "not the same from index 2"
    told = replicas.CHECKER(evidence(calls=answers, replayed=(one, two)))
    assert differ in told.violations[0].says
    snapshots = (Replayed("n1", one.entries, 2), Replayed("n2", two.entries, 2))
    assert differ in replicas.CHECKER(evidence(replayed=snapshots)).violations[0].says
    assert not replicas.CHECKER(evidence(replayed=(one, two))).violations
