"""Routes that make something else of a task: edit it, run it now, try it again."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from aiohttp import hdrs, web

from raftsched.api import fanout
from raftsched.api.context import TRIES_MAX, Context, body_of, decode, flag, no_fields, pointer_of
from raftsched.api.defaults import merged
from raftsched.api.documents import TaskRequest, to_new_task
from raftsched.api.problems import Problem, check_seen, overtaken, part_of_tree, task_terminal
from raftsched.api.retries import retry_of
from raftsched.api.submission import key_of
from raftsched.api.tasks import etag, known_task
from raftsched.api.views import task_view
from raftsched.core.commands import EditTask, RunNow
from raftsched.core.lifecycle import HOLDING
from raftsched.core.model import TERMINAL, NewTask, Task
from raftsched.core.outcomes import Submitted
from raftsched.core.spec import TaskSpec
from raftsched.core.trees import is_split, owner_of


class RetryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a retry; may be empty."""

    #: Only what failed, and what waited for it: what succeeded is kept.
    only: Literal["failed"] | None = None


#: What a task is called and where it belongs stays as it is, and so does what others it concerns.
_FIXED = ("id", "namespace", "depends_on", "needs", "map", "workflow", "template")

_plain = msgspec.json.Decoder(dict[str, Any])
_retries = msgspec.json.Decoder(RetryRequest)
_requests = msgspec.json.Decoder(TaskRequest)
_specs = msgspec.msgpack.Decoder(TaskSpec)
_json = msgspec.json.Encoder()
_packed = msgspec.msgpack.Encoder()


async def edit(context: Context, request: web.Request) -> web.StreamResponse:
    """Change fields of a task that does not run (RFC 7396: null is the default again)."""
    task_id, dry_run = request.match_info["id"], flag(request, "dry_run")
    patch = decode(_plain, await body_of(request))
    await edit_task(context, task_id, patch, if_match(request), dry_run=dry_run)
    if dry_run:
        return context.answer({"valid": True})
    task = known_task(context, task_id)
    return context.answer(task_view(task), headers={"ETag": etag(task)})


async def edit_task(
    context: Context,
    task_id: str,
    patch: dict[str, Any],
    if_index: int = 0,
    *,
    dry_run: bool = False,
) -> None:
    """Merge a patch into what a task asks for.  Raises Problem or PeerError.

    ``if_index``: the modify index that it must have; 0: any.
    """
    check_names(patch)
    for left in reversed(range(TRIES_MAX)):
        await context.read()
        task = known_task(context, task_id)
        if task.extra is not None and task.extra.fork is not None:
            raise part_of_tree(task.id, owner_of(task))
        new = edited(task, patch)
        if dry_run:
            check_can_edit(task, if_index)
            return
        try:
            # What the patch was merged into must still stand there.
            await context.propose(EditTask(new, if_index or task.modify_index))
            return
        except Problem as problem:
            # It goes on top of what became of the task meanwhile.
            if problem.code != "modified" or if_index:
                raise
            if not left:
                raise overtaken(f"task {task_id}", TRIES_MAX) from None


def edited(task: Task, patch: dict[str, Any]) -> NewTask:
    """What the task would ask for with the patch merged in.  Raises Problem."""
    try:
        document = _json.encode(merged(document_of(task), patch))
    except RecursionError:
        raise Problem("invalid", "it is nested too deep", pointer="/") from None
    new = to_new_task(decode(_requests, document), task.id)
    if task.attempts and new.extra is not None and new.extra.broadcast:
        text = "a task that has run stays one for one node; submit another"
        raise Problem("invalid", text, pointer="/broadcast")
    origin = _specs.decode(task.spec).origin
    if origin:
        spec = msgspec.structs.replace(_specs.decode(new.spec), origin=origin)
        new = msgspec.structs.replace(new, spec=_packed.encode(spec))
    return new


