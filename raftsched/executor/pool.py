"""The worker processes of one application, and the calls they were asked for.

Rules
1. A worker that dies fails what it had begun; what it had not begun comes back.
2. The next one starts at once, and after a pause that doubles while none answers.
3. If there are coroutines and ordinary functions, one worker more than asked for is for coroutines.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

from raftsched.executor import output
from raftsched.executor.attempt import End, Listener
from raftsched.executor.messages import StartAttempt
from raftsched.executor.spool import Spool
from raftsched.executor.worker_messages import Cancel, Ready, Result, Results, Setup
from raftsched.executor.worker_process import WorkerProcess

#: Pause before a worker is replaced that died, at first and at most.
AGAIN_SECONDS = 0.1
AGAIN_SECONDS_MAX = 10.0
#: The same after an import that failed.
IMPORT_AGAIN_SECONDS = 1.0
#: A worker that is asked to give a call back answers within this, or is killed for it.
HEAR_SECONDS = 0.1
#: Functions of one application.
FUNCTIONS_MAX = 10_000


class Pool:
    """The workers of one application."""

    def __init__(self, setup: Setup, size: int, start: Callable[[Pool], WorkerProcess]) -> None:
        self.setup = setup
        self._size = size
        self._start = start
        self.workers: list[WorkerProcess] = []
        #: Is it a coroutine, by name; empty until the application was imported.
        self.functions: dict[str, bool] = {}
        #: Why the application cannot be imported.
        self.trouble = ""
        self.traceback = b""
        self._executions: dict[int, PythonExecution] = {}
        #: The next worker starts no earlier, and the one after that so much later if this one dies.
        self._again_at = 0.0
        self._pause = 0.0
        self._is_retired = False

    @property
    def is_starting(self) -> bool:
        """Is it not known yet which functions there are?"""
        return not self.functions and not self.trouble

    def worker_for(self, function: str) -> WorkerProcess | None:
        """The least busy of those that can take a call of this function."""
        is_coroutine = self.functions[function]
        found, least = None, sys.maxsize
        for worker in self.workers:
            count = len(worker.outstanding)
            if count < least and worker.calls_coroutines == is_coroutine and worker.has_room:
                found, least = worker, count
        return found

    def hand(self, execution: PythonExecution, worker: WorkerProcess) -> None:
        """The worker is asked for this."""
        execution.worker = worker
        self._executions[execution.token] = execution

    # Owner of workers ----------------------------------------------------------------------------

    def ready(self, worker: WorkerProcess, ready: Ready) -> None:
        """A worker can be asked; if there are coroutines one worker is for them."""
        coroutines = frozenset(ready.coroutines)
        self.functions = {name: name in coroutines for name in ready.functions[:FUNCTIONS_MAX]}
        self.trouble, self.traceback = "", b""
        has_plain = len(coroutines) < len(self.functions)
        has_loop = any(other.calls_coroutines for other in self.workers if other.is_usable)
        calls_coroutines = bool(coroutines) and not (has_plain and has_loop)
        worker.begin(ready, calls_coroutines=calls_coroutines)

    def unusable(self, worker: WorkerProcess, reason: str, traceback: bytes) -> None:
        """The import failed: what needs it fails at once, and it is tried again later."""
        self.trouble = reason
        self.traceback = traceback
        self.functions = {}
        self._wait(time.monotonic(), IMPORT_AGAIN_SECONDS)

    def news(self, worker: WorkerProcess, results: Results) -> None:
        """Calls ended, or come back."""
        executions = self._executions
        if results.results:
            self._pause = 0.0
        for result in results.results:
            worker.answered(result.token)
            execution = executions.pop(result.token, None)
            if execution is not None:
                execution.ended(result)
        for token in results.returned:
            worker.answered(token)
            execution = executions.pop(token, None)
            if execution is not None:
                execution.over()
                execution.listener.returned()
        for progress in results.progress:
            execution = executions.get(progress.token)
            if execution is not None:
                execution.listener.progressed(progress.permille, progress.text)

    def died(self, worker: WorkerProcess, how: str) -> None:
        """What had begun ends with it; what had not comes back."""
        self.workers.remove(worker)
        if worker.killed_for is None and not worker.is_leaving:
            if worker.is_ready:
                self._wait(time.monotonic(), AGAIN_SECONDS)
            elif not self.trouble:
                self.unusable(worker, f"{how} while {self.setup.application} was imported", b"")
        begun = worker.begun()
        for token in list(worker.outstanding):
            worker.answered(token)
            execution = self._executions.pop(token, None)
            if execution is None:
                continue
            execution.over()
            if token in begun:
                execution.listener.ended(_death(worker, token, how))
            else:
                execution.listener.returned()

    def _wait(self, now: float, least: float) -> None:
        """The next worker starts later, if this goes on."""
        if now >= self._again_at:
            self._again_at = now + self._pause
            self._pause = min(max(least, 2 * self._pause), AGAIN_SECONDS_MAX)

    # Passes --------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send what was gathered."""
        for worker in self.workers:
            worker.send()

    def prod(self, now: float) -> None:
        """Take back what waits for a long call."""
        for worker in self.workers:
            worker.prod(now)

    def watch(self, now: float) -> None:
        """Have as many workers as are wanted."""
        for worker in self.workers:
            why = worker.watch(now)
            if why and not worker.is_ready:
                self.unusable(worker, why, b"")
            if why:
                worker.kill()
        usable = sum([worker.is_usable for worker in self.workers])
        while not self._is_retired and usable < self._wanted and now >= self._again_at:
            try:
                self.workers.append(self._start(self))
            except OSError as error:
                print(f"no worker of {self.setup.application}: {error}", file=sys.stderr)
                self._wait(now, IMPORT_AGAIN_SECONDS)
                return
            usable += 1

    @property
    def _wanted(self) -> int:
        if self.trouble:
            return 1
        kinds = set(self.functions.values())
        return self._size + (len(kinds) > 1)

    def retire(self) -> None:
        """Start nothing more; what was asked is answered."""
        self._is_retired = True
        for worker in self.workers:
            if worker.is_ready:
                worker.retire()
            else:
                worker.kill()


