"""Messages as bytes on a connection: msgpack behind a length, nothing that can run code.

The first frame of each side is its handshake, or why it refuses the other; both are checked before
anything else is decoded.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

#: Version of the frames; peers with another one are refused.
PROTOCOL_VERSION = 1
MAGIC = "raftsched"
REFUSED_MAGIC = "raftsched-refused"
LENGTH = struct.Struct("<I")
#: Longest frame before the handshake is through, and after.
HANDSHAKE_BYTES_MAX = 400
FRAME_BYTES_MAX = 64 * 1024 * 1024
#: Longest reason of a refusal; with the rest of its frame within HANDSHAKE_BYTES_MAX.
REASON_BYTES_MAX = 360


class Handshake(msgspec.Struct, frozen=True, array_like=True):
    """Who speaks.  Sent by both sides as the first frame."""

    magic: str
    version: int
    cluster_id: str
    peer_id: str
    #: The peer the dialler means to reach; empty in the answer.
    target: str
    #: What the sender's directory was marked with when it was made; empty of an old one.
    mark: str = ""


class Refused(msgspec.Struct, frozen=True, array_like=True):
    """Sent instead of a handshake, before hanging up.  The same in every protocol version."""

    magic: str
    version: int
    #: For people; it came from somebody who may not be a peer, so it is for the log only.
    reason: str
    #: The other side was removed from the cluster, and should stop.
    is_removed: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
_handshakes = msgspec.msgpack.Decoder(Handshake)
_refusals = msgspec.msgpack.Decoder(Refused)


def encode(message: Any) -> bytes:
    """A message (of plain types) as a frame."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def encode_refusal(reason: str, *, is_removed: bool = False) -> bytes:
    """A frame that says why; the reason is cut at REASON_BYTES_MAX."""
    cut = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
    return encode(Refused(REFUSED_MAGIC, PROTOCOL_VERSION, cut, is_removed))


def decode(body: bytes) -> dict[str, Any]:
    """The message of a frame's body.  Raises msgspec.DecodeError or ValueError."""
    message = _decoder.decode(body)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ValueError("not a message")
    return message


def decode_first(body: bytes) -> Handshake | Refused:
    """The first frame of a connection.  Raises msgspec.DecodeError when it is not ours."""
    try:
        refused = _refusals.decode(body)
    except msgspec.DecodeError:
        refused = None
    if refused is not None and refused.magic == REFUSED_MAGIC:
        reason = "".join(c if c.isprintable() else "?" for c in refused.reason)
        return Refused(REFUSED_MAGIC, refused.version, reason, refused.is_removed)
    handshake: Handshake = _handshakes.decode(body)
    if handshake.magic != MAGIC:
        raise msgspec.DecodeError("not a handshake")
    return handshake


def looks_like_tls(data: bytes) -> bool:
    """Do the first two bytes of a connection begin a TLS record?

    Ours begin with a length below 512, so their second byte is 0 or 1, where TLS has a 3.
    """
    return 0x14 <= data[0] <= 0x17 and data[1] == 3
