"""The leader's clock: what an entry begins with, and what if it is alone with its clock."""

from __future__ import annotations

import logging

import pytest

from raftsched.core import codec
from raftsched.core.commands import ENTRY_VERSION, Batch, Entry, ResetClock
from raftsched.core.machine import CLOCK_SKEW_MS_MAX
from raftsched.peer.replica import Replica
from raftsched.peer.stamping import JUMP_SECONDS, Head
from raftsched.peer.timekeeping import (
    AHEAD_MS_MAX,
    ALARM_SECONDS,
    HAND_OVER_EVERY_SECONDS,
    Timekeeper,
)
from raftsched.raft.log import NoQuorum, PeerView

START_MS = 1_700_000_000_000


class Clock:
    """Two clocks that the test moves."""

    def __init__(self) -> None:
        self.wall = START_MS
        self.seconds = 50.0

    def wall_ms(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.wall += round(1_000 * seconds)
        self.seconds += seconds


class Log:
    """What a timekeeper asks of a log."""

    def __init__(self) -> None:
        self.views: dict[str, PeerView] = {}
        self.asked: list[str | None] = []
        self.refuses = False

    def peer_views(self) -> dict[str, PeerView]:
        return self.views

    async def transfer_leadership(self, target: str | None, timeout_seconds: float) -> str:
        self.asked.append(target)
        if self.refuses:
            raise NoQuorum("nobody took over")
        return target or ""


class Bench:
    """The timekeeper of ``n1`` among three, version 3 in force."""

    def __init__(self, *others: str, version: int = ENTRY_VERSION) -> None:
        self.clock, self.log, self.replica = Clock(), Log(), Replica("c")
        self.replica.state.version = version
        self.keeper = Timekeeper(self.replica, self.log, self.clock, lambda: others)  # type: ignore[arg-type]
        self.replica.listeners.append(lambda entry, applied: self.keeper.applied(entry))
        self.replica.restore_listeners.append(self.keeper.restored)
        self.off_ms: dict[str, int] = dict.fromkeys(others, 0)

    def probe(self) -> None:
        """The other clocks, as far off as ``off_ms`` says, are measured anew."""
        at = self.clock.seconds
        self.log.views = {
            peer: PeerView(at, START_MS + off_ms - 50_000, 1.0, at, {})
            for peer, off_ms in self.off_ms.items()
        }

    def apply(self, *commands: ResetClock) -> Head:
        """An entry as the leader would make it now, applied."""
        head, index = self.keeper.head(), self.replica.state.index + 1
        batch = Batch("n1", 1, index, commands)
        entry = Entry(head.version, 1, head.now, (batch,), head.agreed)
        self.replica.apply(index, 1, codec.encode_entry(entry))
        return head

    async def watch(self, seconds: float) -> None:
        """The leader looks at its clock a few times a second, for so long."""
        for _ in range(round(4 * seconds)):
            self.clock.pass_(0.25)
            self.probe()
            await self.keeper.watch()


def three(**fields: int) -> Bench:
    bench = Bench("n2", "n3", **fields)
    bench.probe()
    return bench


def test_an_entry_begins_with_the_version_in_force_and_the_agreed_time() -> None:
    assert three().keeper.head() == Head(ENTRY_VERSION, START_MS, True)


@pytest.mark.parametrize("version", [1, 2])
def test_an_entry_of_a_version_before_says_nothing_of_agreement(version: int) -> None:
    bench = three(version=version)
    bench.log.views.clear()
    assert bench.apply() == Head(2, START_MS, False)
    assert bench.keeper.head() == Head(2, START_MS, False)


def test_a_leaders_clock_that_jumps_is_not_written_from_that_moment_on() -> None:
    bench = three()
    bench.apply()
    bench.clock.wall += 3_600_000
    bench.clock.pass_(0.5)
    assert bench.apply() == Head(ENTRY_VERSION, START_MS + 500, False)
    assert bench.replica.state.now == START_MS + 500


def test_a_follower_that_becomes_leader_reckons_from_what_it_applied_last() -> None:
    bench = three()
    bench.apply()
    bench.log.views.clear()
    bench.clock.pass_(60)
    assert bench.keeper.head() == Head(ENTRY_VERSION, START_MS + 60_000, False)


def test_a_state_of_a_snapshot_is_reckoned_from() -> None:
    bench, source = three(), Replica("c")
    source.state.now, source.state.version = START_MS + 9_000, ENTRY_VERSION
    bench.log.views.clear()
    bench.replica.restore(5, source.begin_snapshot())
    bench.clock.pass_(1)
    assert bench.keeper.head() == Head(ENTRY_VERSION, START_MS + 10_000, False)


def test_a_clock_that_was_set_back_goes_on_from_there() -> None:
    bench = three()
    bench.apply()
    bench.log.views.clear()
    to = START_MS - 3_600_000
    bench.apply(ResetClock(to))
    assert bench.replica.state.now == to
    bench.clock.pass_(1)
    assert bench.keeper.head() == Head(ENTRY_VERSION, to + 1_000, False)


def test_a_reset_is_logged_on_every_peer_with_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    bench = three()
    bench.apply()
    with caplog.at_level(logging.WARNING):
        bench.apply(ResetClock(START_MS - 1_000, "operator"))
    [record] = caplog.records
    assert "from 2023-11-14T22:13:20.000+00:00 to 2023-11-14T22:13:19.000+00:00" in record.message
    assert "by operator through peer n1" in record.message


async def test_a_clock_that_is_alone_is_an_alarm_once_and_leadership_goes_to_a_better_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = three()
    bench.off_ms = {"n2": 10_000, "n3": 10_100}
    await bench.watch(ALARM_SECONDS - 1)
    assert (bench.keeper.disagrees, bench.log.asked, caplog.records) == (False, [], [])
    await bench.watch(2)
    assert (bench.keeper.disagrees, bench.log.asked) == (True, ["n2"])
    alarms = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert len(alarms) == 1
    assert "n2 +10.0 s, n3 +10.1 s" in alarms[0]


async def test_leadership_is_not_handed_over_again_and_again() -> None:
    bench = three()
    bench.log.refuses = True
    bench.off_ms = {"n2": 10_000, "n3": 10_000}
    await bench.watch(ALARM_SECONDS + HAND_OVER_EVERY_SECONDS - 1)
    assert len(bench.log.asked) == 1
    await bench.watch(3)
    assert len(bench.log.asked) == 2


async def test_nobody_takes_over_when_no_clock_is_better() -> None:
    bench = three()
    bench.off_ms = {"n2": 10_000, "n3": -10_000}
    await bench.watch(ALARM_SECONDS + 2)
    assert (bench.keeper.disagrees, bench.log.asked) == (True, [])


async def test_an_alarm_ends_when_a_majority_agrees_or_another_leads() -> None:
    bench = three()
    bench.off_ms = {"n2": 10_000, "n3": -10_000}
    await bench.watch(ALARM_SECONDS + 2)
    bench.off_ms["n3"] = CLOCK_SKEW_MS_MAX // 2
    await bench.watch(0.5)
    assert not bench.keeper.disagrees
    bench.off_ms["n3"] = 10_000
    await bench.watch(ALARM_SECONDS + 2)
    assert bench.keeper.disagrees
    bench.keeper.deposed()
    assert not bench.keeper.disagrees


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.levelno == logging.ERROR]


