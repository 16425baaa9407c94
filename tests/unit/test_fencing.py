"""Sinks that refuse old tokens: the helper, and the examples of the guide."""

from __future__ import annotations

import importlib.util
import multiprocessing
import sqlite3
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from raftsched.fencing import Fence, Full, NoToken, StaleToken, token, token_of

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
WRITERS, ROUNDS = 4, 30


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The helper --------------------------------------------------------------------------------------


def test_older_token_is_refused_and_the_same_one_passes_again() -> None:
    fence = Fence()
    fence.check("a", 5)
    fence.check("a", 5)
    fence.check("a", 7)
    with pytest.raises(StaleToken, match="a: token 5 is older than 7") as caught:
        fence.check("a", 5)
    assert (caught.value.name, caught.value.token, caught.value.highest) == ("a", 5, 7)
    fence.check("b", 1)
    assert (fence.highest("a"), fence.highest("b"), fence.highest("c")) == (7, 1, 0)


def test_what_was_stored_before_a_restart_still_counts() -> None:
    fence = Fence({"a": 7})
    with pytest.raises(StaleToken):
        fence.check("a", 6)


def test_fence_is_bounded_and_forgets_only_when_told() -> None:
    fence = Fence(names_max=2)
    fence.check("a", 1)
    fence.check("b", 1)
    with pytest.raises(Full, match="2 names"):
        fence.check("c", 1)
    fence.check("a", 2)
    fence.forget("b")
    fence.check("c", 1)


def test_newer_attempt_waits_for_a_write_under_way_and_stands_at_the_end() -> None:
    fence, entered, store = Fence(), threading.Event(), list[int]()

    def newer() -> None:
        entered.wait(5)
        with fence.held("a", 2):
            store.append(2)

    thread = threading.Thread(target=newer)
    thread.start()
    with fence.held("a", 1):
        entered.set()
        assert fence.highest("a") == 1
        with fence.held("other", 1):
            pass
        store.append(1)
    thread.join(5)
    assert store == [1, 2]
    with pytest.raises(StaleToken), fence.held("a", 1):
        store.append(1)
    assert store == [1, 2]


def test_of_many_threads_the_highest_token_writes_last() -> None:
    fence, store = Fence(), dict[str, int]()

    def write(first: int) -> None:
        for number in range(first, WRITERS * ROUNDS, WRITERS):
            try:
                with fence.held("a", number + 1):
                    assert store.get("a", 0) <= number + 1
                    store["a"] = number + 1
            except StaleToken:
                pass

    threads = [threading.Thread(target=write, args=(first,)) for first in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert store["a"] == fence.highest("a") == WRITERS * ROUNDS


def test_token_is_the_attempts_own() -> None:
    assert token({"RAFTSCHED_FENCING_TOKEN": "12"}) == 12
    for wrong in ({}, {"RAFTSCHED_FENCING_TOKEN": ""}, {"RAFTSCHED_FENCING_TOKEN": "-1"}):
        with pytest.raises(NoToken):
            token(wrong)


def test_token_of_a_request_is_its_header_in_any_case() -> None:
    assert token_of({"raftsched-fencing-TOKEN": "12"}) == 12
    for wrong in ({}, {"Raftsched-Fencing-Token": "x"}, {"Raftsched-Fencing-Token": "٣"}):
        with pytest.raises(NoToken):
            token_of(wrong)


# The examples ------------------------------------------------------------------------------------


def test_file_is_replaced_by_the_newest_attempt_alone(tmp_path: Path) -> None:
    store, path = _example("fenced_file"), tmp_path / "report.txt"
    assert store.read(path) == (0, b"")
    store.write(path, 3, b"three\nlines\n")
    store.write(path, 3, b"again")
    with pytest.raises(StaleToken, match=r"report.txt: token 2 is older than 3"):
        store.write(path, 2, b"two")
    assert store.read(path) == (3, b"again")
    assert {each.name for each in tmp_path.iterdir()} == {"report.txt", "report.lock"}


def test_row_is_changed_by_the_newest_attempt_alone() -> None:
    store = _example("fenced_table")
    database = sqlite3.connect(":memory:")
    database.execute(store.SCHEMA)
    store.write(database, "a", 3, "three")
    store.write(database, "a", 3, "again")
    store.write(database, "b", 1, "one")
    with pytest.raises(StaleToken, match="a: token 2 is older than 3"):
        store.write(database, "a", 2, "two")
    rows = database.execute("SELECT * FROM report ORDER BY name").fetchall()
    assert rows == [("a", 3, "again"), ("b", 1, "one")]
    database.close()


def _write_files(directory: Path, first: int) -> None:
    store = _example("fenced_file")
    for number in range(first, WRITERS * ROUNDS, WRITERS):
        try:
            store.write(directory / "report.txt", number + 1, str(number + 1).encode())
        except StaleToken:
            continue
        # Whatever stands there now is whole, and not older.
        held, data = store.read(directory / "report.txt")
        if held < number + 1 or data != str(held).encode():
            sys.exit(1)


def _write_rows(directory: Path, first: int) -> None:
    store = _example("fenced_table")
    database = sqlite3.connect(directory / "reports.db", timeout=30)
    for number in range(first, WRITERS * ROUNDS, WRITERS):
        try:
            store.write(database, "a", number + 1, str(number + 1))
        except StaleToken:
            continue
        [held, data] = database.execute("SELECT token, data FROM report").fetchone()
        if held < number + 1 or data != str(held):
            sys.exit(1)
    database.close()


@pytest.mark.parametrize("write", [_write_files, _write_rows])
def test_of_many_processes_the_highest_token_writes_last(tmp_path: Path, write: object) -> None:
    database = sqlite3.connect(tmp_path / "reports.db")
    database.execute(_example("fenced_table").SCHEMA)
    database.commit()
    spawn = multiprocessing.get_context("fork")
    processes = [
        spawn.Process(target=write, args=(tmp_path, first))  # type: ignore[arg-type]
        for first in range(WRITERS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * WRITERS
    if write is _write_files:
        assert _example("fenced_file").read(tmp_path / "report.txt")[0] == WRITERS * ROUNDS
    else:
        [highest] = database.execute("SELECT token FROM report").fetchone()
        assert highest == WRITERS * ROUNDS
    database.close()
