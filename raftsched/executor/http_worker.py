"""Attempts that are an HTTP request, and the one process of a node that makes them.

The runner must stay small and quick, so the worker (`executor.http`) starts with the first such
attempt and stays.

Rules
1. Nothing here waits: what the worker does not take yet stays here, one request for an attempt.
2. A worker that dies takes the requests with it that it was given (``worker-died``), and one that
   never got ready those that waited for it; the next one is started when one is needed, later each
   time, up to ``PAUSE_SECONDS_MAX``.
3. A worker that does not answer an order to break off within ``PATIENCE_SECONDS`` hangs, and is
   killed for it; at the end of a lease there are only ``LAST_SECONDS``.  Its other requests end
   ``lost``, so that they are made again without counting as failed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

import raftsched
from raftsched.executor import http_messages as wire
from raftsched.executor.addresses import Rules
from raftsched.executor.attempt import End, Listener
from raftsched.executor.children import Children
from raftsched.executor.http_messages import Abort, Answer, Ready, Request
from raftsched.executor.leftovers import MARK
from raftsched.executor.messages import StartAttempt
from raftsched.executor.outbox import Outbox
from raftsched.executor.spawn import CannotStart
from raftsched.executor.spool import TAIL_BYTES, Spool

RECEIVE_BYTES = 256 * 1024
#: A new worker must say its first word within this.
READY_SECONDS = 30.0
#: An answer to `Abort`: of a worker that is busy, and once an attempt must end.
PATIENCE_SECONDS = 1.5
LAST_SECONDS = 0.1
#: Between a worker's death and the next start; doubled when it lived less than `STEADY_SECONDS`.
PAUSE_SECONDS = 0.1
PAUSE_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0
#: Variables of the runner's that the worker needs.
_INHERITED = ("PATH", "HOME", "LANG", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP)
#: With ``-P`` the directory of the runner is not on its path.
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); import runpy; "
_START += "runpy.run_module('raftsched.executor.http', run_name='__main__')"


class HttpExecutor:
    """Makes the requests of one node's attempts."""

    def __init__(
        self, spool: Spool, mark: str, selector: selectors.BaseSelector, children: Children
    ) -> None:
        self.rules = Rules()
        self._spool = spool
        self._mark = mark
        self._selector = selector
        self._children = children
        self._worker: _Worker | None = None
        #: Attempts under way, and those of them that no worker was given yet.
        self._executions: dict[int, HttpExecution] = {}
        self._waiting: dict[int, bytes] = {}
        self._pause = PAUSE_SECONDS
        self._not_before = 0.0
        #: The worker was killed for the sake of this request; 0: of none.
        self._killed_for = 0

    def start(self, attempt: StartAttempt, listener: Listener) -> HttpExecution:
        """Raises CannotStart."""
        try:
            frame = wire.encode(_request(attempt, self.rules))
        except ValueError as error:
            raise CannotStart(f"cannot-start: {error}") from error
        execution = HttpExecution(self, attempt, listener)
        self._executions[attempt.token] = execution
        self._waiting[attempt.token] = frame
        self.look()
        return execution

    def look(self) -> None:
        """Give the worker what waits; start one if there is none and it is time."""
        now = time.monotonic()
        if self._worker is None and self._waiting and now >= self._not_before:
            try:
                self._worker = _Worker(self, self._mark, self._selector, self._children)
            except OSError as error:
                self._postpone(now, now)
                print(f"the HTTP worker cannot be started: {error}", file=sys.stderr)
        if self._worker is not None and self._worker.look(now):
            for frame in self._waiting.values():
                self._worker.put(frame)
            self._waiting.clear()

    def abort(self, token: int) -> None:
        """Break a request off; its attempt hears of it."""
        if token in self._waiting:
            self._end(token, End("failed", reason="http-aborted"))
        elif self._worker is not None:
            self._worker.put(wire.encode(Abort(token)))

    def kill(self, token: int = 0) -> None:
        """End the worker, with all that it does; ``token``: the request that would not end."""
        if self._worker is not None:
            self._killed_for = self._killed_for or token
            self._worker.kill()

    # The worker says -----------------------------------------------------------------------------

    def answered(self, answer: Answer) -> None:
        execution = self._executions.get(answer.token)
        if execution is None:
            return
        tail, size = self._write(execution.attempt, answer.output) if answer.output else (b"", 0)
        status = "failed" if answer.reason else "succeeded"
        self._end(
            answer.token,
            End(status, reason=answer.reason, tail=tail, size=size, result=answer.result),
        )

    def died(self, how: str, started_at: float, *, was_ready: bool) -> None:
        """It is reaped."""
        self._worker = None
        self._postpone(time.monotonic(), started_at)
        print(f"the HTTP worker ended: {how}", file=sys.stderr)
        reason = "worker-died" if was_ready else f"worker-died: {how}, see runner.log"
        killed_for, self._killed_for = self._killed_for, 0
        for token in list(self._executions):
            if was_ready and token in self._waiting:
                continue
            if killed_for not in (0, token):
                self._end(token, End("lost", reason="worker-killed: another request would not end"))
            else:
                self._end(token, End("failed", reason=reason))

    def _postpone(self, now: float, started_at: float) -> None:
        if now - started_at >= STEADY_SECONDS:
            self._pause = PAUSE_SECONDS
        self._not_before = now + self._pause
        self._pause = min(self._pause * 2, PAUSE_SECONDS_MAX)

    def _end(self, token: int, end: End) -> None:
        self._waiting.pop(token, None)
        self._executions.pop(token).listener.ended(end)

    def _write(self, attempt: StartAttempt, data: bytes) -> tuple[bytes, int]:
        """Make this the attempt's output: (its last bytes, all its bytes)."""
        try:
            output, descriptor = self._spool.open(attempt.task_id, attempt.number)
            with contextlib.suppress(OSError), os.fdopen(descriptor, "wb") as file:
                file.write(data)
            return output.close()
        except (OSError, ValueError):
            return data[-TAIL_BYTES:], len(data)


