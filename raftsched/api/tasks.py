"""Routes of tasks."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from raftsched.api.context import Context, body_of, decode, flag, integer, seconds
from raftsched.api.documents import TaskRequest, attempt_document, task_document, to_new_task
from raftsched.api.problems import Problem, of_rejection
from raftsched.core.commands import (
    CancelTask,
    DeleteTask,
    PauseTask,
    Rejected,
    ResumeTask,
    SubmitTasks,
    Submitted,
)
from raftsched.core.model import TERMINAL, NewTask, Task, TaskSpec, TaskStatus
from raftsched.core.state import State
from raftsched.peer.ids import derived_id, uuid7

#: Bounds of a bulk submission.
BATCH_BYTES_MAX = 64 * 1024 * 1024
LINE_BYTES_MAX = 1024 * 1024
ATOMIC_TASKS_MAX = 1_000
GROUP_TASKS_MAX = 2_000
GROUP_BYTES_MAX = 1024 * 1024
KEY_CHARACTERS_MAX = 200
#: Rows looked at for one page of a filtered list before it ends early.
SCAN_MAX = 20_000

_requests = msgspec.json.Decoder(TaskRequest)
_plain = msgspec.json.Decoder()
_sorted = msgspec.json.Encoder(order="deterministic")
_specs = msgspec.msgpack.Decoder(TaskSpec)


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a cancel; may be empty."""

    reason: str = ""


_cancels = msgspec.json.Decoder(CancelRequest)


