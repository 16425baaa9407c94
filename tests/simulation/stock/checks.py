"""What the control looks for: Raft's promises broken, each named for the finding that broke it.

Checked after every tick of every peer.  An entry counts as committed once any peer applies it; what
another peer has at that index then is wrong.  A peer that loses committed entries is remembered
with how it lost them, and is blamed when they are on no majority any more:

* S1: applied what no message had verified, and it was not what is committed.
* S2: truncated entries that it had acknowledged, and that are committed.
* S4: threw its journal away at the start, because the dump was newer.
* S5: was killed while its journal was compacted.
* S6: lost power, and what it had acknowledged was not on its disk, or it cannot start at all.
* S9: replaced its log by an older dump.
* S24: two leaders in one term.

The looks are lenient: what a process that is down has on its disk is taken for whole until it
starts again.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from raftsched.testing.world import World
from tests.simulation.stock.peer import Entry, StockPeer

if TYPE_CHECKING:
    from tests.simulation.stock.machine import StockMachine

#: Entries of clients' commands begin with this.
_REGULAR = b"\0"


class Violation(NamedTuple):
    """A broken promise."""

    #: Of the findings; ``other`` when none of those that are looked for explains it.
    finding: str
    text: str


class Loss(NamedTuple):
    """Committed entries a peer had and has not any more."""

    finding: str
    #: The newest of them.
    newest: int
    how: str


class StockChecker:
    """Watches all machines; `violations` are its findings."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.machines: Mapping[str, StockMachine] = {}
        self.violations: list[Violation] = []
        #: By index: term and checksum of the entry that was applied first.
        self._committed: dict[int, tuple[int, int]] = {}
        self.commit_index = 0
        #: Indexes that were registered by a peer that had not verified them.
        self._doubtful: dict[int, None] = {}
        #: By number: where it was applied.
        self._index_of: dict[int, int] = {}
        #: The newest entry whose client was told SUCCESS.
        self.acknowledged_index = 0
        self.acknowledged = 0
        #: Clients were told SUCCESS of what never happened.
        self.false_successes = 0
        self._losses: dict[str, Loss] = {}
        #: By machine and index: term and checksum of what it had there, and how it lost that.
        self._removed: dict[str, dict[int, tuple[tuple[int, int], Loss]]] = {}
        #: By machine: the newest entry it had when its process ended.
        self._held: dict[str, int] = {}
        #: Machines whose process ended inside a compaction.
        self._compacting: dict[str, None] = {}
        self._leaders: dict[int, str] = {}

    @property
    def leaders(self) -> int:
        """Leaderships so far."""
        return len(self._leaders)

    def violated(self, finding: str, text: str) -> None:
        self.violations.append(Violation(finding, f"{self._world.time:8.3f} {finding}: {text}"))

    # What peers do -------------------------------------------------------------------------------

    def applying(self, peer: StockPeer, entries: list[Entry]) -> None:
        """It applies these now."""
        if not self._is_alive(peer):
            return
        for command, index, term in entries:
            found = (term, crc32(command))
            known = self._committed.setdefault(index, found)
            unverified = peer.unverified[0] <= index <= peer.unverified[1]
            if known != found:
                by = unverified or index in self._doubtful
                self.violated(
                    "S1" if by else "other",
                    f"{peer.name} applies entry {index} of term {term}, "
                    f"another one of term {known[0]} is committed there",
                )
                return
            if unverified:
                self._doubtful[index] = None
            if index > self.commit_index:
                self.commit_index = index
                self._world.mark(found[1])
            if command[:1] == _REGULAR:
                self._index_of[pickle.loads(command[1:])[1][0]] = index

    def removed(self, peer: StockPeer, entries: list[Entry], *, by_dump: bool) -> None:
        """It removed these from the end of its log, which an older dump replaced or not."""
        if not self._is_alive(peer):
            return
        finding, how = ("S9", "replaced it by a dump") if by_dump else ("S2", "truncated it")
        removed = self._removed.setdefault(peer.name, {})
        for command, index, term in entries:
            removed[index] = (term, crc32(command)), Loss(finding, index, how)

    def _is_alive(self, peer: StockPeer) -> bool:
        """A dying process may go on for a while, for the library catches everything."""
        machine = self.machines[peer.name]
        return machine.loop is not None and machine.stock is peer

    def told(self, number: int) -> None:
        """A client hears SUCCESS."""
        index = self._index_of.get(number)
        if index is None:
            self.false_successes += 1
        else:
            self.acknowledged += 1
            self.acknowledged_index = max(self.acknowledged_index, index)

    # Processes that end and start ----------------------------------------------------------------

    def ended(self, machine: StockMachine) -> None:
        """Its process is killed, or the power fails; `StockMachine.end` says which."""
        peer = machine.stock
        if peer is None:
            return
        self._compacting.pop(machine.name, None)
        if peer.compacting is not None:
            self._compacting[machine.name] = None
        self._held[machine.name] = peer.compacting or peer.last_index

    def started(self, machine: StockMachine) -> None:
        """A new process has read its journal."""
        peer, held = machine.stock, self._held.get(machine.name, 0)
        assert peer is not None
        if machine.end == "power":
            finding, how = "S6", "lost power"
        elif machine.name in self._compacting:
            finding, how = "S5", "was killed while it compacted its journal"
        else:
            # It died while it added the last one, which nobody had heard of.
            finding, how, held = "other", "was killed", held - 1
        if peer.last_index < held:
            how = f"{how}: its journal ends at {peer.last_index}, it had {held}"
            self._lose(machine.name, Loss(finding, held, how))

    def cannot_start(self, machine: StockMachine, error: Exception) -> None:
        """A new process ended at its journal."""
        held = self._held.pop(machine.name, 0)
        finding = "S6" if machine.end == "power" else "other"
        self._lose(machine.name, Loss(finding, held, f"cannot start: {error!r}"))

    def _lose(self, name: str, loss: Loss) -> None:
        """What went first is to blame for what it took."""
        before = self._losses.get(name)
        if before is None or before.newest < loss.newest:
            self._losses[name] = loss

    def _loaded(self, peer: StockPeer) -> None:
        """Its first tick has loaded the dump."""
        if peer.loaded is not None:
            (before, after), peer.loaded = peer.loaded, None
            if after < before:
                self._lose(peer.name, Loss("S4", before, f"threw {after + 1}..{before} away"))

    # After every tick ----------------------------------------------------------------------------

    def ticked(self, machine: StockMachine, peer: StockPeer) -> None:
        """Look at everybody."""
        self._loaded(peer)
        if peer._isLeader():
            known = self._leaders.setdefault(peer._getTerm(), machine.name)
            if known != machine.name:
                self.violated(
                    "S24", f"term {peer._getTerm()} has two leaders: {known} and {machine.name}"
                )
        if self.acknowledged_index:
            self._quorum(self.acknowledged_index, True)
        if self.commit_index > self.acknowledged_index:
            self._quorum(self.commit_index, False)

    def _quorum(self, index: int, is_acknowledged: bool) -> None:
        holders = [name for name, machine in self.machines.items() if self._holds(machine, index)]
        if 2 * len(holders) > len(self.machines):
            return
        what = "acknowledged" if is_acknowledged else "committed"
        sentence = f"{what} entry {index} is in the logs of {holders} only"
        blamed = [
            (name, loss)
            for name, loss in self._losses.items()
            if name not in holders and loss.newest >= index
        ]
        for name, removed in self._removed.items():
            if name not in holders and index in removed:
                found, loss = removed[index]
                if found == self._committed[index]:
                    blamed.append((name, loss))
        for name, loss in blamed:
            if is_acknowledged or loss.finding != "S6":
                self.violated(loss.finding, f"{sentence}; {name} {loss.how}")
        if not blamed:
            self.violated("other", sentence)

    def _holds(self, machine: StockMachine, index: int) -> bool:
        peer = machine.stock
        if peer is None:
            return False
        if peer.compacting is not None:
            return index <= peer.compacting
        entry = peer.entry(index)
        if entry is None:
            return index < peer.first_index
        return entry[2] == self._committed[index][0]
