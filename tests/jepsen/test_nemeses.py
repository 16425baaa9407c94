"""What all faults share: names of their own, reasons to be left out, and who may be with whom."""

from __future__ import annotations

import pytest

from jepsen_like.nemesis import FAULTS, NEMESES
from jepsen_like.nemesis.base import Fault, Seen, can_be_together, reason_to_skip
from jepsen_like.net.base import Net


class _Nothing(Fault):
    async def begin(self) -> Seen:
        return Seen([], None)

    async def end(self) -> Seen:
        return Seen([], None)


class _Disk(_Nothing):
    needs_disks = True
    takes = frozenset({"disk"})


class _Clock(_Nothing):
    needs_clocks = True
    takes = frozenset({"clock"})


class _Cut(_Nothing):
    needs = frozenset({"drop"})


class _Alone(_Nothing):
    is_alone = True


def test_faults_have_names_of_their_own_and_say_what_they_are() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.nemesis and fault.about for fault in FAULTS)
    assert sum(len(faults) for faults in NEMESES.values()) == len(FAULTS)


def test_two_bad_links_are_at_once_unless_nobody_could_tell_them_apart() -> None:
    loss, delay = (next(f for f in FAULTS if f.name == name) for name in ("loss", "delay"))
    cut = next(f for f in FAULTS if f.name == "partition-one")
    assert not can_be_together(loss, loss)
    assert can_be_together(loss, delay)
    assert can_be_together(loss, cut)


def test_a_fault_is_apart_from_what_would_keep_it_from_doing_anything() -> None:
    by_name = {fault.name: fault for fault in FAULTS}
    flapping, slow = by_name["partition-flapping"], by_name["slow-fsync-majority"]
    assert can_be_together(by_name["partition-one"], by_name["partition-ring"])
    assert not can_be_together(by_name["partition-one"], flapping)
    assert not can_be_together(flapping, flapping)
    assert not can_be_together(by_name["power-compaction"], by_name["partition-halves"])
    assert not can_be_together(slow, by_name["restart-one"])
    assert can_be_together(slow, by_name["kill-one"])
    assert not can_be_together(by_name["delay"], by_name["disorder"])


def test_faults_of_clocks_have_it_in_their_names() -> None:
    """By that the checker of slots knows that runs may be a little early."""
    assert all("clock" in fault.name for fault in FAULTS if fault.needs_clocks)


def test_a_change_of_leaders_is_asked_for_where_the_leader_or_all_are_hit() -> None:
    sure = {fault.name for fault in FAULTS if fault.moves_leader}
    assert sure == {
        "kill-leader", "kill-all", "crash-leader", "crash-all", "pause-leader", "pause-machine",
        "pause-machine-long", "restart-leader", "transfer", "power-leader", "power-all",
        "power-while-syncing", "leader-removed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "has_disks", "no_clocks", "why"),
    [
        (_Disk, False, "", "no disks of their own"),
        (_Disk, True, "", ""),
        (_Clock, False, "gcc is missing", "gcc is missing"),
        (_Clock, False, "", ""),
        (_Cut, True, "", "cannot break drop"),
    ],
)
def test_fault_that_cannot_be_had_says_why(
    fault: type[Fault], has_disks: bool, no_clocks: str, why: str
) -> None:
    found = reason_to_skip(fault, Net(["n1"]), has_disks=has_disks, no_clocks=no_clocks)
    assert why in found
    assert bool(found) == bool(why)


def test_two_faults_that_take_the_same_or_want_to_be_alone_are_not_together() -> None:
    assert can_be_together(_Disk, _Clock)
    assert can_be_together(_Cut, _Cut)
    assert not can_be_together(_Disk, _Disk)
    assert not can_be_together(_Alone, _Cut)
    assert not can_be_together(_Cut, _Alone)
