"""Replicas, leaders and logs."""

from __future__ import annotations

import pytest

from jepsen_like.checker import leaders, logs, replicas
from jepsen_like.checker.verdict import Verdict
from jepsen_like.evidence import PeerLog
from jepsen_like.history import Exit, FinalTask, Sample
from tests.jepsen.builders import MS, PEERS, evidence, fault, final, finals, leads, with_run

T = FinalTask("t", "succeeded", attempt=1)


def test_equal_replicas_pass() -> None:
    verdict = replicas.CHECKER(evidence(finals=finals(T)))
    assert (verdict.valid, verdict.checked["pairs"]) == (True, 2)


def test_another_digest_or_row_is_found_even_when_the_other_is_equal() -> None:
    digest = (final("n1", T), final("n2", T), final("n3", T, digest="d2"))
    (violation,) = replicas.CHECKER(evidence(finals=digest)).violations
    assert violation.ids == ["n1", "n3"]
    row = (final("n1", T), final("n2", FinalTask("t", "failed", attempt=1)), final("n3", T))
    (violation,) = replicas.CHECKER(evidence(finals=row)).violations
    assert violation.ids == ["n1", "n2", "t"]
    assert [record["state"] for record in violation.history] == ["succeeded", "failed"]


def test_replicas_at_different_indexes_say_nothing_for_sure() -> None:
    apart = (final("n1", T), final("n2", T), final("n3", applied=90, digest="d0"))
    verdict = replicas.CHECKER(evidence(finals=apart))
    assert (verdict.valid, verdict.checked["pairs"]) == ("unknown", 1)
    assert replicas.CHECKER(evidence(finals=finals(T)[:1])).valid == "unknown"
    nameless = (final("n1", T, digest=""), final("n2", T, digest=""))
    assert replicas.CHECKER(evidence(finals=nameless)).valid == "unknown"


def test_one_leader_a_term_passes_also_when_a_deposed_one_does_not_know_yet() -> None:
    samples = [*leads("n1", 3, 100, 900), *leads("n2", 4, 500, 1_000), *leads("n1", 5, 2_000)]
    verdict = leaders.CHECKER(evidence(samples=samples))
    assert (verdict.valid, verdict.measures["leader_changes"]) == (True, 2)


def test_two_leaders_of_a_term_are_found_however_far_apart() -> None:
    samples = [*leads("n1", 3, 100), *leads("n2", 3, 9_000)]
    (violation,) = leaders.CHECKER(evidence(samples=samples)).violations
    assert violation.says == "term 3 has two leaders, n1 and n2"
    unreachable = [*leads("n1", 3, 100), Sample(200 * MS, "n2", role="leader", term=3)]
    assert leaders.CHECKER(evidence(samples=unreachable)).valid is True


def test_two_leaders_of_a_term_are_found_in_their_logs() -> None:
    def judged(term: int) -> Verdict:
        line = "2026-11-22 06:00:51,414 INFO raft: leader in term {} (leader: {})"
        logs = tuple(
            PeerLog(peer, ("ready", line.format(n, peer))) for peer, n in (("n1", 3), ("n2", term))
        )
        return leaders.CHECKER(evidence(logs=logs, samples=leads("n1", 3, 100)))

    fine, broken = judged(4), judged(3)
    assert (fine.valid, fine.checked["elections_logged"]) == (True, 2)
    assert broken.violations[0].says.startswith("term 3 has two leaders by their logs, n1 and n2")


def logged(*lines: str) -> tuple[PeerLog, ...]:
    return (PeerLog("n1", lines), PeerLog("n2", ("ready",)), PeerLog("n3", ("ready",)))


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        "ERROR asyncio Task exception was never retrieved",
        "Fatal Python error: Segmentation fault",
        "ERROR pysyncobj truncating already-applied entries",
    ],
)
def test_what_no_log_may_have_is_found(line: str) -> None:
    (violation,) = logs.CHECKER(evidence(logs=logged("ready", line, "  more"))).violations
    assert violation.says.startswith("n1, line 2 of its log")
    assert "more" in violation.says


def test_one_exception_is_told_once() -> None:
    told = ("ERROR Task exception was never retrieved", "Traceback (most recent call last):", "  x")
    assert len(logs.CHECKER(evidence(logs=logged(*told))).violations) == 1


def test_a_fault_may_allow_an_exception_but_never_a_truncation() -> None:
    broken_disk = fault("fsync-eio", 0, 10, "n1", allows=["traceback", "exit"])
    raised = logged("Traceback (most recent call last):")
    assert logs.CHECKER(evidence(logs=raised, faults=broken_disk)).valid is True
    elsewhere = fault("fsync-eio", 0, 10, "n2", allows=["traceback"])
    assert logs.CHECKER(evidence(logs=raised, faults=elsewhere)).valid is False
    truncated = logged("truncating already-applied")
    assert logs.CHECKER(evidence(logs=truncated, faults=broken_disk)).valid is False


def test_a_peer_that_ends_by_itself_is_found() -> None:
    whole = evidence(faults=fault("fsync-eio", 10, 20, "n1", allows=["exit"]))
    asked = with_run(whole, exits=[Exit("n2", 5 * MS, -9, asked=True)])
    assert logs.CHECKER(asked).valid is True
    allowed = with_run(whole, exits=[Exit("n1", 15 * MS, 1)])
    assert logs.CHECKER(allowed).valid is True
    for ended in (Exit("n1", 5 * MS, 1), Exit("n2", 15 * MS, 0)):
        assert logs.CHECKER(with_run(whole, exits=[ended])).valid is False


def test_a_log_that_is_missing_or_cut_is_a_doubt() -> None:
    assert logs.CHECKER(evidence(logs=logged("ready")[:2])).valid == "unknown"
    cut = (PeerLog("n1", ("ready",), is_cut=True), *logged()[1:])
    assert logs.CHECKER(evidence(logs=cut)).valid == "unknown"
    assert PEERS == ["n1", "n2", "n3"]
