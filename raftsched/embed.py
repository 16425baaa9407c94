"""The whole peer, HTTP API included, for programs that embed it and for ``raftsched serve``.

::

    async with Peer(config) as peer:
        task = await peer.submit(["/usr/bin/convert", "a.png", "b.jpg"])
        task = await peer.wait(task.id)
        await peer.schedule("nightly", ["/usr/bin/backup"], cron="0 2 * * *")
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from raftsched.api.context import Context
from raftsched.api.defaults import with_defaults
from raftsched.api.documents import TaskRequest, to_new_task
from raftsched.api.expansion import expanded, uses_templates
from raftsched.api.fanout import Made, check, is_in_pieces, of_items
from raftsched.api.forks import check_whole
from raftsched.api.problems import Problem
from raftsched.api.results import read_result
from raftsched.api.retries import PartsGone, retry_of
from raftsched.api.schedule_documents import differences, wanted_row
from raftsched.api.server import ApiServer
from raftsched.api.template_documents import checked_template
from raftsched.api.tree import result_line, was_split
from raftsched.client.trees import (
    LOOKED_INTO_MAX,
    Progress,
    map_document,
    nested,
    progress_of,
)
from raftsched.core.commands import (
    AddSubtasks,
    AnyCommand,
    CancelTask,
    DeleteSchedule,
    DeleteTemplate,
    PutSchedule,
    PutTemplate,
    SubmitTasks,
)
from raftsched.core.items import pieces
from raftsched.core.model import TERMINAL, Task
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected, Submitted
from raftsched.core.schedule import Schedule
from raftsched.core.state import State
from raftsched.core.template import Template
from raftsched.peer.config import PeerConfig, load_config
from raftsched.peer.errors import (
    MustStop,
    NoLeader,
    OutputGone,
    Overloaded,
    ReadTimeout,
    UnknownOutcome,
)
from raftsched.peer.host import PeerHost
from raftsched.peer.ids import derived_id, request_hash, uuid7
from raftsched.peer.peer import Peer as _Peer

logger = logging.getLogger(__name__)

#: Between tries of a command while nobody leads.
AGAIN_SECONDS = 0.1
#: One try of a read.
READ_SECONDS = 5.0


class Peer(_Peer):
    """A member of the cluster with its HTTP API."""

    def __init__(self, config: PeerConfig, *, host: PeerHost | None = None) -> None:
        super().__init__(config, host=host)
        self._api: ApiServer | None = None

    # What programs use ------------------------------------------------------------------------

    async def submit(
        self,
        command: Sequence[str] | str | None = None,
        *,
        idempotency_key: str = "",
        timeout_seconds: float = 30.0,
        **document: Any,
    ) -> Task:
        """Submit one task and return it as stored.

        ``document`` are further fields of the task document of the HTTP API, for example
        ``name="thumbnail", timeout="5m", retry={"max_attempts": 3}``, or ``python={"function":
        "images:resize", "args": ["a.png"]}`` instead of a command.  While nobody leads, as just
        after the start, it is tried again until ``timeout_seconds``; it is made once, and with an
        ``idempotency_key`` also when the program asks again.  Raises ValueError for a wrong or
        refused document, or PeerError.
        """
        whole = dict(document)
        if command is not None:
            whole["command"] = command if isinstance(command, str) else list(command)
        try:
            parsed = msgspec.convert(whole, TaskRequest)
            data = msgspec.json.encode(whole)
            if uses_templates(parsed):
                await self._read_again(self.clock.monotonic() + timeout_seconds)
                parsed, data = expanded(self.state, data)
            check_whole(parsed)
            parsed = with_defaults(self.state, parsed, data)
            if parsed.id is not None:
                task_id = parsed.id
            elif idempotency_key:
                task_id = derived_id(parsed.namespace, idempotency_key, 0)
            else:
                task_id = uuid7(self.clock.wall_ms(), self._host.unique_bytes(10))
            new = to_new_task(parsed, task_id)
            is_long = parsed.map is not None and is_in_pieces(parsed, new)
            items = await check(parsed.map, new) if is_long and parsed.map else ()
        except (msgspec.ValidationError, Problem) as error:
            raise ValueError(str(error)) from error
        digest = request_hash([whole]) if idempotency_key else b""
        submission = SubmitTasks((new,), parsed.namespace, idempotency_key, digest)
        began = self.clock.monotonic()
        task = await self._submitted(submission, timeout_seconds)
        if is_long and task.status not in TERMINAL:
            left = began + timeout_seconds - self.clock.monotonic()
            await self._add_subtasks(task, len(items), of_items(task.spec, items), left)
        return self.state.tasks.get(task.id) or task

    async def _submitted(self, submission: SubmitTasks, timeout_seconds: float) -> Task:
        """The one task of a submission.  Raises ValueError if it is refused, or PeerError."""
        outcome = await self._propose_early(submission, timeout_seconds)
        if isinstance(outcome, Rejected):
            raise ValueError(f"{outcome.reason}: {outcome.detail}")
        assert isinstance(outcome.value, Submitted)
        [task_id] = outcome.value.task_ids
        task = self.state.tasks.get(task_id)
        if task is None:
            raise ValueError(f"task {task_id} of this idempotency key has been deleted")
        return task

    async def map(
        self,
        task: Sequence[str] | Mapping[str, Any],
        items: Iterable[Any] | str,
        *,
        max_parallel: int = 0,
        on_failure: str | Mapping[str, Any] = "fail_fast",
        speculate: bool | Mapping[str, Any] = False,
        **document: Any,
    ) -> Task:
        """Run a command, or what a task document says, once for each item, as `Client.map`."""
        whole = map_document(
            task, items, max_parallel=max_parallel, on_failure=on_failure, speculate=speculate
        )
        return await self.submit(map=whole, **document)

    async def wait(self, task_id: str, timeout_seconds: float = 3_600.0) -> Task:
        """The task once it is terminal.  Raises KeyError if unknown, or TimeoutError.

        While nobody leads, the question whether there is such a task is asked again; ReadTimeout
        when that lasts until the end of the time.
        """
        deadline = self.clock.monotonic() + timeout_seconds
        await self._read_again(deadline)
        left = max(0.0, deadline - self.clock.monotonic())
        task = await self.wait_finished(task_id, left)
        if task is None:
            raise KeyError(task_id)
        if task.status not in TERMINAL:
            raise TimeoutError(f"task {task_id} is {task.status} after {timeout_seconds:g} s")
        return task

    async def retry(
        self,
        task_id: str,
        *,
        only_failed: bool = False,
        idempotency_key: str = "",
        timeout_seconds: float = 30.0,
    ) -> Task:
        """Try a task again that ended and did not succeed, and return the new one as stored.

        ``only_failed``: of its parts those that succeeded are kept, with their results.  Raises
        KeyError if the task is unknown, ValueError if it cannot be tried again, or PeerError.
        """
        began = self.clock.monotonic()
        await self._read_again(began + timeout_seconds)
        state, task = self.state, self.state.tasks.get(task_id)
        if task is None:
            raise KeyError(task_id)
        try:
            unique = self._host.unique_bytes(10)
            asked = retry_of(
                state, task, idempotency_key, only_failed=only_failed,
                new_id=uuid7(self.clock.wall_ms(), unique),
            )  # fmt: skip
            left = began + timeout_seconds - self.clock.monotonic()
            made = await self._submitted(asked.command, left)
            if asked.following and made.status not in TERMINAL:
                left = began + timeout_seconds - self.clock.monotonic()
                await self._add_subtasks(made, asked.following, asked.parts, left)
        except Problem as error:
            raise ValueError(str(error)) from error
        return self.state.tasks.get(made.id) or made

    async def progress(self, task_id: str, *, timeout_seconds: float = 30.0) -> Progress:
        """How many subtasks of a task have ended, as `Client.progress`.  Raises KeyError."""
        await self._read_again(self.clock.monotonic() + timeout_seconds)
        return progress_in(self.state, task_id)

    async def results(
        self, task_id: str, *, timeout_seconds: float = 30.0
    ) -> AsyncIterator[dict[str, Any]]:
        """What became of a task's subtasks, in their order, as `Client.results`.

        Raises KeyError if the task is unknown, LookupError if it was not split, or PeerError.
        """
        await self._read_again(self.clock.monotonic() + timeout_seconds)
        task = self.state.tasks.get(task_id)
        if task is None:
            raise KeyError(task_id)
        if not was_split(task):
            raise LookupError(f"task {task_id} was not split; its own result is in it")
        for index, subtask_id in enumerate(self.state.trees.ids_of(task_id)):
            subtask = self.state.tasks.get(subtask_id)
            if subtask is not None:
                yield json.loads(result_line(index, subtask))

    async def result(self, task_id: str, *, timeout_seconds: float = 30.0) -> Any:
        """What a task left as its result, decoded, whichever node keeps it.

        Raises KeyError if the task is unknown, LookupError if it left none or has not ended,
        OutputGone when the node that keeps it does not answer or has swept it away, TimeoutError
        or PeerError.
        """
        deadline = self.clock.monotonic() + timeout_seconds
        await self._read_again(deadline)
        task = self.state.tasks.get(task_id)
        if task is None:
            raise KeyError(task_id)
        try:
            async with asyncio.timeout(max(0.0, deadline - self.clock.monotonic())):
                data = await read_result(Context(self), task)
                # A large one takes a while, which others need not wait for.
                return await asyncio.to_thread(json.loads, data)
        except Problem as problem:
            if problem.code == "no-result":
                raise LookupError(str(problem)) from problem
            raise OutputGone(str(problem)) from problem

    async def cancel(
        self, task_id: str, reason: str = "", *, timeout_seconds: float = 30.0
    ) -> bool:
        """Cancel a task; False when it had already ended.  Raises KeyError if unknown."""
        outcome = await self._propose_again(CancelTask(task_id, reason), timeout_seconds)
        if isinstance(outcome, Rejected) and outcome.reason is Reason.UNKNOWN_TASK:
            raise KeyError(task_id)
        return isinstance(outcome, Accepted)

    async def schedule(
        self,
        name: str,
        command: Sequence[str] | str | None = None,
        *,
        task: Mapping[str, Any] | None = None,
        timeout_seconds: float = 30.0,
        **document: Any,
    ) -> Schedule:
        """Make a schedule, or replace what and when, and return it as stored.

        ``document`` are fields of the schedule document of the HTTP API, for example
        ``cron="0 2 * * *", zone="Europe/Berlin"``; ``task`` those of the task document beside the
        command.  The same again changes nothing, so that every peer may say it at its start.
        Raises ValueError for a wrong or refused document, or PeerError.
        """
        whole = dict(task or {})
        if command is not None:
            whole["command"] = command if isinstance(command, str) else list(command)
        began = self.clock.monotonic()
        await self._read_again(began + timeout_seconds)
        known = self.state.schedules.get(name)
        now = max(self.state.now, self.clock.wall_ms())
        try:
            body = msgspec.json.encode({**document, "task": whole})
            row = wanted_row(self.state, name, body, now, known)
        except Problem as error:
            raise ValueError(
                f"{error.pointer}: {error}" if error.pointer else str(error)
            ) from error
        except TypeError as error:
            raise ValueError(str(error)) from error
        if known is not None and not differences(known, row):
            return known
        left = began + timeout_seconds - self.clock.monotonic()
        outcome = await self._propose_early(PutSchedule(row), left)
        if isinstance(outcome, Rejected):
            raise ValueError(f"{outcome.reason}: {outcome.detail}")
        stored: Schedule = outcome.value
        return stored

    async def unschedule(
        self, name: str, *, tasks: bool = False, timeout_seconds: float = 30.0
    ) -> bool:
        """Remove a schedule, with ``tasks`` also end those it made; False: there is none."""
        outcome = await self._propose_again(DeleteSchedule(name, tasks), timeout_seconds)
        if isinstance(outcome, Rejected) and outcome.reason is not Reason.UNKNOWN_SCHEDULE:
            raise ValueError(f"{outcome.reason}: {outcome.detail}")
        return isinstance(outcome, Accepted)

    async def put_template(
        self, name: str, *, timeout_seconds: float = 30.0, **document: Any
    ) -> Template:
        """Make a template, or replace its document, and return it as stored.

        ``document`` are ``task``, ``parameters`` and ``description`` of the template document of
        the HTTP API.  The same again changes nothing, so that every peer may say it at its start.
        Its task is made by ``submit(template={"name": name, "parameters": {...}})``.  Raises
        ValueError for a wrong or refused document, or PeerError.
        """
        began = self.clock.monotonic()
        await self._read_again(began + timeout_seconds)
        try:
            body = msgspec.json.encode(document)
            data, namespace = checked_template(name, body, self.state.templates.get(name))
        except Problem as error:
            raise ValueError(
                f"{error.pointer}: {error}" if error.pointer else str(error)
            ) from error
        except TypeError as error:
            raise ValueError(str(error)) from error
        left = began + timeout_seconds - self.clock.monotonic()
        outcome = await self._propose_early(PutTemplate(name, data, namespace), left)
        if isinstance(outcome, Rejected):
            raise ValueError(f"{outcome.reason}: {outcome.detail}")
        stored: Template = outcome.value
        return stored

    async def delete_template(self, name: str, *, timeout_seconds: float = 30.0) -> bool:
        """Remove a template, and nothing that was made of it; False: there is none."""
        outcome = await self._propose_again(DeleteTemplate(name), timeout_seconds)
        if isinstance(outcome, Rejected) and outcome.reason is not Reason.UNKNOWN_TEMPLATE:
            raise ValueError(f"{outcome.reason}: {outcome.detail}")
        return isinstance(outcome, Accepted)

    async def _read_again(self, deadline: float) -> None:
        """Have the state current, on the monotonic clock until ``deadline``."""
        while True:
            left = deadline - self.clock.monotonic()
            try:
                await self.read(timeout_seconds=max(AGAIN_SECONDS, min(READ_SECONDS, left)))
                return
            except ReadTimeout:
                if left <= READ_SECONDS:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def _propose_early(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        """Of a command that a new cluster may not know yet, whose peers are about to agree."""
        deadline = self.clock.monotonic() + timeout_seconds
        while True:
            left = deadline - self.clock.monotonic()
            outcome = await self._propose_again(command, left)
            is_early = isinstance(outcome, Rejected) and outcome.reason is Reason.NEEDS_VERSION
            if not is_early or left <= AGAIN_SECONDS:
                return outcome
            await asyncio.sleep(AGAIN_SECONDS)

    async def _add_subtasks(
        self, task: Task, count: int, made: Made, timeout_seconds: float
    ) -> None:
        """Those of a map that are too many for its submission.  Raises ValueError, PartsGone."""
        assert task.extra is not None
        deadline = self.clock.monotonic() + timeout_seconds
        first = task.extra.subtasks
        commands = (AddSubtasks(task.id, at, piece) for at, piece in pieces(made(first), first))
        try:
            for command in chain(commands, [AddSubtasks(task.id, count, (), is_last=True)]):
                outcome = await self._propose_again(command, deadline - self.clock.monotonic())
                if isinstance(outcome, Rejected) and outcome.reason is not Reason.TASK_TERMINAL:
                    raise ValueError(f"{outcome.reason}: {outcome.detail}")
        except PartsGone as gone:
            end = AddSubtasks(task.id, 0, (), failure=f"items-missing: {gone}")
            await self._propose_again(end, deadline - self.clock.monotonic())
            raise

    async def _propose_again(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        """Of a command that may be applied twice without harm.

        The error of the end tells of the whole time, and is UnknownOutcome if that of any try was.
        """
        began = self.clock.monotonic()
        unknown: UnknownOutcome | None = None
        while True:
            left = began + timeout_seconds - self.clock.monotonic()
            try:
                return await self.propose(command, max(AGAIN_SECONDS, left))
            except UnknownOutcome as error:
                unknown = error
                if left <= AGAIN_SECONDS:
                    raise
            except (NoLeader, Overloaded) as error:
                if left <= AGAIN_SECONDS:
                    waited = self.clock.monotonic() - began
                    raise unknown or self._not_taken(error, waited) from error
            await asyncio.sleep(AGAIN_SECONDS)

    def _not_taken(self, error: NoLeader | Overloaded, waited: float) -> NoLeader | Overloaded:
        """The last of many errors, in words for all of them."""
        if isinstance(error, Overloaded):
            again = error.retry_after_seconds
            return Overloaded(f"overloaded for {waited:.1f} s: {error}", retry_after_seconds=again)
        status = self.status()
        peers = f"{len(status.connected) + 1} of {len(self.log.members().voters)} peers reachable"
        why = f"intake is paused ({status.paused})" if status.paused else "no leader"
        if status.leader is not None and not status.paused:
            why = f"the leader {status.leader} took nothing in"
        return NoLeader(f"{why} for {waited:.1f} s ({peers})", leader=error.leader)

    # Life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the cluster and answer the API.  Raises OSError when a port is taken."""
        await super().start()
        try:
            api = ApiServer(self)
            await api.start()
        except BaseException:
            await self.stop()
            raise
        self._api = api

    async def stop(self) -> None:
        """Leave the cluster; requests under way are answered first."""
        await super().stop()
        if self._api is not None:
            await self._api.stop()
            self._api = None


