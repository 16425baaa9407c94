"""Schedules: their rows, the instants that are due, and the runs that are made of them.

Rules
1. An instant fires once: a fire names the instant that the row says is next, and moves it on.
2. Every instant that was due is covered by a slot: a run, or why there is none.
3. Which of the late instants run, and what a run does whose forerunner has not ended, is decided
   here, by the state alone.  When instants are due is the leader's word.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import (
    BackfillSchedule,
    DeleteSchedule,
    Fire,
    FireSlots,
    PauseSchedule,
    PutSchedule,
    TriggerSchedule,
)
from raftsched.core.handlers.ends import stop
from raftsched.core.handlers.forks import why_not
from raftsched.core.handlers.keys import earlier, remember
from raftsched.core.handlers.rows import checked_terms, is_askable
from raftsched.core.handlers.runs import Refused, Runs, run_id
from raftsched.core.model import TERMINAL, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected, Submitted
from raftsched.core.policy import Extra
from raftsched.core.schedule import (
    LATE_MS,
    MISFIRE_LIMIT_MAX,
    NAME_MAX,
    UNRECKONED,
    Misfire,
    Overlap,
    Schedule,
    SlotStatus,
    edited_at,
    slot_key,
)
from raftsched.core.versions import WORKFLOWS

#: Rows of schedules that are kept.
SCHEDULES_MAX = 20_000
#: Stands for the namespace of keys of triggers; no namespace is called so.
TRIGGER_SCOPE = "schedules:trigger"
#: Instants in one fire, and in one backfill.
INSTANTS_MAX = 1_000
_DONE = Accepted()


def put(changes: Changes, command: PutSchedule) -> Outcome:
    """Value: the row as it is now."""
    wanted = command.schedule
    known = changes.state.schedules.get(wanted.name)
    if command.is_new and known is not None:
        return Rejected(Reason.SCHEDULE_EXISTS, wanted.name)
    if command.if_index and (known is None or edited_at(known) != command.if_index):
        stands = "no row" if known is None else f"modify index {edited_at(known)}"
        return Rejected(Reason.MODIFIED, f"{stands}, not {command.if_index}")
    if known is None and len(changes.state.schedules) >= SCHEDULES_MAX:
        return Rejected(Reason.OVERLOADED, f"{SCHEDULES_MAX} schedules are allowed")
    refusal = _refusal(changes, wanted)
    if refusal is not None:
        return refusal
    row = _as_new(changes, wanted) if known is None else _changed(changes, known, wanted)
    changes.others.schedules[row.name] = row
    changes.event("schedule_changed", detail=row.name)
    return Accepted(row)


def _refusal(changes: Changes, wanted: Schedule) -> Rejected | None:
    name, task = wanted.name, wanted.task
    if not (0 < len(name) <= NAME_MAX and name.isprintable()) or " " in name or "\0" in name:
        return Rejected(Reason.INVALID, f"a name has 1 to {NAME_MAX} characters that can be shown")
    limits_hold = 0 <= wanted.misfire_limit <= MISFIRE_LIMIT_MAX
    if not limits_hold or min(wanted.window_ms, wanted.jitter_ms) < 0:
        return Rejected(Reason.INVALID, f"misfire_limit is 0 to {MISFIRE_LIMIT_MAX}")
    terms = checked_terms(
        changes.state,
        (
            wanted.namespace, task.queue, task.priority, task.cpu_milli, task.memory_bytes,
            task.strategy, task.attempts_max, task.policy,
        ),
    )  # fmt: skip
    if isinstance(terms, Reason):
        return Rejected(terms, name)
    extra = task.extra
    if extra is not None and not _may_recur(extra):
        return Rejected(
            Reason.INVALID, "a schedule's task has no unique key, instants or dependencies"
        )
    if extra is not None and extra.fork is not None:
        why = why_not(changes.state, wanted.namespace, extra.fork)
        if extra.fork.is_open:
            why = "a schedule's task says itself what its subtasks are"
        if why:
            return Rejected(Reason.INVALID, why)
    return None


def _may_recur(extra: Extra) -> bool:
    is_single = extra.unique_key or extra.not_before or extra.deadline or extra.depends_on
    return is_askable(extra) and not is_single


def _as_new(changes: Changes, wanted: Schedule) -> Schedule:
    now = changes.state.now
    row = msgspec.structs.replace(
        wanted, version=1, next_at=UNRECKONED, after=now, resumed_at=0, created_at=now,
        successes=0, failures=0,
    )  # fmt: skip
    return _edited(changes, row)


def _edited(changes: Changes, row: Schedule) -> Schedule:
    index = changes.index
    edit_index = index if changes.state.version >= WORKFLOWS else 0
    return msgspec.structs.replace(row, modify_index=index, edit_index=edit_index)


def _changed(changes: Changes, known: Schedule, wanted: Schedule) -> Schedule:
    """Another definition; when it is due is reckoned anew only if that is another."""
    row = msgspec.structs.replace(
        wanted, version=known.version + 1, next_at=known.next_at, after=known.after,
        resumed_at=known.resumed_at, created_at=known.created_at, successes=known.successes,
        failures=known.failures, key=known.key,
    )  # fmt: skip
    row = _edited(changes, row)
    if wanted.paused is not known.paused:
        return _paused(changes, msgspec.structs.replace(row, paused=known.paused), wanted.paused)
    if wanted.timing == known.timing:
        return row
    return msgspec.structs.replace(row, next_at=UNRECKONED, after=changes.state.now, resumed_at=0)


def pause(changes: Changes, command: PauseSchedule) -> Outcome:
    """Value: the row as it is now.  Pausing again, or resuming what is not paused, is accepted."""
    known = changes.state.schedules.get(command.name)
    if known is None:
        return Rejected(Reason.UNKNOWN_SCHEDULE, command.name)
    if known.paused is command.paused:
        return Accepted(known)
    row = _paused(changes, known, command.paused)
    changes.others.schedules[row.name] = row
    changes.event("schedule_changed", detail=row.name)
    return Accepted(row)


def _paused(changes: Changes, row: Schedule, paused: bool) -> Schedule:
    """Paused, or going on from now: what was due meanwhile was not to run."""
    row = _edited(changes, msgspec.structs.replace(row, paused=paused))
    now, next_at = changes.state.now, row.next_at
    if paused or not next_at or next_at > now:
        return row
    after = row.after if next_at == UNRECKONED else next_at - 1
    return msgspec.structs.replace(row, next_at=UNRECKONED, after=after, resumed_at=now)


def delete(changes: Changes, command: DeleteSchedule) -> Outcome:
    """No value."""
    state, name = changes.state, command.name
    known = state.schedules.get(name)
    if known is None:
        return Rejected(Reason.UNKNOWN_SCHEDULE, name)
    if command.if_index and edited_at(known) != command.if_index:
        return Rejected(Reason.MODIFIED, f"modify index {edited_at(known)}")
    for at in state.firings.slots_of(name):
        changes.others.slots[slot_key(name, at)] = None
    if command.ends_tasks:
        for task_id in state.firings.runs_of(name):
            task = changes.task(task_id)
            assert task is not None
            # The end of one before it may have been its end.
            if task.status not in TERMINAL:
                stop(changes, task, TaskStatus.CANCELLED, "schedule-deleted")
    changes.others.schedules[name] = None
    changes.event("schedule_changed", detail=name)
    return _DONE


# Instants ----------------------------------------------------------------------------------------


def fire(changes: Changes, command: FireSlots) -> Outcome:
    """Value: an outcome for each fire; of an accepted one the ids of the tasks it made."""
    return Accepted([_fire(changes, one) for one in command.fires])


def _fire(changes: Changes, fired: Fire) -> Outcome:
    row = changes.schedule(fired.schedule)
    if row is None:
        return Rejected(Reason.UNKNOWN_SCHEDULE, fired.schedule)
    if _is_stale(row, fired):
        return Rejected(Reason.STALE_FIRE, fired.schedule)
    why_not = _why_not(row, fired, changes.state.now)
    if why_not:
        return Rejected(Reason.INVALID, f"{fired.schedule}: {why_not}")
    runs = Runs(changes, row)
    if fired.passed is not None:
        first, last, count = fired.passed
        if row.resumed_at:
            runs.note(first, last, count, SlotStatus.SKIPPED, "paused")
        else:
            runs.note(first, last, count, SlotStatus.MISSED, "late")
    made: list[str] = []
    reasons = _misfires(row, fired, changes.state.now)
    for at, reason in zip(fired.instants, reasons, strict=True):
        if reason:
            runs.note(at, at, 1, SlotStatus.MISSED, reason)
        else:
            made += _run(runs, row, at)
    # A forerunner that ended for it may have changed the row.
    row = changes.schedule(row.name) or row
    if fired.following == UNRECKONED and fired.passed is not None:
        row = msgspec.structs.replace(row, after=fired.passed[1], modify_index=changes.index)
    else:
        row = msgspec.structs.replace(
            row, next_at=fired.following, after=0, resumed_at=0, modify_index=changes.index
        )
    changes.others.schedules[row.name] = row
    changes.event("schedule_changed", detail=row.name)
    return Accepted(tuple(made))


def _is_stale(row: Schedule, fired: Fire) -> bool:
    """Did somebody fire it already, or change it?"""
    return row.paused or row.version != fired.version or row.next_at != fired.next_at


def _why_not(row: Schedule, fired: Fire, now: int) -> str:
    """What is wrong with what the leader reckoned; empty: nothing."""
    passed = [] if fired.passed is None else list(fired.passed[:2])
    all_due = [*passed, *fired.instants]
    if len(fired.instants) > INSTANTS_MAX:
        return f"more than {INSTANTS_MAX} instants"
    if fired.passed is not None:
        first, last, count = fired.passed
        if first > last or count < 1 or (count == 1) != (first == last):
            return "not a range"
    steps = pairwise([*passed[1:], *fired.instants])
    if any(a >= b for a, b in steps) or (all_due and all_due[-1] > now):
        return "instants rise, and are due"
    if row.next_at == UNRECKONED:
        return _why_not_reckoned(row, fired)
    if not all_due or all_due[0] != row.next_at:
        return "the first instant is the one that is next"
    if fired.following and fired.following <= all_due[-1]:
        return "the next instant is later"
    is_more_due = 0 < fired.following <= now
    if not passed:
        return ""
    runs_at_least = {Misfire.SKIP: 0, Misfire.LATEST: 1, Misfire.ALL: row.misfire_limit}
    if passed[1] > now - LATE_MS:
        return "what is passed over is late"
    might_run = len(fired.instants) < runs_at_least[row.misfire] and not is_more_due
    if passed[1] > now - row.window_ms and might_run:
        return "what is passed over might run"
    return ""


def _why_not_reckoned(row: Schedule, fired: Fire) -> str:
    """What is wrong with the first instant of a schedule that is new, changed or resumed."""
    if fired.instants:
        return "nothing runs before it is reckoned"
    if fired.passed is not None:
        first, last, _ = fired.passed
        if first <= row.after or last > row.resumed_at:
            return "what is passed over was due during the pause"
        if fired.following == UNRECKONED:
            return ""  # There was more during the pause.
    if fired.following and fired.following <= max(row.after, row.resumed_at):
        return "the next instant is later"
    return ""


def _misfires(row: Schedule, fired: Fire, now: int) -> list[str]:
    """Why each instant does not run; empty: it does."""
    instants, is_more_due = fired.instants, 0 < fired.following <= now
    late = [at for at in instants if at < now - LATE_MS]
    if row.misfire is Misfire.SKIP:
        allowed = 0
    elif row.misfire is Misfire.LATEST:
        # The last one of all, which is late only if nothing is due in time.
        allowed = 1 if len(late) == len(instants) and not is_more_due else 0
    else:
        allowed = row.misfire_limit
    run_from = len(late) - allowed
    reasons: list[str] = []
    for number, _ in enumerate(instants):
        if number >= len(late):
            reasons.append("")
        elif late[number] <= now - row.window_ms:
            reasons.append("late")
        elif number < run_from:
            reasons.append("late" if row.misfire is Misfire.SKIP else "superseded")
        else:
            reasons.append("")
    return reasons


def _run(runs: Runs, row: Schedule, at: int) -> list[str]:
    """The run of one instant, as far as its forerunners let it; ids of the tasks made."""
    overlap = row.overlap
    if row.misfire is Misfire.ALL and overlap is Overlap.SKIP and at < runs.now - LATE_MS:
        overlap = Overlap.QUEUE  # All of them, one after the other.
    made = runs.make(at, overlap, "")
    if isinstance(made, Refused):
        runs.note(at, at, 1, made.status, made.reason)
        return []
    return [made]


# By hand -----------------------------------------------------------------------------------------


def trigger(changes: Changes, command: TriggerSchedule) -> Outcome:
    """Value: `Submitted` with the id of the task.  Whatever runs of it already."""
    scope = (TRIGGER_SCOPE, command.key, command.name.encode())
    known = earlier(changes, *scope)
    if known is not None:
        return known
    row = changes.state.schedules.get(command.name)
    if row is None:
        return Rejected(Reason.UNKNOWN_SCHEDULE, command.name)
    runs = Runs(changes, row)
    made = runs.make(runs.free_instant(changes.state.now), Overlap.ALLOW, "triggered")
    if isinstance(made, Refused):
        return Rejected(made.code, row.name)
    submitted = Submitted((made,))
    remember(changes, *scope, submitted)
    return Accepted(submitted)


def backfill(changes: Changes, command: BackfillSchedule) -> Outcome:
    """Value: ids of the tasks made; instants that have a run already are passed over."""
    row = changes.state.schedules.get(command.name)
    if row is None:
        return Rejected(Reason.UNKNOWN_SCHEDULE, command.name)
    if row.version != command.version:
        return Rejected(Reason.STALE_FIRE, command.name)
    instants = command.instants
    rise = all(a < b for a, b in pairwise(instants))
    if not (0 < len(instants) <= INSTANTS_MAX) or not rise or instants[-1] > changes.state.now:
        return Rejected(Reason.INVALID, f"1 to {INSTANTS_MAX} instants of the past, ascending")
    runs = Runs(changes, row)
    made: list[str] = []
    for at in instants:
        slot = changes.slot(slot_key(row.name, at))
        # The slot of a run may have made room for later ones, also for those of this very command.
        if (slot is not None and slot.task_id) or changes.task(run_id(row.name, at)) is not None:
            continue
        overlap = Overlap.ALLOW if row.overlap is Overlap.ALLOW else Overlap.QUEUE
        run = runs.make(at, overlap, "backfill")
        if isinstance(run, Refused):
            if not made:
                return Rejected(run.code, row.name)
            break
        made.append(run)
    return Accepted(tuple(made))
