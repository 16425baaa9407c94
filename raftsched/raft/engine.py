"""PySyncObj 0.3.17, the engine that elects and replicates: its insides under our names.

The only file that touches PySyncObj's private attributes; `check_library` refuses any other
version, and the constructor one that lacks any of them.  Nothing is ever unpickled, and what stock
PySyncObj does with snapshots and with committed entries is replaced:

1. Committed entries are applied in slices of `APPLY_SECONDS`; the rest waits for the next tick.
2. While `is_held`, nothing is applied.
3. A snapshot comes in by `adopt` only, once its state is decoded and its file is published.
4. A leader commits nothing that is not durable on its own disk.
5. Its members are those of the journal's configuration; a peer that is no voter there never
   stands for election.  (PySyncObj counts itself always; what it calls read-only nodes are sent
   the log and not counted, as learners should be.)
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import msgspec
import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.config import FAIL_REASON, SERIALIZER_STATE

from raftsched.raft.config import LogConfig
from raftsched.raft.host import Clock, Host, SystemClock
from raftsched.raft.journal import Entry, Journal
from raftsched.raft.log import ENTRY_BYTES_MAX, Role, SafetyViolation
from raftsched.raft.membership import Configuration, encode
from raftsched.raft.node import PeerNode, node_of
from raftsched.raft.snapshot import Snapshot
from raftsched.raft.snapshot_file import SnapshotMeta
from raftsched.raft.transport import Transport

LIBRARY_VERSION = "0.3.17"
#: Entries are applied for so long in one tick, and at least one.
APPLY_SECONDS = 0.01
#: Every private attribute of PySyncObj this file reads or sets ...
PRIVATE = (
    "_SyncObj__raftLog",
    "_SyncObj__raftCurrentTerm",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftState",
    "_SyncObj__raftLeader",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__newAppendEntriesTime",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__raftNextIndex",
    "_SyncObj__transferInProgress",
    "_SyncObj__serializer",
    "_SyncObj__otherNodes",
    "_SyncObj__readonlyNodes",
    "_SyncObj__lastResponseTime",
)
#: ... and every private method it calls or replaces.
PRIVATE_METHODS = (
    "_applyCommand",
    "_SyncObj__applyLogEntries",
    "_SyncObj__doApplyCommand",
    "_SyncObj__loadDumpFile",
    "_SyncObj__parseChangeClusterRequest",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__setState",
)
_REGULAR = b"\0"
#: PySyncObj asks a function of its module for the time.  Peers of one process may have clocks of
#: their own, so whoever is about to be called says whose it is.
_running: Clock = SystemClock()
_FOLLOWER, _LEADER = 0, 2
_STATES = {_FOLLOWER: Role.FOLLOWER, 1: Role.CANDIDATE, _LEADER: Role.LEADER}

#: A part of a snapshot's file on its way: (data, where, is last, number of the transfer).  Where:
#: True at the beginning, False behind the piece before, and a number of bytes from the beginning
#: where it goes on after pieces were left out.  PySyncObj looks at whether it is the last.
Piece = tuple[bytes, bool | int, bool, int]


@functools.cache
def check_library() -> None:
    """Refuse a PySyncObj whose insides this file does not know."""
    found = version("pysyncobj")
    if found != LIBRARY_VERSION:
        raise RuntimeError(f"pysyncobj {LIBRARY_VERSION} is needed, {found} is installed")


def _no_journal(_: str) -> Journal:
    raise RuntimeError("a log was made without a journal of ours")


def _monotonic() -> float:
    return _running.monotonic()


class Hooks(msgspec.Struct, frozen=True):
    """What PySyncObj asks of us."""

    #: Apply a committed entry: (index, term, data).  Must not raise.
    apply: Callable[[int, int, bytes], None]
    #: Begin a snapshot of the state beside the loop; the state ends with these (previous, last)
    #: and this configuration.
    begin_snapshot: Callable[[Entry, Entry, Configuration], None]
    #: It is on its way, or the log must not be trimmed yet.
    is_writing: Callable[[], bool]
    #: Once after one was written: whether it is durable, so that the log is trimmed; else None.
    snapshot_written: Callable[[], bool | None]
    #: The next piece of the snapshot for a laggard; None: not now.
    next_piece: Callable[[str], Piece | None]


def _is_news(record: logging.LogRecord) -> bool:
    """PySyncObj says at every try that there was no snapshot; `compaction` says why, less often."""
    return record.msg != "Failed to store full dump"


pysyncobj.syncobj.logger.addFilter(_is_news)


class _WrittenElsewhere(Exception):
    """Raised into PySyncObj's serializer, so that it waits for `Hooks.snapshot_written`."""


