"""Which endpoint is asked next, whether a request is repeated, and how it ends: all but the I/O.

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
from typing import Any
from urllib.parse import urlsplit

from raftsched.client.errors import (
    ClientError,
    ConnectionFailed,
    OutcomeUnknown,
    ProblemError,
    ReplicaDivergence,
    problem_error,
)
from raftsched.client.messages import Request

CONNECT_SECONDS_MAX = 2.0
BACKOFF_SECONDS_FIRST = 0.05
BACKOFF_SECONDS_MAX = 2.0
RETRY_AFTER_SECONDS_MAX = 60.0
#: A try is given at least this, also when the deadline is nearer.
TRY_SECONDS_MIN = 0.05


class Endpoint:
    """One base URL, and when it may be asked again."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.port = parts.port or 7400
        self.tls = parts.scheme == "https"
        #: Monotonic instant before which the endpoint asked not to be asked.
        self.not_before = 0.0


class Endpoints:
    """All that a client knows of, and whose turn it is.  Safe to share between threads."""

    def __init__(
        self,
        urls: tuple[str, ...],
        token: str,
        *,
        timeout_seconds: float,
        unreachable_seconds: float,
        user_agent: str,
    ) -> None:
        self._endpoints = [Endpoint(url) for url in urls]
        self._headers = {"User-Agent": user_agent, "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self.timeout_seconds = timeout_seconds
        #: Give up sooner when every try so far found nobody listening at all.
        self.unreachable_seconds = unreachable_seconds
        self._current = 0
        self._lock = threading.Lock()

    @property
    def urls(self) -> tuple[str, ...]:
        """Base URLs, in the order given."""
        return tuple(endpoint.url for endpoint in self._endpoints)

    def headers(self, request: Request) -> dict[str, str]:
        """The headers of every request and this one's."""
        return {**self._headers, **request.headers}

    def choose(self) -> tuple[Endpoint, float]:
        """The endpoint to ask next and how long it wants to be left alone."""
        now = time.monotonic()
        with self._lock:
            turn = self._endpoints[self._current :] + self._endpoints[: self._current]
            best = min(turn, key=lambda e: max(e.not_before, now))
            self._current = self._endpoints.index(best)
            return best, max(0.0, best.not_before - now)

    def advance(self, endpoint: Endpoint, pause_seconds: float, *, everyone: bool) -> None:
        """Leave ``endpoint`` (or the whole cluster) alone for a while and go on to the next."""
        until = time.monotonic() + pause_seconds
        with self._lock:
            for each in self._endpoints if everyone else [endpoint]:
                each.not_before = max(each.not_before, until)
            self._current = (self._endpoints.index(endpoint) + 1) % len(self._endpoints)


class Tries:
    """The tries of one request until its deadline."""

    def __init__(self, endpoints: Endpoints, request: Request) -> None:
        self._endpoints = endpoints
        self._request = request
        timeout_seconds = request.timeout_seconds or endpoints.timeout_seconds
        self._seconds = timeout_seconds + request.patience_seconds
        self._begun = time.monotonic()
        self._deadline = self._begun + self._seconds
        self._rounds = 0
        #: Nobody was there, at any endpoint, so far.
        self._only_refused = True
        self._maybe_applied = False
        self._last: ClientError = ConnectionFailed("nothing was tried")
        #: The last answer that it cannot be done just now: it says more than a refused connection.
        self._unavailable: ProblemError | None = None
        #: Endpoints whose last try found nobody.
        self._unreachable: set[str] = set()

    def turn(self) -> tuple[Endpoint, float]:
        """Whom to ask, and the seconds to wait before.  Raises what the request ends with."""
        endpoint, wait = self._endpoints.choose()
        if wait and wait > self._left():
            raise self._end()
        return endpoint, wait

    @property
    def seconds_left(self) -> float:
        """For one try."""
        return max(TRY_SECONDS_MIN, self._left())

    @property
    def connect_seconds(self) -> float:
        """To open a connection."""
        return min(self.seconds_left, CONNECT_SECONDS_MAX)

    def refused(self, endpoint: Endpoint, why: str) -> None:
        """No connection: the request surely did not arrive."""
        self._last = ConnectionFailed(f"{endpoint.url}: {why}")
        self._unreachable.add(endpoint.url)
        self._pause(endpoint, 0.0)

    def sent(self) -> None:
        """A try may have arrived, and nothing is known of it."""
        if self._request.method != "GET":
            self._maybe_applied = True

    def broken(self, endpoint: Endpoint, why: str) -> None:
        """The connection failed after the request began to leave.  May raise OutcomeUnknown."""
        self._only_refused = False
        self.sent()
        self._last = ConnectionFailed(f"{endpoint.url}: {why}")
        self._unreachable.add(endpoint.url)
        if not self._request.repeatable:
            raise self._end()
        self._pause(endpoint, 0.0)

    def answered(self, endpoint: Endpoint) -> None:
        """There is an answer, whatever it says."""
        self._only_refused = False
        self._unreachable.discard(endpoint.url)
        endpoint.not_before = 0.0

    def judge(
        self, endpoint: Endpoint, status: int, body: bytes, reason: str, retry_after: str | None
    ) -> None:
        """Raise an answer from 400 on if it is final; return to have it tried again."""
        problem = _problem(endpoint, status, body, reason)
        if problem.status in (429, 503) and not isinstance(problem, ReplicaDivergence):
            self._last = self._unavailable = problem
            everyone = problem.status == 429
            self._pause(endpoint, _retry_after_seconds(retry_after), everyone=everyone)
            return
        if problem.status == 504:
            self._last = problem
            self._maybe_applied = self._request.method != "GET"
            if not self._request.repeatable:
                raise self._end()
            self._pause(endpoint, _retry_after_seconds(retry_after))
            return
        problem.after_unknown = self._maybe_applied
        raise problem

    @property
    def _key(self) -> str:
        return self._request.headers.get("Idempotency-Key", "")

    def _pause(self, endpoint: Endpoint, seconds: float, *, everyone: bool = False) -> None:
        """Note how long to leave the endpoint alone; the others are asked at once."""
        count = max(1, len(self._endpoints.urls))
        backoff = BACKOFF_SECONDS_FIRST * 2 ** min(10, self._rounds // count)
        self._rounds += 1
        pause = random.uniform(0.0, min(BACKOFF_SECONDS_MAX, backoff)) + seconds
        self._endpoints.advance(endpoint, pause, everyone=everyone)

    def _left(self) -> float:
        deadline = self._deadline
        if self._only_refused and self._rounds:
            deadline = min(deadline, self._begun + self._endpoints.unreachable_seconds)
        return deadline - time.monotonic()

    def _end(self) -> ClientError:
        if self._maybe_applied:
            return OutcomeUnknown(
                f"no final answer within {self._seconds:g} s ({self._last}); it may or may not "
                "have been done, repeating it with the same key is safe",
                idempotency_key=self._key,
            )
        error = self._last
        if isinstance(error, ConnectionFailed) and self._unavailable is not None:
            error = self._unavailable
        urls = self._endpoints.urls
        if isinstance(error, ProblemError):
            silent = [url for url in urls if url in self._unreachable]
            return error.after(time.monotonic() - self._begun, silent, len(urls))
        if isinstance(error, ConnectionFailed):
            return ConnectionFailed(
                f"no peer answered within {time.monotonic() - self._begun:.1f} s at "
                f"{', '.join(urls)} (last: {error})"
            )
        return error


def why(error: Exception) -> str:
    """An error of the network in a few words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:200]


def _problem(endpoint: Endpoint, status: int, body: bytes, reason: str) -> ProblemError:
    try:
        document: Any = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"detail": f"{endpoint.url} answered HTTP {status} {reason}"}
    return problem_error(status, document)


def _retry_after_seconds(value: str | None) -> float:
    """Seconds from ``Retry-After``; a date or nonsense counts as one second."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = 1.0
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
