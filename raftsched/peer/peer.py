"""One peer, put together: log, replica, proposer, leader loop and node on one asyncio loop.

The composition root.  It decides nothing; it wires what the other modules of this folder decide
to each other, starts them in order and stops them in the reverse one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Self

import msgspec

from raftsched import __version__
from raftsched.core.commands import AnyCommand, Entry
from raftsched.core.cron.zones import tzdata_version
from raftsched.core.model import Check, Task
from raftsched.core.outcomes import Applied, Outcome
from raftsched.core.state import State
from raftsched.core.versions import FIRST, SUPPORTED, Supports, missing
from raftsched.executor.output import OutputReader
from raftsched.peer import evidence, messages
from raftsched.peer.agent import NodeAgent
from raftsched.peer.config import PeerAddress, PeerConfig, check, warn_of_what_is_open
from raftsched.peer.errors import (
    NeedsVersion,
    OutputGone,
    PeerStopped,
    ReplicaDiverged,
)
from raftsched.peer.handing_over import HAND_OVER_SECONDS, HandOvers
from raftsched.peer.host import PeerHost
from raftsched.peer.members import Departures, Members
from raftsched.peer.proposer import Proposer
from raftsched.peer.reading import Reader
from raftsched.peer.replica import Replica, Subscription
from raftsched.peer.scheduler import Scheduler
from raftsched.peer.selfcheck import SelfCheck
from raftsched.peer.service import Consistency, OutputChunk, Told
from raftsched.peer.timekeeping import Timekeeper
from raftsched.peer.upgrades import Upgrades, about, told_by
from raftsched.raft.config import LogConfig
from raftsched.raft.log import LogClosed, LogStatus, MustStop, NoQuorum, Role
from raftsched.raft.membership import Address
from raftsched.raft.pysyncobj_log import PySyncObjLog

logger = logging.getLogger(__name__)

#: What needs a version waits this long in a cluster that has not agreed on its first one.
FIRST_VERSION_SECONDS = 5.0


class Peer:
    """A member of the cluster inside this program: ``async with Peer(config) as peer``.

    Implements ``service.PeerService``, which is all that the HTTP API knows of it.
    """

    def __init__(
        self,
        config: PeerConfig,
        *,
        host: PeerHost | None = None,
        supports: Supports = SUPPORTED,
    ) -> None:
        """``supports``: versions that this peer can apply; fewer than it could are for tests."""
        check(config)
        self.config = config
        self._host = host or PeerHost()
        self.clock = self._host.clock
        self.started_at_ms = self.clock.wall_ms()
        self.is_draining = False
        self.replica = Replica(config.cluster_id, paranoid=config.paranoid, supports=supports)
        self.log = PySyncObjLog(
            LogConfig(
                cluster_id=config.cluster_id,
                peer_id=config.peer_id,
                peers={peer_id: address.raft for peer_id, address in config.peers.items()},
                data_dir=config.data_dir / "raft",
                insecure=config.insecure,
                tls=config.tls,
                api={peer_id: address.api for peer_id, address in config.peers.items()},
                joins=config.joins,
            ),
            self.replica,
            self._host,
        )
        self.log.about = about(supports, __version__)
        self.timekeeper = Timekeeper(self.replica, self.log, self.clock, self._other_voters)
        self._members = Members(
            self.log, self.clock, config.peer_id, self._send, lambda: self.replica.state.version
        )
        self._reader = Reader(self.log, self.clock)
        self._hand_overs = HandOvers(self.log, self.clock, self._send)
        self.log.on_removed = self._removed
        self._end_process = self.log.on_fatal
        self.log.on_fatal = self._fatal
        #: Why this peer stands still, never to go on: its replica is not the majority's.
        self.diverged: ReplicaDiverged | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._proposer: Proposer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        #: Ends with the error when one of this peer's loops fails: the peer must be stopped.
        self.failed: asyncio.Future[None] | None = None

    # Life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Join the cluster.  Returns when this peer takes part; it may not know a leader yet.

        Raises what the log does, or ReplicaDiverged.
        """
        config = self.config
        await evidence.refuse(self._host.disk, config.data_dir)
        overruled = evidence.overruled_index(self._host.disk, config.data_dir)
        self.failed = asyncio.get_running_loop().create_future()
        upgrades = Upgrades(self.replica, self.log, self.clock, self._others, self.propose)
        departures = Departures(self.replica, self.log.members, self.propose)
        self.selfcheck = SelfCheck(
            self.replica,
            self._host,
            config.peer_id,
            self._voters,
            config.data_dir,
            self.propose,
            overruled,
        )
        self.scheduler = Scheduler(
            self.replica,
            self.log,
            self.clock,
            config.lease_seconds,
            self.propose,
            lambda: self.timekeeper.head().now,
            (self.timekeeper.watch, upgrades.step, self.selfcheck.lead, departures.step),
        )
        self._proposer = Proposer(
            self.log,
            self.clock,
            config.peer_id,
            self._host.chance.getrandbits(62),
            self._send,
            self.timekeeper.head,
            self.scheduler,
        )
        self.agent = NodeAgent(
            config, self.replica, self._host, self._proposer.propose, self._send_renewal,
            self._stands_in,
        )  # fmt: skip
        self._outputs = OutputReader(config.data_dir / "node")
        self.replica.listeners.append(self._entry_applied)
        self.replica.restore_listeners.append(self.selfcheck.restored)
        self.replica.restore_listeners.append(self.timekeeper.restored)
        self.replica.restore_listeners.append(self._proposer.restored)
        self.replica.restore_listeners.append(self.agent.restored)
        self.log.on_status = self._status_changed
        self.log.on_frame = self._frame
        warn_of_what_is_open(config)
        try:
            await self.log.start()
        except BaseException:
            self._proposer.close()
            self._proposer = None
            raise
        for name, loop in (
            ("leader loop", self.scheduler.run),
            ("self-check", self.selfcheck.run),
            ("node", self.agent.run),
        ):
            task = asyncio.create_task(loop(), name=name)
            task.add_done_callback(self._task_done)
            self._tasks.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        """A loop that ends by an exception stops the peer: it is not what it claims to be."""
        if task.cancelled() or self.failed is None or self.failed.done():
            return
        error = task.exception() or RuntimeError(f"the {task.get_name()} ended")
        logger.critical("the %s of this peer failed", task.get_name(), exc_info=error)
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Whoever waits for `failed` is told; the log has it, also if nobody asks for it here."""
        if self.failed is not None and not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()

    def _removed(self, error: MustStop) -> None:
        """Nobody has anything to do with this peer any more; what it runs ends with its lease."""
        logger.critical("%s", error)
        self.is_draining = True
        self._fail(error)

    def _fatal(self, error: BaseException) -> None:
        """The log stands still.  A replica that differs is kept to be looked at; then `failed`."""
        if not isinstance(error, ReplicaDiverged):
            self._end_process(error)
        elif self.diverged is None:
            self.diverged = error
            self.is_draining = True
            logger.critical("%s", error)
            if self._proposer is not None:
                self._proposer.close()
            self._keeping = asyncio.create_task(self._keep_evidence(error))

    async def _keep_evidence(self, error: ReplicaDiverged) -> None:
        await self.selfcheck.keep_evidence(error)
        self._fail(error)

    async def stop(self) -> None:
        """Hand over leadership, say good-bye, and leave.  Attempts under way keep their runner."""
        if self._proposer is None:
            return
        self.is_draining = True
        if self.diverged is None:
            await self.agent.leave()
        if self.diverged is None and self.log.status().role is Role.LEADER and self._other_voters():
            with contextlib.suppress(NoQuorum, LogClosed):
                await self.log.transfer_leadership(None, HAND_OVER_SECONDS)
        await self.agent.stop_runner()
        await self._members.close()
        await self._hand_overs.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._proposer.close()
        self._proposer = None
        if self._keeping is not None:
            await asyncio.wait({self._keeping})
        await self.log.stop()
        if self.failed is not None and not self.failed.done():
            self.failed.cancel()

    def _voters(self) -> tuple[str, ...]:
        """All voting members, in order."""
        return tuple(sorted(self.log.members().voters))

    def _other_voters(self) -> tuple[str, ...]:
        return tuple(p for p in self._voters() if p != self.config.peer_id)

    def _others(self) -> tuple[str, ...]:
        """The other members, whether they vote or not, in order."""
        return tuple(sorted(self.log.members().members.keys() - {self.config.peer_id}))

    # Wiring ----------------------------------------------------------------------------------

    def _entry_applied(self, entry: Entry, applied: Applied) -> None:
        self.selfcheck.applied()
        self.timekeeper.applied(entry)
        if self._proposer is not None:
            self._proposer.entry_applied(entry, applied.outcomes)
        self.scheduler.entry_applied(entry, applied)
        self.agent.entry_applied(entry, applied)

    def _status_changed(self, status: LogStatus) -> None:
        if status.role is not Role.LEADER:
            self.timekeeper.deposed()
        if self._proposer is not None:
            self._proposer.status_changed(status)
        self.scheduler.status_changed(status)
        if status.leader is not None:
            self.agent.led(status.term)

    def _send(self, peer_id: str, frame: messages.AnyFrame) -> bool:
        return self.log.send_frame(peer_id, messages.encode(frame))

    def _send_renewal(self, renew: messages.Renew) -> None:
        leader = self.log.status().leader
        if leader == self.config.peer_id:
            grant = self.scheduler.renewal(renew)
            if grant is not None:
                self.agent.granted(grant)
        elif leader is not None:
            self._send(leader, renew)

    def _frame(self, sender: str, payload: bytes) -> None:
        try:
            frame = messages.decode(payload)
        except msgspec.DecodeError as error:
            logger.warning("peer %s sent a frame this version does not know: %s", sender, error)
            return
        if isinstance(frame, messages.Renew):
            grant = self.scheduler.renewal(frame)
            if grant is not None:
                self._send(sender, grant)
        elif isinstance(frame, messages.Grant):
            if frame.term == self.log.status().term:
                self.agent.granted(frame)
        elif isinstance(frame, messages.HandOver):
            self._hand_overs.asked(frame.target)
        elif isinstance(frame, messages.ChangeMembers | messages.MembersTold):
            self._members.frame(sender, frame)
        elif self._proposer is not None:
            self._proposer.frame(sender, frame)

    # What the API and embedding programs use ---------------------------------------------------

    @property
    def state(self) -> State:
        """The replicated state as applied here, for reading; ask again after every ``await``."""
        return self.replica.state

    def status(self) -> LogStatus:
        """What this peer knows of the log."""
        return self.log.status()

    async def propose(self, command: AnyCommand, timeout_seconds: float = 10.0) -> Outcome:
        """The command's outcome once applied here.  Errors as ``errors`` draws them."""
        if self._proposer is None:
            raise PeerStopped("this peer does not run")
        if missing(command, self.replica.state.version):
            await self._first_version(command)
        return await self._proposer.propose(command, timeout_seconds)

    async def _first_version(self, command: AnyCommand) -> None:
        """A new cluster agrees on its version within a moment.  Raises NeedsVersion."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_VERSION_SECONDS):
                while self.replica.state.version == FIRST:
                    await self.replica.wait_index(self.replica.state.index, FIRST_VERSION_SECONDS)
        why = missing(command, self.replica.state.version)
        if why:
            raise NeedsVersion(why)

    async def read(
        self,
        consistency: Consistency = "linearizable",
        min_index: int = 0,
        timeout_seconds: float = 5.0,
    ) -> State:
        """The state, current enough.

        Raises ReadTimeout (after ``LEADERLESS_SECONDS`` when no leader can be heard),
        IndexNotReached or PeerStopped.
        """
        if self.diverged is not None:
            raise PeerStopped(str(self.diverged))
        await self._reader.wait_until_current(consistency, min_index, timeout_seconds)
        return self.replica.state

    async def wait_index(self, index: int, timeout_seconds: float) -> None:
        """Return once the state's index is above ``index``, or at the timeout."""
        await self.replica.wait_index(index, timeout_seconds)

    async def wait_finished(self, task_id: str, timeout_seconds: float) -> Task | None:
        """The task once it is terminal, or as it is at the timeout; None when it is not there."""
        return await self.replica.wait_finished(task_id, timeout_seconds)

    async def wait_changed(self, task_id: str, index: int, timeout_seconds: float) -> Task | None:
        """The task once its row is newer than ``index``, or as it is at the timeout; or None."""
        return await self.replica.wait_changed(task_id, index, timeout_seconds)

    def subscribe(self) -> Subscription:
        """Events of applied entries from here on."""
        return self.replica.subscribe()

    def read_output(
        self, task_id: str, number: int, stream: str, offset: int, limit: int
    ) -> OutputChunk:
        """Output (``out``) or a large result of an attempt that ran here.  Raises OutputGone."""
        try:
            data, next_offset, eof = self._outputs.read(task_id, number, stream, offset, limit)
        except FileNotFoundError as error:
            what = "result" if stream == "result" else "output"
            raise OutputGone(f"no {what} of attempt {number} of {task_id} on this node") from error
        return OutputChunk(data, next_offset, eof)

    async def transfer_leadership(self, target: str | None) -> str:
        """Have leadership handed over, asked on any peer; the new leader's id.  Raises NoLeader."""
        return await self._hand_overs.run(target)

    async def change_members(
        self, add: dict[str, PeerAddress], remove: str, timeout_seconds: float
    ) -> messages.MembersTold:
        """Have peers added, one removed, or replaced; see `members.Members.change`."""
        if self._proposer is None:
            raise PeerStopped("this peer does not run")
        new = {peer_id: Address(a.raft, a.api) for peer_id, a in add.items()}
        return await self._members.change(new, remove, timeout_seconds)

    def members(self) -> tuple[messages.MemberRow, ...]:
        """The members of the group as this peer knows them."""
        return self._members.rows()

    async def check_replicas(self, timeout_seconds: float) -> Check:
        """Have all replicas compared; what is known once those that are up have reported.

        At the timeout, as far as it is.  Raises PeerError.
        """
        status = self.log.status()
        reachable = {status.peer_id, *status.connected}
        return await self.selfcheck.check(timeout_seconds, reachable.__contains__)

    def _stands_in(self, node_id: str) -> bool:
        """A leader's duty: what a node was to do whose peer was removed."""
        leads = self.log.status().role is Role.LEADER
        return leads and node_id not in self.log.members().members

    def told(self) -> dict[str, Told]:
        """On the leader, what all peers told, itself among them; elsewhere of this peer alone."""
        own = Told(__version__, self.replica.supports.highest, 0, tzdata_version())
        told = {self.config.peer_id: own}
        if self.log.status().role is Role.LEADER:
            offsets = self.timekeeper.offsets()
            for peer_id, view in self.log.peer_views().items():
                told[peer_id] = told_by(view, offsets.get(peer_id))
        return told

    def metrics(self) -> dict[str, float]:
        """Numbers for dashboards, by metric name without prefix."""
        status, state = self.log.status(), self.replica.state
        numbers: dict[str, float] = {
            "raft_term": status.term,
            "raft_last_index": status.last_index,
            "raft_commit_index": status.commit_index,
            "raft_applied_index": status.applied_index,
            "raft_is_leader": float(status.role is Role.LEADER),
            "raft_peers_connected": len(status.connected),
            "entries_applied_total": self.replica.entries_applied,
            "assignments_proposed_total": self.scheduler.assignments,
            "schedules": len(state.schedules),
            "slots_fired_total": self.scheduler.firing.fired,
            "slots_late_total": self.scheduler.firing.late,
            "twins_total": self.scheduler.speculating.twins,
            "proposals_pending": self._proposer.depth if self._proposer else 0,
            "tasks_open": state.open_count,
            "replicas_suspect": float(state.suspect),
            "replicas_checked_index": state.check.index if state.check is not None else 0,
            "cluster_version": state.version,
            "clock_disagrees": float(self.timekeeper.disagrees),
            "clock_stands_still": float(self.timekeeper.stands_still),
        }
        for task_status, count in sorted(state.counts.items()):
            numbers[f"tasks_{task_status.value}"] = count
        return numbers
