"""What a peer raises at its callers.

::

    PeerError
    +-- NoLeader         surely not applied: nobody leads, or the leader takes nothing in
    +-- Overloaded       surely not applied: a bound was reached; carries ``retry_after_seconds``
    +-- UnknownOutcome   the deadline passed while the command was under way: it may yet apply
    +-- ReadTimeout      no majority confirmed a linearizable read in time
    +-- IndexNotReached  the index asked for was not applied here in time
    +-- OutputGone       the output asked for was rotated away or never written here
    +-- TooLarge         surely not applied: no entry of the log can carry the command
    +-- NeedsVersion     surely not applied: not all peers run a version that knows the command
    +-- ChangeRefused    surely not made: a change of the group that is not allowed, or not now
    |   +-- UnknownPeer  it is about a peer that there never was
    +-- PeerStopped      the peer is stopping or stopped; surely not applied

    MustStop (of the log)
    +-- UpgradeNeeded    the cluster runs a version that this program does not know
    +-- ReplicaDiverged  this replica is not what the majority has
"""

from __future__ import annotations

from raftsched.core.model import Check
from raftsched.raft.log import MustStop as MustStop


class PeerError(Exception):
    """Trouble at the peer; the subclass says which, and whether anything was applied."""


class NoLeader(PeerError):
    """Nobody leads (or intake is paused); the command was surely not applied."""

    def __init__(self, message: str, *, leader: str | None = None) -> None:
        super().__init__(message)
        #: Id of the peer that may lead, or None.
        self.leader = leader


class Overloaded(PeerError):
    """A stated bound was reached; the command was surely not applied."""

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnknownOutcome(PeerError):
    """The deadline passed while the command was under way; it may or may not take effect."""


class ReadTimeout(PeerError):
    """No majority showed in time that the state is current."""


class IndexNotReached(PeerError):
    """The index asked for was not applied here in time; somebody may well lead."""


class OutputGone(PeerError):
    """This node has no such output: never written, rotated away, or another node has it."""


class TooLarge(PeerError):
    """No entry of the log can carry the command; it was surely not applied."""


class NeedsVersion(PeerError):
    """The cluster's version is too low for the command; it was surely not applied."""


class ChangeRefused(PeerError):
    """A change of the group is not allowed, or not now; surely nothing was changed."""


class UnknownPeer(ChangeRefused):
    """Nobody of that id is or was in the group."""


class PeerStopped(PeerError):
    """The peer is stopping; the command was surely not applied."""


class UpgradeNeeded(MustStop):
    """The cluster runs a version that this program does not know; nothing of it was applied."""

    exit_code = 11


class ReplicaDiverged(MustStop):
    """This replica differs from the majority; ``check`` shows it, None: an earlier start knew."""

    exit_code = 12

    def __init__(self, message: str, check: Check | None = None) -> None:
        super().__init__(message)
        self.check = check
