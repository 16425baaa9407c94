"""What every peer does as a node: keep its lease, run what is assigned, report.

Level-triggered: each pass compares what the state assigns to this node with what the runner has,
and does the difference.  A restart, a restored snapshot or a lost message needs no path of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from raftsched.core import reconciler
from raftsched.core.commands import Entry
from raftsched.core.model import RESULT_BYTES_MAX
from raftsched.core.outcomes import Applied
from raftsched.core.spec import TaskSpec
from raftsched.core.versions import WORKFLOWS
from raftsched.executor.client import RunnerLost
from raftsched.executor.messages import AttemptReport, StartAttempt
from raftsched.peer.config import PeerConfig
from raftsched.peer.expanding import Expanding
from raftsched.peer.host import PeerHost, Runner
from raftsched.peer.messages import Grant, Renew
from raftsched.peer.registration import Registration
from raftsched.peer.replica import Replica
from raftsched.peer.reports import Propose, Reports
from raftsched.peer.roster import Roster

logger = logging.getLogger(__name__)

#: The node renews its lease this often, or five times a lease if that is more often.
RENEW_SECONDS = 1.0
#: With a new leader so many times as often, until that one has granted it.
RENEW_STEPS = 5
#: A full comparison happens at least this often.
RECONCILE_SECONDS = 1.0

#: An attempt is started under a grant whose age is at most this part of its lease, and of so many
#: seconds however long the lease is.
FRESH_PART = 3
FRESH_SECONDS_MAX = 15.0

#: Bytes of the results of one tree that are replicated, about; each may have so many in any case.
TREE_RESULTS_BYTES_MAX = 64 * 1024 * 1024
RESULT_BYTES_MIN = 1024

_spec_decoder = msgspec.msgpack.Decoder(TaskSpec)


class NodeAgent:
    """This peer's node.  ``run`` owns the runner connection and all loops."""

    def __init__(
        self,
        config: PeerConfig,
        replica: Replica,
        host: PeerHost,
        propose: Propose,
        send_renewal: Callable[[Renew], None],
        stands_in: Callable[[str], bool] = lambda node_id: False,
    ) -> None:
        """``stands_in``: see `Expanding`."""
        self._config = config
        self._replica = replica
        self._host = host
        self._clock = host.clock
        self._propose = propose
        self._send_renewal = send_renewal
        self._runner: Runner | None = None
        self._roster = Roster()
        self._reports = Reports(propose, self._answered, self._has_more)
        self._removal = host.removal(
            config.data_dir / "node", lambda task_id: task_id in replica.state.tasks
        )
        directory = config.data_dir / "node"
        self._inputs = host.inputs(directory, lambda: replica.state)
        self._expanding = Expanding(
            config.peer_id, directory, lambda: replica.state, propose, host, stands_in=stands_in
        )
        #: Tasks with news since the last pass; None: look at all of them.
        self._touched: dict[str, None] | None = None
        self._pass_scheduled = False
        #: Latest grant not yet in effect, and the index it waits for.
        self._grant: Grant | None = None
        #: When the grant in effect was asked for, on the monotonic clock; None: there is none.
        self._granted_at: float | None = None
        #: The term of that grant, and the newest one of which a leader is known.
        self._granted_term = 0
        self._term = 0
        self.slots = config.slots or 4 * host.cpus
        self.incarnation = ""
        #: Of this life of the peer: workers of an earlier one have earlier code.
        self._generation = host.unique_bytes(8).hex() if config.apps else ""
        self._registration = Registration(
            config, replica, self.slots, propose, self._look_and_renew, host
        )
        #: Set while the state has this node's row, as far as this peer knows.
        self.registered = self._registration.done
        #: The runner is given nothing more while the peer shuts down; what it has goes on.
        self._is_draining = False

    # Callbacks on the loop -------------------------------------------------------------------

    def entry_applied(self, entry: Entry, applied: Applied) -> None:
        """Look again at what the entry touched on this node."""
        node_id = self._config.peer_id
        touched = self._touched
        for event in applied.events:
            if event.node_id == node_id:
                if event.kind == "node_changed":
                    self._registration.look()
                if touched is not None:
                    touched[event.task_id] = None
                self._schedule()
            elif event.kind == "task_deleted":
                self._removal.look()
            elif event.detail == "split":
                self._expanding.look()
        self._apply_grant()

    def restored(self) -> None:
        """A snapshot replaced the state: look at everything again."""
        self._removal.look()
        self._registration.look()
        self._look_at_all()

    def granted(self, grant: Grant) -> None:
        """The leader extended the lease; it counts once its index is applied here."""
        if grant.incarnation != self.incarnation:
            return
        if self._grant is None or grant.sent_at >= self._grant.sent_at:
            self._grant = grant
        self._apply_grant()

    @property
    def lease_seconds(self) -> float:
        """The node's lease as the state has it, which is what leaders judge by."""
        row = self._replica.state.nodes.get(self._config.peer_id)
        if row is None or not row.lease_ms:
            return self._config.lease_seconds
        return row.lease_ms / 1000

    def led(self, term: int) -> None:
        """A leader of this term is known."""
        self._term = max(self._term, term)

    def _apply_grant(self) -> None:
        grant = self._grant
        if grant is None or self._runner is None:
            return
        if self._replica.state.index >= grant.applied_index:
            self._grant = None
            self._granted_at, self._granted_term = grant.sent_at / 1000, grant.term
            self._runner.renew(self._granted_at, self.lease_seconds)
            if self._roster.waiting:
                self._schedule()

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
                        group.create_task(
                            self._registration.run(self.incarnation, clean=runner.clean)
                        ),
                        group.create_task(self._renew_loop()),
                        group.create_task(self._reconcile_loop()),
                        group.create_task(self._watch_runner(directory, runner, lost)),
                        group.create_task(self._removal.run(self.registered)),
                        group.create_task(self._expanding.run()),
                        group.create_task(
                            self._reports.run(
                                self._config.peer_id, self.incarnation, self.registered
                            )
                        ),
                    ]
                    await lost.wait()
                    logger.error("the runner process ended; starting another")
                    for task in tasks:
                        task.cancel()
            finally:
                self._runner = None
                self.registered.clear()
                await runner.close(stop_runner=False)

    async def _adopt(self, directory: Path, lost: asyncio.Event) -> Runner:
        while True:
            try:
                runner = await self._host.runner(directory, self._config.lease_seconds)
                break
            except RunnerLost as error:
                logger.error("no runner yet, trying again: %s", error)
                await asyncio.sleep(RENEW_SECONDS)
        runner.on_reports = self._news
        runner.on_lost = lost.set
        self._reports.clear()
        self._roster.clear()
        for token, found in runner.inventory.items():
            self._roster.add(token, found.task_id, finished=found.finished is not None)
            if found.finished is not None:
                self._reports.add(found.finished)
        config = self._config
        runner.serve_apps(
            self._generation,
            config.apps,
            config.workers or self._host.cpus,
            (config.address.api, config.token),
        )
        runner.configure(
            http_private=self._config.http_private,
            http_metadata=self._config.http_metadata,
            cgroup=self._config.cgroup,
        )
        self._runner = runner
        self._grant = None
        self._granted_at = None
        self.incarnation = runner.incarnation
        if runner.adopted:
            logger.info("adopted the running runner with %d attempts", len(runner.inventory))
        self._look_at_all()
        return runner

    async def _watch_runner(self, directory: Path, runner: Runner, lost: asyncio.Event) -> None:
        """A runner that hangs keeps no lease: end it and its attempts while theirs still holds."""
        await runner.watch(self._config.lease_seconds)
        logger.error("the runner hangs; ending it with its attempts")
        runner.on_lost = lambda: None  # Not before the attempts are dead, too.
        await self._host.end_runner(directory)
        lost.set()

    def _look_and_renew(self) -> None:
        self._look_at_all()
        self._renew()

    async def _renew_loop(self) -> None:
        pause = min(RENEW_SECONDS, self._config.lease_seconds / 5)
        step = pause / RENEW_STEPS
        steps = 0
        while True:
            # A leader gives nothing new to a node that it has not heard of in its term.
            is_urgent = self._granted_term < self._term
            if self.registered.is_set() and (is_urgent or not steps % RENEW_STEPS):
                self._renew()
            steps += 1
            await asyncio.sleep(step)

    def _renew(self) -> None:
        self._send_renewal(
            Renew(
                node_id=self._config.peer_id,
                incarnation=self.incarnation,
                sent_at=int(self._clock.monotonic() * 1000),
            )
        )

    async def _reconcile_loop(self) -> None:
        """The safety net under the passes that news causes."""
        while True:
            self._look_at_all()
            await asyncio.sleep(RECONCILE_SECONDS)

    # Passes ----------------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        self._touched = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._pass_scheduled:
            self._pass_scheduled = True
            asyncio.get_running_loop().call_soon(self._pass)

    def _pass(self) -> None:
        self._pass_scheduled = False
        if self._runner is not None and self.registered.is_set():
            touched, self._touched = self._touched, {}
            self.step(self._runner, touched)

    def step(self, runner: Runner, task_ids: Iterable[str] | None = None) -> None:
        """Do the difference between what is assigned and what the runner has.

        Of ``task_ids``, or of everything.
        """
        roster, me = self._roster, self._config.peer_id
        if task_ids is None:
            self._inputs.keep({*roster.running, *roster.waiting})
            roster.clear_waiting()
            running: Mapping[int, reconciler.RunningAttempt] = roster.running
        else:
            for task_id in task_ids:
                roster.forget_waiting(task_id)
            running = roster.running_of(task_ids)
        wanted = reconciler.desired(self._replica.state, me, self.incarnation, task_ids)
        forget: list[int] = []
        for action in reconciler.reconcile(wanted, running):
            if isinstance(action, reconciler.Start):
                roster.wait(action)
            elif isinstance(action, reconciler.Stop):
                runner.stop(action.token, action.reason)
            elif isinstance(action, reconciler.Abandon):
                self._abandon(action)
            else:
                forget.append(action.token)
        if forget:
            self._forget(runner, forget)
        self._start_waiting(runner)

    def _has_more(self) -> bool:
        """Has the runner more than it may run at once?"""
        return self._roster.busy > self.slots

    def _start_waiting(self, runner: Runner) -> None:
        """Give the runner all that waits, oldest first; it knows how many may run at once."""
        roster = self._roster
        if not roster.waiting or self._is_draining:
            return
        granted_at = self._granted_at
        if granted_at is None:
            return
        age = self._clock.monotonic() - granted_at
        node_lease = self.lease_seconds
        files_result = self._replica.state.version >= WORKFLOWS
        starts: list[StartAttempt] = []
        stale: list[reconciler.Start] = []
        while roster.waiting:
            start = roster.next_waiting()
            # Only under a fresh grant: an attempt that must stop at once is a loss.
            if age > min(start.lease_ms / 1000 or node_lease, FRESH_SECONDS_MAX) / FRESH_PART:
                stale.append(start)
                continue
            inputs = self._inputs.path(start.token, start.task_id, self._schedule)
            if inputs is None:
                stale.append(start)
                continue
            roster.add(start.token, start.task_id, finished=False)
            result_max = self._result_max(start.task_id)
            starts.append(_start_attempt(start, inputs, result_max, files_result=files_result))
        for start in stale:
            roster.wait(start)
        if starts:
            runner.start(starts, self.slots)

    def _result_max(self, task_id: str) -> int:
        """Bytes of a result that is replicated: all of a tree together have a bound, too."""
        tasks = self._replica.state.tasks
        task = tasks.get(task_id)
        if task is not None and task.extra is not None and task.extra.twin_of:
            task = tasks.get(task.extra.twin_of)  # Which is to have the result.
        parent = None if task is None or task.extra is None else tasks.get(task.extra.parent)
        if parent is None or parent.extra is None or not parent.extra.subtasks:
            return RESULT_BYTES_MAX
        share = TREE_RESULTS_BYTES_MAX // parent.extra.subtasks
        return min(RESULT_BYTES_MAX, max(RESULT_BYTES_MIN, share))

    def _abandon(self, action: reconciler.Abandon) -> None:
        """Cancelled before it started: never hand it to the runner, and say so."""
        self._roster.add(action.token, action.task_id, finished=True)
        self._reports.add(
            AttemptReport(
                action.token,
                action.task_id,
                action.number,
                "finished",
                "cancelled",
                reason=action.reason,
            )
        )

    def _news(self, reports: list[AttemptReport]) -> None:
        """The runner started and ended attempts."""
        for report in reports:
            self._reports.add(report)
            if report.phase == "finished":
                self._roster.finish(report.token)

    def _answered(self, tokens: list[int]) -> None:
        if self._runner is not None:
            self._forget(self._runner, tokens)

    def _forget(self, runner: Runner, tokens: list[int]) -> None:
        known = [token for token in tokens if self._roster.remove(token)]
        for token in known:
            self._reports.forget(token)
            self._inputs.forget(token)
        if known:
            runner.forget(known)

    async def leave(self) -> None:
        """The peer stops: take nothing more, and say good-bye."""
        self._is_draining = True
        await self._registration.leave(self.incarnation)

    async def stop_runner(self) -> None:
        """End the runner if nothing runs under it; else the next start adopts it."""
        runner = self._runner
        if runner is not None and not self._roster.busy:
            await runner.close(stop_runner=not self._reports.unanswered)


def _start_attempt(
    start: reconciler.Start, inputs: str, result_max: int, *, files_result: bool
) -> StartAttempt:
    spec = _spec_decoder.decode(start.spec)
    return StartAttempt(
        token=start.token,
        task_id=start.task_id,
        number=start.number,
        spec=spec,
        lease_ms=start.lease_ms,
        is_kept=start.is_kept,
        inputs=inputs,
        files_result=files_result,
        result_max=result_max,
    )
