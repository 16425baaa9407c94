"""A long time of many schedules on the leader's reckoning and ``apply`` alone.

Time jumps from one thing that happens to the next.  Leaders come and go every hour: each begins
with nothing but the rows, some seconds late, hears the fires of the one before once more, and now
and then finds that nobody led for hours.  Each fire is at once held against ``clocks``.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from raftsched.core import codec, invariants, machine, planner
from raftsched.core.commands import (
    ENTRY_VERSION,
    AnyCommand,
    ApplyRetention,
    AssignTasks,
    AttemptFinished,
    Fire,
    FireSlots,
    FireTimers,
    PutSchedule,
    ReportAttempts,
    UpdateSettings,
)
from raftsched.core.cron.timing import Timing
from raftsched.core.model import Settings, TaskStatus
from raftsched.core.outcomes import Accepted, Reason, Rejected
from raftsched.core.reckon import reckon, timing_of
from raftsched.core.schedule import LATE_MS, Misfire, Overlap, Schedule, Slot, slot_key
from raftsched.core.state import State
from tests.unit.core.builders import entry, new_task, register

HOUR_MS = 3_600_000
WINDOW_MS = HOUR_MS
MISFIRE_LIMIT = 5
#: A new leader fires its first this much later at most; more would be late.
HANDOVER_MS_MAX = LATE_MS - 1_000
#: One in so many changes of leaders takes up to so long.
OUTAGE_EVERY = 150
OUTAGE_MS_MAX = 5 * HOUR_MS
#: Leaders until the state goes through a snapshot and all of it is checked.
RESTORE_EVERY = 100
FIRES_MAX = 200
FINISHED_MAX = 2_000


class Plan(NamedTuple):
    """A schedule, and what is to become of it."""

    name: str
    timing: Timing
    #: Every instant at which it is due, rising.
    due: Sequence[int]
    misfire: Misfire
    overlap: Overlap
    #: How long each of its runs takes.
    busy_ms: int


def what_runs(plan: Plan, due: Sequence[int], now: int) -> list[int]:
    """Of instants that fire together at ``now``: the guide's words in a few lines."""
    late = [at for at in due if at < now - LATE_MS]
    in_time = list(due[len(late) :])
    if plan.misfire is Misfire.SKIP or (plan.misfire is Misfire.LATEST and in_time):
        chosen: list[int] = []
    else:
        chosen = late[-1:] if plan.misfire is Misfire.LATEST else late[-MISFIRE_LIMIT:]
    return [at for at in chosen if at > now - WINDOW_MS] + in_time


