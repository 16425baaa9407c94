"""Files that rot: a bit is turned in what a stopped peer has, and it must not serve as if it were.

Documented is: exit code 14 and a line that names the file.  Excepted are a torn end of the journal
of a peer that was not stopped cleanly, which is cut, the newest snapshot while the one before it
and the journal reach, which is set aside, and one of the two copies of term and vote.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from jepsen_like.api import Api, Unreachable
from jepsen_like.nemesis.base import Arena, Fault, Seen
from jepsen_like.nemesis.members import add, depart
from jepsen_like.peers import TOKEN, NotReady

#: What a peer with damaged files ends with.
DAMAGED = 14
#: A start has shown by then what becomes of it.
_START_SECONDS = 30.0
#: The two copies of term and vote, and what of each counts.
_COPIES, _COPY_BYTES = (0, 4096), 24


class BitFlip(Fault):
    """One peer is stopped, a bit of one file turned, and the peer started."""

    nemesis = "bitflip"
    name = "bitflip-journal"
    about = "a bit of a peer's journal turns after a clean stop; refilled as documented"
    is_alone = True
    takes = frozenset({"disk", "members"})
    needs_small_journals = True
    allows = (f"exit:{DAMAGED}",)
    stands = (0.1, 1.0)
    #: Where in the data directory the file is.
    files = "raft/journal/segment-*.log"
    #: It may start, too, if it says that it dealt with the damage in one of these words.
    excuses: tuple[str, ...] = ()

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self.target = ""
        self._refused = False

    async def take_down(self, peer: str) -> None:
        """The victim ends."""
        await self.arena.stop(peer)

    def choose(self, files: list[Path]) -> Path:
        """The file."""
        return self.chance.choice(files)

    def places(self, size: int) -> list[int]:
        """The bytes in each of which a bit turns."""
        return [self.chance.randrange(size)]

    async def begin(self) -> Seen:
        peer = self.target = self.arena.one()
        await self.arena.note_end(peer)
        if peer not in self.arena.peers.running:
            return Seen([peer], None, "it does not run")
        await self.take_down(peer)
        self.arena.hold(peer)
        files = sorted(self.arena.peers.seen_data(peer).glob(self.files))
        if not files:
            return Seen([peer], None, f"it has no {self.files}")
        file = self.choose(files)
        places = self.places(file.stat().st_size)
        bit = 1 << self.chance.randrange(8)
        _turn(file, places, bit)
        what = f"{file.name}, bytes {places} of {file.stat().st_size}, bit {bit:#x}"
        return await self._start(peer, file, what)

    async def _start(self, peer: str, file: Path, what: str) -> Seen:
        peers = self.arena.peers
        before = peers.log(peer).stat().st_size
        await peers.start(peer)
        code = await self._code(peer)
        said = peers.log(peer).read_bytes()[before:].decode(errors="replace")
        if code is not None:
            last = said.strip().splitlines()[-1] if said.strip() else "nothing"
            self._refused = True
            is_told = code == DAMAGED and file.name in last
            broken = "" if is_told else f"{peer} ended with {code} on a damaged file, said: {last}"
            return Seen([peer], is_told, f"{what}: exit code {code}, {last}", broken=broken)
        excuse = next((words for words in self.excuses if words in said), "")
        broken = "" if excuse else f"{peer} serves with a damaged file: {what}"
        return Seen([peer], bool(excuse), f"{what}: it runs, {excuse!r}", broken=broken)

    async def _code(self, peer: str) -> int | None:
        """The exit code, None: it takes part."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            await self.arena.note_end(peer)
            if peer not in self.arena.peers.running:
                return await self.arena.peers.exit_of(peer)
            try:
                async with Api(self.arena.peers.api(peer), TOKEN) as api:
                    if (await api.ask("GET", "/health/ready", seconds=1.0)).status == 200:
                        return None
            except Unreachable:
                pass
            await asyncio.sleep(0.05)
        raise NotReady(f"{peer} neither starts nor ends within {_START_SECONDS} s")

    async def end(self) -> Seen:
        self.arena.free(self.target)
        if not self._refused:
            await self.arena.start([self.target])
            return Seen([self.target], None)
        # Its old identity never comes back: another peer takes its place.
        new = await add(self.arena, replaces=self.target)
        await depart(self.arena, self.target)
        return Seen([self.target, new], True, f"{new} took the place of {self.target}")


class BitFlipKilled(BitFlip):
    name = "bitflip-journal-killed"
    about = "the same after a kill, in any segment but the last, whose end may look torn"

    async def take_down(self, peer: str) -> None:
        await self.arena.kill(peer)

    def choose(self, files: list[Path]) -> Path:
        return self.chance.choice(files[:-1] or files)

    def places(self, size: int) -> list[int]:
        return [self.chance.randrange(size)]


class BitFlipTail(BitFlipKilled):
    """What it acknowledged last is lost to it, so nobody else may lack it: all others go on."""

    name = "bitflip-tail"
    about = "a bit of the last bytes of a killed peer's journal turns, which looks torn"
    excuses = ("of an unfinished write",)

    async def take_down(self, peer: str) -> None:
        await self.arena.kill(peer)
        # What the others commit from here on proves that they have all that was committed before.
        applied = await self._applied(peer)
        deadline = time.monotonic() + _START_SECONDS
        while await self._applied(peer) <= applied + 1 and time.monotonic() < deadline:
            await asyncio.sleep(0.1)

    async def _applied(self, but: str) -> int:
        """The least that any of the others has applied; 0: one does not answer."""
        found = []
        for peer in self.arena.peers.ids:
            if peer != but:
                try:
                    async with Api(self.arena.peers.api(peer), TOKEN) as api:
                        answer = await api.ask("GET", "/v1/cluster", seconds=2.0)
                    found.append(int(answer.body["applied_index"]))
                except Unreachable:
                    found.append(0)
        return min(found)

    def choose(self, files: list[Path]) -> Path:
        return files[-1]

    def places(self, size: int) -> list[int]:
        return [size - 1 - self.chance.randrange(min(size, 8))]


class BitFlipSnapshot(BitFlip):
    name = "bitflip-snapshot"
    about = "a bit of a peer's newest snapshot turns"
    files = "raft/snapshots/snapshot-*.snap"
    excuses = ("is damaged and was set aside",)

    def choose(self, files: list[Path]) -> Path:
        return max(files, key=lambda path: int(path.name.split("-")[1]))


class BitFlipHardState(BitFlip):
    name = "bitflip-hard-state"
    about = "a bit of both copies of a peer's term and vote turns"
    files = "raft/journal/hard-state"

    def places(self, size: int) -> list[int]:
        return [start + self.chance.randrange(_COPY_BYTES) for start in _COPIES if start < size]


def _turn(file: Path, places: list[int], bit: int) -> None:
    data = bytearray(file.read_bytes())
    for place in places:
        data[place] ^= bit
    with file.open("r+b") as stream:
        stream.write(data)


FAULTS: tuple[type[Fault], ...] = (
    BitFlip, BitFlipKilled, BitFlipTail, BitFlipSnapshot, BitFlipHardState,
)  # fmt: skip
