"""Versions: what this program can apply, and what the cluster has in force.

One number says how entries and snapshots are written and how ``apply`` behaves.  It rises only by
`ActivateVersion`, when every peer can follow; until then everything is as the versions before it
had it, on every peer alike.

====  ==========================================================================================
 1    The first; its entries and snapshots say 2.
 3    Time is bounded (``machine``); the commands in `SINCE`; the group of peers may change.
 4    Policies: timers, backoff, leases by task, queues, limits, constraints; what `SINCE` says.
 5    Trees: a task may be split into subtasks, one for each of several nodes.
 6    Schedules.
 7    Workflows: tasks that depend on others, forks, twins; templates; results that nodes keep.
 8    A pause of a subtask holds its twin; a fork that is being deleted says so.
====  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from raftsched.core import commands
from raftsched.core.model import NewTask

#: What a new cluster is of, until its peers know of each other.
FIRST = 1
#: Entries and snapshots of clusters whose version is lower are written as this.  No version up to
#: it is ever activated: ``apply`` is the same in all of them, and their programs do not know how.
WRITTEN_MIN = 2
#: From this version on ``apply`` bounds how far an entry moves the clock.
BOUNDED_TIME = 3
#: From this version on peers are added and removed: programs before do not know such entries.
MEMBERSHIP = 3
#: From this version on tasks have policies, rows and reports the fields marked so in ``model``.
POLICIES = 4
#: From this version on tasks may have subtasks.
TREES = 5
#: From this version on there are schedules.
SCHEDULES = 6
#: From this version on tasks depend on others.
WORKFLOWS = 7
#: From this version on the twin of a subtask is paused and resumed with it.
PAUSED_TWINS = 8
#: From this version on a fork is open that is being deleted: it has not all of its subtasks.
TRIMMED_IS_OPEN = 8
#: Version that a command needs; those that are not here were always there.
SINCE: dict[type[Any], int] = {
    commands.CheckReplicas: 3,
    commands.ReportDigest: 3,
    commands.ResetClock: 3,
    commands.LoseAttempts: POLICIES,
    commands.FireTimers: POLICIES,
    commands.PutQueue: POLICIES,
    commands.DeleteQueue: POLICIES,
    commands.CancelTasks: POLICIES,
    commands.PutLimit: POLICIES,
    commands.DeleteLimit: POLICIES,
    commands.SetNodeLabels: POLICIES,
    commands.DrainNode: POLICIES,
    commands.EditTask: POLICIES,
    commands.RunNow: POLICIES,
    commands.PutSchedule: SCHEDULES,
    commands.DeleteSchedule: SCHEDULES,
    commands.PauseSchedule: SCHEDULES,
    commands.FireSlots: SCHEDULES,
    commands.TriggerSchedule: SCHEDULES,
    commands.BackfillSchedule: SCHEDULES,
    commands.AddSubtasks: WORKFLOWS,
    commands.PutTemplate: WORKFLOWS,
    commands.DeleteTemplate: WORKFLOWS,
    commands.Speculate: WORKFLOWS,
}


class Supports(NamedTuple):
    """The versions that a program can apply, both included."""

    lowest: int
    highest: int


#: What this program can apply.
SUPPORTED = Supports(1, commands.ENTRY_VERSION)
#: What a program says that does not say it: those before `ActivateVersion` was there.
UNSPOKEN = Supports(1, 2)


class UnknownVersion(Exception):
    """Written by another version of raftsched, most likely a newer one: upgrade this peer."""


def written(in_force: int) -> int:
    """The version of entries and snapshots while ``in_force`` is the cluster's."""
    return max(WRITTEN_MIN, in_force)


def check(version: int, supports: Supports, what: str) -> None:
    """Raises UnknownVersion, in a line for who has to act, if ``version`` is not supported."""
    if version > supports.highest:
        raise UnknownVersion(
            f"upgrade this peer: the cluster runs version {version}, this program knows up to "
            f"{supports.highest} ({what} version {version})"
        )
    if version < supports.lowest:
        raise UnknownVersion(
            f"this program is too new: it knows versions {supports.lowest} to {supports.highest}, "
            f"not {what} version {version}; run a release in between first"
        )


def next_version(in_force: int, members: Iterable[Supports | None]) -> int | None:
    """The highest version above ``in_force`` that every member can apply; None: there is none.

    A member that is None has not said what it can apply.
    """
    known: list[Supports] = []
    for supports in members:
        if supports is None:
            return None
        known.append(supports)
    best = min((supports.highest for supports in known), default=0)
    lowest = max((supports.lowest for supports in known), default=0)
    return best if best > written(in_force) and best >= lowest else None


def needed(command: commands.Command) -> int:
    """The version from which on a command can be applied."""
    if isinstance(command, commands.SubmitTasks):
        return max([_needed_by(new) for new in command.tasks], default=0)
    if isinstance(command, commands.EditTask):
        return max(POLICIES, _needed_by(command.task))
    if isinstance(command, commands.PutSchedule):
        return max(SCHEDULES, _needed_by(command.schedule.task))
    return SINCE.get(type(command), 0)


def _needed_by(new: NewTask) -> int:
    """The version from which on a task can be asked for."""
    if new.extra is not None:
        if new.extra.depends_on or new.extra.fork is not None or new.extra.keeps:
            return WORKFLOWS
        return TREES if new.extra.broadcast else POLICIES
    return 0 if new.policy is None else POLICIES


def missing(command: commands.Command, in_force: int) -> str:
    """Why a command cannot be applied yet, in words; empty if it can."""
    if in_force >= commands.ENTRY_VERSION:
        return ""  # Nothing needs more, and a submission may have many tasks to look at.
    needs = needed(command)
    if needs <= in_force:
        return ""
    what = type(command).__name__
    if isinstance(command, commands.SubmitTasks | commands.EditTask):
        what = "what the task asks for"
    return f"{what} needs cluster version {needs}, {in_force} is in force; upgrade all peers first"
