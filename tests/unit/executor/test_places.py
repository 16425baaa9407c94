"""The directory an attempt works in: its own, empty at the start, gone after the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raftsched.core.spec import ProcessLimits, TaskSpec
from raftsched.executor import places as module
from raftsched.executor.children import Children
from raftsched.executor.places import Places
from tests.unit.executor.harness import Node, running

TRUE = TaskSpec(("true",))


async def said(node: Node, line: str, token: int = 1, **options: object) -> str:
    report = await node.run(line, token=token, shell=True, **options)
    assert report.status == "succeeded", report
    return report.output_tail.decode().strip()


async def gone(folder: Path, count: int = 0) -> None:
    """Return once so few directories have something in them."""
    async with asyncio.timeout(5):
        while sum(any(path.iterdir()) for path in folder.iterdir()) > count:
            await asyncio.sleep(0.005)


async def test_attempt_works_in_an_empty_directory_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        for token in range(1, 4):
            where, *names = (await said(node, "pwd; ls -A; touch a b; ls", token)).split()
            assert Path(where).parent == tmp_path / "work"
            assert names == ["a", "b"]
        limits = ProcessLimits(open_files=100)
        assert (await said(node, "pwd", 4, limits=limits)).startswith(str(tmp_path / "work"))
        assert await said(node, "pwd", 5, cwd="/usr") == "/usr"


async def test_two_at_once_have_two(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        gate = tmp_path / "gate"
        node.start(f"pwd; until [ -e {gate} ]; do sleep 0.01; done", shell=True)
        await node.report(1, "started")
        other = await said(node, f"pwd; touch {gate}", 2)
        assert (await node.report(1)).output_tail.decode().strip() != other


async def test_hooks_share_the_directory_of_their_attempt(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        report = await node.run(
            "ls", before=("touch", "made"), after=("sh", "-c", "pwd; rm made"), token=2
        )
        name, where = report.output_tail.decode().split()
        assert name == "made"
        assert Path(where).parent == tmp_path / "work"
        assert list(Path(where).iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "mkdir -p a/b; touch a/b/c",
        "seq 100 | xargs touch",
        "mkdir a; touch a/b; chmod 0 a; chmod 500 .",
        "ln -s /usr a; mkdir b",
    ],
)
async def test_whatever_it_leaves_is_removed(tmp_path: Path, line: str) -> None:
    async with running(tmp_path) as node:
        where = await said(node, f"pwd; {line}")
        async with asyncio.timeout(5):
            while os.path.lexists(where):
                await asyncio.sleep(0.005)
        assert await said(node, "ls -A", 2) == ""


async def test_directory_that_was_replaced_by_a_link_harms_nothing_else(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").touch(0o400)
    async with running(tmp_path / "n") as node:
        where = await said(node, f"here=$(pwd); cd /; rmdir $here; ln -s {other} $here; echo $here")
        async with asyncio.timeout(5):
            while os.path.lexists(where):
                await asyncio.sleep(0.005)
        assert await said(node, "ls -A", 2) == ""
    assert (other / "kept").stat().st_mode & 0o777 == 0o400


async def test_next_runner_removes_what_an_earlier_one_left(tmp_path: Path) -> None:
    (tmp_path / "work" / "7" / "a").mkdir(parents=True)
    async with running(tmp_path) as node:
        await gone(tmp_path / "work")
        assert not (tmp_path / "work" / "7").exists()
        assert await said(node, "ls -A") == ""


# Without a runner --------------------------------------------------------------------------------


def run_programs(children: Children, until: Callable[[], bool]) -> None:
    """Let what removes directories end."""
    while not until():
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        children.reap()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Places, Children, Path]:
    children = Children()
    return Places(tmp_path, children), children, tmp_path / "work"


def test_untouched_directory_is_used_again_and_a_full_one_is_not(
    made: tuple[Places, Children, Path],
) -> None:
    places, children, folder = made
    first = places.open(TRUE)
    places.close(first)
    assert places.open(TRUE) == first
    Path(first, "directory").mkdir()
    places.close(first)
    assert places.open(TRUE) != first
    run_programs(children, lambda: not Path(first).exists())
    assert len(list(folder.iterdir())) == 1


def test_file_in_a_directory_long_untouched_is_seen(made: tuple[Places, Children, Path]) -> None:
    places, _, _ = made
    first = places.open(TRUE)
    os.utime(first, (1, 1))
    for _ in range(3):
        places.close(first)
        assert places.open(TRUE) == first
    Path(first, "file").touch()
    places.close(first)
    assert places.open(TRUE) == first
    assert list(Path(first).iterdir()) == []


def test_directory_of_another_mode_is_not_used_again(made: tuple[Places, Children, Path]) -> None:
    places, children, _ = made
    first = places.open(TRUE)
    Path(first).chmod(0o777)
    places.close(first)
    assert places.open(TRUE) != first
    run_programs(children, lambda: not Path(first).exists())


def test_trash_is_bounded_by_what_may_begin(
    made: tuple[Places, Children, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    places, children, _ = made
    monkeypatch.setattr(module, "TRASH_MAX", 3)
    for _ in range(3):
        assert places.has_room
        path = places.open(TRUE)
        Path(path, "directory").mkdir()
        places.close(path)
    assert not places.has_room
    run_programs(children, lambda: places.has_room)


def test_runner_that_ends_leaves_no_directory(made: tuple[Places, Children, Path]) -> None:
    places, _, folder = made
    places.close(places.open(TRUE))
    places.end()
    assert not folder.exists()


@pytest.mark.parametrize("spec", [TaskSpec(("true",), cwd="/usr"), TaskSpec(("true",), user="bin")])
def test_none_is_made_for_those_who_name_one_or_a_user(
    made: tuple[Places, Children, Path], spec: TaskSpec
) -> None:
    places, _, folder = made
    assert places.open(spec) == ""
    places.close("")
    assert list(folder.iterdir()) == []
