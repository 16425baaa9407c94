"""Routes of tasks."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from raftsched.api.context import Context, body_of, decode, flag, integer, no_fields, seconds
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
from raftsched.peer.errors import PeerError, UnknownOutcome
from raftsched.peer.ids import derived_id, uuid7

#: Bounds of a bulk submission.
BATCH_BYTES_MAX = 64 * 1024 * 1024
LINE_BYTES_MAX = 1024 * 1024
ATOMIC_TASKS_MAX = 1_000
ATOMIC_BYTES_MAX = 2 * 1024 * 1024
GROUP_TASKS_MAX = 2_000
GROUP_BYTES_MAX = 1024 * 1024
GROUPS_IN_FLIGHT_MAX = 4
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
    if len(key) > KEY_CHARACTERS_MAX or (key and not key.isprintable()):
        raise Problem(
            "invalid",
            f"at most {KEY_CHARACTERS_MAX} printable characters",
            pointer="#Idempotency-Key",
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


class _Group(NamedTuple):
    """Lines of a batch that go into one entry."""

    number: int
    #: Number of the first line.
    first: int
    #: The lines as parsed, for the hash.
    documents: list[Any]
    #: What each line asks for, or why it is refused.
    tasks: list[NewTask | Problem]


class _Answers(NamedTuple):
    """What became of a group: one answer a line."""

    lines: list[bytes]
    replayed: bool = False


async def batch(context: Context, request: web.Request) -> web.StreamResponse:
    """Submit many tasks, one JSON document a line; a line is answered for each, in order."""
    if request.content_type not in ("application/x-ndjson", "application/json"):
        raise Problem("unsupported-media-type", "application/x-ndjson is needed")
    atomic = flag(request, "atomic")
    dry_run = flag(request, "dry_run")
    key = _key(request)
    answers: list[_Answers] = []
    pending: deque[asyncio.Task[_Answers]] = deque()
    try:
        async for group in _groups(context, request, key, atomic):
            if dry_run:
                answers.append(_validated(group))
                continue
            pending.append(asyncio.ensure_future(_group(context, key, group, atomic)))
            if len(pending) >= GROUPS_IN_FLIGHT_MAX:
                answers.append(await pending[0])
                pending.popleft()
        while pending:
            answers.append(await pending[0])
            pending.popleft()
    except (Problem, PeerError, web.RequestPayloadError, ConnectionError) as error:
        ends = await asyncio.gather(*pending, return_exceptions=True)
        stored = [end for end in (*answers, *ends) if isinstance(end, _Answers)]
        if dry_run or not (stored or any(isinstance(end, UnknownOutcome) for end in ends)):
            raise
        raise _partly(error) from error
    headers = context.headers()
    if answers and all(answer.replayed for answer in answers):
        headers["Idempotency-Replayed"] = "true"
    lines = [line for answer in answers for line in answer.lines]
    return web.Response(
        body=b"\n".join(lines) + b"\n" if lines else b"",
        content_type="application/x-ndjson",
        headers=headers,
    )


def _partly(error: Exception) -> Problem:
    """The end of a batch that failed when some groups of it were, or may be, stored."""
    text = f"{error}; lines before may be stored: repeat with the same Idempotency-Key to see"
    if isinstance(error, Problem):
        extra = {**error.extra, "applied": "unknown"}
        return Problem(error.code, text, pointer=error.pointer, extra=extra)
    return Problem("outcome-unknown", text)


async def _groups(
    context: Context, request: web.Request, key: str, atomic: bool
) -> AsyncIterator[_Group]:
    """The body in groups."""
    total = lines = number = size = 0
    rest = b""
    documents: list[Any] = []
    tasks: list[NewTask | Problem] = []

    def line(data: bytes) -> None:
        nonlocal size
        if len(data) > LINE_BYTES_MAX:
            raise Problem("too-large", f"line {lines + 1} is over {LINE_BYTES_MAX} bytes")
        size += len(data)
        if atomic and (lines >= ATOMIC_TASKS_MAX or size > ATOMIC_BYTES_MAX):
            raise Problem(
                "too-large",
                f"an atomic batch may have {ATOMIC_TASKS_MAX} tasks and {ATOMIC_BYTES_MAX} bytes",
            )
        try:
            parsed: TaskRequest = decode(_requests, data, f"/{lines}")
            if parsed.namespace != "default":
                # A `SubmitTasks` has one namespace for all of its tasks.
                raise Problem(
                    "invalid", "a batch is of namespace default; submit others one by one",
                    pointer=f"/{lines}/namespace",
                )  # fmt: skip
            tasks.append(_build(context, parsed, key, lines, f"/{lines}"))
            documents.append(_plain.decode(data) if key else data)
        except Problem as problem:
            if atomic:
                raise
            tasks.append(problem)
            # Not parsed: nobody knows how deep it is.
            documents.append(data.decode("utf-8", "replace"))

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
                    yield _Group(number, lines - len(tasks), documents, tasks)
                    number, size, documents, tasks = number + 1, 0, [], []
    if rest.strip():
        line(rest)
        lines += 1
    if tasks:
        yield _Group(number, lines - len(tasks), documents, tasks)


def _validated(group: _Group) -> _Answers:
    """The answers of a dry run."""
    return _Answers(
        [
            _line_refused(line, task)
            if isinstance(task, Problem)
            else b'{"line":%d,"valid":true}' % line
            for line, task in enumerate(group.tasks, group.first)
        ]
    )


def _line_refused(line: int, problem: Problem) -> bytes:
    return msgspec.json.encode({"line": line, **problem.document("")})


async def _group(context: Context, key: str, group: _Group, atomic: bool) -> _Answers:
    """Submit one group; an answer for each of its lines."""
    good = [(at, task) for at, task in enumerate(group.tasks) if isinstance(task, NewTask)]
    refused = {at: task for at, task in enumerate(group.tasks) if isinstance(task, Problem)}
    existing: set[int] = set()
    replayed = False
    if good:
        command = SubmitTasks(
            tuple(task for _, task in good),
            key=f"{key}#{group.number}" if key else "",
            request_hash=_hash(group.documents) if key else b"",
            atomic=atomic,
        )
        outcome = await context.service.propose(command)
        if isinstance(outcome, Rejected):
            if atomic:
                raise of_rejection(outcome)
            refused |= {at: of_rejection(outcome) for at, _ in good}
        else:
            submitted: Submitted = outcome.value
            replayed = submitted.replayed
            existing = {at for at, _ in good} if replayed else set()
            existing |= {good[i][0] for i in submitted.existing}
            refused |= {good[i][0]: of_rejection(why) for i, why in submitted.refused}
            if replayed:
                refused |= _refused_before(context.service.state, good)
    lines = []
    for at, task in enumerate(group.tasks):
        if at in refused:
            lines.append(_line_refused(group.first + at, refused[at]))
        elif isinstance(task, NewTask):
            status = 200 if at in existing else 201
            lines.append(b'{"id":"%s","status":%d}' % (task.id.encode(), status))
    return _Answers(lines, replayed)


def _refused_before(state: State, good: list[tuple[int, NewTask]]) -> dict[int, Problem]:
    """What a replay does not repeat: lines whose id belonged to another task already."""
    refused = {}
    for at, new in good:
        known = state.tasks.get(new.id)
        if known is None:
            continue
        if (known.spec, known.namespace, known.queue) != (new.spec, "default", new.queue):
            refused[at] = Problem("duplicate-id", new.id)
    return refused


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
    return context.answer({"items": [attempt_document(row) for row in task.attempts]})


async def cancel(context: Context, request: web.Request) -> web.StreamResponse:
    """Cancel a task."""
    data = await body_of(request)
    parsed: CancelRequest = decode(_cancels, data or b"{}")
    return await _verb(context, request, CancelTask(request.match_info["id"], parsed.reason[:500]))


async def pause(context: Context, request: web.Request) -> web.StreamResponse:
    """Keep a task from being assigned."""
    await no_fields(request)
    return await _verb(context, request, PauseTask(request.match_info["id"]))


async def resume(context: Context, request: web.Request) -> web.StreamResponse:
    """Undo a pause."""
    await no_fields(request)
    return await _verb(context, request, ResumeTask(request.match_info["id"]))


async def _verb(context: Context, request: web.Request, command: Any) -> web.Response:
    if flag(request, "dry_run"):
        await context.service.read()
        task = _task(context.service.state, command.task_id)
        if task.status in TERMINAL:
            raise Problem("task-terminal", task.status.value)
        return context.answer({"valid": True})
    await context.propose(command)
    state = context.service.state
    return _answer(context, request, state, _task(state, command.task_id))


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Remove a task that has ended."""
    if request.can_read_body:
        await no_fields(request)
    task_id = request.match_info["id"]
    if flag(request, "dry_run"):
        await context.service.read()
        task = _task(context.service.state, task_id)
        if task.status not in TERMINAL:
            raise Problem("task-not-terminal", task.status.value)
        return context.answer({"valid": True})
    await context.propose(DeleteTask(task_id))
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
