"""What a pipeline does but for waiting: single submissions become lines of few requests.

Rules
1. A submission gets its own answer or its own error; what is wrong with one touches no other.
2. A group is sent when it is full, has lingered, or is asked for; its key is made once, so that
   however often the request is repeated, on whichever peer, each line takes effect once.
3. What is waiting for an answer is bounded, in number and bytes: the caller waits for room.
4. An error that nobody looked at is raised when the pipeline is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from raftsched.client.batches import answers_of, is_refusal, request_of
from raftsched.client.calls import new_key
from raftsched.client.errors import BadReply, SubmissionsFailed, problem_error
from raftsched.client.messages import Reply, Request

#: Lines and bytes of one request.  The leader makes an entry of 500 lines.
GROUP_TASKS_MAX = 500
GROUP_BYTES_MAX = 1024 * 1024
#: Longest line that the API takes; a longer one would end the whole request.
LINE_BYTES_MAX = 1024 * 1024
#: Submissions without an answer, and bytes of them, before the caller has to wait.
WAITING_TASKS_MAX = 10_000
WAITING_BYTES_MAX = 32 * 1024 * 1024
#: Requests under way at once, unless the caller says otherwise.
REQUESTS_MAX = 4
#: How long a submission waits for company.
LINGER_SECONDS = 0.001
#: Errors that are kept to be raised at the end; others are only counted.
ERRORS_KEPT_MAX = 100

Done = TypeVar("Done")


class Group(Generic[Done]):
    """Submissions that travel together."""

    def __init__(self, done: Done, opened_at: float) -> None:
        #: Set when there is an answer or an error.
        self.done = done
        self.opened_at = opened_at
        self.count = 0
        self.bytes = 0
        #: Empty once there is an answer or an error.
        self._lines: list[bytes] = []
        self._key = new_key()
        self._answers: list[dict[str, Any]] = []
        self._error: Exception | None = None
        #: Positions of errors that somebody was told.
        self._told: set[int] = set()

    def add(self, line: bytes) -> int:
        """The position of another submission."""
        self._lines.append(line)
        self.bytes += len(line)
        self.count += 1
        return self.count - 1

    def request(self) -> Request:
        """The request, the same whenever it is made."""
        return request_of(self._lines, self._key)

    def answer(self, reply: Reply) -> None:
        """Note what the API says of each line."""
        try:
            self._answers = answers_of(reply, self.count)
        except BadReply as error:
            self._error = error
        self._lines = []

    def fail(self, error: Exception) -> None:
        """Note what became of all lines."""
        self._error = error
        self._lines = []

    def document(self, position: int) -> dict[str, Any]:
        """The answer to one submission.  Raises its error."""
        error = self._error_at(position)
        if error is not None:
            self._told.add(position)
            raise error
        return {"id": str(self._answers[position]["id"])}

    def untold(self) -> Iterator[Exception]:
        """Errors that nobody looked at."""
        for position in range(self.count):
            if position not in self._told and (error := self._error_at(position)) is not None:
                yield error

    def _error_at(self, position: int) -> Exception | None:
        if self._error is not None:
            return self._error
        answer = self._answers[position]
        if not is_refusal(answer):
            return None
        return problem_error(int(answer.get("status") or 500), _alone(answer))


class Gathering(Generic[Done]):
    """The groups of a pipeline, from the first submission to the last answer."""

    def __init__(self, linger_seconds: float, make_done: Callable[[], Done]) -> None:
        self._linger_seconds = linger_seconds
        self._make_done = make_done
        self._open: Group[Done] | None = None
        self._full: deque[Group[Done]] = deque()
        #: Submissions without an answer, and their bytes.
        self._tasks = 0
        self._bytes = 0
        #: Groups with errors: the first ones and the last, and how many there are between.
        self._failed: list[Group[Done]] = []
        self._last_failed: Group[Done] | None = None
        self._errors_between = 0

    @property
    def is_idle(self) -> bool:
        """Has every submission its answer?"""
        return self._tasks == 0

    def has_room(self) -> bool:
        """May another submission be added?"""
        return self._tasks < WAITING_TASKS_MAX and self._bytes < WAITING_BYTES_MAX

    def add(self, line: bytes, now: float) -> tuple[Group[Done], int, bool]:
        """Its group, its position there, and whether somebody has to look after the group now."""
        group = self._open
        if group is not None and group.bytes + len(line) > GROUP_BYTES_MAX:
            self._full.append(group)
            group = None
        is_new = group is None
        if group is None:
            group = self._open = Group(self._make_done(), now)
        position = group.add(line)
        self._tasks += 1
        self._bytes += len(line)
        is_full = group.count >= GROUP_TASKS_MAX
        if is_full:
            self._full.append(group)
            self._open = None
        return group, position, is_new or is_full

    def refused(self, line: bytes) -> Group[Done]:
        """A group of one that is not sent, since it would end the request it is in."""
        group = Group(self._make_done(), 0.0)
        group.add(line)
        problem = {
            "code": "too-large",
            "status": 413,
            "detail": f"a task may have {LINE_BYTES_MAX} bytes as JSON",
        }
        group.fail(problem_error(413, problem))
        self._note_errors(group)
        return group

    def take(self, now: float, *, flush: bool = False) -> Group[Done] | None:
        """A group that is to be sent now, or None."""
        if self._full:
            return self._full.popleft()
        group = self._open
        if group is None or not (flush or now >= group.opened_at + self._linger_seconds):
            return None
        self._open = None
        return group

    def seconds_left(self, now: float) -> float | None:
        """Until a group has lingered; None: there is none."""
        if self._open is None:
            return None
        return max(0.0, self._open.opened_at + self._linger_seconds - now)

    def settle(self, group: Group[Done]) -> None:
        """It has its answers, or its error."""
        self._tasks -= group.count
        self._bytes -= group.bytes
        self._note_errors(group)

    def abandon(self, error: Exception) -> list[Group[Done]]:
        """Fail what was not sent yet; the groups."""
        groups = [*self._full, *([self._open] if self._open is not None else [])]
        self._full.clear()
        self._open = None
        for group in groups:
            group.fail(error)
            self.settle(group)
        return groups

    def raise_untold(self) -> None:
        """Raises SubmissionsFailed for errors that nobody looked at."""
        groups = [*self._failed, *([] if self._last_failed is None else [self._last_failed])]
        errors = [error for group in groups for error in group.untold()]
        if errors:
            # Of those between nobody knows: who looked at the first and the last saw them, too.
            raise SubmissionsFailed(errors[:ERRORS_KEPT_MAX], len(errors) + self._errors_between)

    def _note_errors(self, group: Group[Done]) -> None:
        if next(iter(group.untold()), None) is None:
            return
        if len(self._failed) < ERRORS_KEPT_MAX:
            self._failed.append(group)
            return
        if self._last_failed is not None:
            self._errors_between += sum(1 for _ in self._last_failed.untold())
        self._last_failed = group


def _alone(answer: dict[str, Any]) -> dict[str, Any]:
    """The problem of a line as that of a submission of its own: pointers without the line."""
    line = f"/{answer.get('line')}"
    errors = [
        {**item, "pointer": _without(str(item.get("pointer") or ""), line)}
        for item in answer.get("errors") or ()
        if isinstance(item, dict)
    ]
    return {**answer, "errors": errors}


def _without(pointer: str, line: str) -> str:
    return pointer.removeprefix(line) or "/" if pointer.startswith(line) else pointer