class Almanac:
    """`run` goes through it, and fails at the first thing that is wrong."""

    def __init__(self, plans: Sequence[Plan], since_ms: int, upto_ms: int, seed: int) -> None:
        self._plans = {plan.name: plan for plan in plans}
        self._now, self._upto = since_ms, upto_ms
        self._chance = random.Random(seed)
        self._state = State("almanac")
        self._state.version = ENTRY_VERSION
        self._index = 0
        self._hour = since_ms // HOUR_MS
        #: What the last leader proposed.
        self._proposed: tuple[Fire, ...] = ()
        #: How many instants of each schedule have been accounted for, and its newest row.
        self._covered = dict.fromkeys(self._plans, 0)
        self._order = dict.fromkeys(self._plans, -1)
        #: Runs under way: (when it ends, task, token).
        self._busy: list[tuple[int, str, int]] = []
        #: Schedules that may have one of them, and do.
        self._alone: set[str] = set()
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """From the beginning to the end of the time."""
        self._do(UpdateSettings(Settings(finished_max=FINISHED_MAX)))
        self._do(register(slots=100_000))
        for plan in self._plans.values():
            self._do(PutSchedule(_row(plan)))
        while 0 < (at := self._next()) < self._upto:
            self._now = max(self._now, at)
            if self._now // HOUR_MS != self._hour:
                self._change_leaders()
            self._step()
        for plan in self._plans.values():
            assert self._covered[plan.name] == len(plan.due), plan
        assert invariants.check(self._state) == []

    def _next(self) -> int:
        state = self._state
        instants = [state.firings.due.first(), state.timers.first()]
        instants += [end for end, *_ in self._busy[:1]]
        return min((at for at in instants if at), default=0)

    def _do(self, command: AnyCommand) -> Any:
        """The value of a command that must be accepted."""
        outcome = self._apply(command)
        assert isinstance(outcome, Accepted), outcome
        return outcome.value

    def _apply(self, command: AnyCommand) -> Any:
        self._index += 1
        applied = machine.apply(self._state, self._index, entry(command, now=self._now))
        return applied.outcomes[0][0]

    # Leaders -------------------------------------------------------------------------------------

    def _change_leaders(self) -> None:
        """Somebody else goes on, some time later, who knows the rows and no more."""
        self._hour = self._now // HOUR_MS
        self.counts["leaders"] += 1
        if self._chance.randrange(OUTAGE_EVERY):
            self._now += self._chance.randint(0, HANDOVER_MS_MAX)
        else:
            self._now = min(self._upto - 1, self._now + self._chance.randint(0, OUTAGE_MS_MAX))
            self.counts["outages"] += 1
        timing_of.cache_clear()
        if self._proposed:
            for fire, one in zip(self._proposed, self._do(FireSlots(self._proposed)), strict=True):
                assert one == Rejected(Reason.STALE_FIRE, fire.schedule)
        self._do(ApplyRetention(100_000))
        if not self.counts["leaders"] % RESTORE_EVERY:
            self._restore()

    def _restore(self) -> None:
        assert invariants.check(self._state) == []
        chunks = list(codec.snapshot_chunks(self._state))
        self._state.end_snapshot()
        restored = codec.restore_state(chunks)
        assert restored.digest() == self._state.digest()
        self._state = restored

    # What happens --------------------------------------------------------------------------------

    def _step(self) -> None:
        self._end_runs()
        if 0 < self._state.timers.first() <= self._now:
            self._do(FireTimers(100_000))
        while names := self._state.firings.due.due(self._now, FIRES_MAX):
            self._fire(names)
        self._start_runs()

    def _fire(self, names: Sequence[str]) -> None:
        rows = [self._state.schedules.get(name) for name in names]
        self._proposed = tuple(reckon(row, self._now) for row in rows if row is not None)
        open_before = {name: len(self._state.firings.runs_of(name)) for name in names}
        for outcome in self._do(FireSlots(self._proposed)):
            assert isinstance(outcome, Accepted), outcome
        for name in names:
            self._account(self._plans[name], open_before[name])

    def _account(self, plan: Plan, open_before: int) -> None:
        """Its new rows cover all that is due, each instant once, and those run that should."""
        new = self._new_rows(plan.name)
        first = self._covered[plan.name]
        upto = bisect_right(plan.due, self._now, first)
        due, covered = plan.due[first:upto], 0
        for row in new:
            span = due[covered : covered + row.count]
            assert (row.at, row.upto, row.count) == (*_ends(span), len(span)), (plan, row, due)
            covered += row.count
        assert covered == len(due), (plan, new, due)
        self._covered[plan.name] = upto
        ran = [row.at for row in new if row.task_id]
        wanted = what_runs(plan, due, self._now)
        if plan.overlap is Overlap.SKIP:
            wanted = [] if open_before else wanted[:1]
        assert ran == wanted, (plan.name, new, self._now)
        following = self._state.schedules.get(plan.name)
        assert following is not None
        if upto < len(plan.due):
            assert following.next_at == plan.due[upto], (plan.name, following.next_at)
        else:
            assert not 0 < following.next_at < self._upto
        for row in new:
            self.counts[f"{row.status.value} {row.reason}".strip()] += row.count
        self.counts["slots"] += len(due)

    def _new_rows(self, name: str) -> list[Slot]:
        """In the order of their decision."""
        found: list[Slot] = []
        for at in reversed(self._state.firings.slots_of(name)):
            row = self._state.slots.get(slot_key(name, at))
            assert row is not None
            if row.order <= self._order[name]:
                break
            found.append(row)
        if found:
            self._order[name] = found[0].order
        return found[::-1]

    def _start_runs(self) -> None:
        """All that is ready begins; what takes no time is over at once."""
        state = self._state
        over: list[AttemptFinished] = []
        while (proposed := planner.plan(state, planner.PlanPolicy())).assignments:
            for one, attempt in zip(
                proposed.assignments, self._do(AssignTasks(proposed.assignments)), strict=True
            ):
                plan = self._plans[_name_of(one.task_id)]
                if plan.overlap is not Overlap.ALLOW:
                    assert plan.name not in self._alone, f"{one.task_id} runs beside another"
                    self._alone.add(plan.name)
                if plan.busy_ms:
                    ends_at = self._now + plan.busy_ms
                    heapq.heappush(self._busy, (ends_at, one.task_id, attempt.token))
                else:
                    over.append(AttemptFinished(one.task_id, attempt.token, "succeeded"))
        if over:
            self._do(ReportAttempts("n1", "a", finished=tuple(over)))

    def _end_runs(self) -> None:
        """Runs whose time is over end, and those that are to end for a later one."""
        over = []
        while self._busy and self._busy[0][0] <= self._now:
            _, task_id, token = heapq.heappop(self._busy)
            task = self._state.tasks.get(task_id)
            assert task is not None
            status = "cancelled" if task.status is TaskStatus.CANCELLING else "succeeded"
            over.append(AttemptFinished(task_id, token, status))
            self._alone.discard(_name_of(task_id))
        if over:
            self._do(ReportAttempts("n1", "a", finished=tuple(over)))


def _name_of(task_id: str) -> str:
    return task_id.rpartition(".")[0]


def _ends(span: Sequence[int]) -> tuple[int, int]:
    return (span[0], span[-1]) if span else (0, 0)


def _row(plan: Plan) -> Schedule:
    return Schedule(
        plan.name,
        new_task(""),
        msgspec.msgpack.encode(plan.timing),
        misfire=plan.misfire,
        misfire_limit=MISFIRE_LIMIT,
        window_ms=WINDOW_MS,
        overlap=plan.overlap,
        jitter_ms=plan.timing.jitter_ms,
    )
