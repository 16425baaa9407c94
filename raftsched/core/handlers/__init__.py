"""What each command does: one function per command, found by the table below.

A handler reads the state and the command, puts what it wants written into `Changes`, and answers
with an `Outcome`.  It never writes to the state (retention alone does, see there) and never asks
the world anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftsched.core import commands
from raftsched.core.changes import Changes
from raftsched.core.commands import Outcome
from raftsched.core.handlers import attempts, housekeeping, nodes, tasks

HANDLERS: dict[type[Any], Callable[[Changes, Any], Outcome]] = {
    commands.SubmitTasks: tasks.submit,
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
}
