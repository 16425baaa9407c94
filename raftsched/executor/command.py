"""Attempts that are a program of their own: started, signalled as a group, known by their exit."""

from __future__ import annotations

import contextlib
import os
import signal

from raftsched.executor.attempt import End, Listener
from raftsched.executor.children import Children, is_dead, signal_group
from raftsched.executor.messages import StartAttempt
from raftsched.executor.output import CannotTrim
from raftsched.executor.spawn import Spawner
from raftsched.executor.spool import Output


class CommandExecutor:
    """Starts programs."""

    def __init__(self, spawner: Spawner, children: Children) -> None:
        self._spawner = spawner
        self._children = children

    def start(self, attempt: StartAttempt, listener: Listener) -> CommandExecution:
        """Raises CannotStart."""
        pid, output = self._spawner.spawn(attempt)
        execution = CommandExecution(pid, output, listener)
        self._children.add(pid, execution.exited)
        return execution


class CommandExecution:
    """One process group and what it writes."""

    __slots__ = ("_listener", "_output", "_pid")

    def __init__(self, pid: int, output: Output, listener: Listener) -> None:
        self._pid = pid
        self._output = output
        self._listener = listener

    def has_ended(self) -> bool:
        return is_dead(self._pid)

    def terminate(self) -> None:
        signal_group(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        signal_group(self._pid, signal.SIGKILL)

    def look(self) -> None:
        self._output.look()

    def abandon(self) -> None:
        self.kill()
        with contextlib.suppress(OSError, CannotTrim):
            self._output.look()

    def exited(self, status: int) -> None:
        """The process is reaped."""
        code = os.waitstatus_to_exitcode(status)
        exit_code, number = (code, 0) if code >= 0 else (None, -code)
        reason = ""
        if code:
            reason = f"exit-code-{code}" if code > 0 else f"signal-{number}"
        tail, size = self._output.close()
        word = "failed" if code else "succeeded"
        self._listener.ended(End(word, exit_code, number, reason, tail, size))
