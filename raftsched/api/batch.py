"""Submitting many tasks: a JSON document a line in, an answer a line out, few entries between.

Rules
1. A line is answered where it stands, and what is wrong with it touches no other line; only an
   ``atomic`` batch ends at its first bad line.  Lines are counted from 0, blank ones not at all.
2. A line is a document.  Each is decoded alone: `msgspec.json.Decoder.decode_lines` takes two
   documents on one line, or one that spans two, and is faster by a tenth of the decoding only.
3. Groups are decoded while earlier ones are on their way; the loop is left after each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from raftsched.api.context import Context, decode, flag
from raftsched.api.defaults import with_defaults
from raftsched.api.documents import TaskRequest
from raftsched.api.expansion import expanded, uses_templates
from raftsched.api.fanout import is_in_pieces
from raftsched.api.forks import check_whole, linked
from raftsched.api.problems import Problem, of_rejection
from raftsched.api.submission import key_of, new_task
from raftsched.core.commands import SubmitTasks
from raftsched.core.model import NewTask
from raftsched.core.outcomes import Rejected, Submitted
from raftsched.peer.errors import PeerError, UnknownOutcome
from raftsched.peer.ids import request_hash

#: Bounds of a bulk submission.
BATCH_BYTES_MAX = 64 * 1024 * 1024
LINE_BYTES_MAX = 1024 * 1024
ATOMIC_TASKS_MAX = 1_000
ATOMIC_BYTES_MAX = 2 * 1024 * 1024
GROUP_TASKS_MAX = 500
GROUP_BYTES_MAX = 1024 * 1024
GROUPS_IN_FLIGHT_MAX = 16
#: A byte of a task's parts counts as so many.
PART_BYTES_COUNT = 4
#: Before the keys of this route; no key that is sent may have it.
BATCH_SCOPE = "tasks:batch\0"
#: Most that is taken of the body at once.
CHUNK_BYTES_MAX = 256 * 1024

_requests = msgspec.json.Decoder(TaskRequest)
_plain = msgspec.json.Decoder()


class _Group:
    """Lines of a batch that go into one entry."""

    def __init__(self, number: int, first: int) -> None:
        self.number = number
        #: Number of the first line in the batch.
        self.first = first
        self.lines = 0
        self.bytes = 0
        #: What the good lines ask for, in their order.
        self.tasks: list[NewTask] = []
        #: Why a line is refused, by its position in the group.
        self.refused: dict[int, Problem] = {}
        #: What they are called, for those that wait for one another.
        self.names: list[str] = []
        #: The lines as parsed, for the hash; empty without a key.
        self.documents: list[Any] = []

    def positions(self) -> list[int]:
        """Where the good lines stand in the group."""
        return [at for at in range(self.lines) if at not in self.refused]


class Answers(NamedTuple):
    """What became of a group: one line for each of its lines."""

    body: bytes
    replayed: bool = False


async def batch(context: Context, request: web.Request) -> web.StreamResponse:
    """Submit many tasks, one JSON document a line; a line is answered for each, in order."""
    if request.content_type not in ("application/x-ndjson", "application/json"):
        raise Problem("unsupported-media-type", "application/x-ndjson is needed")
    atomic = flag(request, "atomic")
    dry_run = flag(request, "dry_run")
    key = key_of(request)
    chunks = request.content.iter_chunked(CHUNK_BYTES_MAX)
    answers = await submit_lines(context, chunks, key, atomic=atomic, dry_run=dry_run)
    headers = context.headers()
    headers["Content-Type"] = "application/x-ndjson"
    if answers and all(answer.replayed for answer in answers):
        headers["Idempotency-Replayed"] = "true"
    return web.Response(body=b"".join([answer.body for answer in answers]), headers=headers)


async def submit_lines(
    context: Context, chunks: AsyncIterator[bytes], key: str, *, atomic: bool, dry_run: bool
) -> list[Answers]:
    """Submit a task for each line of a text that comes in pieces; ``key`` empty: without one.

    Raises Problem or PeerError.
    """
    # A scope of its own: the same key on another route is another key.
    key = key and BATCH_SCOPE + key
    answers: list[Answers] = []
    pending: deque[asyncio.Task[Answers]] = deque()
    try:
        async for group in _groups(context, chunks, key, atomic):
            if dry_run:
                answers.append(_validated(group))
                continue
            pending.append(asyncio.create_task(_submit(context, key, group, atomic)))
            if len(pending) >= GROUPS_IN_FLIGHT_MAX:
                answers.append(await pending[0])
                pending.popleft()
            # Also when that had its answer already: other requests have their turn.
            await asyncio.sleep(0)
        while pending:
            answers.append(await pending[0])
            pending.popleft()
    except (Problem, PeerError, web.RequestPayloadError, ConnectionError) as error:
        ends = await asyncio.gather(*pending, return_exceptions=True)
        stored = [end for end in (*answers, *ends) if isinstance(end, Answers)]
        if dry_run or not (stored or any(isinstance(end, UnknownOutcome) for end in ends)):
            raise
        raise _partly(error) from error
    return answers


def _partly(error: Exception) -> Problem:
    """The end of a batch that failed when some groups of it were, or may be, stored."""
    text = f"{error}; lines before may be stored: repeat with the same Idempotency-Key to see"
    if isinstance(error, Problem):
        extra = {**error.extra, "applied": "unknown"}
        return Problem(error.code, text, pointer=error.pointer, extra=extra)
    return Problem("outcome-unknown", text)


# Reading ---------------------------------------------------------------------------------------


async def _groups(
    context: Context, chunks: AsyncIterator[bytes], key: str, atomic: bool
) -> AsyncIterator[_Group]:
    """The body in groups."""
    reader = _Reader(context, key, atomic)
    total = 0
    rest = b""
    is_fresh = False
    async for chunk in chunks:
        data = rest + chunk
        if not is_fresh and b'"template"' in data:
            # One may have been written a moment ago, through another peer.
            await context.read()
            is_fresh = True
        total += len(chunk)
        if total > BATCH_BYTES_MAX:
            raise Problem("too-large", f"a batch may have {BATCH_BYTES_MAX} bytes")
        *lines, rest = data.split(b"\n")
        for group in reader.take(lines):
            yield group
        reader.check_length(rest)
    for group in reader.take([rest]):
        yield group
    if reader.group.lines:
        yield reader.group


class _Reader:
    """Cuts lines into groups.  Raises Problem for what ends the whole batch."""

    def __init__(self, context: Context, key: str, atomic: bool) -> None:
        self._context = context
        self._key = key
        self._atomic = atomic
        #: Not full yet.
        self.group = _Group(0, 0)

    def take(self, lines: Iterable[bytes]) -> Iterator[_Group]:
        """The groups that these lines made full."""
        group, atomic = self.group, self._atomic
        for data in lines:
            if not data or data.isspace():
                continue
            self.check_length(data)
            group.bytes += len(data)
            self._check_atomic()
            self._add(data)
            if not atomic and (group.lines >= GROUP_TASKS_MAX or group.bytes >= GROUP_BYTES_MAX):
                self.group = _Group(group.number + 1, group.first + group.lines)
                yield group
                group = self.group

    def _check_atomic(self) -> None:
        """Is there more than fits into one entry?"""
        group = self.group
        if self._atomic and (group.lines >= ATOMIC_TASKS_MAX or group.bytes > ATOMIC_BYTES_MAX):
            raise Problem(
                "too-large",
                f"an atomic batch may have {ATOMIC_TASKS_MAX} tasks and {ATOMIC_BYTES_MAX} bytes",
            )

    def check_length(self, data: bytes) -> None:
        """Is the line that comes next (or its beginning) too long?"""
        if len(data) > LINE_BYTES_MAX:
            line = self.group.first + self.group.lines
            raise Problem(
                "too-large", f"line {line} (counted from 0) is over {LINE_BYTES_MAX} bytes"
            )

    def _add(self, data: bytes) -> None:
        group, key = self.group, self._key
        line = group.first + group.lines
        try:
            parsed: TaskRequest = decode(_requests, data)
            if parsed.namespace != "default":
                # A `SubmitTasks` has one namespace for all of its tasks.
                raise Problem(
                    "invalid", "a batch is of namespace default; submit others one by one",
                    pointer="/namespace",
                )  # fmt: skip
            whole, state = data, self._context.service.state
            if uses_templates(parsed):
                parsed, whole = expanded(state, data)
                group.bytes += max(0, len(whole) - len(data))
                self._check_atomic()
            check_whole(parsed)
            parsed = with_defaults(state, parsed, whole)
            new = new_task(self._context, parsed, key, line)
            if is_in_pieces(parsed, new):
                text = "a map as large as this is submitted by itself"
                raise Problem("too-large", text, pointer="/map")
            if new.extra is not None and new.extra.fork is not None:
                # To make the parts takes its time: fewer of such lines go together.
                group.bytes += PART_BYTES_COUNT * len(new.extra.fork.parts)
            group.tasks.append(new)
            group.names.append(parsed.name)
            if key:
                group.documents.append(_plain.decode(data))
        except Problem as problem:
            problem = problem.of_line(line)
            if self._atomic:
                raise problem from None
            group.refused[group.lines] = problem
            if key:
                # Not parsed: nobody knows how deep it is.
                group.documents.append(data.decode("utf-8", "replace"))
        group.lines += 1


# Answering -------------------------------------------------------------------------------------


async def _submit(context: Context, key: str, group: _Group, atomic: bool) -> Answers:
    """Submit one group; an answer for each of its lines."""
    refused = group.refused
    if not group.tasks:
        return Answers(_lines(group, refused, ()))
    order = linked(group.tasks, group.names) if atomic else range(len(group.tasks))
    command = SubmitTasks(
        tuple([group.tasks[at] for at in order]),
        key=f"{key}#{group.number}" if key else "",
        request_hash=request_hash(group.documents) if key else b"",
        atomic=atomic,
    )
    outcome = await context.outcome(command)
    positions = group.positions()
    if isinstance(outcome, Rejected):
        if atomic:
            raise of_rejection(outcome)
        problem = of_rejection(outcome)
        return Answers(_lines(group, refused | dict.fromkeys(positions, problem), ()))
    submitted: Submitted = outcome.value
    refused = refused | {positions[i]: of_rejection(why) for i, why in submitted.refused}
    if submitted.replayed:
        return Answers(_lines(group, refused, range(group.lines)), replayed=True)
    return Answers(_lines(group, refused, {positions[order[i]] for i in submitted.existing}))


def _lines(group: _Group, refused: dict[int, Problem], existing: Collection[int]) -> bytes:
    """An answer for each line: 200 at the positions in ``existing``, 201 at the others."""
    if not refused and len(existing) in (0, group.lines):
        # All alike, which is the rule.  An id has no character that JSON would escape.
        end = '","status":200}\n' if existing else '","status":201}\n'
        return ('{"id":"' + (end + '{"id":"').join([t.id for t in group.tasks]) + end).encode()
    lines = []
    tasks = iter(group.tasks)
    for at in range(group.lines):
        new = None if at in group.refused else next(tasks)
        if at in refused:
            lines.append(_line_refused(group.first + at, refused[at]))
        elif new is not None:
            status = 200 if at in existing else 201
            lines.append(b'{"id":"%s","status":%d}\n' % (new.id.encode(), status))
    return b"".join(lines)


def _validated(group: _Group) -> Answers:
    """The answers of a dry run."""
    lines = [
        _line_refused(group.first + at, group.refused[at])
        if at in group.refused
        else b'{"line":%d,"valid":true}\n' % (group.first + at)
        for at in range(group.lines)
    ]
    return Answers(b"".join(lines))


def _line_refused(line: int, problem: Problem) -> bytes:
    return msgspec.json.encode({"line": line, **problem.document("")}) + b"\n"
