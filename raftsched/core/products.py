"""What a task came to, whichever attempt of whichever task that was of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from raftsched.core.model import Attempt, Task


class Product(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an attempt came to so far, and where that lies.  Since version 7."""

    task_id: str
    node: str
    #: Number of the attempt, and its fencing token, by which it is known from one of a later task
    #: with the same id.
    attempt: int
    token: int
    exit_code: int | None = None
    #: JSON, or empty; then ``result_bytes`` is what the node keeps as a file.
    result: bytes = b""
    result_bytes: int = 0

    def made_by(self, task: Task | None) -> Attempt | None:
        """The attempt that left it, if this is the task that had it; what it left goes with it."""
        if task is None or task.id != self.task_id or self.attempt > len(task.attempts):
            return None
        attempt = task.attempts[self.attempt - 1]
        return attempt if attempt.token == self.token else None


def product_of(task_id: str, attempt: Attempt) -> Product:
    """What an attempt of a task came to so far."""
    return Product(
        task_id, attempt.node, attempt.number, attempt.token, attempt.exit_code, attempt.result,
        attempt.result_bytes,
    )  # fmt: skip
