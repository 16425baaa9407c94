"""What the runner and its HTTP worker say to each other, over a socket pair.

Frames (``frames``) are at most ``FRAME_BYTES_MAX`` long.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.executor import frames

FRAME_BYTES_MAX = 4 * 1024 * 1024


class Message(msgspec.Struct, frozen=True, array_like=True, tag_field="kind"):
    """Base of all messages."""


class Request(Message, frozen=True, tag=1):
    """Make this request."""

    token: int
    url: str
    method: str
    headers: dict[str, str]
    body: bytes
    #: Status codes that are a success; empty: 200 to 299.
    expect: tuple[int, ...]
    redirects_max: int
    verify: bool
    #: What it may reach, see `addresses.Rules`.
    may_private: bool
    may_metadata: bool


class Abort(Message, frozen=True, tag=2):
    """Break a request off; it is answered."""

    token: int


class Ready(Message, frozen=True, tag=3):
    """The worker's first word."""


class Answer(Message, frozen=True, tag=4):
    """How a request ended."""

    token: int
    #: Empty: it succeeded.
    reason: str = ""
    #: JSON.
    result: bytes = b""
    #: What of the response is for the attempt's output.
    output: bytes = b""


AnyMessage = Request | Abort | Ready | Answer

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    """The message as a frame.  Raises ValueError for one that is too long."""
    body = _encoder.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"a message of {len(body)} bytes is over {FRAME_BYTES_MAX}")
    return frames.pack(body)


def decode(body: bytes | bytearray) -> AnyMessage:
    """The message in a frame.  Raises msgspec.DecodeError."""
    message: AnyMessage = _decoder.decode(body)
    return message


def length(head: bytes | bytearray) -> int:
    """Bytes of the body after this head.  Raises ValueError for too many."""
    return frames.length(head, FRAME_BYTES_MAX)


def split(buffer: bytearray) -> list[AnyMessage]:
    """Take all whole messages off a buffer.  Raises msgspec.DecodeError or ValueError."""
    return frames.split(buffer, decode, FRAME_BYTES_MAX)
