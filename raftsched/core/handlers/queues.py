"""The rows of queues and of the limits that tasks share."""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.core.changes import Changes
from raftsched.core.commands import DeleteLimit, DeleteQueue, PutLimit, PutQueue
from raftsched.core.limits import settled
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected

#: Rows of queues, and of limits, that are kept.
ROWS_MAX = 10_000
_DONE = Accepted()


def put_queue(changes: Changes, command: PutQueue) -> Outcome:
    """Value: the row as it is now."""
    queue, known = command.queue, changes.state.queues.get(command.queue.name)
    refusal = _refusal(known, command.if_index, len(changes.state.queues))
    if refusal is not None:
        return refusal
    numbers = (
        queue.concurrency, queue.depth_max, queue.retention_ms, queue.retention_count,
        queue.retention_bytes,
    )  # fmt: skip
    if not queue.name or min(numbers) < 0:
        return Rejected(Reason.INVALID, "a queue has a name, and no number of it is negative")
    row = msgspec.structs.replace(queue, modify_index=changes.index)
    changes.others.queues[queue.name] = row
    changes.event("queue_changed", detail=queue.name)
    return Accepted(row)


def delete_queue(changes: Changes, command: DeleteQueue) -> Outcome:
    """No value."""
    if command.name not in changes.state.queues:
        return Rejected(Reason.UNKNOWN_QUEUE, command.name)
    changes.others.queues[command.name] = None
    changes.event("queue_changed", detail=command.name)
    return _DONE


def put_limit(changes: Changes, command: PutLimit) -> Outcome:
    """Value: the row as it is now."""
    limit, known = command.limit, changes.state.limits.get(command.limit.key)
    refusal = _refusal(known, command.if_index, len(changes.state.limits))
    if refusal is not None:
        return refusal
    numbers = (limit.count, limit.rate_count, limit.rate_ms, limit.burst)
    if not limit.key or min(numbers) < 0 or bool(limit.rate_count) != bool(limit.rate_ms):
        return Rejected(Reason.INVALID, "a limit has a key, and a rate has a count and a time")
    # The bucket stays as full as it is, but never emptier than the new rate makes it.
    full_at_us = 0 if known is None else known.full_at_us
    row = msgspec.structs.replace(limit, full_at_us=full_at_us, modify_index=changes.index)
    row = settled(row, changes.state.now)
    changes.others.limits[limit.key] = row
    changes.event("limit_changed", detail=limit.key)
    return Accepted(row)


def delete_limit(changes: Changes, command: DeleteLimit) -> Outcome:
    """No value."""
    if command.key not in changes.state.limits:
        return Rejected(Reason.UNKNOWN_LIMIT, command.key)
    changes.others.limits[command.key] = None
    changes.event("limit_changed", detail=command.key)
    return _DONE


def _refusal(known: Any, if_index: int, rows: int) -> Rejected | None:
    if if_index and (known is None or known.modify_index != if_index):
        stands = "no row" if known is None else f"modify index {known.modify_index}"
        return Rejected(Reason.MODIFIED, f"{stands}, not {if_index}")
    if known is None and rows >= ROWS_MAX:
        return Rejected(Reason.OVERLOADED, f"{ROWS_MAX} rows are allowed")
    return None
