"""Bugs planted on purpose, one at a time: the simulation must find each within its budget.

``faults`` aims where chance would take long to hit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec

from raftsched.testing.asks import only
from raftsched.testing.faults import Fault
from raftsched.testing.profiles import PROFILES
from raftsched.testing.simulation import Result, Simulation
from tests.planted import PLANTED


class Mutant(NamedTuple):
    """One planted bug."""

    #: In `PLANTED`.
    name: str
    #: What is broken, of G1-G10 or Raft's own.
    breaks: str
    profile: str
    #: It must be found within so many seeds, of so many simulated seconds each.
    seeds: int
    seconds: float = 20.0
    #: Instead of those the seed gives.
    faults: Sequence[Fault] | None = None
    #: A seed that shows it, for the short form.
    known_seed: int = 0
    #: What the violation says that it is to be found by.
    shows: str = ""
    #: Fields of the profile that are other than usual, so that the runs do what the bug is about.
    changes: Mapping[str, Any] = MappingProxyType({})

    def run(self, seed: int) -> Result:
        """One run, of whatever is planted just now."""
        profile = msgspec.structs.replace(PROFILES[self.profile], **self.changes)
        with patch.dict(PROFILES, {self.profile: profile}):
            return Simulation(self.profile, seed, self.seconds, self.faults).run()


def hunt(mutant: Mutant, first_seed: int = 0) -> tuple[int, Result | None]:
    """Seeds tried, and the run that found it; None if none did."""
    for tried in range(1, mutant.seeds + 1):
        with PLANTED[mutant.name]():
            result = mutant.run(first_seed + tried - 1)
        if any(mutant.shows in violation for violation in result.violations):
            # It must be the bug that is found, and not the check that is wrong.
            right = mutant.run(result.seed)
            assert not right.violations, (mutant.name, result.seed, right.violations)
            return tried, result
    return mutant.seeds, None


def _away(at: float, seconds: float) -> list[Fault]:
    """The leader is cut off for long."""
    return [Fault(at, "isolate", "leader", seconds, 0.5)]


def _asleep_nodes() -> list[Fault]:
    """Each peer sleeps for longer than its node's lease, and wakes with reports in its hands."""
    return [Fault(3.0 + 9.5 * n, "pause", str(n % 3), 8.5, 0.5) for n in range(4)]


def _dark_nodes() -> list[Fault]:
    """Each machine is without power for longer than its node's lease."""
    return [Fault(3.0 + 9.0 * n, "power", str(n % 3), 8.0, 0.5) for n in range(3)]


def _wiped_majority() -> list[Fault]:
    """Two of three commit; one of them is wiped, and meets the third without the other."""
    return [
        Fault(4.0, "isolate", "2", 6.0, 0.5),
        Fault(9.0, "wipe", "1", 1.0, 0.5),
        Fault(9.2, "isolate", "0", 8.0, 0.5),
    ]


def _leaderless() -> list[Fault]:
    """The leader dies, again and again."""
    return [Fault(3.0 + 5.0 * n, "kill", "leader", 3.0, 0.5) for n in range(5)]


def _lone_pair() -> list[Fault]:
    """One of three is away, and the two others lose power in the middle of writing, in turn."""
    cuts = [Fault(5.0 + 3.0 * n, "power_at", str(1 + n % 2), 0.5, n * 0.03) for n in range(5)]
    return [Fault(3.0, "isolate", "0", 17.0, 0.5), *cuts]


