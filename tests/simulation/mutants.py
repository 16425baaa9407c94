"""Bugs planted on purpose, one at a time: the simulation must find each within its budget.

A mutant replaces functions of the product for the length of a run.  None of them is in the product,
and no switch for any of them.  ``faults`` aims where chance would take long to hit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec

from raftsched.core import codec, dependencies, machine
from raftsched.core import reckon as reckoning
from raftsched.core.commands import SubmitTasks
from raftsched.core.handlers import (
    HANDLERS,
    attempts,
    ends,
    forks,
    nodes,
    rows,
    schedules,
    submit,
    timers,
)
from raftsched.core.lifecycle import HOLDING
from raftsched.core.limits import Permits
from raftsched.core.model import TaskStatus
from raftsched.core.tables import Table
from raftsched.core.timers import Timers, due_at
from raftsched.peer import firing
from raftsched.peer.intake import Intake
from raftsched.peer.leases import LeaseBook
from raftsched.peer.messages import Refused
from raftsched.peer.stamping import Reading
from raftsched.raft import opening
from raftsched.raft.acquaintances import Acquaintances
from raftsched.raft.compaction import Compaction
from raftsched.raft.engine import Engine
from raftsched.raft.filter import MessageFilter
from raftsched.raft.hard_state import HardStateFile
from raftsched.raft.journal import Journal
from raftsched.raft.log import Role
from raftsched.raft.membership import Membership
from raftsched.raft.pysyncobj_log import PySyncObjLog
from raftsched.raft.reads import Reads
from raftsched.raft.replication import Replication
from raftsched.testing.asks import only
from raftsched.testing.disk import MemoryDisk
from raftsched.testing.faults import Fault
from raftsched.testing.profiles import PROFILES
from raftsched.testing.simulation import Result, Simulation


class Mutant(NamedTuple):
    """One planted bug."""

    name: str
    #: What is broken, of G1-G10 or Raft's own.
    breaks: str
    plant: Callable[[], AbstractContextManager[Any]]
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
        with mutant.plant():
            result = mutant.run(first_seed + tried - 1)
        if any(mutant.shows in violation for violation in result.violations):
            # It must be the bug that is found, and not the check that is wrong.
            right = mutant.run(result.seed)
            assert not right.violations, (mutant.name, result.seed, right.violations)
            return tried, result
    return mutant.seeds, None


# Raft and its disk -------------------------------------------------------------------------------


def _acknowledge_before_sync() -> AbstractContextManager[Any]:
    def outgoing(self: Any, peer_id: str, message: dict[str, Any]) -> Any:
        return self._filter.outgoing(message)

    return patch.object(Replication, "outgoing", outgoing)


def _never_sync() -> AbstractContextManager[Any]:
    original = opening.open_directory

    def unsynced(*arguments: Any, **options: Any) -> Any:
        return original(*arguments, **{**options, "sync": False})

    return patch.object(opening, "open_directory", unsynced)


def _believe_a_sync_that_was_not() -> AbstractContextManager[Any]:
    """The journal says that all is durable, and nothing is."""
    return patch.object(MemoryDisk, "datasync", lambda self, fd: self._operation("datasync"))


def _forget_votes() -> AbstractContextManager[Any]:
    def save(self: Any, term: int, vote: str | None) -> None:
        self.state = msgspec.structs.replace(self.state, term=term, vote=vote)

    return patch.object(HardStateFile, "save", save)


def _truncate_what_matches() -> AbstractContextManager[Any]:
    original = MessageFilter._append

    def append(self: Any, message: dict[str, Any]) -> Any:
        view = self._view
        known = view.term_at(message.get("prevLogIdx", -1))
        if message["term"] >= view.term and known is not None and known == message["prevLogTerm"]:
            return message, None
        return original(self, message)

    return patch.object(MessageFilter, "_append", append)


def _commit_what_is_not_verified() -> AbstractContextManager[Any]:
    def heartbeat(self: Any, message: dict[str, Any], verified: int) -> dict[str, Any]:
        commit = min(message["commit_index"], self._view.last_index)
        return {"type": "append_entries", "term": message["term"], "commit_index": commit}

    return patch.object(MessageFilter, "_heartbeat", heartbeat)


def _drop_the_journal_behind_a_snapshot() -> AbstractContextManager[Any]:
    original = Journal.align

    def align(self: Any, previous: Any, last: Any, *more: Any) -> None:
        self.clear()
        self.add(*previous)
        self.add(*last)
        self.sync()
        original(self, previous, last, *more)

    return patch.object(Journal, "align", align)


def _trim_before_the_snapshot_is_there() -> AbstractContextManager[Any]:
    original = Compaction.begin

    def begin(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self._outcome = True

    return ExitStackOf(
        patch.object(Compaction, "begin", begin),
        patch.object(Compaction, "is_writing", property(lambda self: False)),
        patch.object(Journal, "deleteEntriesTo", _trim_at_once),
    )


def _trim_at_once(self: Any, position: int) -> None:
    if position > 0 and len(self):
        del self._entries[:position]
        self._floor = self.first_index
        self._release(self._floor)


@contextmanager
def ExitStackOf(*managers: AbstractContextManager[Any]) -> Iterator[None]:
    """Several patches as one."""
    with ExitStack() as stack:
        for manager in managers:
            stack.enter_context(manager)
        yield


def _lead_on_with_a_full_disk() -> AbstractContextManager[Any]:
    return patch.object(PySyncObjLog, "_endure", lambda self, now: None)


# Reads, leases, verdicts -------------------------------------------------------------------------


def _read_without_asking_anybody() -> AbstractContextManager[Any]:
    def begin_round(self: Any) -> None:
        waiting, self._waiting = self._waiting, []
        self._settle(waiting, self._engine.commit_index)

    return patch.object(Reads, "_begin_round", begin_round)


def _read_before_the_first_entry_of_the_term() -> AbstractContextManager[Any]:
    return patch.object(Engine, "is_current", property(lambda self: True))


def _read_what_is_applied_here() -> AbstractContextManager[Any]:
    async def index(self: Any, timeout_seconds: float) -> int:
        return int(self._engine.applied_index)

    return patch.object(Reads, "index", index)


def _grant_without_a_quorum() -> AbstractContextManager[Any]:
    original = LeaseBook.grant

    def grant(self: Any, node_id: str, incarnation: str, now: float, age: Any) -> bool:
        return original(self, node_id, incarnation, now, 0.0)

    configured = Engine._configured

    def patient(self: Any, config: Any) -> Any:
        conf = configured(self, config)
        conf.leaderFallbackTimeout = 60.0
        return conf

    # As long as a leader without a quorum steps down, what it grants does not matter.
    return ExitStackOf(
        patch.object(LeaseBook, "grant", grant), patch.object(Engine, "_configured", patient)
    )


def _do_not_wait_for_the_lease() -> AbstractContextManager[Any]:
    original = LeaseBook.condemned

    def condemned(self: Any, state: Any, now: float) -> Any:
        return original(self, state, now + 5.0)

    return patch.object(LeaseBook, "condemned", condemned)


# The state machine -------------------------------------------------------------------------------


def _believe_any_token() -> AbstractContextManager[Any]:
    def is_live(task: Any, node_id: str, token: int) -> bool:
        return bool(task.attempts) and task.status in HOLDING

    return patch.object(attempts, "_is_live", is_live)


def _run_what_was_cancelled_again() -> AbstractContextManager[Any]:
    original = attempts.lose

    def lose(changes: Any, task: Any, reason: str) -> None:
        if task.status is TaskStatus.CANCELLING:
            task = msgspec.structs.replace(task, status=TaskStatus.RUNNING)
        original(changes, task, reason)

    return ExitStackOf(
        patch.object(attempts, "lose", lose), patch.object(nodes, "lose", lose, create=True)
    )


def _forget_keys() -> AbstractContextManager[Any]:
    def keyless(changes: Any, command: Any) -> Any:
        return submit.submit(changes, msgspec.structs.replace(command, key=""))

    return patch.dict(HANDLERS, {SubmitTasks: keyless})


def _replace_without_waiting() -> AbstractContextManager[Any]:
    original = submit._Creation._replace

    def replace(self: Any, holder: Any) -> str:
        original(self, holder)
        return ""

    return patch.object(submit._Creation, "_replace", replace)


def _start_what_may_start_once_again() -> AbstractContextManager[Any]:
    class Nothing:
        AT_MOST_ONCE = object()

    return patch.object(attempts, "Delivery", Nothing)


def _let_everybody_through() -> AbstractContextManager[Any]:
    return patch.object(Permits, "shut", lambda self, gate: None)


def _fire_too_early() -> AbstractContextManager[Any]:
    original = Timers.due

    def due(self: Any, now: int, limit: int) -> list[str]:
        return original(self, now + 5_000, limit)

    def due_earlier(task: Any) -> int:
        at = due_at(task)
        return max(1, at - 5_000) if at else 0

    return ExitStackOf(
        patch.object(Timers, "due", due), patch.object(timers, "due_at", due_earlier)
    )


def _look_at_a_clock_in_apply() -> AbstractContextManager[Any]:
    original = machine.apply
    clock = itertools.count(1_800_000_000_000)

    def apply(state: Any, index: int, entry: Any) -> Any:
        return original(state, index, msgspec.structs.replace(entry, now=next(clock)))

    return patch.object(machine, "apply", apply)


def _believe_any_clock() -> AbstractContextManager[Any]:
    return patch.object(Reading, "is_shared", lambda self: True)


def _change_without_telling_the_digest() -> AbstractContextManager[Any]:
    def update(self: Any, rows: Any) -> None:
        for key, (number, old, row) in rows.items():
            self._writable(number)[key] = row
            if old is None:
                self._length += 1
            else:
                self.sum.changed.setdefault(key, old)

    return patch.object(Table, "update", update)


def _take_any_end_for_the_right_one() -> AbstractContextManager[Any]:
    return patch.object(dependencies, "is_met", lambda on, to: True)


def _join_as_soon_as_one_is_there() -> AbstractContextManager[Any]:
    usual = dependencies.fate_of

    def fate_of(extra: Any) -> Any:
        return True if extra.met else usual(extra)

    both = ExitStack()
    for module in (ends, submit, rows):
        both.enter_context(patch.object(module, "fate_of", fate_of))
    return both


def _let_go_one_too_many() -> AbstractContextManager[Any]:
    usual = forks.window
    return patch.object(forks, "window", lambda fork: usual(fork) + 1)


def _end_with_the_first_subtask() -> AbstractContextManager[Any]:
    def subtask_ended(changes: Any, task: Any, to: Any, parent_id: str) -> None:
        parent = changes.task(parent_id)
        if parent.status is TaskStatus.WAITING:
            ends.end(changes, parent, TaskStatus.SUCCEEDED, "")

    return patch.object(ends, "_subtask_ended", subtask_ended)


def _fire_what_has_fired() -> AbstractContextManager[Any]:
    original = firing.Firing._fires
    last: dict[int, Any] = {}

    def fires(self: Any, state: Any) -> Any:
        """A leader that does not know what became of its last fires says them again."""
        found, before = original(self, state), last.get(id(self), ())
        last[id(self)] = found
        return (*before, *found)

    return ExitStackOf(
        patch.object(firing.Firing, "_fires", fires),
        patch.object(schedules, "_is_stale", lambda row, fired: row.paused),
        patch.object(schedules, "_why_not", lambda row, fired, now: ""),
    )


def _begin_from_now() -> AbstractContextManager[Any]:
    """A leader that fires what is due from now on, and not what the row says is next."""

    def reckon(row: Any, now: int) -> Any:
        fire = reckoning.reckon(row, now)
        return msgspec.structs.replace(fire, instants=fire.instants[-1:], passed=None)

    return ExitStackOf(
        patch.object(firing, "reckon", reckon),
        patch.object(schedules, "_why_not", lambda row, fired, now: ""),
    )


# Snapshots and members ---------------------------------------------------------------------------


def _leave_keys_out_of_snapshots() -> AbstractContextManager[Any]:
    original = codec._draw

    def draw(header: Any, tasks: Any, keys: Any) -> Any:
        return original(msgspec.structs.replace(header, keys=0), tasks, [])

    return patch.object(codec, "_draw", draw)


def _forget_the_configuration_of_a_snapshot() -> AbstractContextManager[Any]:
    original = Membership.rebase

    def rebase(self: Any, index: int, configuration: Any) -> None:
        original(self, index, None)

    return patch.object(Membership, "rebase", rebase)


# Proposing ---------------------------------------------------------------------------------------


def _refuse_what_stands_in_the_log() -> AbstractContextManager[Any]:
    original = Intake.take

    def take(self: Any, term: int, base: int, batch: Any) -> Any:
        status = self._log.status()
        if status.role is not Role.LEADER or status.term != term or status.paused:
            return Refused(term, batch.session, batch.sequence, len(batch.commands), "not-leader")
        return original(self, term, base, batch)

    return patch.object(Intake, "take", take)


def _away(at: float, seconds: float) -> list[Fault]:
    """The leader is cut off for long."""
    return [Fault(at, "isolate", "leader", seconds, 0.5)]


def _asleep_nodes() -> list[Fault]:
    """Each peer sleeps for longer than its node's lease, and wakes with reports in its hands."""
    return [Fault(3.0 + 9.5 * n, "pause", str(n % 3), 8.5, 0.5) for n in range(4)]


