"""A pass must be earned."""

from __future__ import annotations

import msgspec
import pytest

from jepsen_like.checker.earned import CHECKER
from jepsen_like.evidence import Evidence
from jepsen_like.history import Earn, FaultEvent, Phase
from tests.jepsen.builders import MS, call, evidence, fault, good, leads, submit, with_run


def spoiled(**parts: object) -> Evidence:
    return msgspec.structs.replace(good(), **parts)


def test_the_good_run_is_earned() -> None:
    verdict = CHECKER(good())
    assert (verdict.valid, verdict.checked["faults_with_attempts"]) == (True, 1)


NOT_SEEN = tuple(fault("kill-leader", 12_000, 14_000, "n1", verified=False))
NOT_PROBED = tuple(fault("kill-leader", 12_000, 14_000, "n1", verified=None))
FIRST = tuple(c for c in good().calls if c.invoked_at < 20_000 * MS)
LAST = call("read", 29_900, 29_950, {"id": "t1"})
BUSY = {"status": 429, "code": "too-many"}
BUSY_LAST = call("read", 29_900, 29_950, {"id": "t1"}, error=BUSY)
OPEN_LAST = submit("open", 29_900, None)


@pytest.mark.parametrize(
    ("whole", "says"),
    [
        (spoiled(faults=NOT_SEEN), "was not what a probe saw"),
        (spoiled(faults=tuple(fault("pause", 12_000, None, "n1"))), "was never healed"),
        (spoiled(samples=tuple(leads("n1", 1, 1_000))), "leadership changed 0 times"),
        (spoiled(calls=FIRST), "0 operations succeeded in phase 'healed'"),
        (spoiled(effects=good().effects[:3]), "no attempt was running when kill-leader"),
        (spoiled(calls=(*good().calls, LAST)), "the last operation (read at n1) did not succeed"),
        (spoiled(calls=(*good().calls, OPEN_LAST)), "has not succeeded"),
        (spoiled(calls=(*good().calls, BUSY_LAST)), "the last operation (read at n1) did not"),
        (spoiled(faults=NOT_PROBED), "no probe saw any of the faults"),
        (with_run(good(), trouble="interrupted"), "did not come to its end: interrupted"),
        (with_run(spoiled(faults=()), nemesis=["kill"]), "no fault was recorded"),
        (with_run(good(), earn=Earn(leader_changes=2)), "at least 2 are asked for"),
        (with_run(good(), earn=Earn(operations=50)), "at least 50 are asked for"),
        (with_run(good(), phases=[Phase("healed", 0, 30_000 * MS)]), "no phase 'before'"),
        (evidence(), "no operation ended"),
    ],
)
def test_what_was_not_earned_is_a_doubt_and_no_violation(whole: Evidence, says: str) -> None:
    verdict = CHECKER(whole)
    assert verdict.valid == "unknown"
    assert any(says in doubt for doubt in verdict.doubts), verdict.doubts


def test_a_control_run_without_faults_is_earned_without_a_change_of_leaders() -> None:
    calm = spoiled(faults=(), samples=tuple(leads("n1", 1, 1_000)))
    assert CHECKER(calm).valid is True


def test_faults_that_this_machine_cannot_do_are_named() -> None:
    skip = FaultEvent("netem", "skip", 0, detail="no root")
    some = CHECKER(with_run(spoiled(faults=(skip, *good().faults)), nemesis=["netem", "kill"]))
    assert (some.measures["faults_skipped"], some.valid) == (["netem"], True)
    none = CHECKER(with_run(spoiled(faults=(skip,)), nemesis=["netem"]))
    assert none.valid == "unknown"
    assert none.doubts == ["all that was asked for was skipped: netem"]


def test_a_peer_left_dead_on_purpose_is_no_fault_that_was_forgotten() -> None:
    dead = fault("kill", 12_000, None, "n3")
    assert CHECKER(with_run(spoiled(faults=tuple(dead)), dead=["n3"])).valid is True


@pytest.mark.parametrize(
    ("begins", "says"),
    [
        (12_100, []),
        (16_900, []),
        (17_100, ["no attempt was running when partition-one of n2 began"]),
    ],
)
def test_what_was_broken_off_need_not_run_again_at_once(begins: int, says: list[str]) -> None:
    second = fault("partition-one", begins, begins + 500, "n2")
    effects = tuple(effect for effect in good().effects if effect.at < 12_000 * MS)
    assert effects[-1].event == "beat"
    verdict = CHECKER(spoiled(faults=(*good().faults, *second), effects=effects))
    assert [doubt for doubt in verdict.doubts if "attempt" in doubt] == says


def test_what_came_to_its_end_excuses_no_fault_behind_it() -> None:
    second = fault("partition-one", 15_000, 15_500, "n2")
    ended = max(e.at for e in good().effects if e.event == "end" and e.at < 13_000 * MS)
    effects = tuple(effect for effect in good().effects if effect.at <= ended)
    verdict = CHECKER(spoiled(faults=(*good().faults, *second), effects=effects))
    assert any("when partition-one of n2 began" in doubt for doubt in verdict.doubts)