MUTANTS = (
    Mutant(
        "acknowledge-before-sync", "G1", "power", 20, 20, _lone_pair(),
        shows="is on the disks of",
    ),
    Mutant("count-itself-before-the-sync", "G1", "single", 3, shows="is on the disks of"),
    Mutant("never-sync", "G1", "power", 6, shows="is on the disks of"),
    Mutant(
        "believe-a-sync-that-was-not", "G1", "lag", 3,
        shows="would survive",
    ),
    Mutant("forget-votes", "G1", "power", 40, shows="older than the log"),
    Mutant("truncate-what-matches", "S2", "lag", 6, shows="is committed"),
    Mutant(
        "commit-what-is-not-verified", "S1", "net", 60,
        known_seed=53, shows="is committed there",
    ),
    Mutant(
        "take-a-wiped-peer-for-what-it-was", "G1", "net", 6,
        25, _wiped_majority(), known_seed=2,
    ),
    Mutant(
        "drop-the-journal-behind-a-snapshot", "S4", "kill", 24, known_seed=9,
        shows="is on the disks of",
    ),
    Mutant(
        "trim-before-the-snapshot-is-there", "S5", "snapshot", 24,
        known_seed=39, shows="JournalDamaged",
    ),
    Mutant("lead-on-with-a-full-disk", "G9", "disk", 20, shows="at rest"),
    Mutant(
        "read-without-asking-anybody", "G4", "net", 20, known_seed=11,
        shows="not see",
    ),
    # Not only reads: everything that waits for the state of the present term.
    Mutant(
        "read-before-the-first-entry-of-the-term", "G2, G4", "lag", 60,
        known_seed=56,
    ),
    Mutant("read-what-is-applied-here", "G4", "net", 3, shows="not see"),
    Mutant("be-ready-by-its-own-word", "readiness", "snapshot", 6, shows="says it is ready"),
    Mutant(
        "grant-without-a-quorum", "G3", "net", 6, 30, _away(5, 20),
        shows="overlap",
    ),
    Mutant(
        "do-not-wait-for-the-lease", "G3", "net", 6, 30,
        shows="overlap",
    ),
    Mutant(
        "believe-any-token", "G3", "net", 20, 42, _asleep_nodes(),
        known_seed=1, shows="overlap", changes={"per_second": 12.0},
    ),
    Mutant(
        "run-what-was-cancelled-again", "G7", "kill", 20, 30,
        faults=_dark_nodes(), known_seed=12, shows="assigned after its cancel",
    ),
    Mutant("forget-keys", "G2", "kill", 3, shows="was answered with"),
    Mutant(
        "replace-without-waiting", "G8", "net", 6, 30,
        shows="unique key", changes={"wishes": only("unique")},
    ),
    Mutant(
        "start-what-may-start-once-again", "G3", "kill", 20, 30,
        known_seed=1, shows="may be once", changes={"wishes": only("once")},
    ),
    Mutant(
        "let-everybody-through", "G8", "net", 6,
        shows="mutex", changes={"wishes": only("mutex")},
    ),
    Mutant(
        "end-with-the-first-subtask", "G8", "net", 6,
        shows="went on after the end", changes={"wishes": only("broadcast")},
    ),
    Mutant(
        "cancel-a-whole-and-leave-its-parts", "G7", "workflows", 20, 30, known_seed=4,
        shows="went on after the end",
    ),
    Mutant(
        "fire-too-early", "retries", "net", 6,
        shows="before its backoff", changes={"wishes": only("backoff")},
    ),
    Mutant(
        "fire-what-has-fired", "G5", "slots", 6, shows="times for",
    ),
    Mutant(
        "begin-from-now", "G5", "slots", 12, 30, _leaderless(), shows="apart",
    ),
    Mutant("fire-and-lose-the-run", "G5", "slots", 6, shows="never ended"),
    Mutant(
        "take-any-end-for-the-right-one", "G8", "workflows", 4,
        shows="waits for",
    ),
    Mutant(
        "join-as-soon-as-one-is-there", "G8", "workflows", 4,
        shows="waits for",
    ),
    Mutant("let-go-one-too-many", "G8", "workflows", 4, shows="at once"),
    Mutant(
        "count-both", "G8", "workflows", 6, 30,
        shows="went on after the end", changes={"wishes": only("uneven")},
    ),
    Mutant(
        "end-before-the-twin", "G8", "workflows", 6, 30,
        shows="went on after the end", changes={"wishes": only("uneven")},
    ),
    Mutant(
        "borrow-a-failure", "G8", "workflows", 6, 30,
        shows="did not succeed", changes={"wishes": only("uneven")},
    ),
    Mutant("look-at-a-clock-in-apply", "G6", "net", 1, shows="differs at"),
    Mutant(
        "believe-any-clock", "G6", "clock", 40, known_seed=4,
        shows="s ahead",
    ),
    Mutant(
        "change-without-telling-the-digest", "G6", "net", 6,
        shows="digest",
    ),
    Mutant(
        "leave-keys-out-of-snapshots", "G2", "snapshot", 6,
        shows="differs at",
    ),
    Mutant(
        "forget-the-configuration-of-a-snapshot", "G1",
        "members", 30, 40, known_seed=14, shows="differ at the end",
    ),
    Mutant(
        "change-before-the-last-is-committed", "S11",
        "members", 12, known_seed=3, shows="committed none meanwhile",
    ),
    Mutant(
        "refuse-what-stands-in-the-log", "G2", "disk", 60, 30,
        known_seed=40, shows="its client was told", changes={"per_second": 20.0},
    ),
)  # fmt: skip
