"""The runner's end of one worker process: start it, ask it for calls, hear what became, end it.

Rules
1. Nothing here waits: what the socket does not take stays here, and is bounded by what was asked.
2. A worker that dies takes with it the call that had begun.  What it had done counts, and what had
   not begun is given back.
3. Calls are asked for ahead only as far as a worker does them within ``AHEAD_SECONDS``, and are
   taken back from one that is in a call for ``QUIET_SECONDS``: none waits behind a long one.
"""

from __future__ import annotations

import mmap
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Protocol

import msgspec

import raftsched
from raftsched.executor.children import Children, signal_group
from raftsched.executor.leftovers import MARK
from raftsched.executor.outbox import Outbox
from raftsched.executor.worker_messages import (
    PART_BYTES,
    SHARED_BYTES,
    SHARED_HEAD_BYTES,
    Begin,
    Call,
    Calls,
    Leave,
    Look,
    Ready,
    Result,
    Results,
    Setup,
    ToRunner,
    ToWorker,
    encode,
    from_worker,
    kept_results,
)

RECEIVE_BYTES = 256 * 1024
#: A worker is asked for so much work ahead, and for so many calls at most.
AHEAD_SECONDS = 0.004
AHEAD_MAX = 256
#: What a call is thought to take before any was seen.
FIRST_SECONDS = 0.001
#: A worker that has been in one call for so long gives back those that wait for it.
QUIET_SECONDS = 0.01
#: An application must be imported within this.
IMPORT_SECONDS_MAX = 60.0
#: A worker told to leave is killed after this.
LEAVE_SECONDS_MAX = 5.0
#: What the interpreter runs; with ``-P`` the directory of the runner is not on its path.
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); import raftsched.executor.worker as w; "
_START += "sys.exit(w.main())"
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP)


class Owner(Protocol):
    """Who wants to know what becomes of a worker."""

    def ready(self, worker: WorkerProcess, ready: Ready) -> None:
        """The application is imported; answer by `WorkerProcess.begin`."""

    def unusable(self, worker: WorkerProcess, reason: str, traceback: bytes) -> None:
        """The application cannot be imported; the worker ends."""

    def news(self, worker: WorkerProcess, results: Results) -> None:
        """Of its calls."""

    def died(self, worker: WorkerProcess, how: str) -> None:
        """``signal-N`` or ``exit-code-N``: it is reaped, and its group is dead."""


class Held:
    """How many calls wait in workers for one before them, in all."""

    count = 0


