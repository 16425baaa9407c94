"""Attempts that are a program of their own: started, signalled as a group, known by their exit."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from raftsched.executor import fork
from raftsched.executor.attempt import End, Listener
from raftsched.executor.children import Children
from raftsched.executor.filing import Filing
from raftsched.executor.messages import StartAttempt
from raftsched.executor.output import CannotTrim, not_kept
from raftsched.executor.places import Places
from raftsched.executor.results import BadResult
from raftsched.executor.spawn import CannotStart, Spawned, Spawner


class CommandExecutor:
    """Starts programs."""

    def __init__(self, spawner: Spawner, children: Children, places: Places) -> None:
        self._spawner = spawner
        #: Where results are kept that are files.
        self.folder = spawner.folder
        self.children = children
        #: Where they work.
        self.places = places

    def start(self, attempt: StartAttempt, listener: Listener) -> CommandExecution:
        """Raises CannotStart."""
        try:
            place = self.places.open(attempt.spec)
        except OSError as error:
            raise CannotStart.of(error) from error
        try:
            spawned = self._spawner.spawn(attempt, place)
        except CannotStart:
            self.places.close(place)
            raise
        execution = CommandExecution(self, attempt, spawned, place, listener)
        self.children.add(spawned.pid, execution.exited, attempt.token, spawned.group)
        return execution


class CommandExecution:
    """One process group and what it writes."""

    __slots__ = (
        "_answer", "_attempt", "_children", "_complaint", "_end", "_filing", "_folder", "_group",
        "_listener", "_output", "_pid", "_place", "_places",
    )  # fmt: skip

    #: How it ends but for a large result.
    _end: End

    def __init__(
        self,
        owner: CommandExecutor,
        attempt: StartAttempt,
        spawned: Spawned,
        place: str,
        listener: Listener,
    ) -> None:
        self._attempt = attempt
        self._folder = owner.folder
        #: What keeps a large result, once the program has ended.
        self._filing: Filing | None = None
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
        return self._filing is not None or self._children.is_dead(self._pid)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # Once the program has ended its pid may be another's.
        if self._filing is None:
            self._children.signal(self._pid, number)

    def look(self) -> None:
        if self._filing is not None:
            self._filing.look(time.monotonic())
            return
        self._output.look()
        said = self._answer.look()
        if said is not None:
            self._listener.progressed(*said)

    def abandon(self) -> None:
        if self._filing is not None:
            self._filing.kill()
            return
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
        result: bytes | int = b""
        try:
            # The end of one whose lease runs out is told at once, and has no result.
            may_be_large = self._attempt.files_result and not self._listener.is_last_call
            result = self._answer.take(self._attempt.result_max, may_be_large=may_be_large)
        except BadResult as error:
            # One that failed, failed for a reason of its own.
            reason = reason or str(error)
        self._answer.close()
        self._places.close(self._place)
        tail, size = self._output.close()
        word = "failed" if reason else "succeeded"
        end = End(word, exit_code, number, reason, tail, size)
        if isinstance(result, bytes):
            self._listener.ended(end._replace(result=result) if result else end)
        else:
            self._file(result, end)

    def _file(self, source: int, end: End) -> None:
        """Keep what it left as its result; its end is told when that is done."""
        self._end = end
        task_id, number = self._attempt.task_id, self._attempt.number
        try:
            self._filing = Filing(
                source, self._folder, task_id, number, self._children, self._filed
            )
        except OSError as error:
            self._filed(0, not_kept(error))

    def _filed(self, size: int, reason: str) -> None:
        end = self._end._replace(result_bytes=size)
        if reason and not end.reason:
            end = end._replace(status="failed", reason=reason)
        self._listener.ended(end)
