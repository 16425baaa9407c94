"""Peers that end by themselves: allowed while a fault stands that may do that, and not after it."""

from __future__ import annotations

import pytest

from jepsen_like.checker.logs import CHECKER
from jepsen_like.history import Exit
from tests.jepsen.builders import MS, evidence, fault, run


@pytest.mark.parametrize(
    ("peer", "at", "asked", "is_broken"),
    [
        ("n1", 12_500, False, False),
        ("n1", 11_000, False, True),
        ("n1", 19_000, False, True),
        ("n2", 12_500, False, True),
        ("n2", 19_000, True, False),
    ],
)
def test_end_is_allowed_to_the_target_of_a_fault_that_allows_it_while_it_stands(
    peer: str, at: int, asked: bool, is_broken: bool
) -> None:
    faults = fault("eio-fsync", 12_000, 14_000, "n1", allows=["exit:70"])
    ended = run("tasks", exits=[Exit(peer, at * MS, 70, asked)])
    verdict = CHECKER(evidence("tasks", faults=faults, run=ended))
    assert (verdict.valid is False) == is_broken


@pytest.mark.parametrize("code", [1, 14, -11, 0])
def test_end_with_another_code_than_the_one_that_is_documented_is_found(code: int) -> None:
    ended = run("tasks", exits=[Exit("n1", 12_500 * MS, code)])
    for allows, valid in ((["exit:70"], False), (["exit"], True)):
        faults = fault("eio-fsync", 12_000, 14_000, "n1", allows=allows)
        assert CHECKER(evidence("tasks", faults=faults, run=ended)).valid is valid
