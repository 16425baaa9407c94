"""The ready queue, the listing and the usage of a node."""

from __future__ import annotations

import random

import pytest

from raftsched.core.indexes import Finished, Listing, ReadyQueue, Usage
from raftsched.core.model import Task
from tests.unit.core.builders import attempt, task


def queue(*tasks: Task) -> ReadyQueue:
    """A queue with these tasks, pushed in order."""
    ready = ReadyQueue()
    for item in tasks:
        ready.push(item)
    return ready


def tried(task_id: str, **fields: int) -> Task:
    """A task that has had an attempt."""
    return task(task_id, attempts=(attempt(1),), **fields)


# Ready queue -----------------------------------------------------------------------------------


def test_an_empty_queue_has_nothing() -> None:
    ready = ReadyQueue()
    assert (len(ready), list(ready)) == (0, [])


def test_the_first_in_is_the_first_out() -> None:
    ready = queue(task("c"), task("a"), task("b"))
    assert (len(ready), list(ready)) == (3, ["c", "a", "b"])


def test_higher_priorities_come_first() -> None:
    ready = queue(
        task("low", priority=1), task("high", priority=9), task("low2", priority=1), task("mid")
    )
    ready.push(task("mid2", priority=50))
    assert list(ready) == ["mid", "mid2", "high", "low", "low2"]


def test_a_task_that_came_back_waits_first() -> None:
    ready = queue(task("a"), task("b"))
    ready.remove(task("a"))
    ready.push(tried("a"))
    assert list(ready) == ["a", "b"]


def test_drawing_twice_gives_the_same() -> None:
    ready = queue(task("a"), task("b"), task("c"))
    ready.remove(task("a"))
    ready.remove(task("c"))
    assert list(ready) == list(ready) == ["b"]


@pytest.mark.parametrize("gone", ["a", "b", "c", "ab", "ba", "bc", "ca", "abc", "cba", "bca"])
def test_tasks_leave_from_anywhere_and_the_others_keep_their_order(gone: str) -> None:
    ready = queue(task("a"), task("b"), task("c"))
    for task_id in gone:
        ready.remove(task(task_id))
    rest = [task_id for task_id in "abc" if task_id not in gone]
    assert (len(ready), list(ready)) == (len(rest), rest)


@pytest.mark.parametrize("task_id", ["a", "b", "c"])
def test_a_resumed_task_waits_behind_those_that_waited_meanwhile(task_id: str) -> None:
    ready = queue(task("a"), task("b"), task("c"))
    ready.remove(task(task_id))
    ready.push(task(task_id))
    rest = [other for other in "abc" if other != task_id]
    assert (len(ready), list(ready)) == (3, [*rest, task_id])


def test_a_task_may_leave_and_come_back_any_number_of_times() -> None:
    ready = queue(task("a"), task("b"), task("c"))
    for _ in range(50):
        ready.remove(task("b"))
        ready.push(task("b"))
    assert (len(ready), list(ready)) == (3, ["a", "c", "b"])
    ready.remove(task("b"))
    assert list(ready) == ["a", "c"]


def test_only_the_latest_entry_of_a_task_that_came_back_counts() -> None:
    ready = queue(task("a"), task("b"), task("c"))
    ready.remove(task("b"))
    ready.push(tried("b"))
    ready.remove(tried("b"))
    assert (len(ready), sorted(ready)) == (2, ["a", "c"])
    ready.push(tried("b"))
    assert (len(ready), sorted(ready)) == (3, ["a", "b", "c"])


def test_thousands_may_leave_from_the_middle() -> None:
    ready = queue(*[task(f"t{number:05}") for number in range(5_000)])
    for number in range(1, 4_999):
        ready.remove(task(f"t{number:05}"))
    assert (len(ready), list(ready)) == (2, ["t00000", "t04999"])
    for number in range(1, 4_999):
        ready.push(task(f"t{number:05}"))
    assert len(ready) == 5_000
    assert list(ready)[:3] == ["t00000", "t04999", "t00001"]


@pytest.mark.parametrize("seed", range(5))
def test_a_queue_equals_a_plain_list_whatever_is_done_to_it(seed: int) -> None:
    draw = random.Random(seed)
    ready, plain = ReadyQueue(), dict[str, Task]()
    for step in range(3_000):
        if plain and draw.random() < 0.5:
            gone = draw.choice(list(plain))
            ready.remove(plain.pop(gone))
        else:
            new = draw.choice([f"t{draw.randrange(40)}", f"s{step}"])
            if new not in plain:
                plain[new] = task(new, priority=draw.choice([10, 50, 90]))
                ready.push(plain[new])
        if step % 100 == 0:
            wanted = sorted(plain, key=lambda task_id: -plain[task_id].priority)
            assert (len(ready), list(ready)) == (len(plain), wanted)


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


def drained(finished: Finished) -> list[tuple[int, str]]:
    """All that ended, oldest first; the index is empty afterwards."""
    found = []
    while (oldest := finished.oldest()) is not None:
        found.append(oldest)
        finished.drop_oldest()
    return found


def test_what_ended_comes_by_its_entry_and_by_id_within_one() -> None:
    finished = Finished()
    for index, task_id in [(1, "z"), (4, "b"), (4, "c"), (4, "a"), (5, "y"), (5, "x")]:
        finished.add(index, task_id)
    rows = [(1, "z"), (4, "a"), (4, "b"), (4, "c"), (5, "x"), (5, "y")]
    assert drained(finished) == rows
    assert finished.oldest() is None


def test_what_ends_in_an_entry_that_was_already_looked_at_takes_its_place_by_id() -> None:
    finished = Finished()
    finished.add(1, "b")
    finished.add(1, "d")
    assert finished.oldest() == (1, "b")
    finished.drop_oldest()
    for task_id in ("e", "a", "c"):
        finished.add(1, task_id)
    finished.add(2, "a")
    assert drained(finished) == [(1, "a"), (1, "c"), (1, "d"), (1, "e"), (2, "a")]


# Usage -----------------------------------------------------------------------------------------


def test_usage_counts_tasks_in_and_out() -> None:
    usage = Usage()
    usage.add(task(cpu_milli=500, memory_bytes=10))
    usage.add(task(cpu_milli=250, memory_bytes=1))
    assert usage == Usage(750, 11, 2)
    usage.add(task(cpu_milli=500, memory_bytes=10), -1)
    assert usage == Usage(250, 1, 1)


def test_a_copy_of_a_usage_is_its_own() -> None:
    usage = Usage(1, 2, 3)
    copy = usage.copy()
    copy.add(task(cpu_milli=5))
    assert (usage, copy) == (Usage(1, 2, 3), Usage(6, 2, 4))
