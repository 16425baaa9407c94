"""What peers say to each other beside Raft, as frames of the log's connections.

A frame may be lost with its connection and never arrives twice within one; none of them is
trusted to be timely.
"""

from __future__ import annotations

import msgspec

from raftsched.core.commands import Batch
from raftsched.raft.membership import Address


class Frame(msgspec.Struct, frozen=True, array_like=True, tag_field="kind"):
    """Base of all frames."""


class Forward(Frame, frozen=True, tag=1):
    """A follower's commands for the leader of ``term``.

    Sequences within (origin, session, term) have no gap, so that a leader sees a lost frame;
    ``base`` is the first one sent in this term.
    """

    term: int
    base: int
    batch: Batch


class Resend(Frame, frozen=True, tag=2):
    """The leader of ``term`` misses everything from ``expected`` on."""

    term: int
    session: int
    expected: int


class Refused(Frame, frozen=True, tag=3):
    """The batch that begins at ``sequence`` was surely not appended.

    ``why``: ``not-leader`` (send it to whoever leads), or ``overloaded`` or ``too-large`` (tell the
    caller).
    """

    term: int
    session: int
    sequence: int
    count: int
    why: str


class Renew(Frame, frozen=True, tag=4):
    """A node asks the leader for its lease; ``sent_at`` is the node's monotonic clock in ms."""

    node_id: str
    incarnation: str
    sent_at: int


class Grant(Frame, frozen=True, tag=5):
    """The leader of ``term`` extends a node's lease, counted from the echoed ``sent_at``.

    Takes effect on the node only once it has applied up to ``applied_index``.
    """

    term: int
    incarnation: str
    sent_at: int
    applied_index: int


class HandOver(Frame, frozen=True, tag=6):
    """Somebody asked this peer's leader to give leadership to ``target`` (None: to anybody)."""

    target: str | None


class ChangeMembers(Frame, frozen=True, tag=20):
    """Asks whoever leads for a change of the group; with nothing to do, for what there is."""

    number: int
    add: dict[str, Address]
    #: Empty: nobody is to be removed.
    remove: str
    #: How long the answer may wait for the end of it.
    wait_ms: int


class MemberRow(msgspec.Struct, frozen=True):
    """One member of the group."""

    id: str
    #: ``voter``, or ``learner``: it catches up and votes then.
    role: str
    raft: str
    api: str
    is_leader: bool
    connected: bool
    #: Whom it stands for; that one is removed once it votes.
    replaces: str
    #: How far it has the log, and how many entries it lacks; None where this is not known.
    match_index: int | None
    lag_entries: int | None
    #: Milliseconds since it answered the leader last.
    heard_ms: int | None


class MembersTold(Frame, frozen=True, tag=21):
    """The answer to `ChangeMembers` of that number."""

    number: int
    #: Empty (done), ``waits`` (begun, and goes on), ``refused``, ``unknown``, ``not-leader``
    #: or ``stopping``.
    trouble: str
    #: What it waits for, or why it was refused.
    detail: str
    rows: tuple[MemberRow, ...]

    @property
    def is_done(self) -> bool:
        """All that was asked for is committed."""
        return not self.trouble


AnyFrame = ChangeMembers | MembersTold | Forward | Resend | Refused | Renew | Grant | HandOver

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyFrame)


def encode(frame: AnyFrame) -> bytes:
    """The frame as bytes for ``ReplicatedLog.send_frame``."""
    return _encoder.encode(frame)


def decode(payload: bytes) -> AnyFrame:
    """The frame in ``payload``; msgspec.DecodeError for anything else."""
    frame: AnyFrame = _decoder.decode(payload)
    return frame
