"""The HTTP worker: a process of a node that makes the requests of its attempts.

``python -m raftsched.executor.http`` with a socket to the runner as descriptor 0; it ends when the
runner hangs up.  The runner itself never imports this, nor anything that it stands on.

Rules
1. An address is checked after its name was resolved and is the one connected to, at every hop, so
   that a name that changes its mind leads nowhere else.
2. Redirects are followed here, not by the library: never from https to http, and to another origin
   without the task's own headers, but for those that cannot carry a secret.
3. Of a response at most ``BODY_BYTES_MAX`` is read; its connection is not used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from raftsched import __version__
from raftsched.core.model import RESULT_BYTES_MAX
from raftsched.executor import http_messages as messages
from raftsched.executor.addresses import Rules, is_allowed
from raftsched.executor.frames import LENGTH
from raftsched.executor.http_messages import Abort, Answer, Ready, Request

#: Requests under way at once; the others wait.
REQUESTS_MAX = 256
#: Names looked up at once; the system's resolver blocks a thread for each.
LOOKUPS_MAX = 32
#: An address must accept a connection within this, and all of it, with the name and TLS, be done.
CONNECT_SECONDS = 10.0
ESTABLISH_SECONDS = 20.0
#: A receiver that sends nothing for so long has gone; the task's own timeout may be shorter.
SILENCE_SECONDS = 300.0
#: Read of a response: what fits a result, and one byte to know that there is more.
BODY_BYTES_MAX = RESULT_BYTES_MAX
#: Characters of an error in a reason.
ERROR_CHARS_MAX = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: What another origin may see of the task's headers.
_HARMLESS = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "user-agent"}
)
#: Of the connection, which is ours.
_OURS = frozenset({"connection", "content-length", "host", "transfer-encoding"})
_OWN_PREFIX = "raftsched-"


class Denied(OSError):
    """The address may not be reached."""


class Failed(Exception):
    """The request failed; the text is the attempt's reason."""


class CheckedResolver(AbstractResolver):
    """Resolves names, and leaves out what the rules do not allow."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises Denied when there are addresses, and none is allowed."""
        found = await self._resolver.resolve(host, port, family)
        allowed = [each for each in found if is_allowed(each["host"], self._rules)]
        if found and not allowed:
            raise Denied(found[0]["host"])
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


# One request -------------------------------------------------------------------------------------


async def fetch(session: aiohttp.ClientSession, request: Request) -> Answer:
    """Make the request, follow where it leads, and say how it ended."""
    try:
        return await _follow(session, request)
    except Failed as error:
        return Answer(request.token, str(error))
    except TimeoutError:
        return Answer(request.token, "http-timeout")
    except aiohttp.ClientConnectorCertificateError as error:
        return _unreachable(request, str(error.certificate_error))
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, Denied):
            return Answer(request.token, f"http-address-denied: {error.host} is {error.os_error}")
        return _unreachable(request, error.os_error.strerror or str(error.os_error))
    except aiohttp.InvalidURL:
        return Answer(request.token, "cannot-start: http.url is no address")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _unreachable(request, str(error) or type(error).__name__)


def _unreachable(request: Request, why: str) -> Answer:
    return Answer(request.token, f"http-unreachable: {why[:ERROR_CHARS_MAX]}")


async def _follow(session: aiohttp.ClientSession, request: Request) -> Answer:
    rules = Rules(request.may_private, request.may_metadata)
    url, method, body = URL(request.url), request.method, request.body
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
    for hop in range(request.redirects_max + 1):
        _check(url, rules)
        async with session.request(
            method, url, headers=headers, data=body or None, allow_redirects=False,
            ssl=request.verify,
        ) as response:  # fmt: skip
            target = _target(response, request)
            if target is None:
                return await _answer(response, request)
        if hop == request.redirects_max:
            break
        if (url.scheme, target.scheme) == ("https", "http"):
            raise Failed("http-redirect-denied: from https to http")
        if target.origin() != url.origin():
            headers = {name: value for name, value in headers.items() if _is_harmless(name)}
        if response.status == HTTPStatus.SEE_OTHER or (
            response.status in (301, 302) and method == "POST"
        ):
            method, body = "HEAD" if method == "HEAD" else "GET", b""
            headers = {n: value for n, value in headers.items() if n.lower() != "content-type"}
        url = target
    raise Failed(f"http-redirects: more than {request.redirects_max}")


def _target(response: aiohttp.ClientResponse, request: Request) -> URL | None:
    """Where a redirect that is to be followed leads.  Raises Failed."""
    location = response.headers.get("Location", "")
    is_meant = response.status in request.expect or not request.redirects_max
    if response.status not in _REDIRECTS or not location or is_meant:
        return None
    try:
        target = response.url.join(URL(location)).with_user(None).with_fragment(None)
    except ValueError:
        raise Failed("http-redirect-denied: to what is no address") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise Failed(f"http-redirect-denied: to {target.scheme[:20]}")
    return target