def check_names(patch: dict[str, Any]) -> None:
    """May these fields be changed?  Raises Problem."""
    for name in patch:
        if name in _FIXED:
            raise Problem("invalid", "this stays as it is", pointer=f"/{name}")
        if name not in TaskRequest.__struct_fields__:
            raise Problem("invalid", "unknown field", pointer=pointer_of(name))


def if_match(request: web.Request) -> int:
    """The modify index that a row must have; 0: whatever it has.  Raises Problem."""
    tags = request.if_match
    if hdrs.IF_MATCH not in request.headers or not tags or tags[0].value == "*":
        return 0
    value = tags[0].value
    if not value.isdecimal() or len(value) > 18:
        raise Problem("invalid", "the ETag of an answer is needed", pointer="#If-Match")
    return int(value)


def check_can_edit(task: Task, wanted: int) -> None:
    """``wanted``: the modify index it must have; 0: any.  Raises Problem."""
    if task.status in TERMINAL:
        raise task_terminal(EditTask(NewTask(task.id, b"")), task.status.value)
    if task.status in HOLDING:
        raise Problem("task-running", f"task {task.id} is {task.status}")
    is_fork = task.extra is not None and task.extra.fork is not None
    if is_fork or is_split(task) or owner_of(task):
        raise part_of_tree(task.id, owner_of(task))
    check_seen(f"task {task.id}", task.modify_index, wanted)


def document_of(task: Task) -> dict[str, Any]:
    """The document that asks for this task as it is; nothing of it is hidden."""
    view = msgspec.json.decode(_json.encode(task_view(task)))
    # An id says nothing of what is asked for, and a subtask's is none that can be asked for.
    fields = TaskRequest.__struct_fields__
    names = [name for name in fields if name == "namespace" or name not in _FIXED]
    found = {name: view[name] for name in names if view.get(name) is not None}
    http = _specs.decode(task.spec).http
    if http is not None:
        found["http"]["headers"] = dict(http.headers)
    return found


async def run_now(context: Context, request: web.Request) -> web.StreamResponse:
    """End the wait of a task: its delay, its backoff, its pause."""
    await no_fields(request)
    task_id = request.match_info["id"]
    if flag(request, "dry_run"):
        await context.service.read()
        task = known_task(context, task_id)
        if task.status in TERMINAL:
            raise task_terminal(RunNow(task_id), task.status.value)
        return context.answer({"valid": True})
    await context.propose(RunNow(task_id))
    task = known_task(context, task_id)
    return context.answer(task_view(task), headers={"ETag": etag(task)})


async def retry(context: Context, request: web.Request) -> web.StreamResponse:
    """Try a task that ended again, as a new task: all of it, or only what failed."""
    parsed: RetryRequest = decode(_retries, await body_of(request) or b"{}")
    submitted = await retry_task(
        context, request.match_info["id"], key_of(request),
        only_failed=parsed.only is not None, dry_run=flag(request, "dry_run"),
    )  # fmt: skip
    if submitted is None:
        return context.answer({"valid": True})
    made = known_task(context, submitted.task_ids[0])
    headers = {"Location": f"/v1/tasks/{made.id}", "ETag": etag(made)}
    if submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    is_new = not (submitted.replayed or submitted.existing)
    return context.answer(task_view(made), 201 if is_new else 200, headers)


async def retry_task(
    context: Context, task_id: str, key: str, *, only_failed: bool = False, dry_run: bool = False
) -> Submitted | None:
    """A new task for one that ended, with all its subtasks; None: that was a dry run.

    Raises Problem or PeerError.
    """
    await context.read()
    task = known_task(context, task_id)
    asked = retry_of(
        lambda: context.service.state, task, key, only_failed=only_failed, new_id=context.new_id()
    )
    if dry_run:
        return None
    submitted: Submitted = await context.propose(asked.command)
    if asked.following:
        new_id = submitted.task_ids[0]
        await fanout.push(context, new_id, asked.following, asked.parts, "/only")
    return submitted
