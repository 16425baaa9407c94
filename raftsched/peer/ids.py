"""Ids: UUIDv7 text (RFC 9562), made by clients or the accepting peer, never by ``apply``."""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache
from typing import Any

import msgspec

_sorted = msgspec.json.Encoder(order="deterministic")
#: All bits of an id but those of its version and its variant.
_BITS = (1 << 128) - 1 & ~(0xF << 76) & ~(0x3 << 62)
#: Between the lines of a submission: odd and of no pattern (2**128 divided by the golden ratio), so
#: that lines differ in all parts of their ids and no two of them get the same.
_STEP = 0x9E3779B97F4A7C15F39CC0605CEDC835


def uuid7(now_ms: int, unique: bytes | None = None) -> str:
    """A fresh id that sorts by ``now_ms`` (milliseconds since the Unix epoch).

    ``unique``: ten bytes nobody else has; drawn at random if there are none.
    """
    return _layout(now_ms, secrets.token_bytes(10) if unique is None else unique)


def derived_id(namespace: str, key: str, line: int) -> str:
    """The id of line ``line`` of a submission under an idempotency key: the same every time."""
    number = _number_of(namespace, key) + line * _STEP
    # Version 8 (RFC 9562, section 5.8): the bits are of our own making.
    return _text(number & _BITS | 0x8 << 76 | 0x2 << 62)


@lru_cache(256)
def _number_of(namespace: str, key: str) -> int:
    """128 bits for a key; a bulk submission asks for the same again with every line."""
    data = f"{namespace}\0{key}".encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=16, person=b"raftsched-id").digest())


def _layout(now_ms: int, random: bytes) -> str:
    number = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(random)
    return _text(number & _BITS | 0x7 << 76 | 0x2 << 62)


def _text(number: int) -> str:
    """As ``str(uuid.UUID(int=number))``, in a third of the time."""
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def request_hash(documents: list[Any]) -> bytes:
    """16 bytes of the parsed documents of a submission: white space and order do not matter."""
    return hashlib.blake2b(_sorted.encode(documents), digest_size=16).digest()
