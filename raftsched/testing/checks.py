"""What must hold in a simulated cluster at every step, whatever is done to it.

The checks look at what peers do, never at what they say of themselves: at the entries they commit
(configurations and the first entry of a leader's term, which nobody applies, as well), at those
they apply, at their journals, at what ran where and when.  Each broken promise is one sentence,
with the time.

1. One leader a term; a new one has every committed entry (Raft's election safety, completeness).
2. An index has one entry, on every peer and for ever; entries are applied in order, none twice.
3. A committed entry is durable on a majority of disks; no change of members is begun before the
   one before it is committed.
4. Replicas at one index are equal (G6), and every invariant of the state holds.
5. No two attempts of a task run at once, tokens rise, nothing runs after a success (G3).
6. What a client was told has happened, has (G1, G2, G7); what it was told has not, has not.
7. The cluster's time never falls, and while a majority of clocks has always been right it is never
   ahead of the true time by more than clocks may differ.
8. A follower that says it is ready has what its leader had committed (`ready`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from zlib import crc32

from raftsched.core import invariants
from raftsched.core.machine import CLOCK_SKEW_MS_MAX
from raftsched.core.state import State
from raftsched.core.versions import BOUNDED_TIME
from raftsched.peer.peer import Peer
from raftsched.raft.files import StorageError
from raftsched.raft.journal import Journal
from raftsched.raft.log import LogStatus, Role
from raftsched.raft.snapshot import Snapshot, SnapshotStore
from raftsched.testing import runs
from raftsched.testing.clocks import EPOCH_MS
from raftsched.testing.machine import Machine
from raftsched.testing.ready import ReadyPeers
from raftsched.testing.slots import Clockworks
from raftsched.testing.world import World

#: Violations that are kept; one is usually followed by others.
VIOLATIONS_MAX = 20
#: The kind of an entry that is applied stands before what is applied: a checksum begins with it.
_APPLIED = crc32(b"\0")
#: Every so many entries the digests of replicas are compared, row by row as it were.
DIGEST_ENTRIES = 64
#: Every so many entries the disks themselves are read, as after a loss of power at that moment.
DISK_ENTRIES = 100
#: A clock is right if it is off by no more.
RIGHT_MS = 1_000
#: The cluster's time may be ahead of the true time by so much: what a right clock may be off, what
#: another one may differ from it, and what a monotonic clock drifts in a minute.
AHEAD_MS = RIGHT_MS + CLOCK_SKEW_MS_MAX + 1_000
#: Every so many entries a replica's state is looked through in full.
FULL_LOOK_ENTRIES = 400


class Checker:
    """Watches all machines of a cluster; `violations` are its findings."""

    def __init__(self, world: World, machines: Mapping[str, Machine]) -> None:
        self._world = world
        self._machines = machines
        #: Groups of voters, of one of which a majority has to have the entry at an index.
        self.electorates: Callable[[int], Sequence[Collection[str]]] = lambda _: [self._machines]
        #: Up to which index a machine's entries are gone through no fault of the product.
        self._destroyed: dict[str, int] = {}
        self.violations: list[str] = []
        self._ready = ReadyPeers(self.violated)
        #: By index: term and checksum of the entry that was committed first.
        self._committed: dict[int, tuple[int, int]] = {}
        self.commit_index = 0
        #: The newest entry that was applied anywhere.
        self.applied_index = 0
        self._leaders: dict[int, str] = {}
        #: By index: what a replica looked like right after it.
        self._faces: dict[int, tuple[object, ...]] = {}
        #: The journal of each machine's latest process that had one.
        self._journals: dict[str, Journal] = {}
        #: The newest term that had a leader when an entry was last committed.
        self._committed_in = 0
        self._time_before = 0
        #: Where the disks were read last.
        self._looked_at = 0
        #: At all times so far.
        self._clocks_are_right = True
        self.leader_changes = 0
        self.snapshots_installed = 0

    def violated(self, what: str) -> None:
        """A promise is broken."""
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(f"{self._world.time:9.4f} {what}")

    def watch(self, machine: Machine, peer: Peer) -> None:
        """A new process of a peer: see what it applies and what it takes itself for."""
        if machine.boots > 1 and self.commit_index >= self._looked_at + DISK_ENTRIES // 4:
            self.on_disks()
        replica, name = peer.replica, machine.name
        apply, status_changed = replica.apply, peer._status_changed
        assemble = peer.log._assemble

        def assembled(restored: Snapshot | None) -> None:
            self._watch_journal(name, peer.log.journal)
            assemble(restored)

        def applied(index: int, term: int, entry: bytes) -> None:
            if index <= replica.state.index:
                self.violated(f"{name} applies entry {index} after {replica.state.index}")
            apply(index, term, entry)
            self._applied(name, peer, index, term, entry)

        def changed(status: LogStatus) -> None:
            self._status(machine, peer, status)
            status_changed(status)

        peer.log._assemble = assembled  # type: ignore[method-assign]
        replica.apply = applied  # type: ignore[method-assign]
        peer._status_changed = changed  # type: ignore[method-assign]
        replica.restore_listeners.append(lambda: self._restored(peer))
        self._ready.watch(machine, peer)

    @property
    def newest_term(self) -> int:
        """The newest term that had a leader."""
        return max(self._leaders, default=0)

    def disk_destroyed(self, name: str) -> None:
        """What that machine held may be gone from here on, and is nobody's fault."""
        # It may have acknowledged more than anybody has committed yet.
        journal = self._journals.get(name)
        acknowledged = journal.durable_index if journal is not None else 0
        self._destroyed[name] = max(self.commit_index, acknowledged)

    def end(self) -> None:
        """Let go of what was watched."""
        self._journals.clear()

    # Raft ----------------------------------------------------------------------------------------

    def _restored(self, peer: Peer) -> None:
        self.snapshots_installed += 1
        self._face(peer, peer.config.peer_id, peer.replica.state.index)

    def _watch_journal(self, name: str, journal: Journal) -> None:
        """See what a peer takes for committed the moment it does."""
        self._journals[name] = journal
        commit = journal.setRaftCommitIndex
        #: What it opened with is looked at, too: entry 1 is what every log begins with.
        seen = max(1, journal.first_index - 1)

        def committed(raftCommitIndex: int) -> None:
            nonlocal seen
            commit(raftCommitIndex)
            if raftCommitIndex > seen:
                before, seen = seen, raftCommitIndex
                self._commits(name, journal, before + 1, seen)

        journal.setRaftCommitIndex = committed  # type: ignore[method-assign]

    def _commits(self, name: str, journal: Journal, first: int, last: int) -> None:
        begin = journal.first_index
        for data, index, term in journal[max(first - begin, 0) : last + 1 - begin]:
            self._is_the_one(name, "commits", index, (term, crc32(data)))
        if last > self.commit_index:
            changes = [at for at, _ in journal.membership._known if at > self.commit_index]
            if len(changes) > 1:
                self.violated(f"{name} changed members at {changes}, and committed none meanwhile")
            self.commit_index = last
            self._committed_in = max(self.newest_term, self._committed[last][0])
            self.durable()
            if last >= self._looked_at + DISK_ENTRIES:
                self.on_disks()

    def _is_the_one(self, name: str, does: str, index: int, found: tuple[int, int]) -> None:
        known = self._committed.setdefault(index, found)
        if known != found:
            self.violated(
                f"{name} {does} entry {index} of term {found[0]}, "
                f"another one of term {known[0]} is committed there"
            )

    def _applied(self, name: str, peer: Peer, index: int, term: int, entry: bytes) -> None:
        found = (term, crc32(entry, _APPLIED))
        self._is_the_one(name, "applies", index, found)
        if index > self.commit_index:
            self.violated(f"{name} applies entry {index}, which nobody committed")
        if index > self.applied_index:
            self.applied_index = index
            self._time(peer.replica.state.now, peer.replica.state.version, index)
        self._world.mark(found[1])
        self._face(peer, name, index)
        if not index % FULL_LOOK_ENTRIES:
            for sentence in invariants.check(peer.replica.state):
                self.violated(f"{name} at {index}: {sentence}")

    def _face(self, peer: Peer, name: str, index: int) -> None:
        state = peer.replica.state
        face = (
            state.now,
            state.next_token,
            state.next_order,
            state.version,
            state.open_count,
            len(state.tasks),
            len(state.keys),
            len(state.ready),
            state.digest() if not index % DIGEST_ENTRIES else b"",
            tuple(sorted((n.id, n.incarnation, n.status) for n in state.nodes.values())),
        )
        known = self._faces.setdefault(index, face)
        if known != face:
            self.violated(f"{name} differs at {index}: {face}, first seen {known}")

    def look_at_clocks(self) -> None:
        """One of them was set, or may have drifted."""
        electorates = self.electorates(self.commit_index)
        voters = list(electorates[-1]) if electorates else []
        true_ms = EPOCH_MS + 1000 * self._world.time
        wrong = [
            name
            for name in voters
            if abs(self._machines[name].simulated_clock.wall_ms() - true_ms) > RIGHT_MS
        ]
        if 2 * len(wrong) >= len(voters) and wrong:
            self._clocks_are_right = False

    def _time(self, now: int, version: int, index: int) -> None:
        """The state's clock after a newly committed entry."""
        if now < self._time_before:
            self.violated(f"cluster time falls from {self._time_before} to {now} at {index}")
        self._time_before = now
        self.look_at_clocks()
        ahead_ms = now - EPOCH_MS - 1000 * self._world.time
        if version >= BOUNDED_TIME and self._clocks_are_right and ahead_ms > AHEAD_MS:
            self.violated(f"cluster time is {ahead_ms / 1000:.1f} s ahead at {index}")

    def durable(self) -> None:
        """The newest committed entry is on a majority of disks."""
        index = self.commit_index
        if index and self.electorates(index):
            term = self._committed[index][0]
            self._majority(index, term, self._holds, "is on the disks of {} only")

    def on_disks(self) -> None:
        """The same, whatever the journals say of themselves."""
        self._looked_at = index = self.commit_index
        if index and self.electorates(index):
            term = self._committed[index][0]
            self._majority(index, term, self._survives, "would survive a loss of power on {} only")

    def _majority(
        self, index: int, term: int, has: Callable[[str, int, int], bool], otherwise: str
    ) -> None:
        electorates = self.electorates(index)
        names = sorted({name for electorate in electorates for name in electorate})
        holders = [n for n in names if index <= self._destroyed.get(n, 0) or has(n, index, term)]
        for electorate in electorates:
            if 2 * len([name for name in holders if name in electorate]) > len(electorate):
                return
        self.violated(f"committed entry {index} of term {term} {otherwise.format(holders)}")

    def _holds(self, name: str, index: int, term: int) -> bool:
        peer = self._machines[name].peer
        journal = self._journals.get(name)
        if peer is not None:
            journal = getattr(peer.log, "journal", journal)
        if journal is None or not len(journal):
            return False
        return index < journal.first_index or (
            journal.durable_index >= index and journal.term_at(index) == term
        )

    def _survives(self, name: str, index: int, term: int) -> bool:
        return _survives(self._machines[name], index, term)

    def _status(self, machine: Machine, peer: Peer, status: LogStatus) -> None:
        self._journals[machine.name] = peer.log.journal
        if status.role is not Role.LEADER:
            return
        known = self._leaders.get(status.term)
        if known is None:
            self._leaders[status.term] = machine.name
            self.leader_changes += 1
            index = self.commit_index
            journal = peer.log.journal
            # Who is elected late, in a term that is over, need not have what was committed since.
            if index >= journal.first_index and index and status.term > self._committed_in:
                term = self._committed[index][0]
                if journal.term_at(index) != term:
                    self.violated(
                        f"{machine.name} leads term {status.term} without committed entry {index}"
                    )
        elif known != machine.name:
            self.violated(f"term {status.term} has two leaders: {known} and {machine.name}")

    # The end -------------------------------------------------------------------------------------

    def replicas(self, names: Collection[str]) -> None:
        """All of these that run are equal at one index, row by row, and agree who is a member."""
        seen: tuple[str, object] | None = None
        for name in names:
            machine = self._machines[name]
            if machine.loop is None or machine.peer is None:
                continue
            state = machine.peer.replica.state
            members = machine.peer.log.members()
            for sentence in invariants.check(state):
                self.violated(f"{name} at {state.index}: {sentence}")
            rows = (
                state.index,
                dict(state.tasks.items()),
                dict(state.nodes),
                dict(state.keys.items()),
                members,
            )
            if seen is None:
                seen = (name, rows)
            elif seen[1] != rows:
                self.violated(f"{seen[0]} and {name} differ at the end")

    def _newest(self) -> State | None:
        """The state of whoever has applied most."""
        peers = [m.peer for m in self._machines.values() if m.loop is not None and m.peer]
        states = [peer.replica.state for peer in peers]
        return max(states, key=lambda state: state.index, default=None)

    def schedules(self, clockworks: Clockworks) -> None:
        """Every instant of a schedule has one slot, and at most one run."""
        state = self._newest()
        if state is not None:
            for sentence in clockworks.check(state):
                self.violated(sentence)

    def attempts(self) -> None:
        """No two attempts of a task ran at once, and what else is promised about them."""
        state = self._newest()
        if state is None:
            return
        spans = [s for m in self._machines.values() for s in [*m.spans, *m.running()]]
        for sentence in (
            *runs.check(spans, state.tasks.get),
            *runs.of_rows(state.tasks.values()),
            *runs.of_trees(state.tasks.values()),
            *runs.of_dependencies(state.tasks.values()),
            *runs.of_forks(state.tasks.values()),
            *runs.of_twins(state.tasks.values()),
        ):
            self.violated(sentence)


def _survives(machine: Machine, index: int, term: int) -> bool:
    """Is the entry, or a snapshot that covers it, there if a machine loses power now?"""
    config, disk = machine.config, machine.simulated_disk.synced()
    directory = config.data_dir / "raft"
    try:
        journal = Journal.open(
            directory / "journal",
            cluster_id=config.cluster_id,
            peer_id=config.peer_id,
            disk=disk,
            reserve_bytes=0,
        )
        if index >= journal.first_index and len(journal):
            return journal.term_at(index) == term
        store = SnapshotStore.open(directory / "snapshots", cluster_id=config.cluster_id, disk=disk)
        snapshot = store.usable(journal.first_index)
    except StorageError:
        return False
    return snapshot is not None and snapshot.meta.index >= index
