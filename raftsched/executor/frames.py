"""Frames on the sockets of a runner: a little-endian 32-bit length and msgpack."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

LENGTH = struct.Struct("<I")
M = TypeVar("M")


def pack(body: bytes) -> bytes:
    """The frame of a message."""
    return LENGTH.pack(len(body)) + body


def length(head: bytes | bytearray, bytes_max: int, offset: int = 0) -> int:
    """Bytes of the body behind this head.  Raises ValueError for too many."""
    size: int = LENGTH.unpack_from(head, offset)[0]
    if size > bytes_max:
        raise ValueError(f"a frame of {size} bytes is over {bytes_max}")
    return size


def split(buffer: bytearray, decode: Callable[[bytearray], M], bytes_max: int) -> list[M]:
    """Take all whole messages off a buffer.  Raises ValueError, and what ``decode`` raises."""
    found: list[M] = []
    offset = 0
    while len(buffer) - offset >= LENGTH.size:
        begin = offset + LENGTH.size
        end = begin + length(buffer, bytes_max, offset)
        if len(buffer) < end:
            break
        found.append(decode(buffer[begin:end]))
        offset = end
    del buffer[:offset]
    return found
