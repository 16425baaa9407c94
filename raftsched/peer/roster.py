"""The attempts a node knows of: those its runner has, and those it may not be given yet.

Bookkeeping without decisions: ``core.reconciler`` decides, ``agent`` acts.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftsched.core.reconciler import RunningAttempt, Start


class Roster:
    """Attempts by token, found by task as well.  Lives on the loop."""

    def __init__(self) -> None:
        #: What the runner was given, or had when it was adopted, until the state has answered it.
        self.running: dict[int, RunningAttempt] = {}
        #: Assigned here and not given to the runner for want of a grant, in the order they came.
        self.waiting: dict[int, Start] = {}
        #: How many of ``running`` have not ended.
        self.busy = 0
        self._running_of: dict[str, list[int]] = {}
        self._waiting_of: dict[str, int] = {}

    def clear(self) -> None:
        """Know of nothing."""
        self.running.clear()
        self.busy = 0
        self._running_of.clear()
        self.clear_waiting()

    def add(self, token: int, task_id: str, *, finished: bool) -> None:
        """The runner has this attempt from now on."""
        self.running[token] = RunningAttempt(token, task_id, finished)
        self._running_of.setdefault(task_id, []).append(token)
        self.busy += not finished

    def finish(self, token: int) -> None:
        """The attempt has ended; unknown ones are passed over."""
        known = self.running.get(token)
        if known is not None and not known.finished:
            self.running[token] = RunningAttempt(token, known.task_id, True)
            self.busy -= 1

    def remove(self, token: int) -> bool:
        """The state has answered the attempt's report; was it known?"""
        known = self.running.pop(token, None)
        if known is None:
            return False
        self.busy -= not known.finished
        tokens = self._running_of[known.task_id]
        tokens.remove(token)
        if not tokens:
            del self._running_of[known.task_id]
        return True

    def running_of(self, task_ids: Iterable[str]) -> dict[int, RunningAttempt]:
        """What the runner has of these tasks."""
        tokens = self._running_of
        return {t: self.running[t] for task_id in task_ids for t in tokens.get(task_id, ())}

    def wait(self, start: Start) -> None:
        """This attempt waits for a grant."""
        self.waiting[start.token] = start
        self._waiting_of[start.task_id] = start.token

    def next_waiting(self) -> Start:
        """Take the one that waits longest."""
        start = self.waiting.pop(next(iter(self.waiting)))
        self._waiting_of.pop(start.task_id, None)
        return start

    def forget_waiting(self, task_id: str) -> None:
        """What waits of this task is to be decided anew."""
        token = self._waiting_of.pop(task_id, None)
        if token is not None:
            self.waiting.pop(token, None)

    def clear_waiting(self) -> None:
        """Everything that waits is to be decided anew."""
        self.waiting.clear()
        self._waiting_of.clear()
