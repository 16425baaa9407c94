"""Subtasks that take far longer than others did, and are worth a second run somewhere else.

The leader looks; ``apply`` decides (``handlers.speculate``).  A look has a bound, however many and
large the forks are: it takes samples, and the next one goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from raftsched.core.commands import Straggler
from raftsched.core.handlers.forks import part_id, window
from raftsched.core.handlers.speculate import why_no_twin
from raftsched.core.model import Attempt, AttemptStatus, Task, TaskStatus
from raftsched.core.policy import Extra
from raftsched.core.rooms import Rooms

if TYPE_CHECKING:
    from raftsched.core.state import State
    from raftsched.core.trees import Subtasks

#: Rows after which a look ends; one fork is looked at in any case.
LOOKED_MAX = 5_000
#: Subtasks whose times make the median, and up to how many these are chosen from a list of all.
SAMPLES_MAX = 101
LISTED_MAX = 1_000
#: Stragglers that one look finds.
FOUND_MAX = 100


class Found(NamedTuple):
    """What a look found."""

    stragglers: tuple[Straggler, ...]
    #: Id of the fork that it ended at; empty: it came round.
    last: str


def stragglers(state: State, now: int, shunned: frozenset[str], after: str = "") -> Found:
    """Those that are worth a twin at ``now``, the cluster's time in milliseconds.

    ``shunned``: ids of nodes that are given nothing; ``after``: where the last look ended.
    """
    ids = list(state.relations.speculative)
    if not ids:
        return Found((), "")
    first = ids.index(after) + 1 if after in state.relations.speculative else 0
    rooms, found, looked = Rooms(state, {}, shunned), list[Straggler](), 0
    for fork_id in [*ids[first:], *ids[:first]]:
        task, subtasks = state.tasks.get(fork_id), state.trees.of(fork_id)
        looked += 1
        if task is not None and subtasks is not None:
            late, rows = _late(state, task, subtasks, now)
            looked += rows
            found += _that_fit(rooms, late)
        if looked >= LOOKED_MAX or len(found) >= FOUND_MAX:
            return Found(tuple(found[:FOUND_MAX]), fork_id)
    return Found(tuple(found), "")


def _late(state: State, task: Task, subtasks: Subtasks, now: int) -> tuple[list[Task], int]:
    """Those of one fork, who began first at the front; and how many rows were looked at."""
    assert task.extra is not None and task.extra.fork is not None
    fork, asked = task.extra.fork, task.extra.fork.speculation
    free = window(fork) - len(subtasks.under_way) - len(subtasks.twins)
    if asked is None or task.paused or free <= 0 or not subtasks.under_way:
        return [], 0
    if subtasks.held or subtasks.counts.get(TaskStatus.QUEUED):
        return [], 0  # There is something to do that was not tried at all.
    succeeded = subtasks.succeeded
    if not succeeded or succeeded * 1_000 < asked.share_permille * task.extra.subtasks:
        return [], 0
    took = sorted(_times(state, task, subtasks))
    if not took:
        return [], SAMPLES_MAX
    least = max(asked.min_ms, took[len(took) // 2] * asked.factor_permille // 1_000)
    rows = [state.tasks.get(task_id) for task_id in subtasks.under_way]
    late = [row for row in rows if row is not None and _is_late(row, now - least)]
    late.sort(key=_began)
    return late[:free], SAMPLES_MAX + len(rows)


def _is_late(task: Task, began_before: int) -> bool:
    """Does it run since before then, and may it have a twin?"""
    extra = task.extra or Extra()
    if task.status is not TaskStatus.RUNNING or task.paused or extra.twin:
        return False
    attempt = task.attempts[-1]
    is_late = 0 < attempt.started_at < began_before and not attempt.is_evicted
    return is_late and not why_no_twin(task.terms.policy, extra)


def _began(task: Task) -> int:
    return task.attempts[-1].started_at


def _that_fit(rooms: Rooms, late: list[Task]) -> Iterator[Straggler]:
    """Those for which there is room somewhere else; each is counted in there."""
    for task in late:
        for room in rooms.open():
            is_other = room.node.id != task.node and room.is_open
            if is_other and rooms.bars(room, task.terms, "") is None and room.hold(task.terms):
                yield Straggler(task.id, task.token)
                break


def _times(state: State, task: Task, subtasks: Subtasks) -> Iterator[int]:
    """How long some of those took that succeeded, in milliseconds; of one that was overtaken or is
    kept, how long the attempt took that counts for it.
    """
    for subtask_id in _sample(task, subtasks):
        part = state.tasks.get(subtask_id)
        product = part.product if part is not None else None
        if part is None or product is None or part.status is not TaskStatus.SUCCEEDED:
            continue
        attempt = product.made_by(state.tasks.get(product.task_id))
        if attempt is not None and attempt.status is AttemptStatus.SUCCEEDED:
            yield _ran_ms(attempt)


def _sample(task: Task, subtasks: Subtasks) -> Iterator[str]:
    """Ids of some, evenly: of very many by their numbers, which are their names then."""
    count = len(subtasks.ids)
    if count <= LISTED_MAX:
        yield from islice(subtasks.ids, 0, None, max(1, -(-count // SAMPLES_MAX)))
        return
    for at in range(SAMPLES_MAX):
        yield part_id(task.id, str(at * count // SAMPLES_MAX))


def _ran_ms(attempt: Attempt) -> int:
    return max(0, attempt.finished_at - attempt.started_at)
