"""Bugs planted on purpose are found: the silence of the simulation about ours means something."""

from __future__ import annotations

import os

import pytest

from tests.planted import NOT_SIMULATED, PLANTED
from tests.simulation.mutants import MUTANTS, Mutant, hunt

#: A busy machine may take its time: only simulated time counts.
pytestmark = pytest.mark.timeout(600)
IS_SOAK = bool(os.environ.get("RAFTSCHED_SOAK"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_planted_bug_is_found(mutant: Mutant) -> None:
    """Within its budget, beginning at the seed that is known to show it; in the long form at 0."""
    tried, found = hunt(mutant, 0 if IS_SOAK else mutant.known_seed)
    assert found is not None, f"{mutant.name} ({mutant.breaks}) was not found in {tried} seeds"


def test_there_are_enough_of_them() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) >= 15 and sorted([*names, *NOT_SIMULATED]) == sorted(PLANTED)
