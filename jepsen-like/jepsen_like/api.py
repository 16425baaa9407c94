"""HTTP to one peer, as any client would, and what is known when there is no answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple, Self

import aiohttp


class Unreachable(Exception):
    """No whole answer came; ``was_sent``: the request may have arrived."""

    def __init__(self, why: str, *, was_sent: bool) -> None:
        super().__init__(why)
        self.was_sent = was_sent


class Answer(NamedTuple):
    """Status, headers and body of an answer; the body is parsed if it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def at_index(self) -> int | None:
        """The index of the state that answered."""
        index = self.headers.get("raftsched-index", "")
        return int(index) if index.isdecimal() else None

    @property
    def code(self) -> str:
        """The stable word of a problem; empty: it is none."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


class Api:
    """One peer's address.  Connections are kept, a broken one is not used again."""

    def __init__(self, address: str, token: str) -> None:
        self._base = f"http://{address}"
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """No connection stays open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        seconds: float = 5.0,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """The answer within so long.  Raises Unreachable."""
        if self._session is None:
            own = {"Authorization": f"Bearer {self._token}"}
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(headers=own, connector=connector)
        sent = {**(headers or {})}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(method, self._base + path, data=data, headers=sent) as answer,
            ):
                raw = await answer.read()
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(str(error), was_sent=False) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = f"{type(error).__name__}: {error}"
            raise Unreachable(why, was_sent=True) from None
        found = {name.lower(): value for name, value in answer.headers.items()}
        is_json = found.get("content-type", "").partition(";")[0].endswith("json")
        try:
            parsed = json.loads(raw) if is_json else raw.decode(errors="replace")
        except ValueError as error:
            raise Unreachable(f"no JSON: {error}", was_sent=True) from None
        return Answer(answer.status, found, parsed)