def _key(request: web.Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > KEY_CHARACTERS_MAX or "\0" in key:
        raise Problem(
            "invalid", f"at most {KEY_CHARACTERS_MAX} characters", pointer="#Idempotency-Key"
        )
    return key


def _hash(parsed: list[Any]) -> bytes:
    """Of the parsed request, so that white space and order of fields do not matter."""
    return hashlib.blake2b(_sorted.encode(parsed), digest_size=16).digest()


def _build(context: Context, parsed: TaskRequest, key: str, line: int, at: str = "") -> NewTask:
    if parsed.id is not None:
        task_id = parsed.id
    elif key:
        task_id = derived_id(parsed.namespace, key, line)
    else:
        task_id = uuid7(context.service.state.now)
    return to_new_task(parsed, task_id, at)


async def submit(context: Context, request: web.Request) -> web.StreamResponse:
    """Submit one task."""
    data = await body_of(request)
    parsed: TaskRequest = decode(_requests, data)
    key = _key(request)
    new = _build(context, parsed, key, 0)
    if flag(request, "dry_run"):
        return context.answer({"valid": True})
    command = SubmitTasks(
        (new,),
        namespace=parsed.namespace,
        key=key,
        request_hash=_hash([_plain.decode(data)]) if key else b"",
    )
    submitted: Submitted = await context.propose(command)
    known = submitted.replayed or bool(submitted.existing)
    task_id = submitted.task_ids[0]
    wait = _prefer_wait(request)
    if wait:
        await _until_terminal(context, task_id, wait)
    state = context.service.state
    task = _task(state, task_id)
    headers = {"Location": f"/v1/tasks/{task_id}", "ETag": f'"{task.modify_index}"'}
    if submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return context.answer(task_document(state, task), 200 if known else 201, headers)


def _prefer_wait(request: web.Request) -> float:
    prefer = request.headers.get("Prefer", "")
    if not prefer.startswith("wait="):
        return 0.0
    try:
        return min(60.0, max(0.0, float(prefer.removeprefix("wait="))))
    except ValueError:
        return 0.0


async def batch(context: Context, request: web.Request) -> web.StreamResponse:
    """Submit many tasks, one JSON document a line; a line is answered for each, in order."""
    if request.content_type not in ("application/x-ndjson", "application/json"):
        raise Problem("unsupported-media-type", "application/x-ndjson is needed")
    atomic = flag(request, "atomic")
    key = _key(request)
    groups = _groups(context, request, key, atomic)
    answers: list[bytes] = []
    pending: list[asyncio.Task[list[bytes]]] = []
    async for number, first, documents, tasks in groups:
        pending.append(
            asyncio.ensure_future(_group(context, key, number, first, documents, tasks, atomic))
        )
        if len(pending) >= 4:
            answers += await pending.pop(0)
    for group in pending:
        answers += await group
    return web.Response(
        body=b"\n".join(answers) + b"\n" if answers else b"",
        content_type="application/x-ndjson",
        headers=context.headers(),
    )


async def _groups(context: Context, request: web.Request, key: str, atomic: bool) -> Any:
    """The body in groups of (number, first line, documents, tasks or problems)."""
    total = lines = number = size = 0
    rest = b""
    documents: list[Any] = []
    tasks: list[NewTask | Problem] = []

    def line(data: bytes) -> None:
        nonlocal size
        if len(data) > LINE_BYTES_MAX:
            raise Problem("too-large", f"line {lines + 1} is over {LINE_BYTES_MAX} bytes")
        try:
            parsed: TaskRequest = decode(_requests, data, f"/{lines}")
            if parsed.namespace != "default" and key:
                raise Problem(
                    "invalid", "with a key all tasks are of namespace default",
                    pointer=f"/{lines}/namespace",
                )  # fmt: skip
            tasks.append(_build(context, parsed, key, lines, f"/{lines}"))
        except Problem as problem:
            if atomic:
                raise
            tasks.append(problem)
        documents.append(data if not key else _plain_or_raw(data))
        size += len(data)

    async for chunk in request.content.iter_chunked(256 * 1024):
        total += len(chunk)
        if total > BATCH_BYTES_MAX:
            raise Problem("too-large", f"a batch may have {BATCH_BYTES_MAX} bytes")
        parts = (rest + chunk).split(b"\n")
        rest = parts.pop()
        if len(rest) > LINE_BYTES_MAX:
            raise Problem("too-large", f"line {lines + 1} is over {LINE_BYTES_MAX} bytes")
        for part in parts:
            if part.strip():
                line(part)
                lines += 1
                if not atomic and (len(tasks) >= GROUP_TASKS_MAX or size >= GROUP_BYTES_MAX):
                    yield number, lines - len(tasks), documents, tasks
                    number, size, documents, tasks = number + 1, 0, [], []
        if atomic and lines > ATOMIC_TASKS_MAX:
            raise Problem("too-large", f"an atomic batch may have {ATOMIC_TASKS_MAX} tasks")
    if rest.strip():
        line(rest)
        lines += 1
    if tasks:
        yield number, lines - len(tasks), documents, tasks


def _plain_or_raw(data: bytes) -> Any:
    try:
        return _plain.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data.decode("utf-8", "replace")


async def _group(
    context: Context,
    key: str,
    number: int,
    first: int,
    documents: list[Any],
    tasks: list[NewTask | Problem],
    atomic: bool,
) -> list[bytes]:
    """Submit one group; an answer for each of its lines."""
    good = [task for task in tasks if isinstance(task, NewTask)]
    refused: dict[str, Problem] = {}
    existing: set[str] = set()
    if good:
        command = SubmitTasks(
            tuple(good),
            key=f"{key}#{number}" if key else "",
            request_hash=_hash(documents) if key else b"",
            atomic=atomic,
        )
        outcome = await context.service.propose(command)
        if isinstance(outcome, Rejected):
            if atomic:
                raise of_rejection(outcome)
            refused = {task.id: of_rejection(outcome) for task in good}
        else:
            submitted: Submitted = outcome.value
            existing = {good[i].id for i in submitted.existing}
            refused = {good[i].id: of_rejection(why) for i, why in submitted.refused}
    answers = []
    for line, task in enumerate(tasks, first):
        problem = task if isinstance(task, Problem) else refused.get(task.id)
        if problem is not None:
            answers.append(msgspec.json.encode({"line": line, **problem.document("")}))
        elif isinstance(task, NewTask):
            status = 200 if task.id in existing else 201
            answers.append(b'{"id":"%s","status":%d}' % (task.id.encode(), status))
    return answers


def _task(state: State, task_id: str) -> Task:
    task = state.tasks.get(task_id)
    if task is None:
        raise Problem("unknown-task", f"no task {task_id!r} (any more)")
    return task


def _answer(context: Context, request: web.Request, state: State, task: Task) -> web.Response:
    tag = f'"{task.modify_index}"'
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers={**context.headers(), "ETag": tag})
    return context.answer(task_document(state, task), headers={"ETag": tag})


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """One task."""
    state = await context.state(request)
    return _answer(context, request, state, _task(state, request.match_info["id"]))


