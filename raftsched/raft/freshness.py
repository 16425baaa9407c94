"""How old the state of a follower is at most, by the leader's own word of what is committed.

A follower's commit index is cut to what it has verified, so it says nothing of how far behind it
is: a peer that has yet to be sent a snapshot has applied all that it knows to be committed.  What
the leader said with each append and heartbeat does: as soon as that much is applied, the state is
all that was committed when it was heard.

Rules
1. What counts is the word of the leader of the present term; another term begins with none.
2. The answer is never too young: words that are not kept, as others came close before and behind
   them, make it older, by at most `MARK_SECONDS`.
"""

from __future__ import annotations

from collections import deque

#: Of three words within so long the middle one is not kept.
MARK_SECONDS = 0.1
#: Words that wait to be reached; beyond that only the newest is kept of those that follow.
MARKS_MAX = 64


class Freshness:
    """Of one peer's state.  Times are monotonic seconds."""

    def __init__(self) -> None:
        self._term = 0
        #: When what is applied here was all that the leader had committed; None: not known yet.
        self._fresh_at: float | None = None
        #: (heard at, committed by then), both rising: that much is not applied here yet.
        self._marks: deque[tuple[float, int]] = deque()

    def heard(self, term: int, commit_index: int, applied_index: int, now: float) -> None:
        """The leader of ``term`` said what is committed; ``applied_index``: what is applied."""
        if term < self._term:
            return
        if term > self._term:
            self._term, self._fresh_at = term, None
            self._marks.clear()
        self._reach(applied_index)
        if commit_index <= applied_index:
            self._fresh_at = now
            self._marks.clear()
            return
        marks = self._marks
        marks.append((now, commit_index))
        is_close = len(marks) > 2 and now - marks[-3][0] < MARK_SECONDS
        if is_close or len(marks) > MARKS_MAX:
            del marks[-2]

    def at(self, term: int, applied_index: int) -> float | None:
        """Since when the state may be behind; None: its leader has not been caught up with yet."""
        if term != self._term:
            return None
        self._reach(applied_index)
        return self._fresh_at

    def _reach(self, applied_index: int) -> None:
        while self._marks and self._marks[0][1] <= applied_index:
            self._fresh_at, _ = self._marks.popleft()
