"""The replicated log on PySyncObj, made safe at its seams: everything put together.

PySyncObj elects and replicates (`engine`).  Around it: what it may hear (`filter`), when it may
stand for election (`elections`), where its log is kept (`journal`), who is in the group
(`membership`, kept by the journal) and how that changes (`changing`), how the log is cut short
(`compaction`) and laggards catch up (`laggards`, `installing`), and what it cannot do: linearizable
reads (`reads`, `quorum`), a hand-over without loss (`handover`) and a full disk (`enduring`).
It all happens in passes, whose time `pacing` says.

Rules
1. Nothing that promises (an acknowledgement, a vote, a vote request) leaves before the journal is
   synced up to it; the leader counts itself only in a pass that began with a sync, and only for
   what was durable then: what it appends in that pass, alone, it commits in the next (`engine`).
2. PySyncObj hears of the network only what `filter.MessageFilter` passes.
3. An exception out of apply, the journal or the filter ends the process: `on_fatal`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from typing import Any

from raftsched.raft import endings
from raftsched.raft.acquaintances import Acquaintances
from raftsched.raft.belonging import Belonging
from raftsched.raft.changing import KNOWS, MemberChanges
from raftsched.raft.compaction import Compaction
from raftsched.raft.config import LogConfig
from raftsched.raft.elections import Elections
from raftsched.raft.enduring import FullDisk
from raftsched.raft.engine import Engine, Hooks
from raftsched.raft.handover import HandOver
from raftsched.raft.host import Host
from raftsched.raft.installing import Installer
from raftsched.raft.journal import Journal, JournalFailed
from raftsched.raft.laggards import Laggards
from raftsched.raft.loading import Loader, Placing, off_loop
from raftsched.raft.log import (
    ENTRY_BYTES_MAX,
    LogClosed,
    LogFull,
    LogStatus,
    MustStop,
    NotLeader,
    PeerView,
    Role,
    SafetyViolation,
    StateMachine,
)
from raftsched.raft.membership import Address, Configuration, Membership, founding
from raftsched.raft.pacing import IDLE_SECONDS_MAX, Pacer
from raftsched.raft.quorum import Prober, answer
from raftsched.raft.reads import Reads
from raftsched.raft.replication import Replication
from raftsched.raft.snapshot import Snapshot, SnapshotStore
from raftsched.raft.transport import Transport

logger = logging.getLogger(__name__)

#: A leader probes this often, for lease grants and to notice that it lost its quorum.
PROBE_SECONDS = 0.25
#: The longest while something is looked at that tells nobody: what connections to laggards take.
POLL_SECONDS = 0.02
#: While a laggard needs the log, it may grow to so many times ``journal_bytes_max``.
PATIENCE_FACTOR = 3


class PySyncObjLog:
    """Implements ``log.ReplicatedLog``."""

    journal: Journal

    def __init__(self, config: LogConfig, machine: StateMachine, host: Host | None = None) -> None:
        self.config = config
        self._host = host or Host()
        self._clock = self._host.clock
        self._machine = machine
        self.on_status: Callable[[LogStatus], None] = lambda status: None
        self.on_frame: Callable[[str, bytes], None] = lambda peer, payload: None
        #: Called with what makes going on unsafe; must end the process.
        self.on_fatal: Callable[[BaseException], None] = _end_process
        #: Called when this peer learns that it was removed; must end its part.
        self.on_removed: Callable[[MustStop], None] = self._fatal
        #: What this peer says of itself to every leader that probes it; plain types, short.
        self.about: dict[str, Any] = {}
        #: Before the start it is what the configuration file says.
        self._membership = Membership(config.peer_id, founding(config))
        #: Started and not stopped; it may stand still after `on_fatal`.
        self._is_open = False
        self._last_status: tuple[Any, ...] = ()
        #: When the next probe is due; never while another peer leads.
        self._probe_at = math.inf
        self._pacer = Pacer(self._clock, self._pass)

    # Life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the journal, restore, listen and take part.

        Raises StorageError, OSError, or what the state machine has against the snapshot.
        """
        self.journal = Journal.open(
            self.config.data_dir / "journal",
            cluster_id=self.config.cluster_id,
            peer_id=self.config.peer_id,
            segment_bytes=self.config.segment_bytes,
            reserve_bytes=self.config.reserve_bytes,
            reclaim=False,
            disk=self._host.disk,
            founding=founding(self.config),
            joins=self.config.joins,
            mark=self._host.unique_bytes(8).hex(),
        )
        self._membership = self.journal.membership
        try:
            self.journal.on_failed = self._fatal
            self._acquaintances = Acquaintances(self._host.disk, self.config.data_dir)
            self._loader = Loader(self._machine, self._host.settle)
            endings.refuse(self._host.disk, self.config.data_dir)
            snapshot = await off_loop(self._open_snapshots)
            put_in_place: Placing | None = None
            if snapshot is not None:
                chunks = self._snapshots.read(snapshot)
                put_in_place = await self._loader.load(snapshot.meta.index, chunks)
            self._assemble(snapshot)
            if put_in_place is not None:
                self._loader.let_go(put_in_place())
            await self._transport.open()
        except BaseException:
            self.journal.close(clean=False)
            raise
        self._is_open = True
        self._pacer.start()

    def _was_removed(self, error: MustStop) -> None:
        """Remembered for every later start: who says so may not be there then."""
        endings.remember(self._host.disk, self.config.data_dir, error)
        self.on_removed(error)

    def _open_snapshots(self) -> Snapshot | None:
        """The snapshot to begin with, with the journal aligned to it.  Reads it all: a thread's."""
        self._snapshots = SnapshotStore.open(
            self.config.data_dir / "snapshots",
            cluster_id=self.config.cluster_id,
            disk=self._host.disk,
        )
        snapshot = self._snapshots.usable(self.journal.first_index)
        if snapshot is None:
            self.journal.expect_whole()
        else:
            meta = snapshot.meta
            kept_from = self._snapshots.before(snapshot)
            self.journal.align(meta.previous, meta.last, meta.configuration, kept_from)
        return snapshot

    def _assemble(self, restored: Snapshot | None) -> None:
        """Make the parts, each with what it needs of the others."""
        config, fatal = self.config, self._fatal
        self._transport = transport = Transport(config, self._host)
        transport.mark = self.journal.mark
        transport.acquaintances = self._acquaintances
        transport.on_message = self._received
        transport.on_link = self._link
        send = transport.send_to
        self._compaction = Compaction(self._machine, self._snapshots, config.cluster_id, fatal)
        self._compaction.on_damaged = self._snapshot_damaged
        self._laggards = Laggards(
            self._snapshots,
            transport.waiting_bytes,
            lambda: self.journal.first_index,
            lambda: self.journal.last_index,
        )
        hooks = Hooks(
            apply=self._apply,
            begin_snapshot=self._compaction.begin,
            snapshot_written=self._compaction.outcome,
            is_writing=self._is_compacting,
            next_piece=lambda peer_id: self._laggards.next_piece(peer_id, self._clock.monotonic()),
        )
        self._engine = engine = Engine(config, self.journal, transport, hooks, restored, self._host)
        self._elections = Elections(config, self._membership, engine, send, self._host)
        self._installer = Installer(
            engine,
            self.journal,
            self._snapshots,
            self._loader,
            send,
            fatal,
            self._clock.monotonic,
        )
        self._replication = Replication(
            engine,
            self.journal,
            self._membership,
            self._elections,
            self._laggards,
            self._installer,
            send,
            self._pacer.soon,
            self._clock.monotonic,
            paused_bytes_max=config.paused_bytes_max,
        )
        transport.outgoing = self._replication.outgoing
        self._prober = Prober(self._membership, send)
        first_question = int.from_bytes(self._host.unique_bytes(7))
        self._reads = Reads(engine, self._prober, send, self._clock, first_question)
        self._hand_over = HandOver(
            self._membership, engine, transport.connected_peers, self._report
        )
        self._full_disk = FullDisk(self.journal, self._membership, engine, self._hand_over)
        self._changes = MemberChanges(
            self._membership,
            engine,
            self._prober,
            self._hand_over,
            transport.connected_peers,
            self._clock.monotonic,
        )
        self._belonging = Belonging(
            config,
            self._membership,
            engine,
            self._elections,
            self._changes,
            transport,
            self._clock.monotonic,
        )
        self._belonging.on_removed = self._was_removed

    async def stop(self) -> None:
        """Leave cleanly; the journal gets its end mark.  Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        self._pacer.close()
        await self._full_disk.close()
        await self._changes.close()
        await self._installer.close()
        await self._compaction.close()
        await self._transport.close()
        self._laggards.stop_all()
        self._reads.close()
        self.journal.close()

    def _fatal(self, error: BaseException) -> None:
        # Whoever is told may need a moment to end: nothing is applied or promised meanwhile.
        self._pacer.stop()
        if isinstance(error, SafetyViolation):
            endings.remember(self._host.disk, self.config.data_dir, error)
        self.on_fatal(error)

    # Passes --------------------------------------------------------------------------------------

    def _pass(self) -> None:
        """One turn: make durable what is there, let PySyncObj act on it, tell who listens."""
        engine, now = self._engine, self._clock.monotonic()
        try:
            if self.journal.paused:
                self._full_disk.step(now)
            is_synced = self.journal.sync()
            if is_synced:
                self._replication.acknowledge()
            if is_synced or not engine.is_leader:
                self._elections.step()
                engine.tick()
                self._changes.step()
            self._belonging.settle()
            self._look_after_laggards(now)
            self._compact()
        except Exception as error:
            self._fatal(error)
            return
        if engine.has_backlog or (self.journal.dirty and not self.journal.paused):
            self._pacer.soon()
        # Before the first round of a term, which makes everything known that the rounds tell.
        self._report()
        if not engine.is_leader:
            self._probe_at = math.inf
        elif now >= self._probe_at or self._probe_at == math.inf:
            self._probe_at = now + PROBE_SECONDS
            self._prober.begin(now)
        due = min(engine.due_at, self._probe_at)
        self._pacer.by(due, now, POLL_SECONDS if self._laggards.need_log else IDLE_SECONDS_MAX)

    def _look_after_laggards(self, now: float) -> None:
        if self._laggards.need_log:
            self._laggards.step(self._engine.match_index, now)
            for peer_id in self._laggards.ready():
                self._engine.send_pieces(peer_id)

    def _compact(self) -> None:
        self._compaction.reclaim(self.journal)
        is_idle = not self._compaction.is_writing and not self._installer.is_busy
        # What only the older snapshot needs does not count: two in a row would cover the same.
        if is_idle and self.journal.bytes_behind_snapshot > self.config.journal_bytes_max:
            self._engine.request_snapshot()

    def _snapshot_damaged(self) -> None:
        """The newest one was set aside: nobody can use it, so another has to be made."""
        self._laggards.stop_all()
        self._engine.request_snapshot(anew=True)
        self._pacer.soon()

    def _is_compacting(self) -> bool:
        """A snapshot is being written, or the journal should not be trimmed to it yet."""
        is_needed = (
            self._laggards.need_log
            and not self.journal.paused
            and self.journal.bytes_behind_snapshot
            <= PATIENCE_FACTOR * self.config.journal_bytes_max
        )
        return self._compaction.is_writing or is_needed

    def _apply(self, index: int, term: int, entry: bytes) -> None:
        try:
            self._machine.apply(index, term, entry)
        except Exception as error:
            # PySyncObj would try for ever; a peer that cannot apply must not go on.
            self._fatal(error)
            raise

    def _report(self) -> None:
        """Tell who listens when role, term, leader or currency changed; wake who waits."""
        engine = self._engine
        seen = (engine.role, engine.term, engine.leader, engine.is_current, self.journal.paused)
        if seen != self._last_status:
            if not self._last_status or seen[:2] != self._last_status[:2]:
                logger.info("%s in term %d (leader: %s)", engine.role, engine.term, engine.leader)
                if self._last_status[:2] == (Role.LEADER, engine.term):
                    self._tell_resigned()
                self._prober.reset(engine.term)
                self._probe_at = 0.0
                self._reads.term_changed()
                self._laggards.stop_all()
            self._last_status = seen
            self._reads.begin()
            self.on_status(self.status())
        self._reads.wake()

    def _tell_resigned(self) -> None:
        """This peer led, and leads no more although nobody else was elected."""
        term, seconds = self._engine.term, self.config.quorum_timeout_seconds
        if self.journal.paused:
            logger.warning("this peer leads term %d no more: its disk is full", term)
        else:
            logger.warning(
                "this peer leads term %d no more: no majority answered for %g s", term, seconds
            )

    # Messages ------------------------------------------------------------------------------------

    def _link(self, peer_id: str, up: bool) -> None:
        """A connection came or went."""
        if not self.is_running:
            return
        if not up:
            self._elections.link_lost(peer_id)
            self._engine.forget_match(peer_id)
            self._laggards.stop(peer_id)
            self._installer.link_lost(peer_id)
        self._pacer.soon()

    def _received(self, peer_id: str, message: dict[str, Any]) -> None:
        if not self.is_running:
            return
        try:
            self._dispatch(peer_id, message)
        except (KeyError, TypeError, IndexError) as error:
            logger.warning("peer %s sent a malformed %r: %s", peer_id, message.get("type"), error)
        except Exception as error:
            self._fatal(error)

    def _dispatch(self, peer_id: str, message: dict[str, Any]) -> None:
        match message["type"]:
            case "frame":
                self.on_frame(peer_id, message["payload"])
            case "probe":
                if message["term"] == self._engine.term:
                    told = answer(message, self._clock.wall_ms(), {**self.about, KNOWS: True})
                    self._transport.send_to(peer_id, told)
            case "probe_ok":
                self._prober.answered(peer_id, message, self._clock.monotonic())
            case "read":
                self._reads.asked(peer_id, message)
            case "read_ok":
                self._reads.answered(message)
            case "prevote":
                self._elections.asked(peer_id, message)
            case "prevote_ok":
                self._elections.granted(peer_id, message)
                self._pacer.soon()
            case "term_hint":
                self._engine.step_down(peer_id, message["term"])
                self._pacer.soon()
            case "snapshot_have":
                self._laggards.resume(peer_id, message["number"], message["offset"])
            case "snapshot_end":
                self._laggards.ended(peer_id, message["number"])
                if message.get("damaged"):
                    self._compaction.doubt()
            case _:
                self._replication.received(peer_id, message)

    # What the rest of raftsched asks -------------------------------------------------------------

    def propose(self, entry: bytes) -> None:
        """Append an entry.  Raises NotLeader, LogFull or LogClosed: surely not appended."""
        if not self.is_running:
            raise LogClosed("the log is not running")
        if not self._engine.is_leader:
            raise NotLeader(self._engine.leader)
        if self.journal.paused or self._hand_over.is_active:
            raise LogFull(self.journal.paused or "leadership is being handed over")
        if len(entry) > ENTRY_BYTES_MAX:
            raise ValueError(f"an entry of {len(entry)} bytes is over {ENTRY_BYTES_MAX}")
        self._engine.append(entry)
        self._pacer.soon()

    def status(self) -> LogStatus:
        """What this peer knows now."""
        engine, now = self._engine, self._clock.monotonic()
        is_leader = engine.is_leader
        contact = self._prober.confirmed_sent_at if is_leader else self._elections.heard_at
        fresh_at = self._replication.freshness.at(engine.term, engine.applied_index)
        return LogStatus(
            peer_id=self.config.peer_id,
            role=engine.role,
            term=engine.term,
            leader=engine.leader,
            last_index=engine.last_index,
            durable_index=self.journal.durable_index,
            commit_index=engine.commit_index,
            applied_index=engine.applied_index,
            is_current=engine.is_current,
            last_contact_ms=None if contact is None else int((now - contact) * 1000),
            connected=self._transport.connected_peers(),
            paused=self.journal.paused or ("hand-over" if self._hand_over.is_active else ""),
            stale_ms=None if is_leader or fresh_at is None else int((now - fresh_at) * 1000),
            is_installing=self._installer.is_under_way,
        )

    @property
    def is_running(self) -> bool:
        """Started, and neither stopped nor standing still after `on_fatal`."""
        return self._pacer.is_running

    def peer_views(self) -> dict[str, PeerView]:
        """On a leader: what the other members told in this term."""
        return self._prober.views

    def send_frame(self, peer_id: str, payload: bytes) -> bool:
        """Send our own frame; False when there is no connection."""
        return self.is_running and self._transport.send_to(
            peer_id, {"type": "frame", "payload": payload}
        )

    async def read_index(self, timeout_seconds: float) -> int:
        """An index that reflects every write that ended before the call."""
        if not self.is_running:
            raise LogClosed("the log is not running")
        return await self._reads.index(timeout_seconds)

    async def wait_applied(self, index: int, timeout_seconds: float) -> None:
        """Return once ``index`` is applied here.  Raises NoQuorum at the deadline."""
        await self._reads.applied(index, timeout_seconds)

    async def transfer_leadership(self, target: str | None, timeout_seconds: float) -> str:
        """Hand leadership over; the new leader.  Raises NotLeader or NoQuorum."""
        return await self._hand_over.run(target, timeout_seconds)

    def members(self) -> Configuration:
        """Who is in the group, as the configuration in force here says."""
        return self._membership.now

    def match_index(self, peer_id: str) -> int:
        """On a leader: how far a member is known to have the log; its own end for itself."""
        engine = self._engine
        return engine.last_index if peer_id == self.config.peer_id else engine.match_index(peer_id)

    @property
    def change_waits_for(self) -> str:
        """On a leader: what the next step of a change waits for, in a line; or empty."""
        return self._changes.waits_for

    async def change_membership(
        self, add: dict[str, Address] | None, remove: str | None, timeout_seconds: float
    ) -> None:
        """Have members added, removed or replaced; see `log.ReplicatedLog`."""
        if not self.is_running:
            raise LogClosed("the log is not running")
        if self.journal.paused:
            raise LogFull(self.journal.paused)
        await self._changes.run(add or {}, remove, timeout_seconds)


def _end_process(error: BaseException) -> None:
    """Stop at once, without another promise: what happened would make going on unsafe."""
    exit_code = error.exit_code if isinstance(error, MustStop) else MustStop.exit_code
    if isinstance(error, JournalFailed | MustStop):
        logger.critical("%s; this peer stops", error)
    else:
        logger.critical("this peer cannot go on safely", exc_info=error)
    logging.shutdown()
    os._exit(exit_code)