def _take_a_wiped_peer_for_what_it_was() -> AbstractContextManager[Any]:
    return patch.object(Acquaintances, "refusal", lambda self, peer_id, mark: "")


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
        "acknowledge before sync", "G1", _acknowledge_before_sync, "power", 20, 20, _lone_pair(),
        shows="is on the disks of",
    ),
    Mutant("never sync", "G1", _never_sync, "power", 6, shows="is on the disks of"),
    Mutant(
        "believe a sync that was not", "G1", _believe_a_sync_that_was_not, "lag", 3,
        shows="would survive",
    ),
    Mutant("forget term and vote", "G1", _forget_votes, "power", 40, shows="older than the log"),
    Mutant("truncate what matches", "S2", _truncate_what_matches, "lag", 6, shows="is committed"),
    Mutant(
        "commit what is not verified", "S1", _commit_what_is_not_verified, "net", 60,
        known_seed=53, shows="is committed there",
    ),
    Mutant(
        "take a wiped peer for what it was", "G1", _take_a_wiped_peer_for_what_it_was, "net", 6,
        25, _wiped_majority(), known_seed=2,
    ),
    Mutant(
        "drop the journal", "S4", _drop_the_journal_behind_a_snapshot, "kill", 24, known_seed=9,
        shows="is on the disks of",
    ),
    Mutant(
        "trim too early", "S5", _trim_before_the_snapshot_is_there, "snapshot", 24,
        known_seed=39, shows="JournalDamaged",
    ),
    Mutant("lead with a full disk", "G9", _lead_on_with_a_full_disk, "disk", 20, shows="at rest"),
    Mutant(
        "read without asking", "G4", _read_without_asking_anybody, "net", 20, known_seed=11,
        shows="not see",
    ),
    # Not only reads: everything that waits for the state of the present term.
    Mutant(
        "act too early", "G2, G4", _read_before_the_first_entry_of_the_term, "lag", 60,
        known_seed=56,
    ),
    Mutant("read what is here", "G4", _read_what_is_applied_here, "net", 3, shows="not see"),
    Mutant(
        "grant without a quorum", "G3", _grant_without_a_quorum, "net", 6, 30, _away(5, 20),
        shows="overlap",
    ),
    Mutant(
        "do not wait for the lease", "G3", _do_not_wait_for_the_lease, "net", 6, 30,
        shows="overlap",
    ),
    Mutant(
        "believe any token", "G3", _believe_any_token, "net", 20, 42, _asleep_nodes(),
        known_seed=1, shows="overlap", changes={"per_second": 12.0},
    ),
    Mutant(
        "run what was cancelled", "G7", _run_what_was_cancelled_again, "kill", 20, 30,
        known_seed=13, shows="assigned after its cancel",
    ),
    Mutant("forget keys", "G2", _forget_keys, "kill", 3, shows="was answered with"),
    Mutant(
        "replace without waiting", "G8", _replace_without_waiting, "net", 6, 30,
        shows="unique key", changes={"wishes": only("unique")},
    ),
    Mutant(
        "start again what may start once", "G3", _start_what_may_start_once_again, "kill", 20, 30,
        known_seed=1, shows="may be once", changes={"wishes": only("once")},
    ),
    Mutant(
        "let everybody through", "G8", _let_everybody_through, "net", 6,
        shows="mutex", changes={"wishes": only("mutex")},
    ),
    Mutant(
        "end with the first subtask", "G8", _end_with_the_first_subtask, "net", 6,
        shows="went on after the end", changes={"wishes": only("broadcast")},
    ),
    Mutant(
        "fire too early", "retries", _fire_too_early, "net", 6,
        shows="before its backoff", changes={"wishes": only("backoff")},
    ),
    Mutant(
        "fire what has fired", "G5", _fire_what_has_fired, "slots", 6, shows="times for",
    ),
    Mutant(
        "begin from now", "G5", _begin_from_now, "slots", 12, 30, _leaderless(), shows="apart",
    ),
    Mutant(
        "take any end for the right one", "G8", _take_any_end_for_the_right_one, "workflows", 4,
        shows="waits for",
    ),
    Mutant(
        "join as soon as one is there", "G8", _join_as_soon_as_one_is_there, "workflows", 4,
        shows="waits for",
    ),
    Mutant("let go one too many", "G8", _let_go_one_too_many, "workflows", 4, shows="at once"),
    Mutant("a clock in apply", "G6", _look_at_a_clock_in_apply, "net", 1, shows="differs at"),
    Mutant(
        "believe any clock", "G6", _believe_any_clock, "clock", 40, known_seed=4,
        shows="s ahead",
    ),
    Mutant(
        "hide a change from the digest", "G6", _change_without_telling_the_digest, "net", 6,
        shows="digest",
    ),
    Mutant(
        "leave keys out of snapshots", "G2", _leave_keys_out_of_snapshots, "snapshot", 6,
        shows="differs at",
    ),
    Mutant(
        "forget the configuration of a snapshot", "G1", _forget_the_configuration_of_a_snapshot,
        "members", 30, 40, known_seed=15, shows="differ at the end",
    ),
    Mutant(
        "refuse what is in the log", "G2", _refuse_what_stands_in_the_log, "disk", 60, 30,
        known_seed=5, shows="its client was told", changes={"per_second": 20.0},
    ),
)  # fmt: skip
