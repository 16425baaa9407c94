"""One request to a cluster of endpoints: keep-alive, failover, retries, one deadline.

Rules
1. A request is repeated only if repeating it is safe (``Request.repeatable``) or it was surely not
   applied: the connection was refused, or the answer was 429 or 503.
2. A repeat carries the same headers, so the same Idempotency-Key.
3. Another endpoint is tried before anybody waits; ``Retry-After`` is kept per endpoint.
4. Once one try may have been applied, the end is an answer or `OutcomeUnknown`.
5. Pauses are drawn uniformly from 0 to the backoff (full jitter), so that clients of a failed
   leader do not come back together.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from raftsched.client.errors import (
    BadReply,
    ClientError,
    ConnectionFailed,
    OutcomeUnknown,
    ProblemError,
    ReplicaDivergence,
    problem_error,
)

CONNECT_SECONDS_MAX = 2.0
BACKOFF_SECONDS_FIRST = 0.05
BACKOFF_SECONDS_MAX = 2.0
RETRY_AFTER_SECONDS_MAX = 60.0
#: Idle connections kept per endpoint.
IDLE_MAX = 4
REPLY_BYTES_MAX = 256 * 1024 * 1024
STREAM_READ_BYTES = 64 * 1024

Connection = HTTPConnection | HTTPSConnection


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


class _Endpoint:
    """One base URL, its idle connections and when it may be asked again."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.port = parts.port or 7400
        self.tls = parts.scheme == "https"
        self.idle: list[Connection] = []
        #: Monotonic instant before which the endpoint asked not to be asked.
        self.not_before = 0.0

    def connect(self, timeout_seconds: float) -> Connection:
        kind = HTTPSConnection if self.tls else HTTPConnection
        connection = kind(self.host, self.port, timeout=timeout_seconds)
        connection.connect()
        return connection


class Transport:
    """Sends requests to whichever endpoint answers.  Safe to share between threads."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        token: str,
        *,
        timeout_seconds: float,
        unreachable_seconds: float,
        user_agent: str,
    ) -> None:
        self._endpoints = [_Endpoint(url) for url in endpoints]
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self.timeout_seconds = timeout_seconds
        #: Give up sooner when every try so far found nobody listening at all.
        self.unreachable_seconds = unreachable_seconds
        self._current = 0
        self._lock = threading.Lock()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Base URLs, in the order given."""
        return tuple(endpoint.url for endpoint in self._endpoints)

    def close(self) -> None:
        """Close idle connections; the transport may still be used."""
        with self._lock:
            idle = [c for endpoint in self._endpoints for c in endpoint.idle]
            for endpoint in self._endpoints:
                endpoint.idle.clear()
        for connection in idle:
            connection.close()

    def send(self, request: Request, timeout_seconds: float | None = None) -> Reply:
        """One answer, within the deadline over all tries.

        Raises ProblemError (the answer; ``after_unknown`` when an earlier try may have done it),
        ConnectionFailed (surely not applied) or OutcomeUnknown.
        """
        call = _Call(self, request, timeout_seconds or self.timeout_seconds)
        response, connection, endpoint = call.run()
        try:
            body = response.read(REPLY_BYTES_MAX)
        except (OSError, HTTPException) as error:
            connection.close()
            raise OutcomeUnknown(
                f"{endpoint.url} broke off in the middle of its answer ({_why(error)}); "
                "ask again to see what was done",
                idempotency_key=request.headers.get("Idempotency-Key", ""),
            ) from None
        self._give_back(endpoint, connection, response)
        return Reply(response.status, _lower(response), body, endpoint.url)

    def stream(
        self, request: Request, timeout_seconds: float | None = None
    ) -> tuple[Mapping[str, str], Iterator[bytes]]:
        """Headers and the body piece by piece as it arrives; the deadline covers the headers.

        The iterator raises ConnectionFailed when the stream breaks before its end.
        """
        call = _Call(self, request, timeout_seconds or self.timeout_seconds)
        response, connection, endpoint = call.run()
        if connection.sock is not None:
            connection.sock.settimeout(None)
        return _lower(response), self._pieces(endpoint, connection, response)

    def _pieces(
        self, endpoint: _Endpoint, connection: Connection, response: HTTPResponse
    ) -> Iterator[bytes]:
        done = False
        try:
            while piece := response.read1(STREAM_READ_BYTES):
                yield piece
            done = True
        except (OSError, HTTPException) as error:
            raise ConnectionFailed(f"{endpoint.url} broke off ({_why(error)})") from None
        finally:
            if done:
                self._give_back(endpoint, connection, response)
            else:
                connection.close()

    def _give_back(
        self, endpoint: _Endpoint, connection: Connection, response: HTTPResponse
    ) -> None:
        with self._lock:
            if response.will_close or connection.sock is None or len(endpoint.idle) >= IDLE_MAX:
                connection.close()
            else:
                endpoint.idle.append(connection)

    # What `_Call` needs; each under the lock.

    def choose(self) -> tuple[_Endpoint, float]:
        """The endpoint to ask next and how long it wants to be left alone."""
        now = time.monotonic()
        with self._lock:
            turn = self._endpoints[self._current :] + self._endpoints[: self._current]
            best = min(turn, key=lambda e: max(e.not_before, now))
            self._current = self._endpoints.index(best)
            return best, max(0.0, best.not_before - now)

    def advance(self, endpoint: _Endpoint, pause_seconds: float, *, everyone: bool) -> None:
        """Leave ``endpoint`` (or the whole cluster) alone for a while and go on to the next."""
        until = time.monotonic() + pause_seconds
        with self._lock:
            for each in self._endpoints if everyone else [endpoint]:
                each.not_before = max(each.not_before, until)
            self._current = (self._endpoints.index(endpoint) + 1) % len(self._endpoints)

    def recover(self, endpoint: _Endpoint) -> None:
        """``endpoint`` answered."""
        endpoint.not_before = 0.0

    def take_idle(self, endpoint: _Endpoint) -> Connection | None:
        """An open connection that was used before, or None."""
        with self._lock:
            return endpoint.idle.pop() if endpoint.idle else None

    def full_headers(self, request: Request) -> dict[str, str]:
        """The headers of every request and this one's."""
        return {**self._headers, **request.headers}


