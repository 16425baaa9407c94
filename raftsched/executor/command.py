"""Attempts that are a program of their own: started, signalled as a group, known by their exit."""

from __future__ import annotations

import contextlib
import os
import signal

from raftsched.executor import fork
from raftsched.executor.attempt import End, Listener
from raftsched.executor.children import Children
from raftsched.executor.messages import StartAttempt
from raftsched.executor.output import CannotTrim
from raftsched.executor.places import Places
from raftsched.executor.results import BadResult
from raftsched.executor.spawn import CannotStart, Spawned, Spawner


class CommandExecutor:
    """Starts programs."""

    def __init__(self, spawner: Spawner, children: Children, places: Places) -> None:
        self._spawner = spawner
        self.children = children
        #: Where they work.
        self.places = places

    def start(self, attempt: StartAttempt, listener: Listener) -> CommandExecution:
        """Raises CannotStart."""
        try:
            place = self.places.open(attempt.spec)
        except OSError as error:
            raise CannotStart(f"cannot-start: {error.strerror}: {error.filename}") from error
        try:
            spawned = self._spawner.spawn(attempt, place)
        except CannotStart:
            self.places.close(place)
            raise
        execution = CommandExecution(self, spawned, place, listener)
        self.children.add(spawned.pid, execution.exited, attempt.token, spawned.group)
        return execution


class CommandExecution:
    """One process group and what it writes."""

    __slots__ = (
        "_answer", "_children", "_complaint", "_group", "_listener", "_output", "_pid", "_place",
        "_places",
    )  # fmt: skip

    def __init__(
        self, owner: CommandExecutor, spawned: Spawned, place: str, listener: Listener
    ) -> None:
        self._places = owner.places
        self._place = place
        self._pid = spawned.pid
        self._output = spawned.output
        self._answer = spawned.answer
        self._complaint = spawned.complaint
        self._group = spawned.group
        self._children = owner.children
        self._listener = listener

    def has_ended(self) -> bool:
        return self._children.is_dead(self._pid)

    def terminate(self) -> None:
        self._children.signal(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        self._children.signal(self._pid, signal.SIGKILL)

    def look(self) -> None:
        self._output.look()
        said = self._answer.look()
        if said is not None:
            self._listener.progressed(*said)

    def abandon(self) -> None:
        self.kill()
        self._answer.close()
        with contextlib.suppress(OSError, CannotTrim):
            self._output.look()

    def exited(self, status: int) -> None:
        """The process is reaped."""
        code = os.waitstatus_to_exitcode(status)
        exit_code, number = (code, 0) if code >= 0 else (None, -code)
        reason = ""
        if code:
            reason = f"exit-code-{code}" if code > 0 else f"signal-{number}"
        if self._group is not None:
            if code and self._group.ran_out_of_memory():
                reason = "out-of-memory"
            self._group.remove()
        complaint = fork.complaint_of(self._complaint) if self._complaint >= 0 else ""
        if complaint:
            exit_code, reason = None, complaint
        result = b""
        try:
            result = self._answer.take()
        except BadResult as error:
            # One that failed, failed for a reason of its own.
            reason = reason or str(error)
        self._answer.close()
        self._places.close(self._place)
        tail, size = self._output.close()
        word = "failed" if reason else "succeeded"
        self._listener.ended(End(word, exit_code, number, reason, tail, size, result))
