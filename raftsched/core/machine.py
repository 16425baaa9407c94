"""Apply: one entry of the log changes the state, the same on every peer.

Rules
1. A handler reads the state and the command, nothing else, and puts the rows it wants into
   `_Changes`.  They are written only when the handler returned, so a refused command and an
   unexpected exception change nothing.
2. A refusal is a value.  An exception is a bug: the command ends ``Rejected(INTERNAL)``, identical
   on every peer.  MemoryError and RecursionError are this machine's own trouble and go through.
3. The fencing token is compared before anything else about an attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raftsched.core.commands import (
    Accepted,
    AnyCommand,
    Applied,
    ApplyRetention,
    AssignTasks,
    AttemptFinished,
    AttemptStarted,
    CancelTask,
    DeleteTask,
    Entry,
    Event,
    NodeLeft,
    NodeLost,
    Outcome,
    PauseTask,
    Reason,
    RegisterNode,
    Rejected,
    ReportAttempts,
    ResumeTask,
    SetEligibility,
    SubmitTasks,
    Submitted,
    UpdateSettings,
)
from raftsched.core.indexes import Usage
from raftsched.core.lifecycle import HOLDING, move, move_attempt
from raftsched.core.model import (
    ATTEMPT_TERMINAL,
    OUTPUT_TAIL_BYTES_MAX,
    TERMINAL,
    Attempt,
    AttemptStatus,
    Eligibility,
    KeyRecord,
    NewTask,
    Node,
    NodeStatus,
    Task,
    TaskStatus,
)
from raftsched.core.planner import STRATEGIES, refusal
from raftsched.core.state import State

_DONE = Accepted()


class _Changes:
    """What one command wants written, and the state as it would then be."""

    __slots__ = ("attempts", "deleted", "deleted_keys", "events", "keys", "nodes", "state", "tasks")

    def __init__(self, state: State) -> None:
        self.state = state
        self.tasks: dict[str, Task] = {}
        self.attempts: dict[str, tuple[Attempt, ...]] = {}
        self.nodes: dict[str, Node] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.deleted: list[Task] = []
        self.deleted_keys: list[str] = []
        self.events: list[Event] = []

    def task(self, task_id: str) -> Task | None:
        return self.tasks.get(task_id) or self.state.tasks.get(task_id)

    def latest(self, task_id: str) -> Attempt:
        attempts = self.attempts.get(task_id) or self.state.attempts.get(task_id)
        assert attempts, f"task {task_id} has no attempt"
        return attempts[-1]

    def set_latest(self, task_id: str, attempt: Attempt) -> None:
        attempts = self.attempts.get(task_id) or self.state.attempts.get(task_id) or ()
        self.attempts[task_id] = (*attempts[:-1], attempt)

    def event(self, kind: str, task_id: str = "", node_id: str = "", detail: str = "") -> None:
        self.events.append(Event(kind, task_id, node_id, detail))

    def write(self) -> None:
        state = self.state
        for task in self.tasks.values():
            state.put_task(task)
        for task_id, attempts in self.attempts.items():
            state.put_attempts(task_id, attempts)
        for node in self.nodes.values():
            state.put_node(node)
        for key, record in self.keys.items():
            state.put_key(key, record)
        for task in self.deleted:
            state.delete_task(task)
        for key in self.deleted_keys:
            state.delete_key(key)


def apply(state: State, index: int, entry: Entry) -> Applied:
    """Apply one committed entry, whose term the caller has checked; bad commands never raise."""
    state.now = max(state.now, entry.now)
    outcomes: list[list[Outcome]] = []
    events: list[Event] = []
    for batch in entry.batches:
        answers: list[Outcome] = []
        for command in batch.commands:
            changes = _Changes(state)
            token = state.next_token
            try:
                outcome = _HANDLERS[type(command)](changes, index, command)
            except (MemoryError, RecursionError):
                raise
            except Exception as error:
                state.next_token = token
                outcome = Rejected(Reason.INTERNAL, f"{type(error).__name__}: {error}")
            else:
                if isinstance(outcome, Accepted):
                    changes.write()
                    events += changes.events
                else:
                    state.next_token = token
            answers.append(outcome)
        outcomes.append(answers)
    state.index = index
    return Applied(outcomes, events)


# Submitting ----------------------------------------------------------------------------------


def _submit(changes: _Changes, index: int, command: SubmitTasks) -> Outcome:
    state = changes.state
    key = f"{command.namespace}\0{command.key}"
    if command.key:
        record = state.keys.get(key)
        if record is not None and record.expires_at > state.now:
            if record.request_hash != command.request_hash:
                return Rejected(Reason.KEY_REUSED, "the key was used with another request")
            return Accepted(Submitted(tuple(record.task_ids.split()), replayed=True))
        if record is None and len(state.keys) >= state.settings.keys_max:
            return Rejected(Reason.KEYS_FULL, f"{state.settings.keys_max} keys are held")
    if not command.tasks:
        return Rejected(Reason.INVALID, "no tasks")
    if state.open_count + len(command.tasks) > state.settings.tasks_open_max:
        return Rejected(
            Reason.OVERLOADED, f"{state.settings.tasks_open_max} open tasks are allowed"
        )
    existing: list[int] = []
    refused: list[tuple[int, Rejected]] = []
    for position, new in enumerate(command.tasks):
        reason = _submit_one(changes, index, command.namespace, new)
        if reason is Reason.TASK_TERMINAL:
            existing.append(position)
        elif reason is not None:
            refused.append((position, Rejected(reason, new.id)))
    if refused and (command.atomic or len(command.tasks) == 1):
        return refused[0][1]
    ids = tuple(new.id for new in command.tasks)
    if command.key:
        expires_at = state.now + state.settings.key_retention_ms
        record = KeyRecord(command.request_hash, " ".join(ids), index, expires_at)
        changes.keys[key] = record
    return Accepted(Submitted(ids, existing=tuple(existing), refused=tuple(refused)))


def _submit_one(changes: _Changes, index: int, namespace: str, new: NewTask) -> Reason | None:
    """Create one task; None, or why not (TASK_TERMINAL stands for "the same is there")."""
    state = changes.state
    known = changes.task(new.id)
    if known is not None:
        same = (known.spec, known.namespace, known.queue) == (new.spec, namespace, new.queue)
        return Reason.TASK_TERMINAL if same else Reason.DUPLICATE_ID
    if new.strategy not in STRATEGIES:
        return Reason.UNKNOWN_STRATEGY
    if not (
        0 <= new.priority <= 100
        and new.cpu_milli >= 0
        and new.memory_bytes >= 0
        and 1 <= new.attempts_max <= 100
        and 0 < len(new.id) <= 64
        and " " not in new.id
    ):
        return Reason.INVALID
    changes.tasks[new.id] = Task(
        new.id,
        new.spec,
        namespace,
        new.queue,
        new.priority,
        new.cpu_milli,
        new.memory_bytes,
        new.strategy,
        new.attempts_max,
        TaskStatus.QUEUED,
        state.now,
        index,
        index,
    )
    changes.event("task_queued", new.id)
    return None


# What users ask of a task ----------------------------------------------------------------------


def _cancel(changes: _Changes, index: int, command: CancelTask) -> Outcome:
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    if task.status is TaskStatus.CANCELLING:
        return _DONE
    reason = command.reason or "cancelled"
    if task.status in HOLDING:
        changes.tasks[task.id] = move(
            task, TaskStatus.CANCELLING, reason=reason, modify_index=index
        )
        changes.event("task_cancelling", task.id, task.node)
    else:
        changes.tasks[task.id] = move(
            task,
            TaskStatus.CANCELLED,
            reason=reason,
            modify_index=index,
            finished_at=changes.state.now,
        )
        changes.event("task_finished", task.id, detail="cancelled")
    return _DONE


def _pause(changes: _Changes, index: int, command: PauseTask) -> Outcome:
    return _set_paused(changes, index, command.task_id, True)


def _resume(changes: _Changes, index: int, command: ResumeTask) -> Outcome:
    return _set_paused(changes, index, command.task_id, False)


def _set_paused(changes: _Changes, index: int, task_id: str, paused: bool) -> Outcome:
    task = changes.task(task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, task_id)
    if task.status in TERMINAL:
        return Rejected(Reason.TASK_TERMINAL, str(task.status))
    if task.paused is not paused:
        changes.tasks[task.id] = msgspec.structs.replace(task, paused=paused, modify_index=index)
        changes.event("task_changed", task.id, detail="paused" if paused else "resumed")
    return _DONE


def _delete(changes: _Changes, index: int, command: DeleteTask) -> Outcome:
    task = changes.task(command.task_id)
    if task is None:
        return Rejected(Reason.UNKNOWN_TASK, command.task_id)
    if task.status not in TERMINAL:
        return Rejected(Reason.TASK_NOT_TERMINAL, str(task.status))
    changes.deleted.append(task)
    changes.event("task_deleted", task.id)
    return _DONE


# Assigning and reporting -----------------------------------------------------------------------


def _assign(changes: _Changes, index: int, command: AssignTasks) -> Outcome:
    """Value: per assignment the new `Attempt`, or the `Rejected`."""
    state = changes.state
    usages: dict[str, Usage] = {}
    results: list[Attempt | Rejected] = []
    for wanted in command.assignments:
        task = changes.task(wanted.task_id)
        node = state.nodes.get(wanted.node_id)
        if task is None:
            results.append(Rejected(Reason.UNKNOWN_TASK, wanted.task_id))
            continue
        if task.status is not TaskStatus.QUEUED:
            results.append(Rejected(Reason.TASK_NOT_QUEUED, str(task.status)))
            continue
        if task.paused:
            results.append(Rejected(Reason.TASK_PAUSED, task.id))
            continue
        if node is None:
            results.append(Rejected(Reason.UNKNOWN_NODE, wanted.node_id))
            continue
        if node.incarnation != wanted.incarnation:
            results.append(Rejected(Reason.STALE_INCARNATION, wanted.node_id))
            continue
        usage = usages.get(node.id)
        if usage is None:
            usage = usages[node.id] = state.usage[node.id].copy()
        reason = refusal(task, node, usage)
        if reason is not None:
            results.append(Rejected(reason, wanted.node_id))
            continue
        usage.add(task)
        results.append(_place(changes, index, task, node))
    return Accepted(results)


def _place(changes: _Changes, index: int, task: Task, node: Node) -> Attempt:
    state = changes.state
    token = state.next_token
    state.next_token = token + 1
    number = task.attempt + 1
    attempt = Attempt(number, token, node.id, node.incarnation, AttemptStatus.ASSIGNED, state.now)
    changes.attempts[task.id] = (*(state.attempts.get(task.id) or ()), attempt)
    changes.tasks[task.id] = move(
        task,
        TaskStatus.ASSIGNED,
        reason="",
        attempt=number,
        node=node.id,
        token=token,
        modify_index=index,
    )
    changes.event("task_assigned", task.id, node.id)
    return attempt


def _report(changes: _Changes, index: int, command: ReportAttempts) -> Outcome:
    """Value: the refused items as (task id, token), started ones first."""
    refused: list[tuple[str, int]] = []
    for started in command.started:
        if not _started(changes, index, command, started):
            refused.append((started.task_id, started.token))
    for finished in command.finished:
        if not _finished(changes, index, command, finished):
            refused.append((finished.task_id, finished.token))
    for task_id, token in refused:
        changes.event("report_refused", task_id, command.node_id, str(token))
    return Accepted(tuple(refused))


def _live(changes: _Changes, node_id: str, task_id: str, token: int) -> tuple[Task, Attempt] | None:
    """The task and its attempt if the token is the current one and the attempt has not ended."""
    task = changes.task(task_id)
    if task is None or task.token != token or task.status not in HOLDING or task.node != node_id:
        return None
    attempt = changes.latest(task_id)
    return None if attempt.status in ATTEMPT_TERMINAL else (task, attempt)


def _started(
    changes: _Changes, index: int, command: ReportAttempts, report: AttemptStarted
) -> bool:
    found = _live(changes, command.node_id, report.task_id, report.token)
    if found is None:
        return False
    task, attempt = found
    if attempt.status is AttemptStatus.RUNNING:
        return True
    now = changes.state.now
    changes.set_latest(task.id, move_attempt(attempt, AttemptStatus.RUNNING, started_at=now))
    if task.status is TaskStatus.CANCELLING:
        return True
    changes.tasks[task.id] = move(task, TaskStatus.RUNNING, started_at=now, modify_index=index)
    changes.event("task_started", task.id, task.node)
    return True


def _finished(
    changes: _Changes, index: int, command: ReportAttempts, report: AttemptFinished
) -> bool:
    found = _live(changes, command.node_id, report.task_id, report.token)
    if found is None:
        return False
    task, attempt = found
    now = changes.state.now
    status = AttemptStatus(report.status)
    if status is AttemptStatus.LOST:
        _lose(changes, index, task, attempt, report.reason or "lost")
        return True
    started_at = attempt.started_at or max(attempt.assigned_at, now - max(0, report.run_ms))
    changes.set_latest(
        task.id,
        move_attempt(
            attempt,
            status,
            started_at=started_at,
            finished_at=now,
            exit_code=report.exit_code,
            signal=report.signal,
            reason=report.reason,
            output_tail=report.output_tail[-OUTPUT_TAIL_BYTES_MAX:],
            output_bytes=report.output_bytes,
        ),
    )
    changed: dict[str, Any] = {"modify_index": index, "started_at": started_at}
    if status is AttemptStatus.SUCCEEDED:
        to, changed["reason"] = TaskStatus.SUCCEEDED, ""
    elif task.status is TaskStatus.CANCELLING:
        to = TaskStatus.CANCELLED
    elif task.attempt - task.losses < task.attempts_max:
        to = TaskStatus.QUEUED
    else:
        to, changed["reason"] = TaskStatus.FAILED, report.reason or str(status)
    if to is TaskStatus.QUEUED:
        changes.event("task_queued", task.id, task.node, report.reason)
    else:
        changed["finished_at"] = now
        changes.event("task_finished", task.id, task.node, str(to))
    changes.tasks[task.id] = move(task, to, **changed)
    return True


# Nodes -----------------------------------------------------------------------------------------


def _register(changes: _Changes, index: int, command: RegisterNode) -> Outcome:
    state = changes.state
    if not command.node_id or not command.incarnation or command.slots < 0:
        return Rejected(Reason.INVALID, "node id, incarnation and slots are needed")
    known = state.nodes.get(command.node_id)
    if known is not None and known.incarnation != command.incarnation and command.clean:
        _lose_attempts(changes, index, command.node_id, command.incarnation, "node-restarted")
    since = state.now
    if known is not None and known.status is NodeStatus.UP:
        since = known.status_since
    changes.nodes[command.node_id] = Node(
        id=command.node_id,
        incarnation=command.incarnation,
        address=command.address,
        cpu_milli=command.cpu_milli,
        memory_bytes=command.memory_bytes,
        slots=command.slots,
        status=NodeStatus.UP,
        eligibility=known.eligibility if known is not None else Eligibility.ELIGIBLE,
        registered_at=state.now,
        modify_index=index,
        version=command.version,
        labels=command.labels,
        status_since=since,
    )
    changes.event("node_changed", node_id=command.node_id, detail="up")
    return _DONE


def _lose_attempts(
    changes: _Changes, index: int, node_id: str, spare: str, reason: str, only: str = ""
) -> None:
    """End what a node held: of all incarnations but ``spare``, or of ``only`` one."""
    state = changes.state
    for task_id in sorted(state.by_node.get(node_id, ())):
        task = changes.task(task_id)
        assert task is not None
        attempt = changes.latest(task_id)
        if attempt.incarnation == spare or (only and attempt.incarnation != only):
            continue
        _lose(changes, index, task, attempt, reason)


def _lose(changes: _Changes, index: int, task: Task, attempt: Attempt, reason: str) -> None:
    """The node took this attempt with it: the task waits again, unless that happened too often."""
    state = changes.state
    changes.set_latest(
        task.id, move_attempt(attempt, AttemptStatus.LOST, finished_at=state.now, reason=reason)
    )
    losses = task.losses + 1
    changed: dict[str, Any] = {"losses": losses, "modify_index": index}
    if task.status is TaskStatus.CANCELLING:
        to = TaskStatus.CANCELLED
    elif losses >= state.settings.losses_max:
        to, changed["reason"] = TaskStatus.FAILED, "lost_too_often"
    else:
        to, changed["reason"] = TaskStatus.QUEUED, reason
    if to is TaskStatus.QUEUED:
        changes.event("task_queued", task.id, attempt.node, reason)
    else:
        changed["finished_at"] = state.now
        changes.event("task_finished", task.id, attempt.node, str(to))
    changes.tasks[task.id] = move(task, to, **changed)


def _node_lost(changes: _Changes, index: int, command: NodeLost) -> Outcome:
    state = changes.state
    node = state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    reason = command.reason or "node-lost"
    _lose_attempts(changes, index, command.node_id, "", reason, only=command.incarnation)
    if node.incarnation == command.incarnation and node.status is NodeStatus.UP:
        changes.nodes[node.id] = msgspec.structs.replace(
            node, status=NodeStatus.LOST, reason=reason, status_since=state.now, modify_index=index
        )
        changes.event("node_changed", node_id=node.id, detail="lost")
    return _DONE


def _node_left(changes: _Changes, index: int, command: NodeLeft) -> Outcome:
    state = changes.state
    node = state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    if node.incarnation != command.incarnation:
        return Rejected(Reason.STALE_INCARNATION, command.node_id)
    changes.nodes[node.id] = msgspec.structs.replace(
        node, status=NodeStatus.LEFT, reason="left", status_since=state.now, modify_index=index
    )
    changes.event("node_changed", node_id=node.id, detail="left")
    return _DONE


def _eligibility(changes: _Changes, index: int, command: SetEligibility) -> Outcome:
    node = changes.state.nodes.get(command.node_id)
    if node is None:
        return Rejected(Reason.UNKNOWN_NODE, command.node_id)
    changes.nodes[node.id] = msgspec.structs.replace(
        node, eligibility=command.eligibility, modify_index=index
    )
    changes.event("node_changed", node_id=node.id, detail=str(command.eligibility))
    return _DONE


# Housekeeping ----------------------------------------------------------------------------------


def _retention(changes: _Changes, index: int, command: ApplyRetention) -> Outcome:
    """Value: how many tasks and keys were removed.  Writes as it goes: it refuses nothing."""
    state = changes.state
    tasks = keys = 0
    old = state.now - state.settings.finished_retention_ms
    while tasks < command.limit:
        task = state.oldest_finished()
        if task is None:
            break
        if task.finished_at > old and state.finished_count <= state.settings.finished_max:
            break
        state.delete_task(task)
        changes.event("task_deleted", task.id, detail="retention")
        tasks += 1
    while keys < command.limit:
        found = state.oldest_key()
        if found is None or found[1].expires_at > state.now:
            break
        state.delete_key(found[0])
        keys += 1
    return Accepted((tasks, keys))


def _settings(changes: _Changes, index: int, command: UpdateSettings) -> Outcome:
    changes.state.settings = command.settings
    return _DONE


_HANDLERS: dict[type[Any], Callable[[_Changes, int, Any], Outcome]] = {
    SubmitTasks: _submit,
    CancelTask: _cancel,
    PauseTask: _pause,
    ResumeTask: _resume,
    DeleteTask: _delete,
    RegisterNode: _register,
    AssignTasks: _assign,
    ReportAttempts: _report,
    NodeLost: _node_lost,
    SetEligibility: _eligibility,
    ApplyRetention: _retention,
    UpdateSettings: _settings,
    NodeLeft: _node_left,
}


def handles(command: AnyCommand) -> bool:
    """Is there a handler for this command?  The tests hold that there is one for each."""
    return type(command) in _HANDLERS
