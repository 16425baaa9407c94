"""Programs before and after an attempt's own: one execution of up to three phases.

Rules
1. What runs an attempt starts once the program before it succeeded; else the attempt failed.
2. The program after it runs however the attempt ended, unless its lease did: then what was killed
   for it is the end.
3. Stopped, a phase gets the request to end; the program after a stopped phase has a grace of its
   own, counted from its start.
4. All phases write to one output, one after the other, and have one environment and directory.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec.structs import replace

from raftsched.executor.attempt import End, Execution, Executor, Listener
from raftsched.executor.command import CommandExecutor
from raftsched.executor.messages import StartAttempt
from raftsched.executor.spawn import CannotStart
from raftsched.executor.spool import Spool

_FAILED = "failed"
_SUCCEEDED = "succeeded"


def has_hooks(attempt: StartAttempt) -> bool:
    """Does anything run before or after it?"""
    return bool(attempt.spec.before or attempt.spec.after)


class HookedExecutor:
    """Runs attempts by ``inner``, with their hooks."""

    def __init__(self, inner: Executor, command: CommandExecutor, spool: Spool) -> None:
        self._inner = inner
        self._command = command
        self._spool = spool

    def start(self, attempt: StartAttempt, listener: Listener) -> HookedExecution:
        """Raises CannotStart, when no phase at all could be started."""
        execution = HookedExecution(attempt, listener, self._inner, self._command, self._spool)
        execution.begin()
        return execution


class HookedExecution:
    """The phases of one attempt, of which at most one runs."""

    def __init__(
        self,
        attempt: StartAttempt,
        listener: Listener,
        inner: Executor,
        command: CommandExecutor,
        spool: Spool,
    ) -> None:
        self._attempt = attempt
        self._listener = listener
        self._inner = inner
        self._command = command
        self._spool = spool
        self._phase: Execution | None = None
        #: Called with the end of the phase that runs.
        self._then: Callable[[End], None] = self._finish_own
        #: What the attempt ends as, as far as is known.
        self._end = End(_SUCCEEDED)
        self._is_stopped = False
        self._is_killed = False
        #: No other phase follows the one that runs.
        self._is_last = False
        #: Until then nobody kills the program after, unless the lease ends.
        self._until = 0.0
        self._has_begun = False
        #: Why the first phase could not be started, as `CannotStart` has it.
        self._errno = 0
        self._place = ""

    def begin(self) -> None:
        """Start the first phase.  Raises CannotStart when it and all others cannot be."""
        attempt = self._attempt
        try:
            self._place = self._command.places.open(attempt.spec)
            self._spool.chain(attempt.task_id, attempt.number)
        except OSError as error:
            self._command.places.close(self._place)
            raise CannotStart.of(error) from error
        except ValueError as error:
            self._command.places.close(self._place)
            raise CannotStart(f"cannot-start: {error}") from error
        if self._place:
            self._attempt = replace(attempt, spec=replace(attempt.spec, cwd=self._place))
        if attempt.spec.before:
            self._run_hook(attempt.spec.before, {}, self._before_ended)
        else:
            self._start_own()
        self._has_begun = True
        if self._phase is None:
            raise CannotStart(self._end.reason, self._errno)

    # The runner asks -----------------------------------------------------------------------------

    def has_ended(self) -> bool:
        return self._is_last and self._phase is not None and self._phase.has_ended()

    def terminate(self) -> None:
        self._is_stopped = True
        if self._phase is not None:
            self._phase.terminate()

    def kill(self) -> None:
        if time.monotonic() < self._until and not self._listener.is_last_call:
            return
        self._is_killed = True
        if self._phase is not None:
            self._phase.kill()

    def look(self) -> None:
        if self._phase is not None:
            self._phase.look()

    def abandon(self) -> None:
        self._is_killed = True
        if self._phase is not None:
            self._phase.abandon()

    # The phases say ------------------------------------------------------------------------------

    def ended(self, end: End) -> None:
        self._phase = None
        self._then(end)

    def returned(self) -> None:
        """What runs it had no turn for it; its place is kept here, as what is before it has run."""
        self._phase = None
        if self._is_stopped:
            self._finish_own(End(_FAILED))
        else:
            self._start_own()

    @property
    def status(self) -> str:
        """What the attempt ends as because it was stopped."""
        return self._listener.status

    @property
    def is_last_call(self) -> bool:
        """Must it end now?"""
        return self._listener.is_last_call

    def progressed(self, permille: int, text: str) -> None:
        self._listener.progressed(permille, text)

    def _before_ended(self, end: End) -> None:
        if end.status == _SUCCEEDED and not self._is_stopped:
            self._start_own()
            return
        reason = f"before-failed: {end.reason}" if end.reason else ""
        self._finish_own(End(_FAILED, reason=reason, tail=end.tail, size=end.size))

    def _start_own(self) -> None:
        self._then = self._finish_own
        self._is_last = not self._attempt.spec.after
        try:
            self._phase = self._inner.start(self._attempt, self)
        except CannotStart as error:
            self._errno = self._errno or error.errno
            self._finish_own(End(_FAILED, reason=str(error)))

    def _finish_own(self, end: End) -> None:
        """Nothing of the attempt's own runs any more, or will."""
        self._end = end
        after = self._attempt.spec.after
        if not after or (self._is_killed and self._listener.is_last_call):
            self._finish()
            return
        code = "" if end.exit_code is None else str(end.exit_code)
        said = {
            "RAFTSCHED_STATUS": self._listener.status or end.status,
            "RAFTSCHED_EXIT_CODE": code,
            "RAFTSCHED_REASON": end.reason,
        }
        self._is_last = True
        self._until = time.monotonic() + self._attempt.spec.grace_ms / 1000
        self._run_hook(after, said, self._after_ended)

    def _after_ended(self, end: End) -> None:
        own = self._end
        if end.status != _SUCCEEDED:
            failed = f"after-failed: {end.reason}"
            reason = f"{own.reason}; {failed}" if own.reason else failed
            own = own._replace(status=_FAILED, reason=reason)
        if end.size:
            own = own._replace(tail=end.tail, size=end.size)
        self._end = own
        self._finish()

    def _finish(self) -> None:
        self._command.places.close(self._place)
        self._spool.unchain(self._attempt.task_id, self._attempt.number)
        if self._has_begun:
            self._listener.ended(self._end)

    def _run_hook(
        self, argv: tuple[str, ...], said: dict[str, str], then: Callable[[End], None]
    ) -> None:
        spec = self._attempt.spec
        hook = replace(
            spec, command=argv, shell=False, stdin="", http=None, python=None, before=(),
            after=(), env=spec.env | said,
        )  # fmt: skip
        self._then = then
        try:
            attempt = replace(self._attempt, spec=hook, files_result=False)
            self._phase = self._command.start(attempt, self)
        except CannotStart as error:
            self._errno = self._errno or error.errno
            then(End(_FAILED, reason=str(error)))