class HttpExecution:
    """One request."""

    __slots__ = ("_aborted_at", "_executor", "attempt", "listener")

    def __init__(self, executor: HttpExecutor, attempt: StartAttempt, listener: Listener) -> None:
        self._executor = executor
        self.attempt = attempt
        self.listener = listener
        self._aborted_at = 0.0

    def has_ended(self) -> bool:
        return False

    def terminate(self) -> None:
        if not self._aborted_at:
            self._aborted_at = time.monotonic()
            self._executor.abort(self.attempt.token)

    def kill(self) -> None:
        if not self._aborted_at:
            self.terminate()
            return
        patience = LAST_SECONDS if self.listener.is_last_call else PATIENCE_SECONDS
        if time.monotonic() - self._aborted_at >= patience:
            self._executor.kill(self.attempt.token)

    def look(self) -> None:
        self._executor.look()

    def abandon(self) -> None:
        self._executor.kill()


class _Worker:
    """The process, from its start until it is reaped."""

    def __init__(
        self,
        owner: HttpExecutor,
        mark: str,
        selector: selectors.BaseSelector,
        children: Children,
    ) -> None:
        """Start it.  Raises OSError."""
        self._owner = owner
        self._selector = selector
        self._children = children
        self._received = bytearray()
        self._is_ready = False
        self._is_gone = False
        self._started_at = time.monotonic()
        self._socket, theirs = socket.socketpair()
        try:
            self._pid = _spawn(theirs.fileno(), mark)
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._socket.setblocking(False)
        selector.register(self._socket, selectors.EVENT_READ, self._talk)
        self._outbox = Outbox(selector, self._socket, self._talk)
        children.add(self._pid, self._exited)

    def look(self, now: float) -> bool:
        """May it be given requests?  One that does not get ready is killed."""
        if not self._is_ready and now - self._started_at > READY_SECONDS:
            self.kill()
        return self._is_ready and not self._is_gone

    def put(self, frame: bytes) -> None:
        self._outbox.put(frame)
        self._send()

    def kill(self) -> None:
        self._children.signal(self._pid, signal.SIGKILL)

    def _talk(self) -> bool:
        """The socket can be read, or written to again; False if there was nothing to read."""
        self._send()
        try:
            data = b"" if self._is_gone else self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self._received += data
        try:
            said = wire.split(self._received)
        except (msgspec.DecodeError, ValueError) as error:
            print(f"the HTTP worker said what is no message: {error}", file=sys.stderr)
            data, said = b"", []
        for message in said:
            if isinstance(message, Ready):
                self._is_ready = True
                self._owner.look()
            elif isinstance(message, Answer):
                self._owner.answered(message)
        if not data:
            self._hang_up()
        return bool(data)

    def _send(self) -> None:
        if not self._is_gone and not self._outbox.send():
            self._hang_up()

    def _hang_up(self) -> None:
        """Whoever is not spoken to any more, ends."""
        if not self._is_gone:
            self._is_gone = True
            self._selector.unregister(self._socket)
            self._socket.close()
            self.kill()

    def _exited(self, status: int) -> None:
        while self._talk():
            pass  # What it said last counts.
        self._hang_up()
        code = os.waitstatus_to_exitcode(status)
        how = f"signal-{-code}" if code < 0 else f"exit-code-{code}"
        self._owner.died(how, self._started_at, was_ready=self._is_ready)


def _request(attempt: StartAttempt, rules: Rules) -> Request:
    """What the worker is asked for.  Raises CannotStart."""
    call = attempt.spec.http
    assert call is not None
    if not call.url.startswith(("http://", "https://")):
        raise CannotStart("cannot-start: http.url is neither http:// nor https://")
    headers = {
        name: value
        for name, value in call.headers.items()
        if not name.lower().startswith("raftsched-")
    }
    headers["Raftsched-Task-Id"] = attempt.task_id
    headers["Raftsched-Attempt"] = str(attempt.number)
    headers["Raftsched-Fencing-Token"] = str(attempt.token)
    trace = attempt.spec.env.get("TRACEPARENT", "")
    if trace and "traceparent" not in {name.lower() for name in headers}:
        headers["traceparent"] = trace
    return Request(
        attempt.token,
        call.url,
        call.method,
        headers,
        call.body,
        call.expect,
        call.redirects_max,
        call.verify,
        rules.private,
        rules.metadata,
    )


def _spawn(link: int, mark: str) -> int:
    """The process, with the socket as its descriptor 0.  Raises OSError."""
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    root = str(Path(raftsched.__file__).parents[1])
    return os.posix_spawn(
        sys.executable,
        (sys.executable, "-P", "-c", _START, root),
        env | {MARK: mark},
        file_actions=((os.POSIX_SPAWN_DUP2, link, 0), (os.POSIX_SPAWN_DUP2, 2, 1)),
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULTED,
    )
