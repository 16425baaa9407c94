"""The real peers under faults, in virtual time: nothing that was promised is ever broken.

64 seeds of 20 simulated seconds over all profiles, and every seed that once failed.  The long form
(``make soak``) runs more and longer ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from raftsched.testing import __main__ as command
from raftsched.testing.earned import GROUP, shortfalls
from raftsched.testing.faults import Fault
from raftsched.testing.machine import Machine
from raftsched.testing.points import POINTS
from raftsched.testing.profiles import PROFILES
from raftsched.testing.simulation import Result, Simulation

#: A busy machine may take its time: only simulated time counts.
pytestmark = pytest.mark.timeout(600)
IS_SOAK = bool(os.environ.get("RAFTSCHED_SOAK"))
SEEDS = 64
SECONDS = 20.0
SOAK_SEEDS = 512
SOAK_SECONDS = 60.0
KEPT = tomllib.loads(Path(__file__).with_name("seeds.toml").read_text(encoding="utf-8"))["seed"]
ROOT = Path(__file__).parents[2]


def run(profile: str, seed: int, seconds: float) -> Result:
    """A run that must not break any promise."""
    result = Simulation(profile, seed, seconds).run()
    assert not result.violations, "\n".join([*result.violations, result.command])
    return result


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_no_promise_is_broken(first: int) -> None:
    names = list(PROFILES)
    results = [run(names[s % len(names)], s, SECONDS) for s in range(first, first + GROUP)]
    # A pass must be earned: these runs did something, and something was done to them.
    assert list(shortfalls(results)) == []
    assert sum(result.operations_ok for result in results) >= 40 * GROUP
    assert sum(result.committed for result in results) >= 100 * GROUP
    assert sum(result.attempts for result in results) >= 40 * GROUP
    assert sum(result.reads for result in results) >= 2 * GROUP
    assert sum(sum(result.faults.values()) for result in results) >= 4 * GROUP
    assert sum(result.leader_changes for result in results) >= 2 * GROUP
    assert all(result.operations_ok and result.leader_changes for result in results)


def empty(profile: str, seed: int, seconds: float) -> Result:
    """A run in which a leader was elected, and nothing else happened."""
    return Result(
        profile=profile,
        seed=seed,
        seconds=seconds,
        violations=[],
        trace="",
        committed=0,
        leader_changes=1,
        operations=0,
        operations_ok=0,
        reads=0,
        attempts=0,
        snapshots_installed=0,
        member_changes=0,
        faults={},
        healed_in=0.0,
        took=0.0,
    )


def test_runs_in_which_nothing_happens_do_not_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But one alone does, and short ones: they are run to be looked at."""

    class Empty:
        faults: tuple[Fault, ...] = ()

        def __init__(self, profile: str, seed: int, seconds: float, faults: object) -> None:
            self.result = empty(profile, seed, seconds)

        def run(self) -> Result:
            self.result.took = 1.0
            return self.result

    monkeypatch.setattr(command, "Simulation", Empty)

    def ended(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["testing", "--profile", "each", *arguments])
        return command.main()

    assert ended("--seeds", "8", "--json") == 1
    lines = capsys.readouterr().err.splitlines()
    names = ("operations that succeeded", "entries", "attempts", "reads", "faults", "leaders")
    assert all(any(f": 0 {name}" in line for line in lines) for name in names[:-1])
    assert any("8 leaders, and at least 18 were expected" in line for line in lines)
    assert ended("--seeds", "7") == ended("--seeds", "8", "--seconds", "5") == 0
    assert ended("--seeds", "8", "--only", "") == 0


def test_one_empty_group_among_others_does_not_pass() -> None:
    full = empty("net", 1, 60.0)
    full.operations_ok = full.committed = full.attempts = full.reads = 1_000
    full.faults, full.leader_changes = {"kill": 40}, 20
    assert list(shortfalls([full] * 20)) == []
    nothing = [empty("net", 7, 60.0)] * 8
    assert list(shortfalls([full] * 8 + nothing + [full] * 8))
    # Those behind the last whole group belong to it.
    assert list(shortfalls([full] * 8 + nothing[:7])) and not list(shortfalls(nothing[:7]))
    for run in nothing:
        run.violations.append("it ended there")
    assert list(shortfalls(nothing)) == []


