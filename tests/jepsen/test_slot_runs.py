"""When the programs of a schedule ran: late, beside each other, and at clocks that were wrong."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest

from jepsen_like.checker.slots import CHECKER
from jepsen_like.checker.verdict import Verdict
from jepsen_like.history import Effect, FaultEvent
from jepsen_like.nemesis.base import Arena
from jepsen_like.nemesis.walls import Clock, ClockAll, ClockDrift
from tests.jepsen.builders import EPOCH_MS, PEERS, attempt, call, fault, with_run
from tests.jepsen.scheduled import DUE, ROWS, instead, ran, slot, whole


def _late(late: float, *faults: FaultEvent, **changes: Any) -> Verdict:
    """The run of slot 8 starts so many ms after it."""
    effects = instead(ran(8, late=late), 8)
    return CHECKER(with_run(whole(ROWS, effects, faults=list(faults)), **changes))


@pytest.mark.parametrize(
    ("begun", "until", "late", "valid"),
    [
        # Ten seconds from the slot, or from the end of a fault that began within them.
        (0, 0, 9_900, True),
        (0, 0, 10_100, False),
        (-9_000, -8_000, 10_500, False),
        (9_000, 12_000, 13_900, True),
        (9_000, 12_000, 14_100, False),
        (17_900, 19_000, 15_900, True),
        (18_100, 19_000, 11_000, False),
    ],
)
def test_lateness_counts_from_the_end_of_what_was_in_the_way(
    begun: float, until: float, late: float, valid: bool
) -> None:
    faults = fault("kill", begun, until, "n1") if until else []
    verdict = _late(late, *faults, phases=[])
    assert verdict.valid is valid, verdict.violations
    assert all("ms after anything was in its way" in v.says for v in verdict.violations)


def test_a_run_with_faults_all_through_is_judged_from_the_last_one_on() -> None:
    """Faults of three seconds with three of calm between them, as in every run."""
    faults = [e for at in (3_000, 9_000, 15_000) for e in fault("kill", at, at + 3_000, "n1")]
    assert _late(19_900, *faults, phases=[]).valid is True
    (violation,) = _late(20_200, *faults, phases=[]).violations
    assert "20200 ms after it, and 10200 ms after anything was in its way" in violation.says


def test_a_run_that_had_time_between_many_faults_is_late() -> None:
    """A second of faults, two of calm, and again."""
    faults = [e for at in range(3, 33, 3) for e in fault("kill", at * 1_000, at * 1_000 + 1_000)]
    assert _late(22_000, *faults, phases=[]).valid is True
    (violation,) = _late(23_500, *faults, phases=[]).violations
    assert "23500 ms after it, though for 15500 ms of them nothing was" in violation.says


def test_peers_that_get_ready_are_in_the_way_for_a_while() -> None:
    # The last fault ended at 12 s, and all peers were ready at 20 s.
    faults = fault("kill", 9_000, 12_000, "n1")
    assert _late(21_900, *faults).valid is True
    assert _late(22_100, *faults).valid is False


def test_a_minority_that_is_left_dead_is_missed_until_its_leases_are_over() -> None:
    left = fault("left-dead", 9_000, None, "n1")
    told = {"dead": ["n1"], "phases": [], "lease_seconds": 5.0}
    assert _late(15_900, *left, **told).valid is True
    assert _late(16_100, *left, **told).valid is False
    assert _late(16_100, *left, **{**told, "dead": []}).valid is True


def test_nodes_that_have_other_tasks_may_take_longer() -> None:
    assert _late(20_000, workload="mixed").valid is True
    assert _late(30_100, workload="mixed").valid is False


def test_an_attempt_that_left_no_sign_had_its_lease() -> None:
    slot_ms = EPOCH_MS + 8_000
    for late, valid in ((14_900, True), (15_100, False)):
        at = 8_000 + late
        effects = attempt("s-8", 8, at, at + 60, number=2, slot=slot_ms, schedule="s")
        whole_run = with_run(whole(ROWS, instead(effects, 8)), lease_seconds=5.0)
        assert CHECKER(whole_run).valid is valid


def test_a_node_that_was_removed_while_cordoned_is_in_the_way_until_the_heal() -> None:
    for node, valid in (("n9", False), ("n1", True)):
        cordon = call("cordon", 5_000, 5_010, {"node": node}, {"node": node})
        effects = instead(ran(8, late=22_500), 8)
        assert CHECKER(whole(ROWS, effects, more=(cordon,))).valid is valid


def test_runs_that_could_be_accused_are_counted() -> None:
    never = fault("kill", 500, None, "n1")
    for changes, faults, judged in (
        ({}, [], len(DUE)),
        ({}, never, 0),
        # Nobody waited for them: of those that come last, ten seconds had not gone.
        ({"phases": []}, [], sum(second <= 19 for second in DUE)),
    ):
        verdict = CHECKER(with_run(whole(ROWS, faults=faults), **changes))
        assert verdict.checked["runs_judged_for_lateness"] == judged


# Beside each other --------------------------------------------------------------------------------


def _long(second: int, node: str, at: float, until: float, **more: Any) -> list[Effect]:
    slot_ms = EPOCH_MS + second * 1_000
    return attempt(f"s-{second}", second, at, until, node=node, slot=slot_ms, schedule="s", **more)


@pytest.mark.parametrize(
    ("policies", "until", "says"),
    [
        ({"overlap": "skip"}, 9_900, ""),
        ({"overlap": "skip"}, 10_300, "s-8 on n1 still ran when s-10 began on n2, and overlap of"),
        ({"overlap": "queue"}, 10_300, "s-8 on n1 still ran when s-10 began on n2"),
        ({"overlap": "allow"}, 10_300, ""),
    ],
)
def test_runs_that_may_not_overlap(policies: dict[str, str], until: float, says: str) -> None:
    effects = [*_long(8, "n1", 8_100, until), *_long(10, "n2", 10_200, 10_260)]
    verdict = CHECKER(whole(ROWS, instead(effects, 8, 10), policies))
    found = [violation.says for violation in verdict.violations]
    assert len(found) == int(bool(says)) and all(says in one for one in found), found


def test_a_run_overlaps_one_that_began_long_before() -> None:
    effects = _long(4, "n1", 4_100, 9_000)
    verdict = CHECKER(whole(ROWS, instead(effects, 4), {"overlap": "skip"}))
    assert ["s-4 on n1 still ran when" in v.says for v in verdict.violations] == [True, True]
    assert verdict.checked["runs_that_may_not_overlap"] == len(DUE)


def test_a_machine_that_stood_still_counts_until_its_lease_was_over() -> None:
    """From 4.2 s on, with a lease of 5 s; its run wakes up after that, when others have run."""
    woke = [*_long(4, "n1", 4_100, 4_180, exit=None), *_long(4, "n1", 9_000, 9_100)[-1:]]
    frozen = fault("pause-machine", 4_200, 9_050, "n1")
    for second, began, found in ((6, 6_100, ["overlap"]), (8, 8_300, [])):
        others = instead([*woke, *_long(second, "n2", began, 9_150)], 4, 6, 8)
        verdict = CHECKER(
            with_run(
                whole([slot(s) for s in DUE if s not in (6, 8) or s == second], others,
                      {"overlap": "skip"}, faults=frozen),
                lease_seconds=5.0,
            )
        )  # fmt: skip
        seen = [v.says.split(":")[0] for v in verdict.violations]
        assert [one for one in seen if one != "missed"] == found, verdict.violations


# Clocks -------------------------------------------------------------------------------------------


class _Peers:
    ids = PEERS


class _Arena:
    peers = _Peers()
    chance = random.Random(1)


@pytest.mark.parametrize(
    ("kind", "targets", "offset_ms", "shift_ms"),
    [
        (ClockAll, PEERS, 20_000, 20_000),
        (ClockAll, PEERS, -120_000, 0),
        (Clock, PEERS[:1], 300_000, 0),
        (ClockDrift, PEERS[:1], 0, 0),
    ],
)
def test_clocks_that_are_stepped_back_put_nobody_ahead(
    kind: type[Clock], targets: list[str], offset_ms: int, shift_ms: int
) -> None:
    clock = kind(cast("Arena", _Arena()))
    clock.targets, clock.offset_ms = list(targets), offset_ms
    assert clock.shift_ms() == shift_ms


def test_rows_and_runs_are_early_though_clocks_were_stepped_back() -> None:
    back = fault("clock-all", 5_000, 9_000, *PEERS, shift_ms=0)
    effects = instead(ran(8, late=-2_500), 8)
    (violation,) = CHECKER(whole(ROWS, effects, faults=back)).violations
    assert violation.says.startswith("early: s-8 ran slot")
