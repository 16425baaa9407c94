"""The whole peer, HTTP API included, for programs that embed it and for ``raftsched serve``.

::

    async with Peer(config) as peer:
        task = await peer.submit(["/usr/bin/convert", "a.png", "b.jpg"])
        task = await peer.wait(task.id)
        await peer.schedule("nightly", ["/usr/bin/backup"], cron="0 2 * * *")
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from raftsched.api.defaults import with_defaults
from raftsched.api.documents import TaskRequest, to_new_task
from raftsched.api.problems import Problem
from raftsched.api.schedule_documents import differences, wanted_row
from raftsched.api.server import ApiServer
from raftsched.core.commands import AnyCommand, CancelTask, DeleteSchedule, PutSchedule, SubmitTasks
from raftsched.core.model import TERMINAL, Task
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected, Submitted
from raftsched.core.schedule import Schedule
from raftsched.peer.config import PeerConfig, load_config
from raftsched.peer.errors import (
    MustStop,
    NoLeader,
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
            parsed = with_defaults(self.state, parsed, msgspec.json.encode(whole))
            if parsed.id is not None:
                task_id = parsed.id
            elif idempotency_key:
                task_id = derived_id(parsed.namespace, idempotency_key, 0)
            else:
                task_id = uuid7(self.clock.wall_ms(), self._host.unique_bytes(10))
            new = to_new_task(parsed, task_id)
        except (msgspec.ValidationError, Problem) as error:
            raise ValueError(str(error)) from error
        digest = request_hash([whole]) if idempotency_key else b""
        submission = SubmitTasks((new,), parsed.namespace, idempotency_key, digest)
        outcome = await self._propose_again(submission, timeout_seconds)
        if isinstance(outcome, Rejected):
            raise ValueError(f"{outcome.reason}: {outcome.detail}")
        assert isinstance(outcome.value, Submitted)
        [task_id] = outcome.value.task_ids
        task = self.state.tasks.get(task_id)
        if task is None:
            raise ValueError(f"task {task_id} of this idempotency key has been deleted")
        return task

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
        while True:
            left = began + timeout_seconds - self.clock.monotonic()
            outcome = await self._propose_again(PutSchedule(row), left)
            is_early = isinstance(outcome, Rejected) and outcome.reason is Reason.NEEDS_VERSION
            if not is_early or left <= AGAIN_SECONDS:
                break
            # A new cluster is about to agree on what its peers know.
            await asyncio.sleep(AGAIN_SECONDS)
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