class WorkerProcess:
    """One worker, from its start until it is reaped."""

    def __init__(
        self,
        setup: Setup,
        mark: str,
        owner: Owner,
        selector: selectors.BaseSelector,
        children: Children,
        held: Held,
    ) -> None:
        """Start it.  Raises OSError."""
        self._owner = owner
        self._selector = selector
        self._held = held
        self._frames = from_worker()
        self._asked: list[Call] = []
        self._asked_bytes = 0
        #: Tokens that were asked for and are not answered, in order.
        self.outstanding: dict[int, None] = {}
        self.is_ready = False
        self.calls_coroutines = False
        #: It is asked for nothing more, and ends when it has answered.
        self.is_leaving = False
        #: It has hung up, or its death is known.
        self._is_gone = False
        #: It was killed by us, for the sake of this token (0: of none).
        self.killed_for: int | None = None
        self._call_seconds = FIRST_SECONDS
        #: Calls that it is to have at once, at most.
        self._most = 1
        self._is_filling = True
        self._started_at = time.monotonic()
        #: The call that had begun at the last look, and when it was first seen.
        self._seen = 0
        self._seen_at = 0.0
        self._left_at = 0.0
        self._has_left = False
        self._is_recalled = False
        self._looks = False
        self._socket, theirs = socket.socketpair()
        page = os.memfd_create("raftsched-worker", os.MFD_CLOEXEC)
        try:
            os.ftruncate(page, SHARED_BYTES)
            self._shared = mmap.mmap(page, SHARED_BYTES)
            self._words = memoryview(self._shared)[:SHARED_HEAD_BYTES].cast("Q")
            self.pid = _spawn(theirs.fileno(), page, mark)
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
            os.close(page)
        self._socket.setblocking(False)
        selector.register(self._socket, selectors.EVENT_READ, self.talk)
        self._outbox = Outbox(selector, self._socket, self.talk)
        children.add(self.pid, self._exited)
        self._put(setup)

    # Asking --------------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Is it one that can be asked, or soon?"""
        return not self.is_leaving and not self._is_gone and self.killed_for is None

    @property
    def has_room(self) -> bool:
        """May it be asked for a call more?

        It is filled up only when it has worked off half: few messages with many calls cost less
        than many with few.
        """
        count = len(self.outstanding)
        if count >= self._most:
            self._is_filling = False
        elif count <= self._most // 2:
            self._is_filling = True
        return self._is_filling and self.is_ready and self.is_usable

    def begin(self, ready: Ready, *, calls_coroutines: bool) -> None:
        """It is ready: say which kind of functions it is for."""
        self.is_ready = True
        self.calls_coroutines = calls_coroutines
        self._most = ready.concurrency if calls_coroutines else self._most
        self._put(Begin(calls_coroutines))

    def ask(self, call: Call) -> None:
        """Call this; goes out with the next `send`."""
        if self.outstanding and not self.calls_coroutines:
            self._held.count += 1
        self.outstanding[call.token] = None
        self._asked.append(call)
        self._asked_bytes += len(call.args) + len(call.kwargs)
        if self._asked_bytes > PART_BYTES:
            self._put_asked()

    def answered(self, token: int) -> None:
        """The call is over, or given back."""
        if token in self.outstanding:
            if len(self.outstanding) > 1 and not self.calls_coroutines:
                self._held.count -= 1
            del self.outstanding[token]

    def put(self, message: ToWorker) -> None:
        """Say this after what was asked before."""
        self._put_asked()
        self._put(message)

    def look(self) -> None:
        """With the next `send`: have it name its output file, and tell of progress."""
        self._looks = True

    def has_begun(self, token: int) -> bool:
        """Has this call begun, as far as the worker's own word goes?"""
        return self.calls_coroutines or int(self._words[0]) == token

    def begun(self) -> set[int]:
        """What had begun of what is not answered, of a worker that is dead."""
        tokens = list(self.outstanding)
        if self.calls_coroutines:
            return set(tokens)
        last = int(self._words[0])
        return set(tokens[: tokens.index(last) + 1]) if last in self.outstanding else set()

    def prod(self, now: float) -> None:
        """Take calls back that wait for one which takes long."""
        if len(self.outstanding) < 2 or self.calls_coroutines:
            return
        begun = int(self._words[0])
        if begun != self._seen:
            self._seen, self._seen_at, self._is_recalled = begun, now, False
        elif not self._is_recalled and now - self._seen_at >= QUIET_SECONDS:
            self._is_recalled = True
            self._paced(now - self._seen_at)
            self.put(Look(recalls=True))

    def retire(self) -> None:
        """Ask for nothing more; it leaves once it has answered."""
        self.is_leaving = True
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self.is_leaving and not self.outstanding and not self._has_left:
            self._has_left = True
            self._left_at = time.monotonic()
            self.put(Leave())

    def watch(self, now: float) -> str:
        """Why it is to be killed, or nothing."""
        if self.killed_for is not None:
            return ""
        if not self.is_ready and now - self._started_at > IMPORT_SECONDS_MAX:
            return f"its import took more than {IMPORT_SECONDS_MAX:g} s"
        is_over = self._is_gone or (self.is_leaving and not self.outstanding)
        if is_over and now - self._left_at > LEAVE_SECONDS_MAX:
            return "it does not end"
        return ""

    def kill(self, token: int = 0) -> None:
        """End it with all that it started; ``token``: the call that would not end."""
        if self.killed_for is None:
            self.killed_for = token
        signal_group(self.pid, signal.SIGKILL)

    # The socket ----------------------------------------------------------------------------------

    def talk(self) -> None:
        """Hear what it says, and send what is left."""
        while True:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data:
                self._hang_up()
                return
            try:
                for message in self._frames.feed(data):
                    self._do(message)
            except (msgspec.DecodeError, ValueError):
                self.kill()
                return
            if len(data) < RECEIVE_BYTES:
                break
        self.send()

    def _do(self, message: ToRunner) -> None:
        if isinstance(message, Results):
            if message.results:
                self._paced(message.busy_us / 1e6 / len(message.results))
            self._owner.news(self, message)
            if message.retires:
                self.retire()
            else:
                self._leave_if_done()
        elif isinstance(message, Ready):
            self._owner.ready(self, message)
        else:
            self._owner.unusable(self, message.reason, message.traceback)

    def _paced(self, seconds: float) -> None:
        """A call takes so long: how many is it to have at once?"""
        self._call_seconds = (self._call_seconds + seconds) / 2
        if not self.calls_coroutines:
            self._most = max(1, min(AHEAD_MAX, int(AHEAD_SECONDS / (self._call_seconds + 1e-6))))

    def _put(self, message: ToWorker) -> None:
        self._outbox.put(encode(message))

    def _put_asked(self) -> None:
        if self._asked:
            self._put(Calls(tuple(self._asked)))
            self._asked.clear()
            self._asked_bytes = 0

    def send(self) -> None:
        """Send as much as it takes now."""
        self._put_asked()
        if self._looks and not self._outbox.is_stuck:
            self._put(Look())
        self._looks = False
        if self._socket.fileno() >= 0:
            self._outbox.send()  # If nobody is there it is dying, and `_exited` tells.

    def _hang_up(self) -> None:
        """It has closed its end: it ends, or is to."""
        if self._socket.fileno() >= 0:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._is_gone = True
            self._left_at = time.monotonic()

    def _kept(self) -> tuple[Result, ...]:
        """What it had done and not said, of a worker that is dead."""
        size = min(int(self._words[1]), SHARED_BYTES - SHARED_HEAD_BYTES)
        data = self._shared[SHARED_HEAD_BYTES : SHARED_HEAD_BYTES + size]
        try:
            found = kept_results(data)
        except (msgspec.DecodeError, ValueError):
            return ()  # It wrote where it should not have.
        return tuple([result for result in found if result.token in self.outstanding])

    def _exited(self, status: int) -> None:
        if self._socket.fileno() >= 0:
            self.talk()  # What it said last counts.
        self._hang_up()
        done = self._kept()
        if done:
            self._owner.news(self, Results(done))
        code = os.waitstatus_to_exitcode(status)
        self._owner.died(self, f"signal-{-code}" if code < 0 else f"exit-code-{code}")


def _spawn(link: int, page: int, mark: str) -> int:
    """The process, in a session of its own.  Raises OSError."""
    env = {**os.environ, MARK: mark}
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.set_inheritable(link, True)
    os.set_inheritable(page, True)
    root = str(Path(raftsched.__file__).parents[1])
    argv = (sys.executable, "-P", "-c", _START, root, str(link), str(page))
    try:
        return os.posix_spawn(
            sys.executable,
            argv,
            env,
            file_actions=((os.POSIX_SPAWN_DUP2, null, 0),),
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTED,
        )
    finally:
        os.close(null)
