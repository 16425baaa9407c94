"""All tasks that pass a filter, changed: cancel, retry, pause, resume, run, delete, edit.

Rules
1. The tasks are found in slices on this peer, then changed by commands that name them: what has
   changed meanwhile is refused by the state, and the answer says what was not done and why; but an
   edit is worked out again on top of it.
2. Tasks are changed in parts, an entry each.  Trouble after the first change is an unknown outcome
   (504), never "surely not applied"; all but a retry may be asked for again to do the rest.
3. A patch that fits no task at all is the caller's mistake (422), and nothing was changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from raftsched.api.amending import check_can_edit, check_names, edited
from raftsched.api.context import TRIES_MAX, Context
from raftsched.api.listing import FILTERS, Scan, Words, filter_of, instant_of
from raftsched.api.problems import (
    Problem,
    of_rejection,
    overtaken,
    task_terminal,
    unknown_task,
)
from raftsched.api.reports import BulkAnswer, Report
from raftsched.api.retries import another, check_can_retry, follows
from raftsched.api.tasks import REASON_CHARACTERS_MAX
from raftsched.core.commands import (
    AnyCommand,
    CancelTask,
    CancelTasks,
    DeleteTask,
    EditTask,
    PauseTask,
    ResumeTask,
    RunNow,
    SubmitTasks,
)
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import TERMINAL, NewTask, Task, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected, Submitted
from raftsched.core.state import State
from raftsched.core.trees import is_twin, parent_of
from raftsched.peer.errors import UnknownOutcome

#: Tasks one request changes at most.
TASKS_MAX = 100_000
#: Tasks one command names.
PART_MAX = 1_000
#: Commands under way at once, where each names one task.
COMMANDS_MAX = 500
#: Patches worked out before the loop is left.
PATCHES_MAX = 20


class Wanted(NamedTuple):
    """Which tasks are meant."""

    passes: Callable[[Task], bool]
    #: Those made before it are not, in milliseconds since the Unix epoch.
    since: int
    limit: int
    #: Say only how many there are.
    dry_run: bool = False


def wanted(words: Words, limit: int = TASKS_MAX, *, dry_run: bool = False) -> Wanted:
    """What a query means.  Raises Problem, also for one that says nothing."""
    given = [name for name in FILTERS if name in words]
    if not given:
        raise Problem("invalid", f"give a filter: {', '.join(FILTERS)}", pointer="?state")
    for name in given:
        # Nothing would be left out: surely not what somebody meant whose variable was empty.
        if not all(words[name]):
            raise Problem("invalid", "an empty filter would match all", pointer=f"?{name}")
    return Wanted(filter_of(words), instant_of(words, "since") or 0, limit, dry_run)


async def cancel(context: Context, asked: Wanted, reason: str) -> BulkAnswer:
    """Cancel them."""
    ids, more = await _found(context, asked, _is_open)
    report = Report(len(ids), more)
    if not asked.dry_run:
        await cancel_all(context, report, ids, reason)
    return report.answer()


async def cancel_all(
    context: Context, report: Report, ids: list[str], reason: str, *, spare_running: bool = False
) -> None:
    """Cancel these tasks; with ``spare_running`` none that a node has."""
    reason = reason[:REASON_CHARACTERS_MAX]
    for part in _parts(ids, PART_MAX):
        with report.told():
            changed = set(await context.propose(CancelTasks(tuple(part), reason, spare_running)))
        for task_id in part:
            if task_id in changed:
                report.change(task_id)
            else:
                report.refuse(task_id, _not_cancelled(context.service.state, task_id))


def _not_cancelled(state: State, task_id: str) -> Problem:
    task = state.tasks.get(task_id)
    if task is None:
        return unknown_task(task_id)
    if task.status in TERMINAL:
        return task_terminal(CancelTask(task_id), task.status.value)
    return Problem("task-running", f"task {task_id} is {task.status}")


async def retry(context: Context, asked: Wanted, *, only_failed: bool) -> BulkAnswer:
    """Try those again that did not succeed."""
    ids, more = await _found(context, asked, _may_retry)
    report = Report(len(ids), more)
    if not asked.dry_run:
        for part in _parts(ids, PART_MAX):
            with report.told():
                await _retry(context, report, part, only_failed=only_failed)
    return report.answer()


async def _retry(context: Context, report: Report, ids: list[str], *, only_failed: bool) -> None:
    """Submit again what may be."""
    state = context.service.state
    by_namespace: dict[str, list[tuple[Task, NewTask]]] = {}
    for task_id in ids:
        try:
            task = _known(state, task_id)
            check_can_retry(state, task, only_failed=only_failed)
            new = another(state, task, context.new_id(), only_failed=only_failed)
            if follows(new):
                text = f"task {task_id} has too many subtasks to be one of many; retry it by itself"
                raise Problem("too-large", text)
        except Problem as problem:
            report.refuse(task_id, problem)
        else:
            by_namespace.setdefault(task.namespace, []).append((task, new))
    for namespace, pairs in by_namespace.items():
        tasks, again = [task for task, _ in pairs], tuple([new for _, new in pairs])
        submitted: Submitted = await context.propose(SubmitTasks(again, namespace=namespace))
        refused = {at: of_rejection(why) for at, why in submitted.refused}
        for at, (task, made) in enumerate(zip(tasks, submitted.task_ids, strict=True)):
            if at in refused:
                report.refuse(task.id, refused[at])
            elif at in submitted.existing and made != again[at].id:
                text = f"task {made} has this unique key and has not ended"
                report.refuse(task.id, Problem("unique-conflict", text))
            else:
                report.change(made)


async def pause(context: Context, asked: Wanted) -> BulkAnswer:
    """Keep them from being started."""
    return await _each(context, asked, _may_pause, PauseTask)


async def resume(context: Context, asked: Wanted) -> BulkAnswer:
    """Undo their pause."""
    return await _each(context, asked, _may_resume, ResumeTask)


async def run_now(context: Context, asked: Wanted) -> BulkAnswer:
    """End their wait."""
    return await _each(context, asked, _may_run, RunNow)


async def delete(context: Context, asked: Wanted) -> BulkAnswer:
    """Remove those that have ended."""
    return await _each(context, asked, _has_ended, DeleteTask)


async def _each(
    context: Context,
    asked: Wanted,
    is_fit: Callable[[Task], bool],
    command: Callable[[str], AnyCommand],
) -> BulkAnswer:
    """Propose a command for each."""
    ids, more = await _found(context, asked, is_fit)
    report = Report(len(ids), more)
    if not asked.dry_run:
        for part in _parts(ids, COMMANDS_MAX):
            await _propose(context, report, {task_id: command(task_id) for task_id in part})
    return report.answer()


async def edit(context: Context, asked: Wanted, patch: dict[str, Any]) -> BulkAnswer:
    """Change fields of those that do not run."""
    check_names(patch)
    ids, more = await _found(context, asked, _may_edit)
    report = Report(len(ids), more)
    for number, part in enumerate(_parts(ids, COMMANDS_MAX)):
        commands, problems = await _edits(context, part, patch)
        if not number and not commands and len({str(p.pointer) for p in problems.values()}) == 1:
            problem = next(iter(problems.values()))
            if problem.code == "invalid":
                raise problem
        for task_id, problem in problems.items():
            report.refuse(task_id, problem)
        if not asked.dry_run:
            await _edit(context, report, commands, patch)
    return report.answer()


async def _edit(
    context: Context, report: Report, commands: dict[str, AnyCommand], patch: dict[str, Any]
) -> None:
    """Propose edits; those that were overtaken are worked out again, as of one task."""
    for _ in range(TRIES_MAX):
        again_ids = await _propose(context, report, commands)
        if not again_ids:
            return
        commands, problems = await _edits(context, again_ids, patch)
        for task_id, problem in problems.items():
            report.refuse(task_id, problem)
    for task_id in commands:
        report.refuse(task_id, overtaken(f"task {task_id}", TRIES_MAX))


async def _edits(
    context: Context, ids: list[str], patch: dict[str, Any]
) -> tuple[dict[str, AnyCommand], dict[str, Problem]]:
    """Commands that edit the tasks, and why others cannot be edited."""
    commands: dict[str, AnyCommand] = {}
    problems: dict[str, Problem] = {}
    for number, task_id in enumerate(ids):
        if number % PATCHES_MAX == PATCHES_MAX - 1:
            await asyncio.sleep(0)
        try:
            task = _known(context.service.state, task_id)
            check_can_edit(task, 0)
            # What the patch was merged into must still stand there.
            commands[task_id] = EditTask(edited(task, patch), task.modify_index)
        except Problem as problem:
            problems[task_id] = problem
    return commands, problems


async def _propose(context: Context, report: Report, commands: dict[str, AnyCommand]) -> list[str]:
    """Have commands applied, of which the leader makes few entries.  Raises for any trouble.

    Returns ids of tasks that changed before they were edited; these are not reported yet.
    """
    outcomes = await asyncio.gather(
        *[_applied(context, command) for command in commands.values()], return_exceptions=True
    )
    trouble: BaseException | None = None
    again_ids: list[str] = []
    for (task_id, command), outcome in zip(commands.items(), outcomes, strict=True):
        if isinstance(outcome, Accepted):
            report.change(task_id)
        elif isinstance(outcome, Rejected) and outcome.reason is Reason.MODIFIED:
            again_ids.append(task_id)
        elif isinstance(outcome, Rejected):
            report.refuse(task_id, of_rejection(outcome, command))
        elif trouble is None or isinstance(outcome, UnknownOutcome):
            trouble = outcome
    if trouble is not None:
        with report.told():
            raise trouble
    return again_ids


async def _applied(context: Context, command: AnyCommand) -> Outcome:
    """A task that has very many subtasks is deleted in pieces."""
    outcome = await context.outcome(command)
    while isinstance(command, DeleteTask) and isinstance(outcome, Accepted) and outcome.value:
        outcome = await context.outcome(command)
    return outcome


def _known(state: State, task_id: str) -> Task:
    task = state.tasks.get(task_id)
    if task is None:
        raise unknown_task(task_id)
    return task


def _is_open(task: Task) -> bool:
    return task.status not in TERMINAL and task.status is not TaskStatus.CANCELLING


def _may_retry(task: Task) -> bool:
    return task.status in TERMINAL and task.status is not TaskStatus.SUCCEEDED


def _may_pause(task: Task) -> bool:
    return task.status not in TERMINAL and not task.paused


def _may_resume(task: Task) -> bool:
    return task.status not in TERMINAL and task.paused


def _may_run(task: Task) -> bool:
    waits = task.status in (TaskStatus.WAITING, TaskStatus.RETRYING)
    return task.status not in TERMINAL and (waits or task.paused)


def _has_ended(task: Task) -> bool:
    return task.status in TERMINAL


def _may_edit(task: Task) -> bool:
    return task.status not in TERMINAL and task.status not in HOLDING


def _parts(ids: list[str], size: int) -> list[list[str]]:
    return [ids[at : at + size] for at in range(0, len(ids), size)]


async def _found(
    context: Context, asked: Wanted, is_fit: Callable[[Task], bool]
) -> tuple[list[str], bool]:
    """Ids of what passes the filter, newest first, and whether there is more behind the limit."""
    state, passes = await context.read(), asked.passes

    def test(task: Task) -> bool:
        if not (is_fit(task) and passes(task)) or is_twin(task):
            return False
        # What is done to a task is done to its subtasks.
        parent = state.tasks.get(parent_of(task))
        return parent is None or not (is_fit(parent) and passes(parent))

    return await matching(context, test, asked.limit, asked.since)


async def matching(
    context: Context, test: Callable[[Task], bool], limit: int, since: int = 0
) -> tuple[list[str], bool]:
    """Ids of tasks that pass, newest first, found in slices; is there more behind the limit?"""
    found: list[str] = []
    place, more = None, True
    while more and len(found) < limit:
        scan: Scan[str] = Scan(test, limit - len(found), place, since, show=_id)
        while not scan.is_done:
            async with context.scanning:
                scan.step(context.service.state)
                await asyncio.sleep(0)
        found += scan.found
        place, more = scan.place, scan.more
    return found, more


def _id(task: Task) -> str:
    return task.id
