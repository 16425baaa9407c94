"""The listing, what is finished and the usage of a node."""

from __future__ import annotations

import pytest

from raftsched.core.finished import Finished
from raftsched.core.indexes import EMPTY_MAX, Listing, Usage
from raftsched.core.model import Task, TaskStatus
from tests.unit.core.builders import task, terms

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
        index, task_id = oldest
        found.append(task_id)
        finished.remove(ended(task_id, index))
    assert (len(finished), finished.bytes) == (0, 0)
    return found


def test_what_ended_comes_by_its_entry_and_by_id_within_one() -> None:
    finished = Finished()
    for index, task_id in [(1, "z"), (4, "b"), (4, "c"), (4, "a"), (5, "y"), (5, "x")]:
        finished.add(ended(task_id, index))
    rows = ["z", "a", "b", "c", "x", "y"]
    assert [task_id for _, task_id in finished] == rows
    assert drained(finished) == rows
    assert finished.oldest() is None


def test_what_ends_in_an_entry_that_was_already_looked_at_takes_its_place_by_id() -> None:
    finished = Finished()
    finished.add(ended("b", 1))
    finished.add(ended("d", 1))
    assert finished.oldest() == (1, "b")
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
    assert list(finished) == [(7, "b")]
    assert drained(finished) == ["b"]


def test_what_was_removed_is_forgotten_also_behind_one_that_stays() -> None:
    finished = Finished()
    finished.add(ended("first", 0))
    for index in range(1, 3 * EMPTY_MAX):
        finished.add(ended("t", index))
        finished.remove(ended("t", index))
    assert list(finished) == [(0, "first")]
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
