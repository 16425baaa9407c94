"""Messages as bytes on a connection: msgpack behind a length, nothing that can run code.

The first frame of each side is the handshake, checked before anything else is decoded.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

#: Version of the frames; peers with another one are refused.
PROTOCOL_VERSION = 1
MAGIC = "raftsched"
LENGTH = struct.Struct("<I")
#: Longest frame before the handshake is through, and after.
HANDSHAKE_BYTES_MAX = 256
FRAME_BYTES_MAX = 64 * 1024 * 1024


class Handshake(msgspec.Struct, frozen=True, array_like=True):
    """Who speaks.  Sent by both sides as the first frame."""

    magic: str
    version: int
    cluster_id: str
    peer_id: str
    #: The peer the dialler means to reach; empty in the answer.
    target: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
_handshakes = msgspec.msgpack.Decoder(Handshake)


def encode(message: Any) -> bytes:
    """A message (of plain types) as a frame."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def decode(body: bytes) -> dict[str, Any]:
    """The message of a frame's body.  Raises msgspec.DecodeError or ValueError."""
    message = _decoder.decode(body)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ValueError("not a message")
    return message


def decode_handshake(body: bytes) -> Handshake:
    """The handshake in a frame's body.  Raises msgspec.DecodeError."""
    handshake: Handshake = _handshakes.decode(body)
    return handshake