class _NoPoller:
    """PySyncObj's poller has nothing to poll: the sockets are asyncio's."""

    def poll(self, timeout: float) -> None:
        """Do nothing."""


class Engine(SyncObj):  # type: ignore[misc]
    """PySyncObj behind names of ours.  Implements ``filter.LogView``."""

    _commit_index: int

    def __init__(
        self,
        config: LogConfig,
        journal: Journal,
        transport: Transport,
        hooks: Hooks,
        restored: Snapshot | None,
        host: Host,
    ) -> None:
        """``journal`` is aligned with the snapshot ``restored``, whose state is in place."""
        check_library()
        self._journal = journal
        self._wire = transport
        self._clock = host.clock
        self._chance = host.chance
        self._timeouts = (config.election_min_seconds, config.election_max_seconds)
        self._hooks = hooks
        self._restored = None if restored is None else restored.meta
        self._applied_term = 0 if restored is None else restored.meta.term
        #: Nothing is applied meanwhile; elections are `Elections`' to hold.
        self.is_held = False
        # PySyncObj finds its journal by this name, and would wake a poller nobody polls.
        pysyncobj.syncobj.createJournal = lambda _: journal
        pysyncobj.syncobj.PIPE_NOTIFIER_ENABLED = False
        pysyncobj.syncobj.monotonicTime = _monotonic
        self._is_running()
        super().__init__(
            node_of(config.peer_id),
            [node_of(peer_id) for peer_id in journal.membership.other_voters],
            conf=self._configured(config),
            transport=transport,
        )
        pysyncobj.syncobj.createJournal = _no_journal
        missing = [name for name in PRIVATE if not hasattr(self, name)]
        missing += [name for name in PRIVATE_METHODS if not hasattr(SyncObj, name)]
        if missing:
            raise RuntimeError(f"pysyncobj has no {', '.join(missing)}")
        self._poller = _NoPoller()
        self._SyncObj__serializer.getTransmissionData = self._next_piece
        if restored is not None:
            self._SyncObj__loadDumpFile(clearJournal=False)
        self.configure()

    def _configured(self, config: LogConfig) -> SyncObjConf:
        return SyncObjConf(
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
            # A snapshot is "loaded" by the constructor; there never is such a file.
            fullDumpFile="/dev/null/none",
            serializer=self._begin_snapshot,
            deserializer=self._adopted,
            serializeChecker=self._snapshot_state,
        )

    # What there is to know ---------------------------------------------------------------------

    @property
    def term(self) -> int:
        """The present term."""
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def role(self) -> Role:
        """What this peer is in it."""
        return _STATES[self._SyncObj__raftState]

    @property
    def is_leader(self) -> bool:
        """Does this peer lead?  A hint only."""
        return bool(self._SyncObj__raftState == _LEADER)

    @property
    def leader(self) -> str | None:
        """Who leads, as far as is known here."""
        node = self._SyncObj__raftLeader
        return None if node is None else str(node.id)

    @property
    def is_current(self) -> bool:
        """An entry of the present term was applied here: the state is that of this term."""
        return self._applied_term == self.term

    @property
    def first_index(self) -> int:
        """Index of the oldest entry in the log."""
        return self._journal.first_index

    @property
    def last_index(self) -> int:
        """Index of the newest entry in the log."""
        return self._journal.last_index

    @property
    def last_term(self) -> int:
        """Term of the newest entry in the log."""
        return self._journal.last_term

    @property
    def commit_index(self) -> int:
        """What this peer knows to be committed."""
        return self._commit_index

    @property
    def _SyncObj__raftCommitIndex(self) -> int:
        """PySyncObj's name for it."""
        return self._commit_index

    @_SyncObj__raftCommitIndex.setter
    def _SyncObj__raftCommitIndex(self, index: int) -> None:
        """A leader counts itself, and so commits no further than its own disk holds.

        Only who leads alone would: it is elected, writes its first entry and counts, all in a tick.
        """
        durable = self._journal.durable_index
        if index > durable and self.is_leader:
            index = max(durable, self._commit_index)
        self._commit_index = index

    @property
    def applied_index(self) -> int:
        """What is applied here."""
        return int(self._SyncObj__raftLastApplied)

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None if it is not here."""
        return self._journal.term_at(index)

    def match_index(self, peer_id: str) -> int:
        """On the leader: how far that peer is known to have the log."""
        return int(self._SyncObj__raftMatchIndex.get(node_of(peer_id), 0))

    def forget_match(self, peer_id: str) -> None:
        """How far that peer has the log is not known any more; it says so when it is back.

        Nothing is counted that it did not acknowledge since: it may come back with less.
        """
        node = node_of(peer_id)
        if node in self._SyncObj__raftMatchIndex:
            self._SyncObj__raftMatchIndex[node] = 0

    # What it is told ---------------------------------------------------------------------------

    def _is_running(self) -> None:
        """PySyncObj is about to be called: its time is this peer's."""
        global _running
        _running = self._clock

    def _SyncObj__generateRaftTimeout(self) -> float:
        """How long a leader may be silent before this peer stands for election, in seconds."""
        low, high = self._timeouts
        return low + (high - low) * self._chance.random()

    def tick(self) -> None:
        """One turn: elect, commit, apply a slice, send.  What is to count must be synced before."""
        self._is_running()
        if not self._journal.membership.is_voter:
            if self.is_leader:
                raise SafetyViolation(f"this peer leads term {self.term} and is no voter")
            self.election_deadline = self._clock.monotonic() + self._timeouts[1]
        self.doTick(0)

    def append(self, entry: bytes) -> None:
        """On the leader: an entry for the next tick to put into the log."""
        self._applyCommand(_REGULAR + entry, None)

    def hear(self, peer_id: str, message: dict[str, Any]) -> None:
        """A message as from a peer; it must have passed the filter, or be ours."""
        self._is_running()
        self._wire.deliver(peer_id, message)

    def acknowledged(self, peer_id: str, message: dict[str, Any]) -> None:
        """A follower's word how far it has the log; it must have passed the filter.

        PySyncObj would send again all that is on its way behind what is acknowledged (S2): with
        four entries in flight, each up to four times.  What gets lost with a connection the
        follower misses at the next heartbeat, and says so.
        """
        node = node_of(peer_id)
        sent = self._SyncObj__raftNextIndex.get(node, 0)
        self.hear(peer_id, message)
        if message["success"] and self.is_leader:
            self._SyncObj__raftNextIndex[node] = max(sent, self._SyncObj__raftNextIndex[node])

    def follow(self, peer_id: str, term: int, commit_index: int) -> None:
        """That peer leads ``term``; up to ``commit_index`` this log is known to be committed."""
        self.hear(peer_id, {"type": "append_entries", "term": term, "commit_index": commit_index})

    def step_down(self, peer_id: str, term: int) -> None:
        """Into a higher term that somebody knows, without a vote for anybody."""
        if term > self.term:
            self.hear(
                peer_id,
                {"type": "request_vote", "term": term, "last_log_term": -1, "last_log_index": 0},
            )

    def resign(self) -> None:
        """Lead no more; as a follower nobody follows, until somebody is elected."""
        self._is_running()
        self._SyncObj__setState(_FOLLOWER)
        self._SyncObj__raftLeader = None
        self.election_deadline = self._clock.monotonic() + self._SyncObj__generateRaftTimeout()

    def hand_over(self, peer_id: str) -> bool:
        """Ask a follower that has the whole log to have itself elected; False: refused here."""
        reasons: list[int] = []
        self.transferLeadership(node_of(peer_id), lambda _, reason: reasons.append(reason))
        return reasons == [FAIL_REASON.SUCCESS]

    # Members -----------------------------------------------------------------------------------

    def configure(self) -> None:
        """Take the members of the journal's configuration; to be called whenever it changed.

        May be called from within a message or a tick, so the sets are replaced, never changed.
        """
        membership, now = self._journal.membership, self._clock.monotonic()
        others = {peer_id: node_of(peer_id) for peer_id in membership.others}
        voters = membership.other_voters
        self._SyncObj__otherNodes = {others[peer_id] for peer_id in voters}
        self._SyncObj__readonlyNodes = {n for p, n in others.items() if p not in voters}
        for known in (self._SyncObj__raftNextIndex, self._SyncObj__raftMatchIndex):
            for node in [node for node in known if node.id not in others]:
                del known[node]
        for node in others.values():
            self._SyncObj__raftNextIndex.setdefault(node, self.last_index + 1)
            self._SyncObj__raftMatchIndex.setdefault(node, 0)
            self._SyncObj__lastResponseTime.setdefault(node, now)

    def append_configuration(self, configuration: Configuration) -> None:
        """On the leader: an entry with it, at once; from here on it is in force."""
        if not self.is_leader:
            raise SafetyViolation(f"members were to change in term {self.term}, not led from here")
        self._journal.add(encode(configuration), self.last_index + 1, self.term)

    # Elections ---------------------------------------------------------------------------------

    @property
    def election_deadline(self) -> float:
        """In seconds of the host's monotonic clock: the first tick after it begins an election."""
        return float(self._SyncObj__raftElectionDeadline)

    @election_deadline.setter
    def election_deadline(self, value: float) -> None:
        self._SyncObj__raftElectionDeadline = value

    @property
    def due_at(self) -> float:
        """When the next tick has something to do by time: a heartbeat, or an election."""
        if self.is_leader:
            return float(self._SyncObj__newAppendEntriesTime)
        return self.election_deadline

    @property
    def transfer_in_progress(self) -> bool:
        """The leader asked this peer to take over."""
        return bool(self._SyncObj__transferInProgress)

    # Applying ----------------------------------------------------------------------------------

    def _SyncObj__applyLogEntries(self) -> bool:
        """Called in every tick; whether anything was applied, which the others should hear."""
        index = before = self.applied_index
        until = self._clock.monotonic() + APPLY_SECONDS
        while index < self.commit_index and not self.is_held:
            index += 1
            command, _, term = self._journal[index - self._journal.first_index]
            if command[:1] == _REGULAR:
                self._hooks.apply(index, term, command[1:])
            self._SyncObj__raftLastApplied = index
            self._applied_term = max(self._applied_term, term)
            if self._clock.monotonic() >= until:
                break
        return index > before

    @property
    def has_backlog(self) -> bool:
        """Committed entries wait to be applied, and may be."""
        return self.applied_index < self.commit_index and not self.is_held

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:
        """PySyncObj's own would unpickle."""
        raise AssertionError("entries are applied by us")

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> None:
        """PySyncObj's own membership entries are not used."""

    # Snapshots ---------------------------------------------------------------------------------

    def request_snapshot(self, *, anew: bool = False) -> None:
        """Have the next tick begin one; unless nothing was applied since the last, or ``anew``."""
        if anew:
            self._SyncObj__lastSerializedEntry = None
        self.forceLogCompaction()

    def adopt(self, meta: SnapshotMeta) -> None:
        """Replace the whole log by the two entries a snapshot ends with.

        The snapshot must be published and ahead of what is committed here; the caller puts its
        state in place before anything else happens on the loop.
        """
        floor = max(self.applied_index, self.commit_index)
        if meta.index <= floor:
            what = f"a snapshot at {meta.index} was to replace committed entries up to {floor}"
            raise SafetyViolation(what)
        self._restored = meta
        self._journal.membership.rebase(meta.index, meta.configuration)
        self._SyncObj__loadDumpFile(clearJournal=True)
        if (self.applied_index, self.last_index) != (meta.index, meta.index):
            # It swallows exceptions.
            raise RuntimeError(f"pysyncobj did not take the snapshot at {meta.index}")
        self._SyncObj__raftCommitIndex = meta.index
        self._journal.setRaftCommitIndex(meta.index)
        self._applied_term = max(self._applied_term, meta.term)

    def _adopted(self, _: str) -> tuple[Entry, Entry, set[PeerNode]]:
        """PySyncObj "loads its dump": what the log begins with."""
        assert self._restored is not None
        return self._restored.last, self._restored.previous, set()

    def _begin_snapshot(self, _: str, data: tuple[Entry, Entry, object]) -> None:
        """PySyncObj wants a dump."""
        last, previous, _cluster = data
        self._hooks.begin_snapshot(previous, last, self._journal.membership.at(last[1]))
        raise _WrittenElsewhere

    def _snapshot_state(self) -> int:
        """PySyncObj asks how the dump is doing; on success it trims the journal."""
        if self._hooks.is_writing():
            return int(SERIALIZER_STATE.SERIALIZING)
        written = self._hooks.snapshot_written()
        if written is None:
            return int(SERIALIZER_STATE.NOT_SERIALIZING)
        return int(SERIALIZER_STATE.SUCCESS if written else SERIALIZER_STATE.FAILED)

    def _next_piece(self, node: PeerNode) -> Piece | None:
        """PySyncObj has no entry old enough for a follower and sends the snapshot instead."""
        piece = self._hooks.next_piece(node.id)
        if piece is None:
            # It would ask again at once, for a whole append period (S21).
            self._SyncObj__raftNextIndex[node] = self.last_index + 1
        return piece

    def send_pieces(self, peer_id: str) -> None:
        """Have the next heartbeat go on with the snapshot for that peer."""
        self._SyncObj__raftNextIndex[node_of(peer_id)] = 1
