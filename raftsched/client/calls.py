"""What every call of the client needs: requests, the index seen, names in paths."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, urlencode

from raftsched.client.discovery import find_target
from raftsched.client.errors import BadReply, NotFound
from raftsched.client.transport import Reply, Request, Transport

USER_AGENT = "raftsched-python"
PAGE_MAX = 1_000

Document = dict[str, Any]
Documents = list[Document]


class Calls:
    """A client's connections, and how requests are made on them."""

    def __init__(
        self,
        addresses: str | Iterable[str] | None = None,
        *,
        token: str | None = None,
        token_file: str | None = None,
        timeout_seconds: float = 30.0,
        unreachable_seconds: float = 5.0,
        consistency: str = "linearizable",
    ) -> None:
        """``addresses``: ``host:port`` of some or all peers; None: see `discovery`.

        ``timeout_seconds`` bounds every call with all its retries; ``unreachable_seconds`` bounds
        it while nobody listens anywhere.  Raises BadAddress or NoToken.
        """
        target = find_target(addresses, token, token_file)
        self.source = target.source
        self.has_token = bool(target.token)
        self._transport = Transport(
            target.addresses,
            target.token,
            timeout_seconds=timeout_seconds,
            unreachable_seconds=min(unreachable_seconds, timeout_seconds),
            user_agent=USER_AGENT,
        )
        self._consistency = consistency
        #: Highest index seen in an answer; later reads are at least as new.
        self.last_index = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Base URLs this client knows."""
        return self._transport.endpoints

    def request(
        self, method: str, path: str, body: Any = None, *, timeout_seconds: float | None = None
    ) -> Any:
        """Any route: JSON in, JSON out.  A POST carries a fresh Idempotency-Key."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if method == "POST":
            headers["Idempotency-Key"] = new_key()
        data = None if body is None else json.dumps(body).encode()
        return self._send(Request(method, path, data, headers), timeout_seconds).json()

    def _read(
        self, path: str, query: Mapping[str, Any] | None = None, *, patience: float = 0.0
    ) -> Reply:
        full = {"min_index": self.last_index, **(query or {})}
        if self._consistency != "linearizable":
            full["consistency"] = self._consistency
        return self._send(Request("GET", path + query_of(full), patience_seconds=patience))

    def _write(
        self,
        path: str,
        body: Document,
        *,
        key: str = "",
        query: Mapping[str, Any] | None = None,
        repeatable: bool = True,
        method: str = "POST",
    ) -> Reply:
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = json.dumps(body).encode()
        return self._send(
            Request(method, path + query_of(query or {}), data, headers, repeatable=repeatable)
        )

    def _send(self, request: Request, timeout_seconds: float | None = None) -> Reply:
        reply = self._transport.send(request, timeout_seconds)
        index = reply.headers.get("raftsched-index", "")
        if index.isdigit():
            self.last_index = max(self.last_index, int(index))
        return reply

    def _pages(self, path: str) -> Iterator[Document]:
        cursor = None
        while True:
            page = document_of(self._read(path, {"limit": 1000, "cursor": cursor}))
            yield from page.get("items", [])
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def _delete(self, path: str) -> None:
        try:
            self._send(Request("DELETE", path))
        except NotFound as error:
            if not error.after_unknown:
                raise


def document_of(reply: Reply) -> Document:
    """The JSON object of an answer; an empty one for an empty body.  Raises BadReply."""
    document = reply.json()
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise BadReply(f"{reply.endpoint} answered no JSON object; is it a raftsched peer?")
    return document


def query_of(values: Mapping[str, Any]) -> str:
    """``?a=b`` of what is set; booleans as 1."""
    pairs = {
        name: "1" if value is True else value
        for name, value in values.items()
        if value is not None and value is not False and value != "" and value != 0
    }
    return "?" + urlencode(pairs) if pairs else ""


def part(value: str) -> str:
    """A name as a part of a path."""
    return quote(value, safe="")


def new_key() -> str:
    """An idempotency key of its own."""
    return uuid.uuid4().hex
