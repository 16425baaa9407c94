"""What each command does: one function per command, found by the table below.

A handler reads the state and the command, puts what it wants written into `Changes`, and answers
with an `Outcome`.  It never asks the world anything, and never writes to the state; but for
retention, see there, and what is the whole cluster's, as the last thing before it accepts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftsched.core import commands
from raftsched.core.changes import Changes
from raftsched.core.handlers import (
    attempts,
    checks,
    cluster,
    fanout,
    housekeeping,
    nodes,
    queues,
    schedules,
    speculate,
    submit,
    tasks,
    templates,
    timers,
)
from raftsched.core.outcomes import Outcome, Reason, Rejected
from raftsched.core.versions import SINCE, missing

_Handler = Callable[[Changes, Any], Outcome]

HANDLERS: dict[type[Any], _Handler] = {
    commands.SubmitTasks: submit.submit,
    commands.CancelTask: tasks.cancel,
    commands.PauseTask: tasks.pause,
    commands.ResumeTask: tasks.resume,
    commands.DeleteTask: tasks.delete,
    commands.RegisterNode: nodes.register,
    commands.AssignTasks: attempts.assign,
    commands.ReportAttempts: attempts.report,
    commands.NodeLost: nodes.lost,
    commands.SetEligibility: nodes.set_eligibility,
    commands.ApplyRetention: housekeeping.retention,
    commands.UpdateSettings: housekeeping.settings,
    commands.NodeLeft: nodes.left,
    commands.CheckReplicas: checks.check,
    commands.ReportDigest: checks.report,
    commands.ActivateVersion: cluster.activate_version,
    commands.ResetClock: cluster.reset_clock,
    commands.LoseAttempts: nodes.lose_attempts,
    commands.FireTimers: timers.fire,
    commands.PutQueue: queues.put_queue,
    commands.DeleteQueue: queues.delete_queue,
    commands.CancelTasks: tasks.cancel_many,
    commands.PutLimit: queues.put_limit,
    commands.DeleteLimit: queues.delete_limit,
    commands.SetNodeLabels: nodes.set_labels,
    commands.DrainNode: nodes.drain,
    commands.EditTask: tasks.edit,
    commands.RunNow: tasks.run_now,
    commands.PutSchedule: schedules.put,
    commands.DeleteSchedule: schedules.delete,
    commands.PauseSchedule: schedules.pause,
    commands.FireSlots: schedules.fire,
    commands.TriggerSchedule: schedules.trigger,
    commands.BackfillSchedule: schedules.backfill,
    commands.AddSubtasks: fanout.add_subtasks,
    commands.PutTemplate: templates.put,
    commands.DeleteTemplate: templates.delete,
    commands.Speculate: speculate.speculate,
}

#: Taken also while the state is suspect: what is so whether it is written down or not, and what
#: ends the suspicion.  All else is what somebody wants, and is refused until a majority agrees.
TAKEN_WHEN_SUSPECT: frozenset[type[Any]] = frozenset(
    {
        commands.RegisterNode,
        commands.ReportAttempts,
        commands.NodeLost,
        commands.LoseAttempts,
        commands.NodeLeft,
        commands.CheckReplicas,
        commands.ReportDigest,
        commands.ActivateVersion,
    }
)


def _gated(handler: _Handler) -> _Handler:
    """The handler, once the version its command needs is in force."""

    def handle(changes: Changes, command: Any) -> Outcome:
        why = missing(command, changes.state.version)
        return Rejected(Reason.NEEDS_VERSION, why) if why else handler(changes, command)

    return handle


for _kind in SINCE:
    HANDLERS[_kind] = _gated(HANDLERS[_kind])
