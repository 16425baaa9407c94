"""What a bulk change came to: tasks that were changed, tasks that were refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from raftsched.api.problems import Problem
from raftsched.peer.errors import PeerError, UnknownOutcome

#: Ids that the answer lists, and refusals.
IDS_SHOWN_MAX = 100


class RefusedView(msgspec.Struct, frozen=True):
    """A task that was not changed; ``code`` is that of a problem."""

    id: str
    code: str
    detail: str


class BulkAnswer(msgspec.Struct, frozen=True):
    """What a bulk change came to."""

    #: Tasks that passed the filter and could be changed, and those that were.
    matched: int
    changed: int
    #: Of what was changed (of a retry: the new tasks), the first ones.
    ids: list[str]
    #: There may be others behind the limit.
    more: bool
    #: Of what was not changed, the first ones.
    refused: list[RefusedView] = []


class Report:
    """What has become of a bulk change so far."""

    def __init__(self, matched: int, more: bool) -> None:
        self._matched = matched
        self._more = more
        self._changed = 0
        self._ids: list[str] = []
        self._refused: list[RefusedView] = []

    def change(self, task_id: str) -> None:
        """A task was changed, or a new one made."""
        self._changed += 1
        if len(self._ids) < IDS_SHOWN_MAX:
            self._ids.append(task_id)

    def refuse(self, task_id: str, problem: Problem) -> None:
        """A task was not changed."""
        if len(self._refused) < IDS_SHOWN_MAX:
            self._refused.append(RefusedView(task_id, problem.code, str(problem)))

    def answer(self) -> BulkAnswer:
        """What it came to so far."""
        return BulkAnswer(self._matched, self._changed, self._ids, self._more, self._refused)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Make trouble an unknown outcome, once something was changed."""
        try:
            yield
        except UnknownOutcome:
            raise
        except (Problem, PeerError) as error:
            if not self._changed:
                raise
            done = f"{self._changed} of {self._matched} tasks were changed before"
            raise Problem("outcome-unknown", f"{error}; {done}") from error
