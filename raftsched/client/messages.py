"""What goes to a peer and what comes back, whichever way it travels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raftsched.client.errors import BadReply

#: A whole answer is at most this long; what is longer is a stream.
REPLY_BYTES_MAX = 256 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """What goes out, the same on every try."""

    method: str
    #: Path with query, percent-encoded.
    target: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Doing it twice is the same as once: reads, and writes with a key or idempotent by nature.
    repeatable: bool = True
    #: How long the server may stay silent on purpose (long polls), beyond the usual.
    patience_seconds: float = 0.0
    #: Deadline over all tries; None: the client's.
    timeout_seconds: float | None = None


@dataclass(frozen=True)
class Reply:
    """A whole answer with a status below 400."""

    status: int
    #: Names in lower case.
    headers: Mapping[str, str]
    body: bytes
    endpoint: str

    def json(self) -> Any:
        """The body as JSON, None when empty; BadReply when it is not JSON."""
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            raise BadReply(
                f"{self.endpoint} answered something that is not JSON; is it a raftsched peer?"
            ) from None
