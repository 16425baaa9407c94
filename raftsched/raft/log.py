"""The port to consensus: what the rest of raftsched may ask of a replicated log.

The only implementation is ``pysyncobj_log``; nothing outside this folder knows PySyncObj.
Everything here runs on one asyncio loop, and nothing here blocks it.

Obligations of an implementation
1. ``apply`` is called once per index, in order, for every committed entry above the snapshot.
2. An entry is committed only when a majority has it on durable storage.
3. ``ReadIndex`` answers only after a majority confirmed the term after the read arrived.

Errors
------
::

    LogError
    +-- NotLeader      this peer does not lead: the entry was surely not appended
    +-- NoQuorum       a majority did not answer in time
    +-- ChangeRefused  a change of the members that is not allowed, or not now; surely not made
    |   +-- UnknownMember  it is about a peer that there never was
    +-- LogFull        intake is bounded and full, or paused (disk full, hand-over)
    +-- LogClosed      the log was stopped

    MustStop
    +-- RemovedFromCluster  this peer is not a member any more
    +-- SafetyViolation     going on would lose what is committed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from raftsched.raft.membership import Address, Configuration


class LogError(Exception):
    """Trouble with the log; the subclass says which."""


class NotLeader(LogError):
    """This peer does not lead, so the entry was surely not appended.  ``leader`` is a hint."""

    def __init__(self, leader: str | None = None) -> None:
        super().__init__(f"not the leader (leader: {leader or 'unknown'})")
        self.leader = leader


class NoQuorum(LogError):
    """A majority of peers did not answer in time."""


class ChangeRefused(LogError):
    """A change of the members is not allowed, or not now; surely nothing was changed."""


class UnknownMember(ChangeRefused):
    """Nobody of that id is or was a member."""


class LogFull(LogError):
    """The log takes nothing in just now (queue full, disk full, hand-over); surely not appended."""


class LogClosed(LogError):
    """The log was stopped."""


class MustStop(Exception):
    """What a state machine raises when this peer must not go on; one line for who operates it."""

    #: What the process ends with, for scripts and supervisors.
    exit_code = 70


class RemovedFromCluster(MustStop):
    """This peer was removed; the others have nothing to do with it any more."""

    exit_code = 13


class SafetyViolation(MustStop):
    """What Raft rules out was about to happen here: a bug, or a disk that forgot.

    Nothing was changed yet.  A new start would not know what was found, and might do it, so it is
    refused (`endings`).
    """

    exit_code = 15

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what}; do not start this peer again: copy the directories of all peers first, then "
            "replace this peer by one with a new id (docs/operations/damage.md)"
        )


class PeerView(NamedTuple):
    """What a leader learnt from a peer's answers to its probes."""

    #: When the latest answer came, on this peer's monotonic clock in seconds.
    heard_at: float
    #: The peer's wall clock in milliseconds when this peer's monotonic clock was at 0; None if it
    #: does not tell.  ``clock_error_ms``: how far off that may be; ``measured_at``: like heard_at.
    clock_base_ms: float | None
    clock_error_ms: float
    measured_at: float
    #: What it says of itself, as it was given to its log; empty from versions that say nothing.
    about: dict[str, Any]


class Role(StrEnum):
    """What this peer is in the present term."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class LogStatus(msgspec.Struct, frozen=True):
    """What a peer knows of its log; a hint the moment it is read."""

    peer_id: str
    role: Role
    term: int
    leader: str | None
    #: Index of the last entry in the log, durable on this disk, committed, and applied here.
    last_index: int
    durable_index: int
    commit_index: int
    applied_index: int
    #: An entry of the present term was applied here: the state is that of this term.
    is_current: bool
    #: Milliseconds since the leader (on the leader: since a quorum) was last heard; None = never.
    last_contact_ms: int | None
    #: Peers with an authenticated connection right now, by id.
    connected: tuple[str, ...]
    #: Why intake is paused (``disk-full``), or empty.
    paused: str = ""
    #: On a follower: milliseconds since the state here was all that the leader had committed, by
    #: its own word in the present term; None = not yet, and on a leader.
    stale_ms: int | None = None
    #: The leader sends a snapshot, or it is being loaded.
    is_installing: bool = False


class StateMachine(Protocol):
    """What the log drives.  All methods are called on the loop, and hold it up while they run."""

    def apply(self, index: int, term: int, entry: bytes) -> None:
        """Apply one committed entry.  Must not raise: an escape stops the peer."""

    def begin_snapshot(self) -> Iterable[bytes]:
        """A frozen view as chunks (at most 1 MiB each), made lazily while the state goes on.

        The iterable is drawn from another thread; each chunk is drawn once.
        """

    def end_snapshot(self) -> None:
        """The view begun last is not needed any more (written, or given up)."""

    def restore(self, index: int, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by a snapshot taken at ``index``."""


