"""Single submissions of many callers, or of one that does not wait, in few requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from raftsched.client.batches import line_of
from raftsched.client.errors import ConnectionFailed, WaitTimeout
from raftsched.client.gathering import LINE_BYTES_MAX, Gathering, Group
from raftsched.client.tasks import document_for

if TYPE_CHECKING:
    from raftsched.client.sync import Client, Task


class Submission:
    """A task on its way."""

    __slots__ = ("_client", "_group", "_position")

    def __init__(self, client: Client, group: Group[threading.Event], position: int) -> None:
        self._client = client
        self._group = group
        self._position = position

    @property
    def is_done(self) -> bool:
        """Is there an answer, or an error?"""
        return self._group.done.is_set()

    def result(self, timeout_seconds: float | None = None) -> Task:
        """The task, of which only the id is known.  Raises its error, or WaitTimeout."""
        if not self._group.done.wait(timeout_seconds):
            raise WaitTimeout(f"the task was not answered within {timeout_seconds:g} s; ask again")
        return self._client.task_of(self._group.document(self._position))


class Pipeline:
    """``with client.pipeline() as pipe: pipe.submit(...)``.  Safe to share between threads.

    Leaving it sends what is left, waits for all answers and raises SubmissionsFailed for errors
    that nobody looked at.  Left by an exception, it does not send what was not sent yet.
    """

    def __init__(self, client: Client, requests: int, linger_seconds: float) -> None:
        self._client = client
        self._lock = threading.Lock()
        #: There may be a group to send, or nothing will come any more.
        self._work = threading.Condition(self._lock)
        #: There may be room for another submission.
        self._room = threading.Condition(self._lock)
        self._gathering: Gathering[threading.Event] = Gathering(linger_seconds, threading.Event)
        #: No submission is taken: it was left, or was not entered yet.
        self._is_shut = True
        self._senders = [
            threading.Thread(target=self._send_all, name=f"raftsched-pipeline-{n}", daemon=True)
            for n in range(requests)
        ]

    def __enter__(self) -> Self:
        self._is_shut = False
        for sender in self._senders:
            sender.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._lock:
            self._is_shut = True
            if kind is not None:
                error = ConnectionFailed("the pipeline was left before it was sent")
                for group in self._gathering.abandon(error):
                    group.done.set()
            self._work.notify_all()
            self._room.notify_all()
        for sender in self._senders:
            sender.join()
        if kind is None:
            self._gathering.raise_untold()

    def submit(self, /, command: Sequence[str] | None = None, **fields: Any) -> Submission:
        """Create one task, as `Client.submit` does, without waiting for the answer.

        Waits for room while too many are without one.  RuntimeError outside of the block.
        """
        line = line_of(document_for(command, fields))
        with self._lock:
            while not self._is_shut and not self._gathering.has_room():
                self._room.wait()
            if self._is_shut:
                raise RuntimeError("the pipeline was left, or was not entered yet")
            if len(line) > LINE_BYTES_MAX:
                group, position = self._gathering.refused(line), 0
                group.done.set()
            else:
                group, position, is_work = self._gathering.add(line, time.monotonic())
                if is_work:
                    self._work.notify()
        return Submission(self._client, group, position)

    def _send_all(self) -> None:
        while (group := self._next()) is not None:
            try:
                group.answer(self._client.send(group.request()))
            except Exception as error:
                # Whatever it is, those who wait are told.
                group.fail(error)
            with self._lock:
                self._gathering.settle(group)
                self._room.notify_all()
            group.done.set()

    def _next(self) -> Group[threading.Event] | None:
        """The next group to send; None: nothing will come any more."""
        with self._lock:
            while True:
                now = time.monotonic()
                group = self._gathering.take(now, flush=self._is_shut)
                if group is not None or self._is_shut:
                    return group
                self._work.wait(self._gathering.seconds_left(now))
