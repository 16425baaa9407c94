"""The ready queue: whose turn it is, whatever came, went and came back."""

from __future__ import annotations

import random
import sys

import pytest

from raftsched.core.model import Task
from raftsched.core.ready import BLOCK, ReadyQueue
from tests.unit.core.builders import attempt, task

#: Tasks of the ready queue's tests: created in this order.
A, B, C = (task(task_id, order=order) for order, task_id in enumerate("abc", 1))


def queue(*tasks: Task) -> ReadyQueue:
    """A queue with these tasks, pushed in order."""
    ready = ReadyQueue()
    for item in tasks:
        ready.push(item)
    return ready


def test_an_empty_queue_has_nothing() -> None:
    ready = ReadyQueue()
    assert (len(ready), list(ready)) == (0, [])


def test_the_first_created_is_the_first_out() -> None:
    ready = queue(task("c", order=1), task("a", order=2), task("b", order=9))
    assert (len(ready), list(ready)) == (3, ["c", "a", "b"])


def test_higher_priorities_come_first() -> None:
    priorities = [("low", 1), ("high", 9), ("low2", 1), ("mid", 50), ("mid2", 50)]
    ready = queue(
        *[
            task(task_id, priority=priority, order=order)
            for order, (task_id, priority) in enumerate(priorities)
        ]
    )
    assert list(ready) == ["mid", "mid2", "high", "low", "low2"]


def test_drawing_twice_gives_the_same() -> None:
    ready = queue(A, B, C)
    ready.remove(A)
    ready.remove(C)
    assert list(ready) == list(ready) == ["b"]


@pytest.mark.parametrize("gone", ["a", "b", "c", "ab", "ba", "bc", "ca", "abc", "cba", "bca"])
def test_tasks_leave_from_anywhere_and_the_others_keep_their_order(gone: str) -> None:
    ready = queue(A, B, C)
    for task_id in gone:
        ready.remove({"a": A, "b": B, "c": C}[task_id])
    rest = [task_id for task_id in "abc" if task_id not in gone]
    assert (len(ready), list(ready)) == (len(rest), rest)


@pytest.mark.parametrize("back", [[A], [B], [C], [B, A], [C, A], [C, B, A], [B, C, A]])
def test_tasks_that_come_back_have_the_place_they_had(back: list[Task]) -> None:
    ready = queue(A, B, C)
    for item in back:
        ready.remove(item)
    for item in back:
        ready.push(item)
    assert (len(ready), list(ready)) == (3, ["a", "b", "c"])


def test_a_queue_hands_out_the_row_that_was_pushed_last() -> None:
    ready = queue(A, B)
    ready.remove(A)
    later = task("a", order=1, attempts=(attempt(1),))
    ready.push(later)
    assert next(ready.tasks()) is later


@pytest.mark.parametrize("which", [0, 1, BLOCK - 1])
def test_a_lane_does_not_grow_with_the_pauses_of_one_task(which: int) -> None:
    tasks = [task(f"t{order:05}", order=order) for order in range(2 * BLOCK)]
    ready = queue(*tasks)
    before = size(ready)
    for _ in range(20 * BLOCK):
        ready.remove(tasks[which])
        ready.push(tasks[which])
    assert list(ready) == [item.id for item in tasks]
    assert size(ready) <= 2 * before


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_lane_does_not_grow_with_the_tasks_that_passed(waiting: int) -> None:
    ready = queue(*[task("w", order=0)] * waiting)
    for order in range(BLOCK, 3_000 * BLOCK, BLOCK):
        item = task("t", order=order)
        ready.push(item)
        ready.remove(item)
    assert list(ready) == ["w"] * waiting
    assert size(ready) < 20_000


def size(ready: ReadyQueue) -> int:
    """Bytes of the containers of a queue."""
    total = sys.getsizeof(ready._lanes)
    for lane in ready._lanes.values():
        parts = (lane.blocks, lane.starts, lane.unsorted or (), *lane.blocks)
        total += sum(sys.getsizeof(part) for part in parts)
    return total


def test_thousands_may_leave_from_the_middle() -> None:
    tasks = [task(f"t{order:05}", order=order) for order in range(5_000)]
    ready = queue(*tasks)
    for item in tasks[1:-1]:
        ready.remove(item)
    assert (len(ready), list(ready)) == (2, ["t00000", "t04999"])
    for item in tasks[-2:0:-1]:
        ready.push(item)
    assert (len(ready), list(ready)) == (5_000, [item.id for item in tasks])


@pytest.mark.parametrize("backwards", [True, False])
def test_all_that_come_back_to_one_that_stayed_are_in_blocks_again(backwards: bool) -> None:
    tasks = [task(f"t{order:05}", order=order) for order in range(6 * BLOCK)]
    ready = queue(*tasks)
    for item in tasks[:-1]:
        ready.remove(item)
    for item in reversed(tasks[:-1]) if backwards else tasks[:-1]:
        ready.push(item)
    (lane,) = ready._lanes.values()
    assert max(map(len, lane.blocks)) <= 2 * BLOCK
    assert list(ready) == [item.id for item in tasks]
    for item in tasks:
        ready.remove(item)
    assert (len(ready), list(ready), ready.lanes_count) == (0, [], 0)


def test_a_lane_of_few_tasks_far_apart_has_few_blocks() -> None:
    ready = queue(*[task("t", order=order * BLOCK) for order in range(500)])
    (lane,) = ready._lanes.values()
    assert len(lane.blocks) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_queue_equals_a_sorted_list_whatever_is_done_to_it(seed: int) -> None:
    draw = random.Random(seed)
    known = [
        task(f"t{order}", order=order, priority=draw.choice([10, 50, 90]))
        for order in draw.sample(range(5 * BLOCK), 300)
    ]
    ready, plain = ReadyQueue(), set[int]()
    for step in range(3_000):
        number = draw.randrange(len(known))
        if number in plain:
            plain.remove(number)
            ready.remove(known[number])
        else:
            plain.add(number)
            ready.push(known[number])
        if step % 100 == 0:
            wanted = sorted((known[n] for n in plain), key=lambda t: (-t.priority, t.order))
            assert (len(ready), list(ready)) == (len(plain), [item.id for item in wanted])