class _Call:
    """The tries of one request until its deadline."""

    def __init__(self, transport: Transport, request: Request, timeout_seconds: float) -> None:
        self._transport = transport
        self._request = request
        self._seconds = timeout_seconds + request.patience_seconds
        self._deadline = time.monotonic() + self._seconds
        self._begun = time.monotonic()
        self._rounds = 0
        #: Nobody was there, at any endpoint, so far.
        self._only_refused = True
        self.maybe_applied = False
        self._last: ClientError = ConnectionFailed("nothing was tried")
        #: The last answer that it cannot be done just now: it says more than a refused connection.
        self._unavailable: ProblemError | None = None
        #: Endpoints whose last try found nobody.
        self._unreachable: set[str] = set()

    def run(self) -> tuple[HTTPResponse, Connection, _Endpoint]:
        """An answer below 400 with its body unread."""
        while True:
            endpoint, wait = self._transport.choose()
            if wait and not self._sleep(wait):
                raise self._give_up()
            try:
                response, connection = self._exchange(endpoint)
                self._only_refused = False
                self._unreachable.discard(endpoint.url)
            except _Refused as error:
                self._last = ConnectionFailed(str(error))
                self._unreachable.add(endpoint.url)
                self._pause(endpoint, None)
                continue
            except _Broken as error:
                self._only_refused = False
                self._unreachable.add(endpoint.url)
                if self._request.method != "GET":
                    self.maybe_applied = True
                self._last = ConnectionFailed(str(error))
                self._unreachable.add(endpoint.url)
                if not self._request.repeatable:
                    raise self._give_up() from None
                self._pause(endpoint, None)
                continue
            self._transport.recover(endpoint)
            if response.status < 400:
                return response, connection, endpoint
            self._judge(endpoint, self._problem(endpoint, connection, response), response)

    def _judge(self, endpoint: _Endpoint, problem: ProblemError, response: HTTPResponse) -> None:
        """Raise what is final; return to have it tried again."""
        if problem.status in (429, 503) and not isinstance(problem, ReplicaDivergence):
            self._last = self._unavailable = problem
            self._pause(endpoint, response, everyone=problem.status == 429)
            return
        if problem.status == 504:
            self._last = problem
            self.maybe_applied = self._request.method != "GET"
            if not self._request.repeatable:
                raise self._give_up()
            self._pause(endpoint, response)
            return
        problem.after_unknown = self.maybe_applied
        raise problem

    def _exchange(self, endpoint: _Endpoint) -> tuple[HTTPResponse, Connection]:
        idle = self._transport.take_idle(endpoint)
        if idle is not None:
            try:
                return self._talk(idle, endpoint), idle
            except _Broken:
                # The server may have closed it between two requests: ask once more on a fresh
                # one, where doing it twice is the same as once.
                if not self._request.repeatable:
                    raise
                if self._request.method != "GET":
                    self.maybe_applied = True
        try:
            connection = endpoint.connect(max(0.05, min(self._left(), CONNECT_SECONDS_MAX)))
        except OSError as error:
            raise _Refused(f"{endpoint.url}: {_why(error)}") from None
        return self._talk(connection, endpoint), connection

    def _talk(self, connection: Connection, endpoint: _Endpoint) -> HTTPResponse:
        request = self._request
        try:
            if connection.sock is not None:
                connection.sock.settimeout(max(0.05, self._left()))
            headers = self._transport.full_headers(request)
            connection.request(request.method, request.target, request.body, headers)
            return connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            raise _Broken(f"{endpoint.url}: {_why(error)}") from None
        except BaseException:
            connection.close()
            raise

    def _problem(
        self, endpoint: _Endpoint, connection: Connection, response: HTTPResponse
    ) -> ProblemError:
        try:
            body = response.read(REPLY_BYTES_MAX)
            self._transport._give_back(endpoint, connection, response)
            document: Any = json.loads(body)
        except (OSError, HTTPException, ValueError):
            connection.close()
            document = None
        if not isinstance(document, dict):
            text = f"{endpoint.url} answered HTTP {response.status} {response.reason}"
            document = {"detail": text}
        return problem_error(response.status, document)

    def _pause(
        self, endpoint: _Endpoint, response: HTTPResponse | None, *, everyone: bool = False
    ) -> None:
        """Note how long to leave the endpoint alone; the others are asked at once."""
        count = max(1, len(self._transport.endpoints))
        backoff = BACKOFF_SECONDS_FIRST * 2 ** min(10, self._rounds // count)
        self._rounds += 1
        pause = random.uniform(0.0, min(BACKOFF_SECONDS_MAX, backoff))
        if response is not None:
            pause += _retry_after(response)
        self._transport.advance(endpoint, pause, everyone=everyone)

    def _sleep(self, seconds: float) -> bool:
        """Sleep; False when that would pass the deadline."""
        if seconds > self._left():
            return False
        time.sleep(seconds)
        return True

    def _left(self) -> float:
        deadline = self._deadline
        if self._only_refused and self._rounds:
            deadline = min(deadline, self._begun + self._transport.unreachable_seconds)
        return deadline - time.monotonic()

    def _give_up(self) -> ClientError:
        if self.maybe_applied:
            return OutcomeUnknown(
                f"no final answer within {self._seconds:g} s ({self._last}); it may or may not "
                "have been done, repeating it with the same key is safe",
                idempotency_key=self._request.headers.get("Idempotency-Key", ""),
            )
        error = self._last
        if isinstance(error, ConnectionFailed) and self._unavailable is not None:
            error = self._unavailable
        if isinstance(error, ProblemError):
            urls = self._transport.endpoints
            silent = [url for url in urls if url in self._unreachable]
            return error.after(time.monotonic() - self._begun, silent, len(urls))
        if isinstance(self._last, ConnectionFailed):
            asked = ", ".join(self._transport.endpoints)
            return ConnectionFailed(
                f"no peer answered within {time.monotonic() - self._begun:.1f} s at {asked} "
                f"(last: {self._last})"
            )
        return self._last


class _Refused(Exception):
    """No connection: the request surely did not arrive."""


class _Broken(Exception):
    """The connection failed after the request began to leave."""


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:200]


def _lower(response: HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _retry_after(response: HTTPResponse) -> float:
    """Seconds from ``Retry-After``; a date or nonsense counts as one second."""
    value = response.headers.get("Retry-After")
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = 1.0
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
