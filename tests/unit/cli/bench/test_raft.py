"""The arithmetic of ``raftsched bench raft``, its callers, and one small run of real peers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftsched.cli.bench import figures
from raftsched.cli.bench.command import bench
from raftsched.cli.bench.raft.load import Gatherer, Lost, Shape, run_callers
from raftsched.cli.bench.raft.machine import BenchMachine, churn_entry, plain_entry, submit_entry
from raftsched.peer.sizes import ENTRY_ITEMS_MAX
from raftsched.raft.log import LogFull, NotLeader
from tests.ports import row_of_ports

# Figures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [
        ([], 50, 0.0),
        ([7.0], 99, 7.0),
        ([1.0, 2.0], 50, 1.0),
        ([1.0, 2.0, 3.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 102)], 99, 100.0),
        ([float(n) for n in range(1, 101)], 100, 100.0),
    ],
)
def test_percentile_is_the_nearest_rank(
    samples: list[float], percent: float, expected: float
) -> None:
    assert figures.percentile(samples, percent) == expected


def test_spread_does_not_care_for_order() -> None:
    found = figures.spread([3.0, 1.0, 2.0, 10.0])
    assert found == {"p50": 2.0, "p99": 10.0, "longest": 10.0, "samples": 4}


def test_best_run_is_the_highest_rate_and_the_lowest_latency() -> None:
    assert figures.runs([3, 1, 2], "per second")["best"] == 3
    assert figures.runs([3, 1, 2], "ms", least_is_best=True)["best"] == 1
    assert figures.runs([3, 1, 2], "ms")["median"] == 2


@pytest.mark.parametrize(("value", "met"), [(9.0, False), (10.0, True), (11.0, True)])
def test_bar_says_whether_it_is_met(value: float, met: bool) -> None:
    assert figures.bar(value, 10)["is_met"] is met
    assert figures.bar(-value, -10, at_most=True)["is_met"] is met


def test_longest_delay_of_a_span_is_of_those_that_touch_it() -> None:
    delays = [(1.0, 900.0, 1.0), (2.05, 100.0, 3.0), (2.5, 20.0, 20.0), (4.0, 500.0, 5.0)]
    assert figures.longest_within(delays, 2.0, 3.0) == {"longest_ms": 100.0, "busiest_ms": 20.0}
    assert figures.longest_within(delays, 5.0, 6.0) == {"longest_ms": 0.0, "busiest_ms": 0.0}


# Callers -----------------------------------------------------------------------------------------


class FakeLog:
    """Notes how many commands each entry has."""

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.refuse: Exception | None = None

    def propose(self, count: int) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.entries.append(count)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_commands_of_one_pass_share_an_entry_and_large_requests_take_several() -> None:
    log = FakeLog()
    gatherer = Gatherer(log.propose, is_grouped=True)
    small = [asyncio.ensure_future(gatherer.commit(1)) for _ in range(3)]
    large = asyncio.ensure_future(gatherer.commit(ENTRY_ITEMS_MAX + 5))
    await settle()
    assert log.entries == [ENTRY_ITEMS_MAX, 8]
    gatherer.applied()
    await settle()
    assert all(caller.done() for caller in small) and not large.done()
    gatherer.applied()
    await large
    assert gatherer.done == ENTRY_ITEMS_MAX + 8


async def test_a_few_entries_are_in_flight_and_the_next_goes_when_one_is_applied() -> None:
    log = FakeLog()
    gatherer = Gatherer(log.propose, is_grouped=True, items_max=10)
    caller = asyncio.ensure_future(gatherer.commit(60))
    await settle()
    assert log.entries == [10] * 4
    gatherer.applied()
    await settle()
    assert log.entries == [10] * 5
    caller.cancel()


async def test_without_grouping_each_command_is_an_entry() -> None:
    log = FakeLog()
    gatherer = Gatherer(log.propose, is_grouped=False)
    callers = [asyncio.ensure_future(gatherer.commit(3)) for _ in range(4)]
    await settle()
    assert log.entries == [1] * 12
    for _ in range(12):
        gatherer.applied()
    await asyncio.gather(*callers)


async def test_what_a_full_log_refuses_is_proposed_again_in_order() -> None:
    log = FakeLog()
    log.refuse = LogFull("full")
    gatherer = Gatherer(log.propose, is_grouped=True, items_max=4)
    callers = [asyncio.ensure_future(gatherer.commit(count)) for count in (3, 3)]
    await settle()
    log.refuse = None
    async with asyncio.timeout(5):
        while log.entries != [4, 2]:
            await asyncio.sleep(0.001)
    gatherer.applied()
    await settle()
    assert [caller.done() for caller in callers] == [True, False]
    gatherer.applied()
    await asyncio.gather(*callers)


async def test_callers_of_a_leader_that_lost_hear_so_and_stop() -> None:
    log = FakeLog()
    gatherer = Gatherer(log.propose, is_grouped=True)
    waiting = asyncio.ensure_future(gatherer.commit(1))
    await settle()
    gatherer.lose()
    with pytest.raises(Lost):
        await waiting
    log.refuse = NotLeader()
    latencies: list[float] = []
    async with asyncio.timeout(5):
        await run_callers(gatherer, Shape(3, 1, True), float("inf"), latencies)
    assert latencies == []


# The state ---------------------------------------------------------------------------------------


def test_entries_do_to_the_state_what_they_say() -> None:
    machine = BenchMachine("bench")
    told: list[tuple[int, int]] = []
    machine.on_applied = lambda term, owner: told.append((term, owner))
    machine.apply(2, 1, submit_entry("n1", 1, 50))
    machine.apply(3, 1, churn_entry("n1", 1, 20))
    machine.apply(4, 1, plain_entry(77, 5))
    state = machine.replica.state
    assert (len(state.tasks), state.open_count, state.index) == (50, 50, 4)
    assert told == [(1, 0), (1, 0), (1, 77)]


# All of it ---------------------------------------------------------------------------------------


def test_small_run_measures_real_peers(tmp_path: Path) -> None:
    port = row_of_ports(9)
    arguments = ["raft", "--only", "reads", "--only", "failover", "--seconds", "0.2"]
    arguments += ["--rounds", "1", "--kills", "1", "--directory", str(tmp_path)]
    result = CliRunner().invoke(bench, [*arguments, "--base-port", str(port)])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["reads"]["alone"]["per_second"]["median"] > 0
    assert report["failover"]["seconds"]["samples"] == 1
    assert report["failover"]["terms"]["p50"] >= 1
    assert set(report["failover"]["bars"]) == {"median seconds", "p99 seconds"}
    assert list(tmp_path.iterdir()) == []
