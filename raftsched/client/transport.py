"""Requests over the standard library's ``http.client``, on connections that are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)

from raftsched.client.errors import ConnectionFailed
from raftsched.client.messages import REPLY_BYTES_MAX, Reply, Request
from raftsched.client.tries import Endpoint, Endpoints, Tries, why

#: Idle connections kept per endpoint.
IDLE_MAX = 4
STREAM_READ_BYTES = 64 * 1024

Connection = HTTPConnection | HTTPSConnection


class Transport:
    """Sends requests to whichever endpoint answers.  Safe to share between threads."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._idle: dict[Endpoint, list[Connection]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close idle connections; the transport may still be used."""
        with self._lock:
            idle = [connection for some in self._idle.values() for connection in some]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def send(self, request: Request) -> Reply:
        """One answer, within the deadline over all tries.

        Raises ProblemError (the answer; ``after_unknown`` when an earlier try may have done it),
        ConnectionFailed (surely not applied) or OutcomeUnknown.
        """
        tries = Tries(self._endpoints, request)
        while True:
            response, connection, endpoint = self._answer(tries, request)
            try:
                body = response.read(REPLY_BYTES_MAX)
                _check_whole(response)
            except (OSError, HTTPException) as error:
                connection.close()
                tries.broken(endpoint, f"broke off in the middle of its answer ({why(error)})")
                continue
            self._give_back(endpoint, connection, response)
            return Reply(response.status, _lower(response), body, endpoint.url)

    def stream(self, request: Request) -> tuple[Mapping[str, str], Iterator[bytes]]:
        """Headers and the body piece by piece as it arrives; the deadline covers the headers.

        The iterator raises ConnectionFailed when the stream breaks before its end.
        """
        response, connection, endpoint = self._answer(Tries(self._endpoints, request), request)
        if connection.sock is not None:
            connection.sock.settimeout(None)
        return _lower(response), self._pieces(endpoint, connection, response)

    def _pieces(
        self, endpoint: Endpoint, connection: Connection, response: HTTPResponse
    ) -> Iterator[bytes]:
        done = False
        try:
            while piece := response.read1(STREAM_READ_BYTES):
                yield piece
            _check_whole(response)
            done = True
        except (OSError, HTTPException) as error:
            raise ConnectionFailed(f"{endpoint.url} broke off ({why(error)})") from None
        finally:
            if done:
                self._give_back(endpoint, connection, response)
            else:
                connection.close()

    def _answer(self, tries: Tries, request: Request) -> tuple[HTTPResponse, Connection, Endpoint]:
        """An answer below 400 with its body unread."""
        while True:
            endpoint, wait = tries.turn()
            if wait:
                time.sleep(wait)
            try:
                response, connection = self._exchange(tries, endpoint, request)
            except _Refused as error:
                tries.refused(endpoint, str(error))
                continue
            except _Broken as error:
                tries.broken(endpoint, str(error))
                continue
            tries.answered(endpoint)
            if response.status < 400:
                return response, connection, endpoint
            body = self._refusal(endpoint, connection, response)
            retry_after = response.headers.get("Retry-After")
            tries.judge(endpoint, response.status, body, response.reason, retry_after)

    def _exchange(
        self, tries: Tries, endpoint: Endpoint, request: Request
    ) -> tuple[HTTPResponse, Connection]:
        idle = self._take_idle(endpoint)
        if idle is not None:
            try:
                return self._talk(idle, tries, request), idle
            except _Broken:
                # The server may have closed it between two requests: ask once more on a fresh
                # one, where doing it twice is the same as once.
                if not request.repeatable:
                    raise
                tries.sent()
        kind = HTTPSConnection if endpoint.tls else HTTPConnection
        connection = kind(endpoint.host, endpoint.port, timeout=tries.connect_seconds)
        try:
            connection.connect()
        except OSError as error:
            raise _Refused(why(error)) from None
        return self._talk(connection, tries, request), connection

    def _talk(self, connection: Connection, tries: Tries, request: Request) -> HTTPResponse:
        try:
            if connection.sock is not None:
                connection.sock.settimeout(tries.seconds_left)
            headers = self._endpoints.headers(request)
            connection.request(request.method, request.target, request.body, headers)
            return connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            raise _Broken(why(error)) from None
        except BaseException:
            connection.close()
            raise

    def _refusal(self, endpoint: Endpoint, connection: Connection, response: HTTPResponse) -> bytes:
        """The body of an answer from 400 on; empty when it breaks off."""
        try:
            body = response.read(REPLY_BYTES_MAX)
        except (OSError, HTTPException):
            connection.close()
            return b""
        self._give_back(endpoint, connection, response)
        return body

    def _take_idle(self, endpoint: Endpoint) -> Connection | None:
        """An open connection that was used before, or None."""
        with self._lock:
            idle = self._idle.get(endpoint)
            return idle.pop() if idle else None

    def _give_back(
        self, endpoint: Endpoint, connection: Connection, response: HTTPResponse
    ) -> None:
        with self._lock:
            idle = self._idle.setdefault(endpoint, [])
            if response.will_close or connection.sock is None or len(idle) >= IDLE_MAX:
                connection.close()
            else:
                idle.append(connection)


class _Refused(Exception):
    """No connection: the request surely did not arrive."""


class _Broken(Exception):
    """The connection failed after the request began to leave."""


def _check_whole(response: HTTPResponse) -> None:
    """Raise for a body that is shorter than its header says: reading itself does not."""
    if response.length:
        raise IncompleteRead(b"", response.length)


def _lower(response: HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
