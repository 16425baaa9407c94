"""The control: stock PySyncObj breaks its promises in the simulated world, as it is known to.

A simulator that finds nothing here would prove nothing by finding nothing in ours.  Rates measured
over seeds 0-59 of 40 simulated seconds are in `docs/simulation.md`; the budgets leave a margin of
at least a thousand to one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.stock.simulation import StockResult, StockSimulation

#: Finding, profile, and the seeds (from 0 on) within which it must show.
BUDGETS = [
    ("S1", "net", 16),
    ("S1", "kill", 12),
    ("S2", "far", 4),
    ("S2", "lag", 6),
    ("S4", "single", 16),
    ("S4", "fork", 16),
    ("S5", "single", 16),
    ("S5", "fork", 16),
    ("S6", "power", 6),
]
SECONDS = 40.0


@pytest.mark.parametrize(("finding", "profile", "seeds"), BUDGETS)
def test_stock_library_breaks_its_promise(finding: str, profile: str, seeds: int) -> None:
    assert any(finding in result.findings for result in _results(profile, seeds))


def _results(profile: str, seeds: int) -> Iterator[StockResult]:
    return (StockSimulation(profile, seed, SECONDS).run() for seed in range(seeds))


def test_without_faults_nothing_is_found_and_work_is_done() -> None:
    """What is found comes from the faults (or the latency), not from how the control looks."""
    result = StockSimulation("calm", 0, SECONDS).run()
    assert not result.violations
    assert (result.leaders, result.exceptions, result.false_successes) == (1, 0, 0)
    assert result.acknowledged > 10 * SECONDS


def test_deposed_leader_tells_its_clients_success_of_what_never_happened() -> None:
    """S1 as a client sees it."""
    assert any("S1" in result.findings and result.false_successes for result in _results("net", 16))


@pytest.mark.parametrize("profile", ["net", "fork", "power"])
def test_same_seed_gives_the_same_run(profile: str) -> None:
    first, again, other = (StockSimulation(profile, seed, 15.0).run() for seed in (1, 1, 2))
    assert first == again
    assert first.trace != other.trace
