"""The runner: the parent of all attempts of a node, small and single-minded.

Its own process with one thread, so that spawning is cheap, attempts outlive a peer that is killed,
and leases are kept also when the peer is stopped or hung.  It knows nothing of the cluster.

Rules
1. At most as many attempts run at once as the peer said; the others wait here for their turn, so
   that the next one starts without a word from the peer.
2. An attempt whose lease runs out is sent SIGTERM early enough for its grace and SIGKILL before the
   end, to its whole process group.
3. A finished attempt's report is kept until the peer says that the state has answered it.
4. When nobody is connected and nothing runs for a while, the runner ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from raftsched.executor import cgroup, messages
from raftsched.executor.addresses import Rules
from raftsched.executor.attempt import Attempt, End, Executor
from raftsched.executor.cgroup import Groups
from raftsched.executor.children import Children
from raftsched.executor.command import CommandExecutor
from raftsched.executor.hooks import HookedExecutor, has_hooks
from raftsched.executor.http_worker import HttpExecutor
from raftsched.executor.leases import KILL_MARGIN_SECONDS, Leases
from raftsched.executor.ledger import Ledger, Pulse
from raftsched.executor.leftovers import LOCK, mark_of
from raftsched.executor.messages import AttemptReport, Running, StartAttempt
from raftsched.executor.output import CannotTrim
from raftsched.executor.places import Places
from raftsched.executor.python import PythonExecutor
from raftsched.executor.results import Answers
from raftsched.executor.runner_socket import Connection, listen
from raftsched.executor.shortage import SHORT, Shortage
from raftsched.executor.spawn import CannotStart, Spawner
from raftsched.executor.spool import Spool
from raftsched.executor.waiting import Waiting
from raftsched.executor.worker_process import QUIET_SECONDS

#: Running attempts' output and all deadlines are looked at this often.
WATCH_SECONDS = 0.1
#: While attempts wait for their turn, news is gathered for so long, or until there are so many:
#: the peer has nothing to do about a single one.
GATHER_SECONDS = 0.02
GATHER_MAX = 64
#: Without a peer and without attempts the runner ends after this.
IDLE_SECONDS = 60.0
#: Strays are written down, and the log's size looked at, this often.
TIDY_SECONDS = 0.5
#: The runner's log is emptied beyond this: applications that do not start write there.
LOG_BYTES_MAX = 4 * 1024 * 1024
#: Stands for a lease where nothing runs that needs one.
NO_LEASE_SECONDS = 1e6
#: Output on disk is swept after this many bytes of new output.
SWEEP_BYTES = 64 * 1024 * 1024
#: What a file takes on the disk at least.
LEAST_FILE_BYTES = 4096
_SWEPT = object()


class Runner:
    """One selector loop: the socket, children, deadlines."""

    def __init__(
        self, directory: Path, lease_seconds: float, ledger: Ledger | None, *, is_clean: bool
    ) -> None:
        """``is_clean``: nothing of earlier runners can still run."""
        self._directory = directory
        self._is_clean = is_clean
        self._leases = Leases(lease_seconds)
        self._incarnation = str(uuid.uuid4())
        self._spool = Spool(directory)
        self._ledger = ledger
        self._children = children = Children(ledger)
        self._answers = Answers(directory)
        self._mark = mark = mark_of(directory)
        self._spawner = Spawner(self._spool, self._answers, mark)
        self._places = Places(directory, children)
        self._command = CommandExecutor(self._spawner, children, self._places)
        self._attempts: dict[int, Attempt] = {}
        #: Attempts that wait for their turn, oldest first, and how many may run at once.
        self._waiting = Waiting()
        self._slots = sys.maxsize
        self._shortage = Shortage()
        self._finished: dict[int, AttemptReport] = {}
        #: What the peer was not told yet, and since when.
        self._news: dict[int, AttemptReport] = {}
        self._progress: dict[int, AttemptReport] = {}
        self._news_since = 0.0
        self._selector = selectors.DefaultSelector()
        self._python = PythonExecutor(self._spool, mark, self._selector, self._children)
        self._http = HttpExecutor(self._spool, mark, self._selector, self._children)
        self._peer = Connection(self._selector)
        self._idle_since = time.monotonic()
        self._tidy_at = 0.0
        self._output_bytes = 0
        self._sweep: Iterator[None] | None = None
        self._quit = False

    def run(self) -> None:
        """Serve until there is nothing left to do."""
        # Of a pipe, which is written to at every end, for less than a socket's.
        wakened, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: self._terminate())
        listener = listen(self._directory)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(wakened, selectors.EVENT_READ)
        watched = 0.0
        while not self._quit:
            timeout = GATHER_SECONDS if self._news else WATCH_SECONDS
            if self._python.held:
                timeout = QUIET_SECONDS
            for key, _ in self._selector.select(timeout):
                if key.data is not None:
                    key.data()
                elif key.fileobj is listener:
                    self._accept(listener)
                elif key.fd == wakened:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wakened, 4096)
                else:
                    self._talk()
            self._children.reap()
            self._start_waiting()
            now = time.monotonic()
            if now - watched >= WATCH_SECONDS:
                watched = now
                self._watch(now)
            self._python.send()
            self._tell(now)
        for attempt in self._attempts.values():
            attempt.execution.abandon()
        self._http.kill()
        self._answers.close()
        self._places.end()
        if self._spawner.groups is not None:
            self._spawner.groups.close()
        self._python.close()
        signal.set_wakeup_fd(-1)

    # The peer ------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        """A new connection replaces the old one: a restarted peer must not wait for a dead one."""
        client, _ = listener.accept()
        while self._talk():
            pass  # What the old one said last counts.
        self._peer.open(client)
        inventory = [
            Running(token, attempt.spec.task_id, attempt.spec.number)
            for token, attempt in self._attempts.items()
        ]
        inventory += [Running(spec.token, spec.task_id, spec.number) for spec in self._waiting]
        inventory += [
            Running(token, report.task_id, report.number, report)
            for token, report in self._finished.items()
        ]
        self._news.clear()
        for begin in range(0, len(inventory) or 1, messages.PART_MAX):
            end = begin + messages.PART_MAX
            self._peer.put(
                messages.Hello(
                    messages.RUNNER_PROTOCOL,
                    self._incarnation,
                    tuple(inventory[begin:end]),
                    more=end < len(inventory),
                    is_clean=self._is_clean,
                )
            )

    def _talk(self) -> bool:
        """Do what the peer says; False if it says nothing now."""
        received = self._peer.receive()
        for message in received or ():
            self._do(message)
        return received is not None

    def _do(self, message: messages.AnyMessage) -> None:
        if isinstance(message, messages.Start):
            self._slots = message.slots
            for spec in message.attempts:
                if not self._has(spec.token):
                    self._waiting.add(spec)
                    self._leases.waits(spec)
            self._start_waiting()
        elif isinstance(message, messages.Stop):
            attempt = self._attempts.get(message.token)
            if attempt is not None:
                attempt.stop("cancelled", message.reason, attempt.grace, time.monotonic())
            # One that was handed to a worker and never began may have come back just now.
            waiting = self._waiting.pop(message.token)
            if waiting is not None:
                self._finish(waiting, End("cancelled", reason=message.reason))
        elif isinstance(message, messages.Renew):
            self._renew(message)
        elif isinstance(message, messages.Forget):
            for token in message.tokens:
                self._finished.pop(token, None)
        elif isinstance(message, messages.Ping):
            self._peer.put(messages.Pong())
        elif isinstance(message, messages.Applications):
            self._python.serve(message)
        elif isinstance(message, messages.Configure):
            self._configure(message)
        elif isinstance(message, messages.Quit) and not (self._attempts or self._waiting):
            self._quit = True

    def _configure(self, message: messages.Configure) -> None:
        self._http.rules = Rules(message.http_private, message.http_metadata)
        if self._attempts:
            return  # Those under way have their groups, or none.
        self._spawner.groups = None
        parent = Path(message.cgroup) if message.cgroup else cgroup.delegated()
        if parent is None:
            return
        try:
            self._spawner.groups = Groups(parent, self._mark, is_for_all=bool(message.cgroup))
        except OSError as error:
            print(f"attempts get no control groups: {error}", file=sys.stderr)

    def _has(self, token: int) -> bool:
        return token in self._attempts or token in self._waiting or token in self._finished

    def _report(self, report: AttemptReport) -> None:
        """News; an end that follows its start closely is told without it."""
        if not self._news:
            self._news_since = time.monotonic()
        self._news[report.token] = report

    def _tell(self, now: float) -> None:
        is_hurry = not self._waiting or len(self._news) >= GATHER_MAX
        is_due = self._news and (is_hurry or now - self._news_since >= GATHER_SECONDS)
        if (is_due or self._progress) and self._peer.is_open:
            news = (*self._news.values(), *self._progress.values())
            for begin in range(0, len(news), messages.PART_MAX):
                self._peer.put(messages.Reports(news[begin : begin + messages.PART_MAX]))
            self._news.clear()
            self._progress.clear()
        self._peer.send()

    # Attempts ------------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        """Start what there is room for, oldest first.

        What waits in a worker behind another call runs no more than what waits here.
        """
        while self._waiting and len(self._attempts) - self._python.held < self._slots:
            spec = self._waiting.next(self._has_room)
            if spec is None:
                return
            self._start(spec)

    def _has_room(self, spec: StartAttempt) -> bool:
        if spec.spec.python is not None:
            return self._python.has_room(spec)
        return self._places.has_room and not self._shortage.is_on(time.monotonic())

    def _start(self, spec: StartAttempt) -> None:
        now = time.monotonic()
        if self._leases.left(spec, now) <= self._leases.stop_early(spec):
            self._finish(spec, End("lost", reason="lease-expired"))
            return
        attempt = Attempt(spec, now, self._ended, self._progressed, self._returned)
        try:
            attempt.execution = self._executor(spec).start(spec, attempt)
        except CannotStart as error:
            self._not_started(spec, error, now)
            return
        self._attempts[spec.token] = attempt
        self._report(AttemptReport(spec.token, spec.task_id, spec.number, "started"))

    def _not_started(self, spec: StartAttempt, error: CannotStart, now: float) -> None:
        if self._shortage.holds(spec.token, error, now):
            self._waiting.add(spec, again=True)
            self._leases.waits(spec)
        else:
            word = "lost" if error.errno in SHORT else "failed"
            self._finish(spec, End(word, reason=str(error)))

    def _executor(self, spec: StartAttempt) -> Executor:
        """What runs attempts of this kind.  Raises CannotStart."""
        if spec.spec.python is not None:
            own: Executor = self._python
        else:
            own = self._http if spec.spec.http is not None else self._command
        return HookedExecutor(own, self._command, self._spool) if has_hooks(spec) else own

    def _progressed(self, attempt: Attempt, permille: int, text: str) -> None:
        spec = attempt.spec
        self._progress[spec.token] = AttemptReport(
            spec.token, spec.task_id, spec.number, "progress", permille=permille, text=text
        )

    def _returned(self, attempt: Attempt) -> None:
        """It had no turn where it was: it gets another, unless it was stopped meanwhile."""
        spec = attempt.spec
        del self._attempts[spec.token]
        if attempt.status:
            self._finish(spec, End(attempt.status, reason=attempt.reason))
        else:
            self._news.pop(spec.token, None)
            self._waiting.add(spec, again=True)
            self._leases.waits(spec)

    def _ended(self, attempt: Attempt, end: End) -> None:
        if attempt.status:
            end = end._replace(status=attempt.status, reason=attempt.reason)
        run_ms = int((time.monotonic() - attempt.started) * 1000)
        self._output_bytes += max(end.size, LEAST_FILE_BYTES) if end.size else 0
        self._output_bytes += end.result_bytes
        del self._attempts[attempt.spec.token]
        self._finish(attempt.spec, end, run_ms)

    def _finish(self, spec: StartAttempt, end: End, run_ms: int = 0) -> None:
        report = AttemptReport(
            spec.token,
            spec.task_id,
            spec.number,
            "finished",
            end.status,
            run_ms,
            end.exit_code,
            end.signal,
            messages.bounded(end.reason),
            end.tail,
            end.size,
            end.result,
            result_bytes=end.result_bytes,
        )
        self._finished[spec.token] = report
        self._progress.pop(spec.token, None)
        self._report(report)

    # Leases --------------------------------------------------------------------------------------

    def _renew(self, message: messages.Renew) -> None:
        """Leases are counted anew; one that has run out already is not brought back."""
        self._watch(time.monotonic())
        self._leases.renew(message.granted_ms / 1000, message.lease_ms / 1000)

    def _watch(self, now: float) -> None:
        """Deadlines, leases, grown output, and whether anybody still needs this process."""
        self._python.watch(now)
        shortest = NO_LEASE_SECONDS
        for attempt in list(self._attempts.values()):
            left = self._leases.left(attempt.spec, now)
            if not attempt.spec.is_kept:
                shortest = min(shortest, left)
            if left <= self._leases.stop_early(attempt.spec) and not attempt.spec.is_kept:
                attempt.is_last_call = True
                grace = max(0.0, left - KILL_MARGIN_SECONDS)
                attempt.stop("lost", "lease-expired", grace, now)
            elif attempt.deadline is not None and now >= attempt.deadline:
                attempt.deadline = None
                attempt.stop("timed_out", "timeout", attempt.grace, now)
            if attempt.kill_at is not None and now >= attempt.kill_at:
                attempt.execution.kill()
            # Removed under us, or the disk is full: the next look tries again.
            with contextlib.suppress(OSError):
                try:
                    attempt.execution.look()
                except CannotTrim as error:
                    attempt.stop("failed", f"output-limit: {error}", attempt.grace, now)
        if self._leases.may_be_over(now):
            for spec in self._leases.over(self._waiting, now):
                self._waiting.pop(spec.token)
                self._finish(spec, End("lost", reason="lease-expired"))
        if self._output_bytes > SWEEP_BYTES and self._sweep is None:
            self._output_bytes = 0
            self._sweep = self._spool.sweep()
        # A step at a time, so that no lease is kept waiting.
        if self._sweep is not None and next(self._sweep, _SWEPT) is _SWEPT:
            self._sweep = None
        if self._ledger is not None:
            self._ledger.beat(Pulse(now, max(now, now + shortest)))
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            self._shortage.keep(self._waiting)
            self._children.note_strays()
            _bound_log()
        if self._peer.is_open or self._attempts or self._waiting:
            self._idle_since = now
        elif now - self._idle_since > IDLE_SECONDS:
            self._quit = True

    def _terminate(self) -> None:
        """SIGTERM to the runner itself: end everything, then go."""
        for attempt in self._attempts.values():
            attempt.execution.kill()
        self._quit = True


def _bound_log() -> None:
    """Empty what stderr goes to, if that is a file which has grown too long."""
    with contextlib.suppress(OSError):
        if os.fstat(sys.stderr.fileno()).st_size > LOG_BYTES_MAX:
            os.ftruncate(sys.stderr.fileno(), 0)
            print(f"emptied at {LOG_BYTES_MAX} bytes", file=sys.stderr, flush=True)


def run(directory: Path, lease_seconds: float, descriptor: int, *, is_clean: bool) -> int:
    """Be the runner of a directory, in the process that the keeper forked.

    ``descriptor``: the ledger's, or -1.  ``is_clean``: nothing of earlier runners can still run.
    """
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("another runner owns this directory", file=sys.stderr)
        return 1
    (directory / "runner.pid").write_text(str(os.getpid()))
    os.chdir(directory)
    ledger = Ledger(descriptor) if descriptor >= 0 else None
    Runner(directory, lease_seconds, ledger, is_clean=is_clean).run()
    return 0