def progress_in(state: State, task_id: str, *, looks_into: bool = True) -> Progress:
    """How many subtasks of a task have ended, as this state has them.  Raises KeyError."""
    task, ids = state.tasks.get(task_id), state.trees.ids_of(task_id)
    if task is None:
        raise KeyError(task_id)
    subtasks = state.trees.of(task_id)
    is_open = task.extra is not None and task.extra.fork is not None and task.extra.fork.is_open
    counts = {} if subtasks is None else {str(k): n for k, n in sorted(subtasks.counts.items())}
    said = {"state": str(task.status), "fork": {"is_open": is_open}}
    whole = progress_of({"task": said, "counts": counts})
    if not looks_into or len(ids) > LOOKED_INTO_MAX:
        return whole
    for part in map(state.tasks.get, ids):
        if part is not None and was_split(part):
            within = progress_in(state, part.id, looks_into=False)
            whole = nested(whole, str(part.status), within)
    return whole


async def serve(config: PeerConfig) -> int:
    """Run one peer until SIGTERM or SIGINT; the exit code.  Raises MustStop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Peer(config) as peer:
        logger.info("peer %s answers on http://%s", config.peer_id, config.address.api)
        assert peer.failed is not None
        waiting = asyncio.create_task(stopped.wait())
        futures: set[asyncio.Future[Any]] = {waiting, peer.failed}
        done, _ = await asyncio.wait(futures, return_when="FIRST_COMPLETED")
        waiting.cancel()
        if peer.failed in done:
            error = peer.failed.exception()
            if isinstance(error, MustStop):
                raise error
            return 1
        logger.info("stopping")
    return 0


__all__ = ["Peer", "PeerConfig", "load_config", "serve"]
