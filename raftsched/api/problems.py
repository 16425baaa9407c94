"""Everything the API refuses, as RFC 9457 problem documents with stable codes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from raftsched.core.commands import (
    AnyCommand,
    BackfillSchedule,
    CancelTask,
    DeleteSchedule,
    DeleteTask,
    DeleteTemplate,
    EditTask,
    PauseTask,
    PutLimit,
    PutQueue,
    PutSchedule,
    PutTemplate,
    ResumeTask,
    RunNow,
    SetEligibility,
    TriggerSchedule,
)
from raftsched.core.outcomes import Reason, Rejected
from raftsched.peer import errors


class Kind(NamedTuple):
    """One entry of the catalogue at ``/v1/problems``."""

    status: int
    title: str
    #: ``"false"``: surely nothing happened.  ``"unknown"``: it may have.
    applied: str = "false"
    retryable: bool = False


CATALOGUE: dict[str, Kind] = {
    "malformed-json": Kind(400, "The body is not JSON"),
    "unauthorized": Kind(401, "A valid token is needed"),
    "forbidden-origin": Kind(403, "Requests from web pages of another origin are refused"),
    "forbidden-host": Kind(403, "The Host header names neither loopback nor a configured name"),
    "not-found": Kind(404, "There is nothing under this address"),
    "unknown-task": Kind(404, "No such task"),
    "unknown-node": Kind(404, "No such node"),
    "no-result": Kind(404, "There is no result"),
    "unknown-peer": Kind(404, "No such peer"),
    "unknown-queue": Kind(404, "Nothing was set for this queue"),
    "unknown-limit": Kind(404, "Nothing was set for this limit"),
    "unknown-schedule": Kind(404, "No such schedule"),
    "unknown-template": Kind(404, "No such template"),
    "method-not-allowed": Kind(405, "This address does not take this method"),
    "change-refused": Kind(409, "This change of the group is not allowed, or not now"),
    "task-terminal": Kind(409, "The task has ended"),
    "task-not-terminal": Kind(409, "The task has not ended"),
    "task-not-queued": Kind(409, "The task is not ready to run"),
    "task-running": Kind(409, "The task runs"),
    "task-has-dependents": Kind(409, "A task that has not ended depends on it"),
    "no-subtasks": Kind(404, "The task has no subtasks"),
    "part-of-tree": Kind(409, "The task has subtasks, or is one"),
    "task-succeeded": Kind(409, "The task succeeded"),
    "inputs-gone": Kind(409, "What the task depended on is not there any more"),
    "unique-conflict": Kind(409, "A task that has not ended has this unique key"),
    "schedule-exists": Kind(409, "There is a schedule of this name"),
    "modified": Kind(412, "It has changed since"),
    "duplicate-id": Kind(409, "Another task has this id"),
    "needs-version": Kind(409, "Not all peers run a program that knows this yet"),
    "output-gone": Kind(410, "The output was rotated away or never written"),
    "too-large": Kind(413, "The request is over a limit"),
    "unsupported-media-type": Kind(415, "The Content-Type must be application/json"),
    "invalid": Kind(422, "A value is not allowed"),
    "idempotency-key-reused": Kind(422, "The Idempotency-Key was used with another request"),
    "idempotency-keys-full": Kind(429, "Too many idempotency keys are held", retryable=True),
    "overloaded": Kind(429, "The cluster takes nothing more just now", retryable=True),
    "queue-full": Kind(429, "The queue takes nothing more just now", retryable=True),
    "internal": Kind(500, "A bug", applied="unknown"),
    "node-unreachable": Kind(502, "The node that has this cannot be reached", retryable=True),
    "no-leader": Kind(503, "No majority leads just now", retryable=True),
    "index-not-reached": Kind(503, "The index was not applied here in time", retryable=True),
    "replica-divergence": Kind(503, "The replicas differ and no majority of them agrees"),
    "stopping": Kind(503, "This peer is stopping", retryable=True),
    "outcome-unknown": Kind(504, "The outcome is not known", applied="unknown", retryable=True),
}

#: Refusals of the state that have no code of their own.
_BY_REASON = {
    Reason.UNKNOWN_STRATEGY: "invalid",
    Reason.INVALID: "invalid",
    Reason.BATCH_REFUSED: "invalid",
    Reason.STALE_FIRE: "modified",
}


class Problem(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        pointer: str = "",
        retry_after: int = 0,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.retry_after = retry_after
        self.extra = extra or {}

    def of_line(self, line: int) -> Problem:
        """The same trouble, in a line of a batch (0 is the first)."""
        pointer = self.pointer and f"/{line}" + self.pointer.removesuffix("/")
        return Problem(
            self.code,
            self.detail,
            pointer=pointer,
            retry_after=self.retry_after,
            extra=self.extra,
        )

    def document(self, request_id: str) -> dict[str, Any]:
        """The body."""
        kind = CATALOGUE[self.code]
        body: dict[str, Any] = {
            "type": f"/v1/problems/{self.code}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
            "retryable": kind.retryable,
            "applied": False if kind.applied == "false" else "unknown",
        }
        if self.pointer:
            body["errors"] = [{"pointer": self.pointer, "message": self.detail}]
        return {**body, **self.extra}

    def response(self, request_id: str) -> web.Response:
        """The whole answer."""
        status = CATALOGUE[self.code].status
        headers = {"X-Request-Id": request_id}
        if status in (429, 503):
            headers["Retry-After"] = str(self.retry_after or 1)
        if status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="raftsched"'
        return web.Response(
            status=status,
            body=msgspec.json.encode(self.document(request_id)),
            content_type="application/problem+json",
            headers=headers,
        )


def unknown_task(task_id: str) -> Problem:
    """There is no such task (any more)."""
    return Problem("unknown-task", f"no task {task_id!r}; it never was, or was deleted")


def unknown_schedule(name: str) -> Problem:
    """There is no such schedule (any more)."""
    return Problem("unknown-schedule", f"no schedule {name[:100]!a}; it never was, or was deleted")


def unknown_template(name: str) -> Problem:
    """There is no such template (any more)."""
    return Problem("unknown-template", f"no template {name[:100]!a}; it never was, or was deleted")


def unknown_node(node_id: str, known: Iterable[str]) -> Problem:
    """There is no such node."""
    names = ", ".join(sorted(known)) or "none has registered yet"
    return Problem("unknown-node", f"no node {node_id!r}; known: {names}")


#: What cannot be done to a task that has ended.
_Verb = CancelTask | PauseTask | ResumeTask | RunNow | EditTask
_DONE_TO = {
    CancelTask: "cancelled", PauseTask: "paused", ResumeTask: "resumed", RunNow: "run",
    EditTask: "edited",
}  # fmt: skip


def task_terminal(asked: _Verb, status: str) -> Problem:
    """The task has ended, and what was asked needs one that has not."""
    task_id = asked.task.id if isinstance(asked, EditTask) else asked.task_id
    done = _DONE_TO[type(asked)]
    return Problem("task-terminal", f"task {task_id} has ended ({status}) and cannot be {done}")


def task_not_terminal(task_id: str, status: str, done: str = "deleted") -> Problem:
    """The task has not ended, and only one that has is deleted."""
    return Problem(
        "task-not-terminal",
        f"task {task_id} is {status} and only a task that has ended can be {done}; "
        "cancel it and wait for its end",
    )


def part_of_tree(task_id: str, parent_id: str) -> Problem:
    """This cannot be done with a part of a task alone, or with one that was split (no parent)."""
    if parent_id:
        text = f"task {task_id} belongs to {parent_id}; ask it of that one"
        return Problem("part-of-tree", text, extra={"task_id": parent_id})
    return Problem("part-of-tree", f"task {task_id} was split into subtasks and stays as it is")


#: What is changed only if it stands as it was seen.
_Conditional = (
    DeleteSchedule | DeleteTemplate | EditTask | PutLimit | PutQueue | PutSchedule | PutTemplate
)
_INDEX = re.compile(r"modify index (\d+)")


def modified(what: str, stands: int, wanted: int) -> Problem:
    """It is not as it was seen.  ``stands``: its modify index; 0: it is not there."""
    now = f"{what} has modify index {stands} now, and {wanted}"
    if not stands:
        now = f"there is no {what} now, and modify index {wanted}"
    return Problem("modified", f"{now} was asked for; read it again, or ask without If-Match")


def check_seen(what: str, stands: int, wanted: int) -> None:
    """Has it the modify index that it must have (0: any)?  Raises Problem."""
    if wanted and stands != wanted:
        raise modified(what, stands, wanted)


def overtaken(what: str, tries: int) -> Problem:
    """Others were faster every time; nobody asked for an index."""
    return Problem("modified", f"{what} was modified by others in each of {tries} tries; ask again")


def _modified(asked: _Conditional, detail: str) -> Problem:
    """As the state refused it: with the index that stands there, or none."""
    found = _INDEX.search(detail)
    return modified(_called(asked), int(found[1]) if found else 0, asked.if_index)


def _called(asked: _Conditional) -> str:
    """What a command changes, in words."""
    match asked:
        case EditTask():
            return f"task {asked.task.id}"
        case PutSchedule():
            return f"schedule {asked.schedule.name!r}"
        case DeleteSchedule():
            return f"schedule {asked.name!r}"
        case PutQueue():
            return f"queue {asked.queue.name!r}"
        case PutLimit():
            return f"limit {asked.limit.key!r}"
        case _:
            return f"template {asked.name!r}"


def of_rejection(
    rejected: Rejected, asked: AnyCommand | None = None, nodes: Iterable[str] = ()
) -> Problem:
    """A refusal of the state as a problem; ``asked`` and the ids of all nodes, where known."""
    reason, detail = rejected.reason, rejected.detail
    if isinstance(asked, _Conditional) and reason is Reason.MODIFIED:
        return _modified(asked, detail)
    if isinstance(asked, BackfillSchedule | TriggerSchedule) and reason is Reason.OVERLOADED:
        text = f"there are as many open tasks as may be; schedule {asked.name!r} was not run"
        return Problem("overloaded", text)
    if isinstance(asked, BackfillSchedule):
        if reason is Reason.STALE_FIRE:
            text = f"schedule {asked.name!r} was changed while its instants were reckoned"
            return Problem("modified", f"{text}; ask again")
        if reason is Reason.TASK_RUNNING:
            text = f"as many runs of schedule {asked.name!r} wait as may; ask again when some ended"
            return Problem("task-running", text)
    if isinstance(asked, EditTask | DeleteTask) and reason is Reason.PART_OF_TREE:
        task_id = asked.task.id if isinstance(asked, EditTask) else asked.task_id
        return part_of_tree(task_id, detail)
    if isinstance(asked, EditTask):
        if reason is Reason.UNKNOWN_TASK:
            return unknown_task(asked.task.id)
        if reason is Reason.TASK_TERMINAL:
            return task_terminal(asked, detail)
    if isinstance(asked, CancelTask | PauseTask | ResumeTask | DeleteTask | RunNow):
        if reason is Reason.UNKNOWN_TASK:
            return unknown_task(asked.task_id)
        if reason is Reason.TASK_NOT_TERMINAL:
            return task_not_terminal(asked.task_id, detail)
        if reason is Reason.TASK_TERMINAL and not isinstance(asked, DeleteTask):
            return task_terminal(asked, detail)
    if isinstance(asked, SetEligibility) and reason is Reason.UNKNOWN_NODE:
        return unknown_node(asked.node_id, nodes)
    if reason is Reason.UNKNOWN_SCHEDULE:
        return unknown_schedule(detail)
    if reason is Reason.UNKNOWN_TEMPLATE:
        return unknown_template(detail)
    if reason is Reason.SCHEDULE_EXISTS:
        text = f"there is a schedule {detail!r}; PUT replaces it"
        return Problem("schedule-exists", text, extra={"schedule": detail})
    if reason is Reason.UNIQUE_CONFLICT:
        # The detail is the id of the task that has the key.
        text = f"task {detail} has this unique key and has not ended"
        return Problem("unique-conflict", text, extra={"task_id": detail})
    if reason is Reason.UNKNOWN_DEPENDENCY:
        text = f"there is no task {detail!r} to wait for; give its id, or submit both together"
        return Problem("invalid", text, pointer="/depends_on")
    if reason is Reason.HAS_DEPENDENTS:
        text = f"task {detail} depends on it and has not ended"
        return Problem("task-has-dependents", text, extra={"task_id": detail})
    if reason is Reason.QUEUE_FULL:
        return Problem("queue-full", "the queue has as many open tasks as it may", retry_after=1)
    if reason is Reason.DUPLICATE_ID:
        # The detail is the id.
        detail = f"there is another task {detail!r}; leave id out, or send its very document"
    code = _BY_REASON.get(reason, str(reason))
    if code not in CATALOGUE:
        code = "internal"
    return Problem(code, detail or str(reason))


def of_peer_error(error: errors.PeerError) -> Problem:
    """Trouble of the peer as a problem."""
    if isinstance(error, errors.Overloaded):
        return Problem("overloaded", str(error), retry_after=error.retry_after_seconds)
    if isinstance(error, errors.UnknownOutcome):
        return Problem("outcome-unknown", str(error))
    if isinstance(error, errors.OutputGone):
        return Problem("output-gone", str(error))
    if isinstance(error, errors.PeerStopped):
        return Problem("stopping", str(error))
    if isinstance(error, errors.TooLarge):
        return Problem("too-large", str(error))
    if isinstance(error, errors.UnknownPeer):
        return Problem("unknown-peer", str(error))
    if isinstance(error, errors.ChangeRefused):
        return Problem("change-refused", str(error))
    if isinstance(error, errors.NeedsVersion):
        return Problem("needs-version", str(error))
    if isinstance(error, errors.IndexNotReached):
        return Problem("index-not-reached", str(error))
    leader = error.leader if isinstance(error, errors.NoLeader) else None
    return Problem("no-leader", str(error), extra={"leader_hint": leader})