class PythonExecution:
    """One call."""

    __slots__ = ("_is_held", "_spool", "_task_id", "_terminated_at", "is_over", "listener",
                 "number", "token", "worker")  # fmt: skip

    def __init__(self, attempt: StartAttempt, listener: Listener, spool: Spool) -> None:
        self.token = attempt.token
        self.number = attempt.number
        self.listener = listener
        self._task_id = attempt.task_id
        self._spool = spool
        #: None until there is one for it.
        self.worker: WorkerProcess | None = None
        #: The spool knows that it runs.
        self._is_held = False
        #: The listener has heard its end, or hears it presently.
        self.is_over = False
        self._terminated_at = 0.0

    def has_ended(self) -> bool:
        """Looks also at what the worker has said and nobody has read yet."""
        if not self.is_over and self.worker is not None:
            self.worker.talk()
        return self.is_over

    def terminate(self) -> None:
        self._terminated_at = time.monotonic()
        if self.worker is not None:
            self.worker.put(Cancel(self.token))
        elif not self.is_over:
            self.over()
            self.listener.ended(End("failed", reason="it had not begun"))

    def kill(self) -> None:
        """One that has not begun comes back by itself, unless its worker does not even hear."""
        if self.is_over or self.worker is None:
            return
        waited = time.monotonic() - self._terminated_at
        if self.worker.has_begun(self.token) or waited >= HEAR_SECONDS:
            self.worker.kill(self.token)

    def look(self) -> None:
        if self.is_over or self.worker is None or not self.worker.has_begun(self.token):
            return
        self.worker.look()
        if not self._is_held:
            self._is_held = True
            self._spool.began(self._path)
        is_shared = self.worker.calls_coroutines
        # Its file may have no name yet; another call's is never trimmed by mistake, only sooner.
        output.trim(self._path if is_shared else f"/proc/{self.worker.pid}/fd/1")

    def abandon(self) -> None:
        if not self.is_over and self.worker is not None:
            self.worker.kill(self.token)

    @property
    def _path(self) -> str:
        return f"{self._spool.folder}/{output.file_name(self._task_id, self.number, 'out')}"

    def over(self) -> None:
        """It has ended, or come back."""
        self.is_over = True
        if self._is_held:
            self._spool.ended(self._path)

    def ended(self, result: Result) -> None:
        """The worker says how it went."""
        self.over()
        if result.size > output.STREAM_BYTES_MAX:
            with contextlib.suppress(OSError, output.CannotTrim):
                output.trim(self._path)
        self.listener.ended(
            End(
                "failed" if result.reason else "succeeded",
                result.exit_code,
                0,
                result.reason,
                result.tail,
                result.size,
                result.value,
                result.value_bytes,
            )
        )


def _death(worker: WorkerProcess, token: int, how: str) -> End:
    """How a call ends that had begun in a worker that is dead."""
    if worker.killed_for not in (None, token):
        return End("lost", reason="worker-killed: another attempt in it would not end")
    kind, _, number = how.rpartition("-")
    exit_code = int(number) if kind == "exit-code" else None
    return End("failed", exit_code, 0 if exit_code is not None else int(number),
               f"worker-died: {how}")  # fmt: skip