def _is_harmless(name: str) -> bool:
    return name.lower() in _HARMLESS or name.lower().startswith(_OWN_PREFIX)


def _check(url: URL, rules: Rules) -> None:
    """Raises Failed for an address that is not allowed; names are checked when resolved.

    What the library takes for an address and hands on as it is must be one, in full.
    """
    host = url.host or ""
    is_address = ":" in host or host.replace(".", "").isdigit()
    if is_address and not is_allowed(host, rules):
        raise Failed(f"http-address-denied: {host}")


# The response ------------------------------------------------------------------------------------


async def _answer(response: aiohttp.ClientResponse, request: Request) -> Answer:
    status = response.status
    is_good = status in request.expect if request.expect else 200 <= status < 300
    body = await _read(response)
    if not is_good:
        return Answer(request.token, f"http-status-{status}", output=_shown(response, body))
    result = _result(response, body)
    if result is None:
        return Answer(request.token, output=_shown(response, body))
    return Answer(request.token, result=result)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, or so much of it that it is seen to be too long."""
    body = bytearray()
    while len(body) <= BODY_BYTES_MAX:
        part = await response.content.read(BODY_BYTES_MAX + 1 - len(body))
        if not part:
            break
        body += part
    return bytes(body)


def _result(response: aiohttp.ClientResponse, body: bytes) -> bytes | None:
    """The body as JSON, a text as one string; None when it is neither or too long."""
    if len(body) > BODY_BYTES_MAX:
        return None
    kind = response.content_type
    if kind == "application/json" or kind.endswith("+json"):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            msgspec.json.decode(body)
            return body.strip()
    if not body:
        return b""
    is_text = kind.startswith("text/") or kind.endswith(("json", "xml", "x-www-form-urlencoded"))
    try:
        text = body.decode(response.charset or "utf-8") if is_text else None
    except (UnicodeDecodeError, LookupError):
        return None
    if text is None:
        return None
    result = msgspec.json.encode(text)
    return result if len(result) <= RESULT_BYTES_MAX else None


def _shown(response: aiohttp.ClientResponse, body: bytes) -> bytes:
    """The first part of the body, and how long it is if that is not all."""
    if len(body) <= BODY_BYTES_MAX:
        return body
    size = response.content_length
    of = f"{size}" if size is not None else "more"
    return body[:BODY_BYTES_MAX] + f"\n[{BODY_BYTES_MAX} of {of} bytes]\n".encode()


# The process -------------------------------------------------------------------------------------


class Worker:
    """Requests under way, and whom to tell."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[Answer]] = {}
        self._turns = asyncio.Semaphore(REQUESTS_MAX)
        self._sessions: dict[Rules, aiohttp.ClientSession] = {}

    async def serve(self, read: Callable[[], Awaitable[messages.AnyMessage | None]]) -> None:
        """Do what the runner says until it hangs up."""
        self._tell(Ready())
        while (message := await read()) is not None:
            if isinstance(message, Request):
                task = asyncio.create_task(self._make(message))
                self._tasks[message.token] = task
                task.add_done_callback(partial(self._done, message.token))
            elif isinstance(message, Abort) and message.token in self._tasks:
                self._tasks[message.token].cancel()

    async def _make(self, request: Request) -> Answer:
        async with self._turns:
            return await fetch(self._session(request), request)

    def _done(self, token: int, task: asyncio.Task[Answer]) -> None:
        del self._tasks[token]
        self._tell(Answer(token, "http-aborted") if task.cancelled() else task.result())

    def _tell(self, message: messages.AnyMessage) -> None:
        # Answers are fewer than requests, so what waits here is bounded by them.
        self._writer.write(messages.encode(message))

    def _session(self, request: Request) -> aiohttp.ClientSession:
        rules = Rules(request.may_private, request.may_metadata)
        if rules not in self._sessions:
            self._sessions[rules] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=CheckedResolver(rules), use_dns_cache=False, limit=0, force_close=True
                ),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=ESTABLISH_SECONDS,
                    sock_connect=CONNECT_SECONDS,
                    sock_read=SILENCE_SECONDS,
                ),
                # What is compressed may be a thousand times as long.
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": f"raftsched/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[rules]


async def _main() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(LOOKUPS_MAX, "lookup"))
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=os.dup(0)))

    async def read() -> messages.AnyMessage | None:
        try:
            head = await reader.readexactly(LENGTH.size)
            return messages.decode(await reader.readexactly(messages.length(head)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    await Worker(writer).serve(read)
    # Nobody is left to tell, and threads that look up names would be waited for.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
