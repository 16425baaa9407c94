"""Who is in the Raft group: configurations, and which one is in force.  Pure.

A configuration is an entry of the log.  It is in force as soon as it is *in* the log, committed or
not, on every peer alike, and out of force when it is cut off again (Raft thesis, 4.1).  Below the
log stands a base: the configuration of the snapshot, or the one the peer was founded with.

Rules
1. Voters elect and make entries committed; learners only receive.  Two configurations in a row
   differ by at most one voter, so a majority of one meets every majority of the other.
2. An empty configuration is that of a peer that joins and has heard of nobody: it counts no one,
   itself neither.
3. Ids of removed peers are remembered and never come back: whoever asks for one may be a wiped peer
   that has forgotten its votes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raftsched.raft.config import LogConfig

#: First byte of an entry that is a configuration.  PySyncObj's own kinds are 0 to 3.
CONFIGURATION = b"\x04"
#: Voters and learners together.
MEMBERS_MAX = 9
#: Ids of removed peers that are remembered; the oldest are forgotten.
REMOVED_MAX = 1_000


class Address(msgspec.Struct, frozen=True, array_like=True):
    """Where a peer listens, each as ``host:port``."""

    raft: str
    #: For users; empty when it is not known.
    api: str = ""


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """The members of the group, by id."""

    voters: dict[str, Address] = {}
    learners: dict[str, Address] = {}
    #: Members that replace another one: it is removed once they vote.
    replaces: dict[str, str] = {}
    #: Ids that never come back, latest last.
    removed: tuple[str, ...] = ()
    #: Set by force on the survivor of a lost majority: what was done, in a line.
    recovered: str = ""

    @property
    def members(self) -> dict[str, Address]:
        """Voters and learners."""
        return {**self.voters, **self.learners}

    @property
    def is_empty(self) -> bool:
        """Nobody has been heard of yet."""
        return not self.voters

    def is_majority(self, peer_ids: frozenset[str]) -> bool:
        """Are there more than half of the voters among these?"""
        return 2 * len(peer_ids & self.voters.keys()) > len(self.voters)


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Configuration)


def encode(configuration: Configuration) -> bytes:
    """The configuration as an entry's data."""
    return CONFIGURATION + _encoder.encode(configuration)


def decode(data: bytes) -> Configuration:
    """The configuration in an entry's data.  Raises msgspec.DecodeError."""
    configuration: Configuration = _decoder.decode(data[1:])
    return configuration


def founding(config: LogConfig) -> Configuration:
    """What a cluster begins with: the peers of the configuration file, all of them voters."""
    rows = sorted(config.peers.items())
    return Configuration({p: Address(raft, config.api.get(p, "")) for p, raft in rows})


# Changes.  Each returns the next configuration; what makes no sense is a bug of the caller. ------


def with_learner(
    now: Configuration, peer_id: str, address: Address, replaces: str = ""
) -> Configuration:
    """``peer_id`` receives the log from here on, and votes once it has caught up."""
    assert peer_id not in now.members and peer_id not in now.removed
    replaced = {**now.replaces, peer_id: replaces} if replaces else now.replaces
    return msgspec.structs.replace(
        now, learners={**now.learners, peer_id: address}, replaces=replaced, recovered=""
    )


def with_voter(now: Configuration, peer_id: str) -> Configuration:
    """A learner votes from here on."""
    learners = dict(now.learners)
    address = learners.pop(peer_id)
    return msgspec.structs.replace(now, voters={**now.voters, peer_id: address}, learners=learners)


def without(now: Configuration, peer_id: str) -> Configuration:
    """A member is none any more, and never again."""
    assert peer_id in now.members
    return msgspec.structs.replace(
        now,
        voters={p: a for p, a in now.voters.items() if p != peer_id},
        learners={p: a for p, a in now.learners.items() if p != peer_id},
        replaces={p: old for p, old in now.replaces.items() if peer_id not in (p, old)},
        removed=(*now.removed, peer_id)[-REMOVED_MAX:],
        recovered="",
    )


def only(now: Configuration, survivor: str, what: str) -> Configuration:
    """By force: ``survivor`` alone; all others never come back.  Not a step of rule 1."""
    others = tuple(p for p in sorted(now.members) if p != survivor)
    return Configuration(
        voters={survivor: now.members[survivor]},
        removed=(*now.removed, *others)[-REMOVED_MAX:],
        recovered=what,
    )


class Membership:
    """Which configuration is in force on one peer; the journal feeds it."""

    def __init__(self, peer_id: str, base: Configuration) -> None:
        self.peer_id = peer_id
        #: (index, configuration), rising; the first one is the base and may lie below the log.
        self._known: list[tuple[int, Configuration]] = [(0, base)]
        #: Called whenever another one is in force.
        self.on_change: Callable[[], None] = _ignore
        self._look()

    # What there is to know ---------------------------------------------------------------------

    #: The configuration in force, committed or not.
    now: Configuration
    #: Is this peer a voter in it?
    is_voter: bool
    #: The other voters, and all other members, sorted.
    other_voters: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def index(self) -> int:
        """Where in the log the configuration in force stands."""
        return self._known[-1][0]

    @property
    def is_alone(self) -> bool:
        """This peer is the only voter, so its own word is a majority."""
        return self.is_voter and not self.other_voters

    def at(self, index: int) -> Configuration:
        """The configuration after that entry; it must not lie below the base."""
        return next(
            (known for at, known in reversed(self._known) if at <= index), self._known[0][1]
        )

    def has_majority(self, others: frozenset[str] | set[str]) -> bool:
        """Are these peers, with this one where it votes, a majority of the voters?"""
        if not self.is_voter:
            return False
        return self.now.is_majority(frozenset(others) | {self.peer_id})

    # What the journal tells --------------------------------------------------------------------

    def appended(self, index: int, data: bytes) -> None:
        """An entry was appended.  Raises msgspec.DecodeError for a damaged configuration."""
        if data[:1] == CONFIGURATION and index > self.index:
            self._known.append((index, decode(data)))
            self._look()

    def cut_from(self, index: int) -> None:
        """The entries from ``index`` on are gone."""
        if self.index >= index and len(self._known) > 1:
            self._known[1:] = [known for known in self._known[1:] if known[0] < index]
            self._look()

    def compacted(self, index: int) -> None:
        """The entries up to ``index`` are under a snapshot: nothing is cut off there any more."""
        while len(self._known) > 1 and self._known[1][0] <= index:
            del self._known[0]

    def rebase(self, index: int, configuration: Configuration | None) -> None:
        """A snapshot says which configuration it ends with; None: it does not, being an old one."""
        base = self.at(index) if configuration is None else configuration
        self._known = [(index, base), *(known for known in self._known if known[0] > index)]
        self._look()

    def _look(self) -> None:
        now = self._known[-1][1]
        if now is getattr(self, "now", None):
            return
        self.now = now
        self.is_voter = self.peer_id in now.voters
        self.other_voters = tuple(sorted(p for p in now.voters if p != self.peer_id))
        self.others = tuple(sorted(p for p in now.members if p != self.peer_id))
        self.on_change()


def _ignore() -> None:
    pass
