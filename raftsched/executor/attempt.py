"""An attempt that lives, whatever runs it: a process, a worker, a request.

The runner decides when an attempt ends and why; an `Execution` knows how to end it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from raftsched.executor.messages import StartAttempt


class End(NamedTuple):
    """How an execution ended by itself."""

    #: ``succeeded | failed``.
    status: str
    exit_code: int | None = None
    signal: int = 0
    reason: str = ""
    #: The last bytes of its output, and how many there were.
    tail: bytes = b""
    size: int = 0
    #: JSON.
    result: bytes = b""
    #: Bytes of the result that is a file under its name, and synced.
    result_bytes: int = 0


class Execution(Protocol):
    """What runs one attempt.  It calls ``Listener.ended`` once, and nothing after that."""

    def has_ended(self) -> bool:
        """Has it ended by itself, though nobody was told yet?"""

    def terminate(self) -> None:
        """Ask it to end; whoever does not hear is killed after the grace."""

    def kill(self) -> None:
        """End it, with all that it started."""

    def look(self) -> None:
        """Keep its output within bounds; ten times a second.  Raises OSError or CannotTrim."""

    def abandon(self) -> None:
        """The runner ends: kill, and leave what it wrote in order."""


class Listener(Protocol):
    """Who wants to know what becomes of an execution."""

    @property
    def status(self) -> str:
        """What it ends as because it was stopped; empty while it was not."""

    @property
    def is_last_call(self) -> bool:
        """Does its lease run out?  Whatever is killed now, nothing may be started after it."""

    def ended(self, end: End) -> None:
        """It is over, and nothing of it runs any more."""

    def progressed(self, permille: int, text: str) -> None:
        """It says how far it is, in thousandths."""

    def returned(self) -> None:
        """It has not begun, and will not: it may be started again.  Instead of ``ended``."""


class Executor(Protocol):
    """Starts attempts of one kind."""

    def start(self, attempt: StartAttempt, listener: Listener) -> Execution:
        """Run it.  Raises CannotStart; the listener hears nothing before this returns."""


class Attempt:
    """What the runner knows of one that runs.  The listener of its execution."""

    __slots__ = (
        "_on_end", "_on_progress", "_on_return", "deadline", "execution", "is_last_call",
        "kill_at", "reason",
        "spec", "started", "status",
    )  # fmt: skip

    execution: Execution

    def __init__(
        self,
        spec: StartAttempt,
        now: float,
        on_end: Callable[[Attempt, End], None],
        on_progress: Callable[[Attempt, int, str], None],
        on_return: Callable[[Attempt], None],
    ) -> None:
        self.spec = spec
        self.started = now
        timeout_ms = spec.spec.timeout_ms
        self.deadline = now + timeout_ms / 1000 if timeout_ms else None
        #: When the kill follows the request to end; None while nobody stops it.
        self.kill_at: float | None = None
        #: What it ends as when it was stopped.
        self.status = ""
        self.reason = ""
        #: Its lease runs out.
        self.is_last_call = False
        self._on_end = on_end
        self._on_progress = on_progress
        self._on_return = on_return

    @property
    def grace(self) -> float:
        """Seconds between the request to end and the kill."""
        return self.spec.spec.grace_ms / 1000

    def ended(self, end: End) -> None:
        self._on_end(self, end)

    def progressed(self, permille: int, text: str) -> None:
        self._on_progress(self, permille, text)

    def returned(self) -> None:
        self._on_return(self)

    def stop(self, status: str, reason: str, grace: float, now: float) -> None:
        """Ask it to end now and kill it after the grace; the first reason stays.

        One that ended before it was told to ends as what it is.
        """
        if self.kill_at is None:
            if self.execution.has_ended():
                return
            self.status, self.reason = status, reason
            self.kill_at = now + grace
            self.execution.terminate()
        else:
            self.kill_at = min(self.kill_at, now + grace)
