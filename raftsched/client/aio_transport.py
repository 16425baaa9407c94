"""Requests over aiohttp, which is imported with the first of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from raftsched.client.errors import BadReply, ConnectionFailed
from raftsched.client.messages import REPLY_BYTES_MAX, Reply, Request
from raftsched.client.tries import CONNECT_SECONDS_MAX, Endpoint, Endpoints, Tries, why

if TYPE_CHECKING:
    import aiohttp

#: Requests under way at once; others wait for their turn, as long as their deadline allows.
REQUESTS_MAX = 500


class AsyncTransport:
    """Sends requests to whichever endpoint answers.  Belongs to one event loop."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(REQUESTS_MAX)

    async def close(self) -> None:
        """Close all connections; the transport may still be used."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, request: Request) -> Reply:
        """One answer, within the deadline over all tries; errors as of `Transport.send`."""
        async with self._turn(request):
            tries = Tries(self._endpoints, request)
            while True:
                response, endpoint = await self._answer(tries, request)
                async with response:
                    try:
                        body = await _body(response, endpoint, tries.seconds_left)
                    except _broken() as error:
                        text = f"broke off in the middle of its answer ({why(error)})"
                        tries.broken(endpoint, text)
                        continue
                    return Reply(response.status, _lower(response), body, endpoint.url)

    @asynccontextmanager
    async def stream(
        self, request: Request
    ) -> AsyncIterator[tuple[Mapping[str, str], AsyncIterator[bytes]]]:
        """Headers and the body piece by piece as it arrives; the deadline covers the headers.

        The iterator raises ConnectionFailed when the stream breaks before its end.
        """
        async with self._turn(request):
            response, endpoint = await self._answer(Tries(self._endpoints, request), request)
            try:
                yield _lower(response), _pieces(response, endpoint)
            finally:
                # Not given back: what was not read may never end.
                response.close()

    @asynccontextmanager
    async def _turn(self, request: Request) -> AsyncIterator[None]:
        """One of the requests that may be under way."""
        seconds = (request.timeout_seconds or self._endpoints.timeout_seconds) + (
            request.patience_seconds
        )
        try:
            async with asyncio.timeout(seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise ConnectionFailed(
                f"{REQUESTS_MAX} requests of this client were under way for {seconds:g} s"
            ) from None
        try:
            yield
        finally:
            self._turns.release()

    async def _answer(
        self, tries: Tries, request: Request
    ) -> tuple[aiohttp.ClientResponse, Endpoint]:
        """An answer below 400 with its body unread."""
        while True:
            endpoint, wait = tries.turn()
            if wait:
                await asyncio.sleep(wait)
            try:
                async with asyncio.timeout(tries.seconds_left):
                    response = await self._exchange(endpoint, request)
            except _refused() as error:
                tries.refused(endpoint, why(error))
                continue
            except _broken() as error:
                tries.broken(endpoint, why(error))
                continue
            tries.answered(endpoint)
            if response.status < 400:
                return response, endpoint
            async with response:
                try:
                    body = await _body(response, endpoint, tries.seconds_left)
                except _broken():
                    body = b""
            retry_after = response.headers.get("Retry-After")
            tries.judge(endpoint, response.status, body, response.reason or "", retry_after)

    async def _exchange(self, endpoint: Endpoint, request: Request) -> aiohttp.ClientResponse:
        from yarl import URL

        return await self._opened().request(
            request.method,
            URL(endpoint.url + request.target, encoded=True),
            data=request.body,
            headers={"Accept-Encoding": "identity", **self._endpoints.headers(request)},
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
        )

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            # How many there are is bounded by `_turns`, where waiting has a deadline of its own.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _refused() -> tuple[type[Exception], ...]:
    """What the network fails with before a request leaves."""
    import aiohttp

    # Before aiohttp 3.10 a connection that takes too long cannot be told from an answer that does.
    late = getattr(aiohttp, "ConnectionTimeoutError", aiohttp.ClientConnectorError)
    return (aiohttp.ClientConnectorError, late)


def _broken() -> tuple[type[Exception], ...]:
    """What the network fails with."""
    import aiohttp

    return (aiohttp.ClientError, TimeoutError, OSError)


async def _body(response: aiohttp.ClientResponse, endpoint: Endpoint, seconds: float) -> bytes:
    """The whole body.  Raises BadReply for one that is too long."""
    pieces: list[bytes] = []
    total = 0
    async with asyncio.timeout(seconds):
        async for piece in response.content.iter_any():
            pieces.append(piece)
            total += len(piece)
            if total > REPLY_BYTES_MAX:
                raise BadReply(f"{endpoint.url} answered more than {REPLY_BYTES_MAX} bytes")
    return b"".join(pieces)


async def _pieces(response: aiohttp.ClientResponse, endpoint: Endpoint) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except _broken() as error:
        raise ConnectionFailed(f"{endpoint.url} broke off ({why(error)})") from None


def _lower(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
