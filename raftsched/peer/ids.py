"""Ids: UUIDv7 text (RFC 9562), made by clients or the accepting peer, never by ``apply``."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import msgspec

_sorted = msgspec.json.Encoder(order="deterministic")


def uuid7(now_ms: int) -> str:
    """A fresh id that sorts by ``now_ms`` (milliseconds since the Unix epoch)."""
    return _layout(now_ms, secrets.token_bytes(10))


def derived_id(namespace: str, key: str, line: int) -> str:
    """The id of line ``line`` of a submission under an idempotency key: the same every time."""
    digest = hashlib.blake2b(
        f"{namespace}\0{key}\0{line}".encode(), digest_size=16, person=b"raftsched-id"
    ).digest()
    # Version 8 (RFC 9562, section 5.8): the bits are of our own making.
    number = int.from_bytes(digest)
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return _text(number)


def _layout(now_ms: int, random: bytes) -> str:
    number = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(random)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return _text(number)


def _text(number: int) -> str:
    """As ``str(uuid.UUID(int=number))``, in a third of the time."""
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def request_hash(documents: list[Any]) -> bytes:
    """16 bytes of the parsed documents of a submission: white space and order do not matter."""
    return hashlib.blake2b(_sorted.encode(documents), digest_size=16).digest()