@pytest.mark.parametrize("kept", KEPT, ids=lambda k: f"{k['profile']}-{k['seed']}")
def test_seed_that_once_failed_passes(kept: dict[str, object]) -> None:
    run(str(kept["profile"]), int(str(kept["seed"])), float(str(kept.get("seconds", 60.0))))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_does_what_it_is_for(profile: str) -> None:
    """Each kind of fault a profile names is really done, and the promises hold."""
    # Those that are aimed wait for a place that may never come; they have a test of their own.
    kinds = sorted(PROFILES[profile].faults.keys() - {"kill_point", "power_point"})
    # Each four times: one whose machine is down already, for example, is not done.
    faults = [
        Fault(1.5 + n, kind, ("leader", "follower", "0", "1")[n // len(kinds)], 2.5, n * 0.07 % 0.3)
        for n, kind in enumerate(kinds * 4)
    ]
    seconds = faults[-1].at + 5.0
    done: set[str] = set()
    # Of three disks one may be destroyed, so one of these two is.
    wanted = set(kinds) - {"bit", "wipe"}
    for seed in (7, 8, 9):
        result = Simulation(profile, seed, seconds, faults).run()
        assert not result.violations, result.violations
        done |= result.faults.keys()
        if wanted <= done:
            break
    assert wanted <= done and (done & {"bit", "wipe"} or "bit" not in kinds)
    if profile == "members":
        assert result.member_changes
    if profile == "snapshot":
        assert result.snapshots_installed


def test_every_place_that_faults_are_aimed_at_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: set[str] = set()
    monkeypatch.setattr(Machine, "reach", lambda self, point: reached.add(point))
    for profile in ("members", "snapshot"):
        run(profile, 1, 30.0)
    assert reached == set(POINTS)


def test_aimed_fault_ends_the_process_there() -> None:
    """And whoever it is aimed at comes back, with nothing lost."""
    deaths: dict[str, int] = {}
    for seed in range(8):
        faults = [
            Fault(2.0 + 2 * n, "power_point", ("leader", "follower")[n % 2], 2.0, n / 9 + seed / 99)
            for n in range(9)
        ]
        result = Simulation("power", seed, 20.0, faults).run()
        assert not result.violations, result.violations
        for what, times in result.faults.items():
            deaths[what] = deaths.get(what, 0) + times
    assert deaths.pop("power_point") == sum(deaths.values()) >= 30
    assert len(deaths) >= 8


@pytest.mark.parametrize("kind", ["kill_at", "power_at"])
def test_who_dies_in_an_operation_comes_back_however_late_it_comes_to_it(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    quiet = msgspec.structs.replace(PROFILES["kill"], per_second=0.5)
    monkeypatch.setitem(PROFILES, "kill", quiet)
    simulation = Simulation("kill", 3, 20.0, [Fault(1.5, kind, "0", 0.1, 0.99)])
    heal, machine = simulation.nemesis.heal, simulation.machines["n1"]
    seen: list[tuple[int, bool]] = []

    def healed() -> None:
        seen.append((machine.boots, machine.is_up))
        heal()

    monkeypatch.setattr(simulation.nemesis, "heal", healed)
    result = simulation.run()
    assert not result.violations
    assert result.faults == {kind: 1} and seen == [(2, True)]


def test_same_seed_does_the_same_in_another_process() -> None:
    """Also with other hashes of strings: nothing depends on the order of a set."""
    command = [sys.executable, "-m", "raftsched.testing", "--profile", "all", "--seed", "11"]
    command += ["--seconds", "10", "--json"]
    lines = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "77")
    ]
    assert lines[0].split(b'"took"')[0] == lines[1].split(b'"took"')[0]
    other = Simulation("all", 12, 10.0).run()
    assert other.trace.encode() not in lines[0]


if IS_SOAK:

    @pytest.mark.parametrize("first", range(10_000, 10_000 + SOAK_SEEDS, GROUP))
    def test_no_promise_is_broken_for_long(first: int) -> None:
        names = list(PROFILES)
        seeds = range(first, first + GROUP)
        results = [run(names[seed % len(names)], seed, SOAK_SECONDS) for seed in seeds]
        assert list(shortfalls(results)) == []
