"""The replicated log on PySyncObj 0.3.17, made safe at its seams.

PySyncObj elects and replicates; journal, snapshots, transport, message filter, reads, PreVote and
the driving loop are ours.  Its private attributes are touched in this file only, through `_Raft`,
and `check_library` refuses any other version.

Rules
1. Nothing that promises (an acknowledgement, a vote, a vote request) leaves before the journal is
   synced up to it; the leader counts itself only in a pass that began with a sync.
2. PySyncObj hears of the network only what `filter.MessageFilter` passes.
3. An exception out of apply, the journal or the filter ends the process: `on_fatal`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.config import FAIL_REASON, SERIALIZER_STATE
from pysyncobj.node import Node

from raftsched.raft.config import LogConfig
from raftsched.raft.files import Damaged
from raftsched.raft.filter import MessageFilter
from raftsched.raft.journal import Journal, JournalFailed
from raftsched.raft.log import (
    ENTRY_BYTES_MAX,
    LogClosed,
    LogFull,
    LogStatus,
    NoQuorum,
    NotLeader,
    Role,
    StateMachine,
)
from raftsched.raft.quorum import Prober
from raftsched.raft.snapshot import (
    Incoming,
    RawReader,
    SnapshotFailed,
    SnapshotMeta,
    SnapshotStore,
)
from raftsched.raft.transport import Transport

logger = logging.getLogger(__name__)

LIBRARY_VERSION = "0.3.17"
#: Every private attribute of PySyncObj this file reads or replaces.
PRIVATE = (
    "_SyncObj__raftLog",
    "_SyncObj__raftCurrentTerm",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftState",
    "_SyncObj__raftLeader",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__transferInProgress",
    "_SyncObj__noopIDx",
    "_SyncObj__serializer",
)
_REGULAR = b"\0"
_SNAPSHOT_CHUNK_BYTES = 256 * 1024
#: A leader probes this often, for lease grants and to notice that it lost its quorum.
PROBE_SECONDS = 0.25
#: PreVote is asked for again after this, plus up to as much at random.
PREVOTE_SECONDS = 0.15
#: The longest pause between passes when nothing happens.
IDLE_SECONDS = 0.02
_STATES = {0: Role.FOLLOWER, 1: Role.CANDIDATE, 2: Role.LEADER}


def check_library() -> None:
    """Refuse a PySyncObj whose insides this file does not know."""
    found = version("pysyncobj")
    if found != LIBRARY_VERSION:
        raise RuntimeError(f"pysyncobj {LIBRARY_VERSION} is needed, {found} is installed")


class _Asynchronous(Exception):
    """Raised into PySyncObj's serializer: the snapshot is being written elsewhere."""


class _NoPoller:
    """PySyncObj's poller has nothing to poll: the sockets are asyncio's."""

    def poll(self, timeout: float) -> None:
        """Do nothing."""


