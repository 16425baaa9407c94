"""The ready queue, the listing and the usage of a node."""

from __future__ import annotations

import random
import sys

import pytest

from raftsched.core.indexes import BLOCK, EMPTY_MAX, Finished, Listing, ReadyQueue, Usage
from raftsched.core.model import Task, TaskStatus
from tests.unit.core.builders import attempt, task, terms

#: Tasks of the ready queue's tests: created in this order.
A, B, C = (task(task_id, order=order) for order, task_id in enumerate("abc", 1))


def queue(*tasks: Task) -> ReadyQueue:
    """A queue with these tasks, pushed in order."""
    ready = ReadyQueue()
    for item in tasks:
        ready.push(item)
    return ready


# Ready queue -----------------------------------------------------------------------------------


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
    for order in range(BLOCK, 3 * EMPTY_MAX * BLOCK, BLOCK):
        item = task("t", order=order)
        ready.push(item)
        ready.remove(item)
    assert list(ready) == ["w"] * waiting
    assert size(ready) < 20 * EMPTY_MAX


def size(ready: ReadyQueue) -> int:
    """Bytes of the containers of a queue."""
    total = sys.getsizeof(ready._lanes)
    for lane in ready._lanes.values():
        parts = (lane.blocks, lane.numbers, lane.unsorted, *lane.blocks.values())
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


# Listing ---------------------------------------------------------------------------------------

#: (create index, id), oldest first; ids of one entry in order.
ROWS = [(1, "b"), (3, "a"), (3, "c"), (3, "e"), (4, "a2"), (9, "z")]


def listed() -> Listing:
    """A listing of all rows, those of one entry submitted in another order."""
    listing = Listing()
    for index, task_id in [(1, "b"), (3, "e"), (3, "a"), (3, "c"), (4, "a2"), (9, "z")]:
        listing.add(task(task_id, create_index=index))
    return listing


def test_a_listing_goes_both_ways() -> None:
    assert list(listed().after(None, newest_first=False)) == ROWS
    assert list(listed().after(None, newest_first=True)) == ROWS[::-1]


#: Each row, and places between, before and behind them.
CURSORS = [*ROWS, (0, ""), (1, "a"), (1, "c"), (2, "x"), (3, ""), (3, "b"), (3, "zz"), (99, "")]


@pytest.mark.parametrize("cursor", CURSORS)
def test_a_page_begins_behind_its_cursor_which_need_not_exist(cursor: tuple[int, str]) -> None:
    listing = listed()
    assert list(listing.after(cursor, newest_first=False)) == [r for r in ROWS if r > cursor]
    assert list(listing.after(cursor, newest_first=True)) == [r for r in ROWS[::-1] if r < cursor]


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_pages_one_after_the_other_give_every_row_once(size: int, newest_first: bool) -> None:
    listing, seen = listed(), list[tuple[int, str]]()
    while True:
        found = listing.after(seen[-1] if seen else None, newest_first=newest_first)
        page = [row for _, row in zip(range(size), found, strict=False)]
        if not page:
            break
        seen += page
    assert seen == (ROWS[::-1] if newest_first else ROWS)


def test_removed_tasks_are_passed_over_and_their_cursors_still_work() -> None:
    listing = listed()
    for index, task_id in [(3, "c"), (4, "a2"), (9, "z")]:
        listing.remove(task(task_id, create_index=index))
    rest = [(1, "b"), (3, "a"), (3, "e")]
    assert list(listing.after(None, newest_first=False)) == rest
    assert list(listing.after((3, "c"), newest_first=False)) == [(3, "e")]
    assert list(listing.after((4, "a2"), newest_first=True)) == rest[::-1]


def test_thousands_of_removed_entries_leave_the_rest_in_order() -> None:
    listing = Listing()
    for index in range(5_000):
        listing.add(task(f"t{index}", create_index=index))
    for index in range(4_990):
        listing.remove(task(f"t{index}", create_index=index))
    rest = [(index, f"t{index}") for index in range(4_990, 5_000)]
    assert list(listing.after(None, newest_first=False)) == rest
    listing.add(task("new", create_index=6_000))
    assert list(listing.after((4_999, "t4999"), newest_first=False)) == [(6_000, "new")]


# Finished --------------------------------------------------------------------------------------


def test_what_an_entry_deletes_and_creates_again_is_listed_once() -> None:
    listing = Listing()
    listing.add(task("t1", create_index=7))
    listing.remove(task("t1", create_index=7))
    listing.add(task("t2", create_index=7))
    assert list(listing.after(None, newest_first=True)) == [(7, "t2")]
    assert list(listing.after(None, newest_first=False)) == [(7, "t2")]


def ended(task_id: str, index: int) -> Task:
    """A task that ended in an entry."""
    return task(task_id, status=TaskStatus.SUCCEEDED, modify_index=index, finished_at=1)


def drained(finished: Finished) -> list[str]:
    """All that ended, oldest first; the index is empty afterwards."""
    found = []
    while (oldest := finished.oldest()) is not None:
        found.append(oldest)
        index = next(index for index, ids in finished._ids.items() if oldest in ids)
        finished.remove(ended(oldest, index))
    return found


def test_what_ended_comes_by_its_entry_and_by_id_within_one() -> None:
    finished = Finished()
    for index, task_id in [(1, "z"), (4, "b"), (4, "c"), (4, "a"), (5, "y"), (5, "x")]:
        finished.add(ended(task_id, index))
    rows = ["z", "a", "b", "c", "x", "y"]
    assert list(finished) == rows
    assert drained(finished) == rows
    assert finished.oldest() is None


def test_what_ends_in_an_entry_that_was_already_looked_at_takes_its_place_by_id() -> None:
    finished = Finished()
    finished.add(ended("b", 1))
    finished.add(ended("d", 1))
    assert finished.oldest() == "b"
    finished.remove(ended("b", 1))
    for task_id in ("e", "a", "c"):
        finished.add(ended(task_id, 1))
    finished.add(ended("f", 2))
    assert drained(finished) == ["a", "c", "d", "e", "f"]


def test_what_ended_and_was_removed_in_one_entry_leaves_no_second_place_for_it() -> None:
    finished = Finished()
    finished.add(ended("a", 7))
    finished.remove(ended("a", 7))
    finished.add(ended("b", 7))
    assert list(finished) == ["b"]
    assert drained(finished) == ["b"]


def test_what_was_removed_is_forgotten_also_behind_one_that_stays() -> None:
    finished = Finished()
    finished.add(ended("first", 0))
    for index in range(1, 3 * EMPTY_MAX):
        finished.add(ended("t", index))
        finished.remove(ended("t", index))
    assert list(finished) == ["first"]
    assert len(finished._indexes) <= EMPTY_MAX + 2


# Usage -----------------------------------------------------------------------------------------


def test_usage_counts_tasks_in_and_out() -> None:
    usage = Usage()
    usage.add(terms(cpu_milli=500, memory_bytes=10))
    usage.add(terms(cpu_milli=250, memory_bytes=1))
    assert usage == Usage(750, 11, 2)
    usage.subtract(terms(cpu_milli=500, memory_bytes=10))
    assert usage == Usage(250, 1, 1)


def test_a_copy_of_a_usage_is_its_own() -> None:
    usage = Usage(1, 2, 3)
    copy = usage.copy()
    copy.add(terms(cpu_milli=5))
    assert (usage, copy) == (Usage(1, 2, 3), Usage(6, 2, 4))
