"""What every peer does as a node: register, keep its lease, run what is assigned, report.

Level-triggered: each pass compares what the state assigns to this node with what the runner has,
and does the difference.  A restart, a restored snapshot or a lost message needs no path of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from raftsched import __version__
from raftsched.core import reconciler
from raftsched.core.commands import (
    Accepted,
    AnyCommand,
    Applied,
    AttemptFinished,
    AttemptStarted,
    Entry,
    NodeLeft,
    Outcome,
    RegisterNode,
    ReportAttempts,
)
from raftsched.core.model import NodeStatus, TaskSpec
from raftsched.executor.client import RunnerClient
from raftsched.executor.messages import AttemptReport, StartAttempt
from raftsched.peer.clock import Clock
from raftsched.peer.config import PeerConfig
from raftsched.peer.errors import PeerError
from raftsched.peer.messages import Grant, Renew
from raftsched.peer.replica import Replica

logger = logging.getLogger(__name__)

#: The node renews its lease this often, or five times a lease if that is more often.
RENEW_SECONDS = 1.0
#: A full comparison happens at least this often.
RECONCILE_SECONDS = 1.0
#: Reports in one command.
REPORTS_MAX = 1_000
#: A failed registration or report is tried again after this.
RETRY_SECONDS = 0.2
#: A run shorter than this reports its start and its end together.
START_REPORT_DELAY_SECONDS = 0.05

Propose = Callable[[AnyCommand, float], Awaitable[Outcome]]
_spec_decoder = msgspec.msgpack.Decoder(TaskSpec)


class NodeAgent:
    """This peer's node.  ``run`` owns the runner connection and all loops."""

    def __init__(
        self,
        config: PeerConfig,
        replica: Replica,
        clock: Clock,
        propose: Propose,
        send_renewal: Callable[[Renew], None],
    ) -> None:
        self._config = config
        self._replica = replica
        self._clock = clock
        self._propose = propose
        self._send_renewal = send_renewal
        self._runner: RunnerClient | None = None
        self._wake = asyncio.Event()
        self._report_wake = asyncio.Event()
        #: Not yet in the state, by token.
        self._started: dict[int, AttemptReport] = {}
        self._finished: dict[int, AttemptReport] = {}
        #: Tokens handed to the runner and not forgotten, with what it said last.
        self._running: dict[int, reconciler.RunningAttempt] = {}
        #: Latest grant not yet in effect, and the index it waits for.
        self._grant: Grant | None = None
        #: End of the lease in effect, on the monotonic clock; nothing is started without one.
        self._lease_until = 0.0
        self.slots = config.slots or 4 * (os.cpu_count() or 1)
        self.incarnation = ""
        self.registered = asyncio.Event()
        #: No new attempts are started while the peer shuts down.
        self.is_draining = False

    # Callbacks on the loop -------------------------------------------------------------------

    def entry_applied(self, entry: Entry, applied: Applied) -> None:
        """Look again if the entry touched this node."""
        node_id = self._config.peer_id
        for event in applied.events:
            if event.node_id == node_id:
                self._wake.set()
                break
        self._apply_grant()

    def granted(self, grant: Grant) -> None:
        """The leader extended the lease; it counts once its index is applied here."""
        if grant.incarnation != self.incarnation:
            return
        if self._grant is None or grant.sent_at >= self._grant.sent_at:
            self._grant = grant
        self._apply_grant()

    def _apply_grant(self) -> None:
        grant = self._grant
        if grant is None or self._runner is None:
            return
        if self._replica.state.index >= grant.applied_index:
            self._grant = None
            self._lease_until = grant.sent_at / 1000 + self._config.lease_seconds
            self._runner.renew(self._lease_until)
            self._wake.set()

    # The loops -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Be a node until cancelled.  The runner outlives a peer that is killed."""
        directory = self._config.data_dir / "node"
        while True:
            lost = asyncio.Event()
            runner = await self._adopt(directory, lost)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._register_loop(runner)),
                        group.create_task(self._renew_loop()),
                        group.create_task(self._reconcile_loop(runner)),
                        group.create_task(self._report_loop(runner)),
                    ]
                    await lost.wait()
                    logger.error("the runner process ended; starting another")
                    for task in tasks:
                        task.cancel()
            finally:
                self._runner = None
                self.registered.clear()
                await runner.close(stop_runner=False)

    async def _adopt(self, directory: Path, lost: asyncio.Event) -> RunnerClient:
        runner = await RunnerClient.adopt_or_start(
            directory, lease_seconds=self._config.lease_seconds
        )
        runner.on_reports = self._reports
        runner.on_lost = lost.set
        self._started.clear()
        self._finished.clear()
        self._running.clear()
        for token, found in runner.inventory.items():
            self._running[token] = reconciler.RunningAttempt(
                token=token, task_id=found.task_id, finished=found.finished is not None
            )
            if found.finished is not None:
                self._finished[token] = found.finished
        self._runner = runner
        self._grant = None
        self._lease_until = 0.0
        self.incarnation = runner.incarnation
        if runner.adopted:
            logger.info("adopted the running runner with %d attempts", len(runner.inventory))
        self._wake.set()
        self._report_wake.set()
        return runner

    async def _register_loop(self, runner: RunnerClient) -> None:
        """Keep this node's row up: at the start, and again whenever it was declared lost."""
        while True:
            row = self._replica.state.nodes.get(self._config.peer_id)
            current = (
                self.registered.is_set()
                and row is not None
                and row.incarnation == self.incarnation
                and row.status is NodeStatus.UP
            )
            if not current and not self.is_draining:
                await self._register(runner)
            await self._replica.wait_index(self._replica.state.index, RECONCILE_SECONDS)

    async def _register(self, runner: RunnerClient) -> None:
        config = self._config
        command = RegisterNode(
            node_id=config.peer_id,
            incarnation=self.incarnation,
            address=f"http://{config.address.api}",
            cpu_milli=config.cpu_milli or 1000 * (os.cpu_count() or 1),
            memory_bytes=config.memory_bytes or _memory_bytes(),
            slots=self.slots,
            clean=runner.clean,
            version=__version__,
            labels=config.labels,
        )
        try:
            outcome = await self._propose(command, 5.0)
        except PeerError as error:
            logger.debug("registration waits: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
            return
        if isinstance(outcome, Accepted):
            self.registered.set()
            self._renew()
        else:
            logger.error("registration refused: %s %s", outcome.reason, outcome.detail)
            await asyncio.sleep(RENEW_SECONDS)

    async def _renew_loop(self) -> None:
        pause = min(RENEW_SECONDS, self._config.lease_seconds / 5)
        while True:
            if self.registered.is_set():
                self._renew()
            await asyncio.sleep(pause)

    def _renew(self) -> None:
        self._send_renewal(
            Renew(
                node_id=self._config.peer_id,
                incarnation=self.incarnation,
                sent_at=int(self._clock.monotonic() * 1000),
            )
        )

    async def _reconcile_loop(self, runner: RunnerClient) -> None:
        while True:
            self.step(runner)
            try:
                async with asyncio.timeout(RECONCILE_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def step(self, runner: RunnerClient) -> None:
        """One pass: do the difference between what is assigned and what the runner has."""
        if not self.registered.is_set():
            return
        desired = reconciler.desired(self._replica.state, self._config.peer_id, self.incarnation)
        starts: list[StartAttempt] = []
        forget: list[int] = []
        free = self.slots - sum(1 for a in self._running.values() if not a.finished)
        if self._clock.monotonic() > self._lease_until - self._config.lease_seconds / 2:
            free = 0  # Only under a fresh grant: an attempt that must stop at once is a loss.
        for action in reconciler.reconcile(desired, self._running):
            if isinstance(action, reconciler.Stop):
                runner.stop(action.token, action.reason)
            elif isinstance(action, reconciler.Abandon):
                self._abandon(action)
            elif isinstance(action, reconciler.Forget):
                forget.append(action.token)
            elif free > 0 and not self.is_draining:
                free -= 1
                starts.append(self._start(action))
        if starts:
            runner.start(starts)
        if forget:
            runner.forget(forget)
            for token in forget:
                self._running.pop(token, None)
                self._finished.pop(token, None)

    def _abandon(self, action: reconciler.Abandon) -> None:
        """Cancelled before it started: never hand it to the runner, and say so."""
        self._running[action.token] = reconciler.RunningAttempt(
            token=action.token, task_id=action.task_id, finished=True
        )
        self._finished[action.token] = AttemptReport(
            action.token,
            action.task_id,
            action.number,
            "finished",
            "cancelled",
            reason=action.reason,
        )
        self._report_wake.set()

    def _start(self, action: reconciler.Start) -> StartAttempt:
        spec = _spec_decoder.decode(action.spec)
        self._running[action.token] = reconciler.RunningAttempt(
            token=action.token, task_id=action.task_id, finished=False
        )
        return StartAttempt(
            token=action.token,
            task_id=action.task_id,
            number=action.number,
            command=spec.command,
            shell=spec.shell,
            env=spec.env,
            cwd=spec.cwd,
            stdin=spec.stdin,
            timeout_ms=spec.timeout_ms,
            grace_ms=spec.grace_ms,
        )

    # Reports ---------------------------------------------------------------------------------

    def _reports(self, reports: list[AttemptReport]) -> None:
        for report in reports:
            if report.phase == "started":
                self._started[report.token] = report
            else:
                self._started.pop(report.token, None)
                self._finished[report.token] = report
                known = self._running.get(report.token)
                if known is not None:
                    self._running[report.token] = msgspec.structs.replace(known, finished=True)
        self._report_wake.set()
        self._wake.set()  # A slot may be free.

    async def _report_loop(self, runner: RunnerClient) -> None:
        """Bring reports into the state; the runner keeps each until the state has answered it."""
        while True:
            await self._report_wake.wait()
            self._report_wake.clear()
            if not self.registered.is_set():
                await asyncio.sleep(RETRY_SECONDS)
                self._report_wake.set()
                continue
            while self._finished or self._started:
                if not self._finished:
                    # A short run ends before its start is worth a round of the log.
                    try:
                        async with asyncio.timeout(START_REPORT_DELAY_SECONDS):
                            await self._report_wake.wait()
                            self._report_wake.clear()
                        continue
                    except TimeoutError:
                        pass
                try:
                    await self._report_some(runner)
                except PeerError as error:
                    logger.debug("reports wait: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)

    async def _report_some(self, runner: RunnerClient) -> None:
        started = [self._started[token] for token in list(self._started)[:REPORTS_MAX]]
        finished = [self._finished[token] for token in list(self._finished)[:REPORTS_MAX]]
        if not started and not finished:
            return
        command = ReportAttempts(
            node_id=self._config.peer_id,
            incarnation=self.incarnation,
            started=tuple(AttemptStarted(r.task_id, r.token) for r in started),
            finished=tuple(_finished(r) for r in finished),
        )
        for report in started:
            self._started.pop(report.token, None)
        try:
            await self._propose(command, 10.0)
        except PeerError:
            for report in started:
                if report.token not in self._finished:
                    self._started[report.token] = report
            raise
        # Taken or refused as stale: either way the state has answered.
        tokens = [report.token for report in finished]
        for token in tokens:
            self._finished.pop(token, None)
            self._running.pop(token, None)
        if tokens:
            runner.forget(tokens)
            self._wake.set()

    async def leave(self) -> None:
        """Say good-bye if nothing runs here any more, so that nobody waits for the lease."""
        if not self.registered.is_set() or self._replica.state.by_node.get(self._config.peer_id):
            return
        try:
            await self._propose(NodeLeft(self._config.peer_id, self.incarnation), 1.0)
        except PeerError as error:
            logger.debug("good-bye not heard: %s", error)

    async def stop_runner(self) -> None:
        """End the runner if nothing runs under it; else the next start adopts it."""
        runner = self._runner
        if runner is not None and all(a.finished for a in self._running.values()):
            await runner.close(stop_runner=not self._finished)


def _finished(report: AttemptReport) -> AttemptFinished:
    return AttemptFinished(
        task_id=report.task_id,
        token=report.token,
        status=report.status,
        run_ms=report.run_ms,
        exit_code=report.exit_code,
        signal=report.signal,
        reason=report.reason,
        output_tail=report.output_tail,
        output_bytes=report.output_bytes,
    )


def _memory_bytes() -> int:
    """What the machine has, as the kernel says."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