async def test_time_that_stands_still_is_an_alarm_once_with_what_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = three()
    state = bench.replica.state
    state.now = START_MS + AHEAD_MS_MAX
    await bench.watch(1)
    assert (bench.keeper.stands_still, errors_of(caplog)) == (False, [])
    state.now = bench.clock.wall + 60_250
    await bench.watch(10)
    assert bench.keeper.stands_still
    [alarm] = errors_of(caplog)
    assert "60.0 s ahead of the clocks and stands still until 2023-11-14T22:14:21.250" in alarm
    assert "'raftsched cluster reset-clock' ends it" in alarm
    state.now = bench.clock.wall
    await bench.watch(1)
    assert not bench.keeper.stands_still


async def test_time_that_goes_on_by_the_monotonic_clock_does_not_stand_still() -> None:
    bench = three()
    bench.replica.state.now = START_MS + 60_000
    await bench.watch(1)
    bench.off_ms = {"n2": 10_000, "n3": -10_000}
    await bench.watch(1)
    assert not bench.keeper.stands_still


async def test_a_single_peer_that_was_down_says_when_its_clock_is_believed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    bench.replica.state.now = START_MS - 3_600_000
    bench.keeper.restored()
    await bench.watch(ALARM_SECONDS + 1)
    [alarm] = errors_of(caplog)
    assert "+3600.0 s from the cluster's time" in alarm
    assert f"believed once it has stayed there for {JUMP_SECONDS:.0f} s" in alarm
    await bench.watch(JUMP_SECONDS)
    assert not bench.keeper.disagrees
    assert bench.keeper.head() == Head(ENTRY_VERSION, bench.clock.wall, True)