async def wait(context: Context, request: web.Request) -> web.StreamResponse:
    """One task once it has ended, or as it is at the timeout."""
    await context.service.read()
    task_id = request.match_info["id"]
    _task(context.service.state, task_id)
    await _until_terminal(context, task_id, seconds(request, "wait", 30.0))
    state = context.service.state
    return _answer(context, request, state, _task(state, task_id))


async def _until_terminal(context: Context, task_id: str, timeout_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    while True:
        state = context.service.state
        task = state.tasks.get(task_id)
        left = deadline - loop.time()
        if task is None or task.status in TERMINAL or left <= 0:
            return
        await context.service.wait_index(state.index, left)


async def attempts(context: Context, request: web.Request) -> web.StreamResponse:
    """All attempts of a task, oldest first."""
    state = await context.state(request)
    task = _task(state, request.match_info["id"])
    rows = state.attempts.get(task.id) or ()
    return context.answer({"items": [attempt_document(row) for row in rows]})


async def cancel(context: Context, request: web.Request) -> web.StreamResponse:
    """Cancel a task."""
    data = await body_of(request)
    parsed: CancelRequest = decode(_cancels, data or b"{}")
    return await _verb(context, request, CancelTask(request.match_info["id"], parsed.reason[:500]))


async def pause(context: Context, request: web.Request) -> web.StreamResponse:
    """Keep a task from being assigned."""
    await body_of(request)
    return await _verb(context, request, PauseTask(request.match_info["id"]))


async def resume(context: Context, request: web.Request) -> web.StreamResponse:
    """Undo a pause."""
    await body_of(request)
    return await _verb(context, request, ResumeTask(request.match_info["id"]))


async def _verb(context: Context, request: web.Request, command: Any) -> web.Response:
    if flag(request, "dry_run"):
        await context.service.read()
        _task(context.service.state, command.task_id)
        return context.answer({"valid": True})
    await context.propose(command)
    state = context.service.state
    return _answer(context, request, state, _task(state, command.task_id))


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Remove a task that has ended."""
    await context.propose(DeleteTask(request.match_info["id"]))
    return web.Response(status=204, headers=context.headers())


# Lists -----------------------------------------------------------------------------------------


def _cursor_of(task: Task) -> str:
    return base64.urlsafe_b64encode(f"t1:{task.create_index}:{task.id}".encode()).decode()


def _parse_cursor(text: str) -> tuple[int, str]:
    try:
        kind, index, task_id = base64.urlsafe_b64decode(text.encode()).decode().split(":")
        if kind != "t1":
            raise ValueError(kind)
        return int(index), task_id
    except (ValueError, binascii.Error):
        raise Problem("invalid", "not a cursor of this list", pointer="?cursor") from None


def _wanted(request: web.Request) -> Any:
    """The request's filters as one test of a task."""
    states = {s for s in request.query.get("state", "").split(",") if s}
    unknown = states - {status.value for status in TaskStatus}
    if unknown:
        known = ", ".join(status.value for status in TaskStatus)
        raise Problem("invalid", f"unknown state; known: {known}", pointer="?state")
    queue, node = request.query.get("queue"), request.query.get("node")
    name = request.query.get("q", "")
    labels = [label.partition(":")[::2] for label in request.query.getall("label", [])]

    def test(task: Task) -> bool:
        if states and task.status.value not in states:
            return False
        if (queue and task.queue != queue) or (node and task.node != node):
            return False
        if not labels and not name:
            return True
        spec = _specs.decode(task.spec)
        return name in spec.name and all(spec.labels.get(k) == v for k, v in labels)

    return test


async def listing(context: Context, request: web.Request) -> web.StreamResponse:
    """Tasks, newest first, a page at a time."""
    limit = integer(request, "limit", 50, 1, 1000)
    cursor = request.query.get("cursor")
    after = _parse_cursor(cursor) if cursor else None
    test = _wanted(request)
    state = await context.state(request)
    found: list[Task] = []
    last: Task | None = None
    scanned = 0
    for task in islice(state.list_tasks(after), SCAN_MAX):
        scanned += 1
        last = task
        if test(task):
            found.append(task)
            if len(found) == limit:
                break
    more = last is not None and (len(found) == limit or scanned == SCAN_MAX)
    following = _cursor_of(last) if more and last is not None else None
    headers = {}
    if following:
        headers["Link"] = f'<{request.rel_url.update_query(cursor=following)}>; rel="next"'
    body = {
        "items": [task_document(state, task) for task in found],
        "next_cursor": following,
        "index": state.index,
    }
    return context.answer(body, headers=headers)
