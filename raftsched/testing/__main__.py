"""``python -m raftsched.testing``: run simulations, and make a failing one small."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence

import msgspec

from raftsched.testing.earned import GROUP, SECONDS_MIN, shortfalls
from raftsched.testing.faults import Fault, parsed
from raftsched.testing.profiles import PROFILES
from raftsched.testing.shrink import shrink
from raftsched.testing.simulation import Result, Simulation, again_command


def main() -> int:
    """Exit code 1 when a promise was broken, or so little was done that it says nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m raftsched.testing",
        description=__doc__,
        epilog=f"From {GROUP} seeds and {SECONDS_MIN:g} seconds on, runs that did too little fail.",
    )
    parser.add_argument("--profile", default="all", choices=[*PROFILES, "each"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds from --seed on")
    parser.add_argument("--seconds", type=float, default=60.0, help="simulated, under faults")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each run")
    parser.add_argument("--log", action="store_true", help="the peers' log lines, too")
    parser.add_argument("--plan", action="store_true", help="show the faults of the seed")
    parser.add_argument(
        "--shrink", action="store_true", help="make the plan of a failing seed small"
    )
    parser.add_argument("--only", metavar="PLAN", help="run a plan that --shrink has shown")
    options = parser.parse_args()
    level = logging.INFO if options.log else logging.CRITICAL + 1
    logging.basicConfig(level=level, format="%(message)s")
    profiles = list(PROFILES) if options.profile == "each" else [options.profile]
    failed = 0
    results: list[Result] = []
    for seed in range(options.seed, options.seed + options.seeds):
        profile = profiles[seed % len(profiles)]
        faults = None if options.only is None else parsed(options.only)
        simulation = Simulation(profile, seed, options.seconds, faults)
        if options.plan:
            print(*simulation.faults, sep="\n")
        result = simulation.run()
        failed += bool(result.violations)
        results.append(result)
        _show(result, as_json=options.json)
        if options.shrink and result.violations:
            _shrink(simulation)
    # A plan that somebody chose does what it does.
    too_little = [] if options.only is not None else list(shortfalls(results))
    for line in too_little:
        print(f"too little was done: {line}", file=sys.stderr)
    return 1 if failed or too_little else 0


def _shrink(failing: Simulation) -> None:
    def fails(faults: Sequence[Fault]) -> bool:
        again = Simulation(failing.name, failing.seed, failing.seconds, faults).run()
        print(".", end="", file=sys.stderr, flush=True)
        return bool(again.violations)

    small = shrink(failing.faults, fails)
    print(file=sys.stderr)
    print(f"    {len(small)} of {len(failing.faults)} faults are enough:")
    command = again_command(failing.name, failing.seed, failing.seconds)
    print(f"    {command} --only {shlex.quote(';'.join(map(str, small)))}")


def _show(result: Result, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(result).decode(), flush=True)
        return
    speed = result.seconds / result.took
    verdict = "VIOLATED" if result.violations else "ok"
    print(
        f"{result.profile:9} seed {result.seed:6} {verdict:8} trace {result.trace} "
        f"{result.committed:5} entries, {result.leader_changes:3} leaders, "
        f"{result.operations_ok}/{result.operations} operations, {result.attempts} attempts, "
        f"{result.snapshots_installed} installs, {result.member_changes} member changes, "
        f"{sum(result.faults.values())} faults, "
        f"healed in {result.healed_in:.1f} s, {speed:.0f} x",
        flush=True,
    )
    for violation in result.violations:
        print("   ", violation)
    if result.violations:
        print("    again:", result.command, flush=True)


if __name__ == "__main__":
    sys.exit(main())