class _Raft(SyncObj):  # type: ignore[misc]
    """PySyncObj with our command application, and names for its insides."""

    def __init__(self, owner: PySyncObjLog, conf: SyncObjConf, transport: Transport) -> None:
        self._owner = owner
        super().__init__(
            Node(owner.config.peer_id),
            list(transport.nodes.values()),
            conf=conf,
            transport=transport,
        )
        missing = [name for name in PRIVATE if not hasattr(self, name)]
        if missing:
            raise RuntimeError(f"pysyncobj has no {', '.join(missing)}")
        self._poller = _NoPoller()
        self._SyncObj__serializer.setTransmissionData = owner.snapshot_arrived
        self._SyncObj__serializer.getTransmissionData = owner.snapshot_chunk

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:
        """Called by PySyncObj for each committed entry; nothing is ever unpickled."""
        self._owner.apply_entry(self.applied + 1, command)

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> None:
        """PySyncObj's own membership entries are not used."""

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def role(self) -> Role:
        return _STATES[self._SyncObj__raftState]

    @property
    def leader(self) -> str | None:
        node = self._SyncObj__raftLeader
        return None if node is None else str(node.id)

    @property
    def commit(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    @property
    def applied(self) -> int:
        return int(self._SyncObj__raftLastApplied)

    @property
    def noop_index(self) -> int | None:
        index: int | None = self._SyncObj__noopIDx
        return index

    @property
    def election_deadline(self) -> float:
        return float(self._SyncObj__raftElectionDeadline)

    @election_deadline.setter
    def election_deadline(self, value: float) -> None:
        self._SyncObj__raftElectionDeadline = value

    @property
    def transfer_in_progress(self) -> bool:
        return bool(self._SyncObj__transferInProgress)

    def match_index(self, peer_id: str) -> int:
        return int(self._SyncObj__raftMatchIndex.get(Node(peer_id), 0))


class PySyncObjLog:
    """Implements ``log.ReplicatedLog``."""

    def __init__(self, config: LogConfig, machine: StateMachine) -> None:
        check_library()
        self.config = config
        self._machine = machine
        self.on_status: Callable[[LogStatus], None] = lambda status: None
        self.on_frame: Callable[[str, bytes], None] = lambda peer, payload: None
        #: Called with what makes going on unsafe; must end the process.
        self.on_fatal: Callable[[BaseException], None] = _end_process
        self._random = random.Random()
        self._others = tuple(sorted(p for p in config.peers if p != config.peer_id))
        self._running = False
        self._pass_scheduled = False
        self._last_status: tuple[Any, ...] = ()
        self._applied_term = 0
        self._heard_at: float | None = None
        self._prevotes: set[str] | None = None
        self._prevote_at = 0.0
        self._probe_at = 0.0
        self._reads: list[asyncio.Future[int]] = []
        self._read_open = False
        self._asked: dict[int, list[asyncio.Future[int]]] = {}
        self._ask_number = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._hand_over = False
        self._writing: asyncio.Task[None] | None = None
        self._written: bool | None = None
        #: Snapshots on their way to laggards, with the offset reached, by peer.
        self._sending: dict[str, tuple[RawReader, int]] = {}
        self._incoming: Incoming | None = None

    # Life

    async def start(self) -> None:
        """Open the journal, restore, listen and take part.  Raises StorageError or OSError."""
        config = self.config
        self._loop = asyncio.get_running_loop()
        self.journal = Journal.open(
            config.data_dir / "journal",
            cluster_id=config.cluster_id,
            peer_id=config.peer_id,
            segment_bytes=config.segment_bytes,
        )
        try:
            self.journal.on_failed = lambda failure: self.on_fatal(failure)
            self._snapshots = SnapshotStore.open(
                config.data_dir / "snapshots", cluster_id=config.cluster_id
            )
            snapshot = self._snapshots.usable(self.journal.first_index)
            if snapshot is None:
                self.journal.expect_whole()
            else:
                self.journal.align(snapshot.meta.previous, snapshot.meta.last)
            self._transport = Transport(config)
            self._transport.on_message = self._received
            self._transport.on_link = self._link
            self._transport.outgoing = self._outgoing
            self._prober = Prober(self._others, self._transport.send_to)
            self._raft = self._make_raft()
            self._filter = MessageFilter(self)
            await self._transport.open()
        except BaseException:
            self.journal.close(clean=False)
            raise
        self._running = True
        self._pass()
        self._ticker = asyncio.create_task(self._tick())

    def _make_raft(self) -> _Raft:
        config = self.config
        # PySyncObj finds its journal by this name, and would wake a poller nobody polls.
        pysyncobj.syncobj.createJournal = lambda _: self.journal
        pysyncobj.syncobj.PIPE_NOTIFIER_ENABLED = False
        latest = self._snapshots.latest()
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=False,
            commandsWaitLeader=False,
            dynamicMembershipChange=False,
            logCompactionSplit=False,
            raftMinTimeout=config.election_min_seconds,
            raftMaxTimeout=config.election_max_seconds,
            appendEntriesPeriod=config.append_period_seconds,
            leaderFallbackTimeout=config.quorum_timeout_seconds,
            appendEntriesBatchSizeBytes=2 * ENTRY_BYTES_MAX,
            logCompactionMinEntries=1 << 60,
            logCompactionMinTime=1 << 60,
            journalFile="journal",
            # Looked at once, for whether there is a snapshot to load at the start.
            fullDumpFile=str(latest.path if latest else config.data_dir / "no-snapshot"),
            serializer=self._begin_snapshot,
            deserializer=self._load_snapshot,
            serializeChecker=self._snapshot_state,
        )
        return _Raft(self, conf, self._transport)

    async def stop(self) -> None:
        """Leave cleanly; the journal gets its end mark.  Idempotent."""
        if not self._running:
            return
        self._running = False
        self._ticker.cancel()
        await asyncio.gather(self._ticker, return_exceptions=True)
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._transport.close()
        closed = LogClosed("the log was stopped")
        for future in [*self._reads, *(f for fs in self._asked.values() for f in fs)]:
            if not future.done():
                future.set_exception(closed)
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(closed)
        self.journal.close()

    # What the filter reads (filter.LogView)

    @property
    def term(self) -> int:
        """The present term."""
        return self._raft.term

    @property
    def is_leader(self) -> bool:
        """Does this peer lead?  A hint only."""
        return self._raft.role is Role.LEADER

    @property
    def first_index(self) -> int:
        """Index of the oldest entry in the log."""
        return self.journal.first_index

    @property
    def last_index(self) -> int:
        """Index of the newest entry in the log."""
        return self.journal.last_index

    @property
    def last_term(self) -> int:
        """Term of the newest entry in the log."""
        return self.journal.last_term

    @property
    def commit_index(self) -> int:
        """What this peer knows to be committed."""
        return self._raft.commit

    @property
    def applied_index(self) -> int:
        """What is applied here."""
        return self._raft.applied

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None if it is not here."""
        return self.journal.term_at(index)

    # Passes

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS)
            self._pass()

    def _schedule(self) -> None:
        if not self._pass_scheduled and self._running:
            self._pass_scheduled = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        """One turn: make durable what is there, let PySyncObj act on it, tell who listens."""
        self._pass_scheduled = False
        if not self._running:
            return
        try:
            if self.journal.sync() or not self.is_leader:
                self._elect()
                self._raft.doTick(0)
            self._compact()
        except Exception as error:
            self.on_fatal(error)
            return
        if self.journal.dirty and not self.journal.paused:
            self._schedule()
        now = time.monotonic()
        if self.is_leader and now >= self._probe_at:
            self._probe_at = now + PROBE_SECONDS
            self._prober.begin(now)
        self._report()

    def _report(self) -> None:
        """Tell who listens when role, term, leader or currency changed; wake who waits."""
        raft = self._raft
        seen = (raft.role, raft.term, raft.leader, self._is_current(), self.journal.paused)
        if seen != self._last_status:
            if not self._last_status or seen[:2] != self._last_status[:2]:
                logger.info("%s in term %d (leader: %s)", raft.role, raft.term, raft.leader)
                self._prober.reset(raft.term)
                self._read_open = False
            self._last_status = seen
            self._begin_read()
            self.on_status(self.status())
        if self._waiters:
            still = []
            for index, waiter in self._waiters:
                if raft.applied < index:
                    still.append((index, waiter))
                elif not waiter.done():
                    waiter.set_result(None)
            self._waiters = still

    def _is_current(self) -> bool:
        return self._applied_term == self._raft.term

    def apply_entry(self, index: int, command: bytes) -> None:
        """PySyncObj applies a committed entry."""
        term = self.journal.term_at(index)
        assert term is not None
        try:
            if command[:1] == _REGULAR:
                self._machine.apply(index, term, command[1:])
        except Exception as error:
            # PySyncObj would try for ever; a peer that cannot apply must not go on.
            self.on_fatal(error)
            raise
        self._applied_term = max(self._applied_term, term)

    # Elections

    def _elect(self) -> None:
        """PreVote: let PySyncObj begin an election only when a majority would vote for us."""
        raft = self._raft
        now = pysyncobj.syncobj.monotonicTime()
        if raft.role is Role.LEADER or not self._others:
            return
        if raft.transfer_in_progress or raft.election_deadline > now:
            return
        granted = self._prevotes is not None and (
            2 * (len(self._prevotes) + 1) > len(self._others) + 1
        )
        if granted:
            self._prevotes = None
            return
        if now >= self._prevote_at:
            pause = PREVOTE_SECONDS * (1 + self._random.random())
            self._prevote_at = now + pause
            self._prevotes = set()
            ask = {
                "type": "prevote",
                "term": raft.term + 1,
                "last_log_index": self.last_index,
                "last_log_term": self.last_term,
            }
            for peer_id in self._others:
                self._transport.send_to(peer_id, ask)
        raft.election_deadline = now + IDLE_SECONDS

    def _prevote(self, peer_id: str, message: dict[str, Any]) -> None:
        """Would this peer vote for that one?  Not while it hears a leader."""
        heard = self._heard_at is not None and (
            time.monotonic() - self._heard_at < self.config.election_min_seconds
        )
        theirs = (message["last_log_term"], message["last_log_index"])
        if (
            not heard
            and not self.is_leader
            and message["term"] > self.term
            and theirs >= (self.last_term, self.last_index)
        ):
            self._transport.send_to(peer_id, {"type": "prevote_ok", "term": message["term"]})

    def _link(self, peer_id: str, up: bool) -> None:
        """A connection came or went; without the leader's, ask for votes soon."""
        if not self._running:
            return
        if not up and peer_id == self._raft.leader and not self.is_leader:
            self._heard_at = None
            pause = self._random.random() * 0.2
            self._raft.election_deadline = min(
                self._raft.election_deadline, pysyncobj.syncobj.monotonicTime() + pause
            )
        if not up:
            self._stop_sending(peer_id)
        self._schedule()

    # Messages

    def _outgoing(self, peer_id: str, message: dict[str, Any]) -> dict[str, Any] | None:
        """Everything PySyncObj sends passes here: promises wait for the disk."""
        kind = message["type"]
        if kind in ("next_node_idx", "request_vote", "response_vote") and not self.journal.sync():
            return None
        return self._filter.outgoing(message)

    def _received(self, peer_id: str, message: dict[str, Any]) -> None:
        if not self._running:
            return
        try:
            self._dispatch(peer_id, message)
        except (KeyError, TypeError, IndexError) as error:
            logger.warning("peer %s sent a malformed %r: %s", peer_id, message.get("type"), error)
        except Exception as error:
            self.on_fatal(error)

    def _dispatch(self, peer_id: str, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "frame":
            self.on_frame(peer_id, message["payload"])
        elif kind == "probe":
            if message["term"] == self.term:
                self._transport.send_to(peer_id, {**message, "type": "probe_ok"})
        elif kind == "probe_ok":
            self._prober.answered(peer_id, message)
        elif kind == "read":
            self._remote_read(peer_id, message["number"])
        elif kind == "read_ok":
            self._settle_reads(self._asked.pop(message["number"], []), message["index"])
        elif kind == "prevote":
            self._prevote(peer_id, message)
        elif kind == "prevote_ok":
            if self._prevotes is not None and message["term"] == self.term + 1:
                self._prevotes.add(peer_id)
                self._schedule()
        elif kind == "term_hint":
            self._term_hint(peer_id, message["term"])
        elif message.get("serialized") is not None:
            self._snapshot_message(peer_id, message)
        else:
            if kind == "append_entries" and message["term"] >= self.term:
                self._heard_at = time.monotonic()
                self._prevotes = None
            passed, answer = self._filter.incoming(peer_id, message)
            if passed is not None:
                self._transport.deliver(peer_id, passed)
            if answer is not None and self.journal.sync():
                self._transport.send_to(peer_id, answer)
            self._schedule()

    def _term_hint(self, peer_id: str, term: int) -> None:
        """Somebody knows a higher term: step down into it, without a vote for anybody."""
        if term > self.term:
            self._transport.deliver(
                peer_id,
                {"type": "request_vote", "term": term, "last_log_term": -1, "last_log_index": 0},
            )
            self._schedule()

    # Proposals and status

    def propose(self, entry: bytes) -> None:
        """Append an entry.  Raises NotLeader, LogFull or LogClosed: surely not appended."""
        if not self._running:
            raise LogClosed("the log is not running")
        if self._raft.role is not Role.LEADER:
            raise NotLeader(self._raft.leader)
        if self.journal.paused or self._hand_over:
            raise LogFull(self.journal.paused or "leadership is being handed over")
        if len(entry) > ENTRY_BYTES_MAX:
            raise ValueError(f"an entry of {len(entry)} bytes is over {ENTRY_BYTES_MAX}")
        self._raft._applyCommand(_REGULAR + entry, None)
        self._schedule()

    def status(self) -> LogStatus:
        """What this peer knows now."""
        raft, now = self._raft, time.monotonic()
        contact = self._prober.confirmed_sent_at if self.is_leader else self._heard_at
        return LogStatus(
            peer_id=self.config.peer_id,
            role=raft.role,
            term=raft.term,
            leader=raft.leader,
            last_index=self.last_index,
            durable_index=self.journal.durable_index,
            commit_index=raft.commit,
            applied_index=raft.applied,
            is_current=self._is_current(),
            last_contact_ms=None if contact is None else int((now - contact) * 1000),
            connected=self._transport.connected_peers(),
            paused=self.journal.paused or ("hand-over" if self._hand_over else ""),
        )

    def send_frame(self, peer_id: str, payload: bytes) -> bool:
        """Send our own frame; False when there is no connection."""
        return self._running and self._transport.send_to(
            peer_id, {"type": "frame", "payload": payload}
        )

    # Reads

    async def read_index(self, timeout_seconds: float) -> int:
        """An index that reflects every write that ended before the call."""
        if not self._running:
            raise LogClosed("the log is not running")
        future: asyncio.Future[int] = self._loop.create_future()
        deadline = self._loop.time() + timeout_seconds
        try:
            async with asyncio.timeout_at(deadline):
                self._reads.append(future)
                self._begin_read()
                while True:
                    # A leader that dies takes the question with it; ask whoever follows.
                    done, _ = await asyncio.wait({future}, timeout=0.25)
                    if done:
                        return future.result()
                    if future not in self._reads:
                        self._reads.append(future)
                    self._read_open = False
                    self._begin_read()
        except TimeoutError:
            leader = self._raft.leader
            raise NoQuorum(
                f"no majority answered within {timeout_seconds:.1f} s (leader: {leader or 'none'})"
            ) from None
        finally:
            if future in self._reads:
                self._reads.remove(future)
            future.cancel()

    def _begin_read(self) -> None:
        """Start a round for all reads that wait; those that come later wait for the next."""
        if not self._reads or self._read_open:
            return
        if self.is_leader:
            if not self._is_current():
                return
            waiting, self._reads = self._reads, []
            self._read_open = True
            index = self._raft.commit

            def done() -> None:
                self._read_open = False
                self._settle_reads(waiting, index)
                self._begin_read()

            self._prober.begin(time.monotonic(), done)
        elif self._raft.leader is not None:
            self._ask_number += 1
            asked = {"type": "read", "number": self._ask_number}
            if self._transport.send_to(self._raft.leader, asked):
                self._asked[self._ask_number] = self._reads
                self._reads = []
                self._read_open = True
                if len(self._asked) > 100:
                    del self._asked[next(iter(self._asked))]

    def _remote_read(self, peer_id: str, number: int) -> None:
        """A follower asks for a read index."""
        if not self.is_leader or not self._is_current():
            return
        index = self._raft.commit
        answer = {"type": "read_ok", "number": number, "index": index}
        self._prober.begin(time.monotonic(), lambda: void(self._transport.send_to(peer_id, answer)))

    def _settle_reads(self, reads: list[asyncio.Future[int]], index: int) -> None:
        self._read_open = False
        for future in reads:
            if not future.done():
                future.set_result(index)
        self._begin_read()

    async def wait_applied(self, index: int, timeout_seconds: float) -> None:
        """Return once ``index`` is applied here.  Raises NoQuorum at the deadline."""
        if self._raft.applied >= index:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        waiter = (index, future)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                await future
        except TimeoutError:
            applied = self._raft.applied
            raise NoQuorum(
                f"index {index} was not applied here within {timeout_seconds:.1f} s (at {applied})"
            ) from None
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    # Hand-over

    async def transfer_leadership(self, target: str | None, timeout_seconds: float) -> str:
        """Hand leadership over; the new leader.  Raises NotLeader or NoQuorum."""
        if not self.is_leader:
            raise NotLeader(self._raft.leader)
        if target is not None and target not in self._others:
            raise NoQuorum(f"{target!r} is not another peer; known: {', '.join(self._others)}")
        term = self.term
        deadline = self._loop.time() + timeout_seconds
        # Intake pauses, so that the target can catch up and nobody's command is stranded.
        self._hand_over = True
        self._report()
        asked_at = 0.0
        try:
            while self._loop.time() < deadline:
                leader = self._raft.leader
                if self.term > term and leader not in (None, self.config.peer_id):
                    assert leader is not None
                    return leader
                if self.is_leader and self._loop.time() - asked_at > 0.5:
                    connected = self._transport.connected_peers()
                    ready = [
                        p
                        for p in ([target] if target else connected)
                        if p in connected and self._raft.match_index(p) == self.last_index
                    ]
                    if ready:
                        asked_at = self._loop.time()
                        chosen = self._transport.nodes[ready[0]]
                        self._raft.transferLeadership(chosen, self._asked_for_transfer)
                await asyncio.sleep(IDLE_SECONDS)
        finally:
            self._hand_over = False
            self._report()
        raise NoQuorum(f"nobody took over within {timeout_seconds:.1f} s")

    @staticmethod
    def _asked_for_transfer(_: object, reason: int) -> None:
        if reason != FAIL_REASON.SUCCESS:
            logger.info("hand-over not begun: reason %s", reason)

    # Snapshots

    def _compact(self) -> None:
        if self._writing is None and self.journal.bytes_on_disk > self.config.journal_bytes_max:
            self._raft.forceLogCompaction()

    def _begin_snapshot(self, _: str, data: Any) -> None:
        """PySyncObj wants a dump: begin it beside the loop."""
        last, previous, _cluster = data
        meta = SnapshotMeta(self.config.cluster_id, previous, last)
        chunks = self._machine.begin_snapshot()
        self._written = None

        async def write() -> None:
            try:
                draft = await asyncio.to_thread(self._snapshots.write, meta, chunks)
                self._snapshots.publish(draft)
                self._written = True
                logger.info("snapshot at index %d", meta.index)
                await asyncio.to_thread(self._snapshots.prune)
            except SnapshotFailed as error:
                logger.error("no snapshot: %s", error)
                self._written = False
            except Exception as error:
                self.on_fatal(error)
            finally:
                self._machine.end_snapshot()
                self._writing = None

        self._writing = asyncio.create_task(write())
        raise _Asynchronous

    def _snapshot_state(self) -> int:
        """PySyncObj asks how the dump is doing; on success it trims the journal."""
        if self._writing is not None:
            return int(SERIALIZER_STATE.SERIALIZING)
        written, self._written = self._written, None
        if written is None:
            return int(SERIALIZER_STATE.NOT_SERIALIZING)
        return int(SERIALIZER_STATE.SUCCESS if written else SERIALIZER_STATE.FAILED)

    def _load_snapshot(self, _: str) -> tuple[Any, Any, set[Node]]:
        """PySyncObj loads the dump; it would swallow an exception, so trouble ends the process."""
        try:
            latest = self._snapshots.latest()
            assert latest is not None
            meta = latest.meta
            self._machine.restore(meta.index, self._snapshots.read(latest))
            self._applied_term = max(self._applied_term, meta.last[2])
        except Exception as error:
            self.on_fatal(error)
            raise
        return meta.last, meta.previous, set()

    def snapshot_chunk(self, node: Node) -> tuple[bytes, bool, bool] | None:
        """The next piece of the current snapshot for a laggard: (data, is first, is last)."""
        sending = self._sending.get(node.id)
        if sending is None:
            latest = self._snapshots.latest()
            if latest is None:
                self._raft.forceLogCompaction()
                return None
            sending = (self._snapshots.open_raw(latest), 0)
        reader, offset = sending
        data = reader.read(offset, _SNAPSHOT_CHUNK_BYTES)
        self._sending[node.id] = (reader, offset + len(data))
        if not data:
            self._stop_sending(node.id)
        return data, offset == 0, not data

    def _stop_sending(self, peer_id: str) -> None:
        sending = self._sending.pop(peer_id, None)
        if sending is not None:
            sending[0].close()

    def _snapshot_message(self, peer_id: str, message: dict[str, Any]) -> None:
        """A piece of a snapshot: collected here, proven, and only then shown to PySyncObj."""
        if message["term"] < self.term:
            self._transport.send_to(peer_id, {"type": "term_hint", "term": self.term})
            return
        self._heard_at = time.monotonic()
        beat = {
            "type": "append_entries",
            "term": message["term"],
            "commit_index": min(message["commit_index"], self._raft.commit),
        }
        data, is_first, is_last = message["serialized"]
        self._transport.deliver(peer_id, beat)
        if is_first:
            if self._incoming is not None:
                self._incoming.abort()
            self._incoming = None
            try:
                self._incoming = self._snapshots.receive()
            except SnapshotFailed as error:
                logger.error("no snapshot from %s: %s", peer_id, error)
        if self._incoming is None:
            return
        try:
            self._incoming.add(data)
        except SnapshotFailed as error:
            # The leader begins again; until there is room this peer only hears that it leads.
            logger.error("no snapshot from %s: %s", peer_id, error)
            self._incoming = None
            return
        alive = {"type": "next_node_idx", "next_node_idx": 0, "reset": False, "success": False}
        self._transport.send_to(peer_id, {**alive, "lt": self.term})
        if is_last:
            self._install(peer_id, message)
        self._schedule()

    def _install(self, peer_id: str, message: dict[str, Any]) -> None:
        incoming, self._incoming = self._incoming, None
        assert incoming is not None
        try:
            draft, meta = incoming.finish()
        except (Damaged, SnapshotFailed) as error:
            logger.error("the snapshot of %s is not usable: %s", peer_id, error)
            return
        if meta.index <= self._raft.applied:
            self._snapshots.discard(draft)
            answer = {"type": "next_node_idx", "next_node_idx": self._raft.applied + 1}
            self._transport.send_to(
                peer_id, {**answer, "reset": True, "success": False, "lt": self.term}
            )
            return
        self._snapshots.publish(draft)
        logger.info("installing a snapshot of %s at index %d", peer_id, meta.index)
        self._transport.deliver(
            peer_id,
            {
                "type": "append_entries",
                "term": message["term"],
                "commit_index": min(message["commit_index"], meta.index),
                "serialized": (b"", True, True),
            },
        )

    @staticmethod
    def snapshot_arrived(data: Any) -> bool:
        """PySyncObj asks whether the snapshot is whole: what reaches it always is."""
        return data is not None


def void(_: object) -> None:
    """For callbacks whose result nobody wants."""


def _end_process(error: BaseException) -> None:
    """Stop at once, without another promise: what happened would make going on unsafe."""
    if isinstance(error, JournalFailed):
        logger.critical("%s; this peer stops", error)
    else:
        logger.critical("this peer cannot go on safely", exc_info=error)
    logging.shutdown()
    os._exit(70)