@runtime_checkable
class LoadsAside(Protocol):
    """A state machine that can make a state of a snapshot beside the one it serves.

    Then that is what is called instead of ``restore``, and the loop goes on meanwhile.
    """

    def load(self, index: int, chunks: Iterable[bytes]) -> Callable[[], Iterable[object] | None]:
        """Make the state of a snapshot taken at ``index``; in a thread, nothing else may change.

        The returned function puts it in place: called once, on the loop, unless the snapshot is
        not wanted any more.  What *it* returns is the state that stood there, in parts, which are
        drawn and let go of one by one in a thread: freeing a million rows at a stroke takes long.
        """


class ReplicatedLog(Protocol):
    """Consensus as the rest of raftsched sees it."""

    #: Called on the loop after the role, term or known leader changed.
    on_status: Callable[[LogStatus], None]
    #: Called on the loop with (peer id, payload) for every frame a peer sent by ``send_frame``.
    on_frame: Callable[[str, bytes], None]

    async def start(self) -> None:
        """Open the journal, restore, listen and begin to take part."""

    async def stop(self) -> None:
        """Leave cleanly: close connections, write the journal's end mark.  Idempotent."""

    def status(self) -> LogStatus:
        """What this peer knows now."""

    def peer_views(self) -> dict[str, PeerView]:
        """On a leader: what the other members told in this term, of those that answered."""

    def propose(self, entry: bytes) -> None:
        """Append one entry; at most ``ENTRY_BYTES_MAX``.  Its fate arrives by ``apply``.

        Raises NotLeader or LogFull, and then it was surely not appended.  Otherwise it stands in
        the log under ``status().term`` of this moment and either is applied, or is known never to
        be: once an entry of a higher term was applied without it.
        """

    async def read_index(self, timeout_seconds: float) -> int:
        """An index: a state applied up to it reflects every write that ended before the call.

        Works on every peer (a follower asks the leader).  Raises NoQuorum or LogClosed.
        """

    async def wait_applied(self, index: int, timeout_seconds: float) -> None:
        """Return once ``index`` is applied here.  Raises NoQuorum at the deadline."""

    def send_frame(self, peer_id: str, payload: bytes) -> bool:
        """Send our own frame to a peer over its connection; False when there is none (not sent)."""

    async def transfer_leadership(self, target: str | None, timeout_seconds: float) -> str:
        """Hand leadership to ``target`` (None: the most advanced peer); returns the new leader.

        Raises NotLeader, or NoQuorum when nobody took over in time (this peer then goes on).
        """

    def members(self) -> Configuration:
        """Who is in the group, as the configuration in force here says; it may be uncommitted."""

    async def change_membership(
        self, add: dict[str, Address] | None, remove: str | None, timeout_seconds: float
    ) -> None:
        """On the leader: have peers added, one removed, or the last one added replace that one.

        New peers receive the log first and vote once they have caught up; the one replaced goes
        after that.  Returns once all of it is committed.  What stands already is not made again,
        so whoever does not know what became of a change asks for the same one again.

        Raises ChangeRefused (surely nothing was changed), NotLeader (at a leader that is to be
        removed: it handed over, ask its successor), LogClosed, or NoQuorum at the deadline;
        then, if the change was begun, whoever leads goes on with it.
        """


#: Largest entry ``propose`` takes.
ENTRY_BYTES_MAX = 4 * 1024 * 1024
