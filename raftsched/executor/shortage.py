"""A machine that lacks what any attempt needs to be started: room on its disk, memory, files.

That is no failure of the task.  An attempt waits here for a while, in a slot of the node, so that
a node that can start nothing is given no more than it has slots; then it is lost, and the next
attempt may be another node's.
"""

from __future__ import annotations

import errno

from raftsched.executor.spawn import CannotStart
from raftsched.executor.waiting import Waiting

#: Errors that are the machine's, whatever was to be started, and that may pass.
SHORT = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO,
        errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN,
    }
)  # fmt: skip
RETRY_SECONDS = 1.0
GIVE_UP_SECONDS = 20.0


class Shortage:
    """Which attempts of a node wait for it to end.  Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._retry_at = 0.0

    def is_on(self, now: float) -> bool:
        """Is it too early to try again?"""
        return now < self._retry_at

    def holds(self, token: int, error: CannotStart, now: float) -> bool:
        """An attempt could not be started: is that why, and may it wait?"""
        if error.errno not in SHORT:
            return False
        self._retry_at = now + RETRY_SECONDS
        return now - self._since.setdefault(token, now) < GIVE_UP_SECONDS

    def keep(self, waiting: Waiting) -> None:
        """Forget those that do not wait any more."""
        self._since = {token: at for token, at in self._since.items() if token in waiting}
