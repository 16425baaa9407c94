"""Control groups of attempts: with the kernel's where a test may make one, else with files."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from raftsched.core.spec import ProcessLimits
from raftsched.executor import cgroup
from raftsched.executor.cgroup import Groups
from tests.unit.executor.harness import Node, running


def _mount() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split()[4])
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    """A group of the test's own, below which the node may make others."""
    mount = _mount()
    path = (mount or Path("/nowhere")) / f"raftsched-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError:
        pytest.skip("no cgroup v2 in which a test may make a group")
    yield path
    for left in [*path.glob("*/*/"), *path.glob("*/"), path]:
        with contextlib.suppress(OSError):
            (left / "cgroup.kill").write_text("1")
            left.rmdir()


@contextlib.asynccontextmanager
async def _grouped(directory: Path, group: Path) -> AsyncIterator[Node]:
    async with running(directory) as node:
        node.client.configure(http_private=True, http_metadata=False, cgroup=str(group))
        yield node


def _left(group: Path) -> list[str]:
    return [path.name for path in group.glob("*/*/")]


async def _shell(node: Node, line: str, **options: Any) -> str:
    report = await node.run(line, shell=True, **options)
    assert report.status == "succeeded", report
    return report.output_tail.decode()


async def test_each_attempt_has_a_group_that_is_gone_at_its_end(
    tmp_path: Path, group: Path
) -> None:
    async with _grouped(tmp_path, group) as node:
        said = await _shell(node, "grep ^0: /proc/self/cgroup", token=7)
        assert said.strip().endswith("/7")
        assert f"/{group.name}/raftsched-" in said
        assert _left(group) == []
        assert (await node.run("/no/such", token=8)).reason == "executable-not-found: /no/such"
        assert _left(group) == []


async def test_what_hides_from_everything_else_dies_with_the_group(
    tmp_path: Path, group: Path
) -> None:
    async with _grouped(tmp_path / "n", group) as node:
        file, gate = tmp_path / "pid", tmp_path / "gate"
        # Another one runs, to which the stray could belong as well.
        node.start(f"until [ -e {gate} ]; do sleep 0.01; done", token=2, shell=True)
        line = f"env -i setsid -f sh -c 'echo $$ > {file}; sleep 100'"
        await _shell(node, f"{line}; until [ -s {file} ]; do sleep 0.01; done")
        stat = Path("/proc", file.read_text().strip(), "stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
        gate.touch()
        await node.report(2)
        assert _left(group) == []


async def test_what_an_earlier_runner_left_in_its_groups_is_killed(
    tmp_path: Path, group: Path
) -> None:
    groups = Groups(group, "mark")
    left = groups.open(1, 0)
    process = await asyncio.create_subprocess_exec("sleep", "100", preexec_fn=left.join)
    assert not left.is_empty()
    Groups(group, "mark")
    assert await process.wait() == -9


def test_directory_that_is_no_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"is no group of cgroup v2 below its root"):
        Groups(tmp_path, "mark")


async def test_node_whose_group_cannot_be_used_runs_without(tmp_path: Path) -> None:
    async with _grouped(tmp_path, tmp_path) as node:
        assert await _shell(node, "echo fine") == "fine\n"
        assert "get no control groups" in (tmp_path / "runner.log").read_text()


# The memory controller, by files -----------------------------------------------------------------


def _controlled(parent: Path, controllers: str, *, is_for_all: bool = True) -> Groups:
    for path in (parent, parent / "raftsched-mark"):
        path.mkdir(exist_ok=True)
        for name in ("cgroup.procs", "cgroup.kill", "cgroup.subtree_control"):
            (path / name).write_text("")
        (path / "cgroup.controllers").write_text(controllers)
    return Groups(parent, "mark", is_for_all=is_for_all)


def test_memory_limit_is_the_groups_where_the_controller_is_there(tmp_path: Path) -> None:
    group = _controlled(tmp_path, "cpu memory pids").open(1, 1 << 20)
    path = tmp_path / "raftsched-mark" / "1"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    assert group.has_memory
    assert (path / "memory.max").read_text() == "1048576"
    assert not group.ran_out_of_memory()
    (path / "memory.events").write_text("low 0\nhigh 0\noom 1\noom_kill 1\n")
    assert group.ran_out_of_memory()


@pytest.mark.parametrize(("controllers", "memory"), [("cpu pids", 1 << 20), ("memory", 0)])
def test_without_controller_or_limit_the_group_has_none(
    tmp_path: Path, controllers: str, memory: int
) -> None:
    assert not _controlled(tmp_path, controllers).open(1, memory).has_memory


async def test_memory_limit_of_the_process_holds_where_the_group_has_none(
    tmp_path: Path, group: Path
) -> None:
    if "memory" in (group / "cgroup.controllers").read_text():
        pytest.skip("the group has one")
    async with _grouped(tmp_path, group) as node:
        limits = ProcessLimits(memory_bytes=512 << 20)
        assert await _shell(node, "ulimit -v", limits=limits) == "524288\n"


@pytest.mark.parametrize(
    ("controllers", "is_for_all", "expected"),
    [
        ("memory", True, (True, True)),
        ("memory", False, (False, True)),
        ("cpu", True, (True, True)),
        ("cpu", False, (False, False)),
    ],
)
def test_group_that_nobody_named_is_for_memory_limits_only(
    tmp_path: Path, controllers: str, is_for_all: bool, expected: tuple[bool, bool]
) -> None:
    groups = _controlled(tmp_path, controllers, is_for_all=is_for_all)
    assert (groups.has_one_for(0), groups.has_one_for(1 << 20)) == expected


# Whose group it is -------------------------------------------------------------------------------


class Service:
    """Files that say in which group this process is."""

    def __init__(self, directory: Path, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.unit = directory / "mount" / "system.slice" / "raftsched.service"
        (self.unit / "peer").mkdir(parents=True)
        mounts, said = directory / "mountinfo", directory / "cgroup"
        mounts.write_text(
            "20 1 0:20 / / rw - ext4 /dev/vda rw\n"
            f"30 23 0:26 / {directory / 'mount'} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
        )
        said.write_text(f"1:name=systemd:/x\n{own}\n")
        monkeypatch.setattr(cgroup, "MOUNTS", mounts)
        monkeypatch.setattr(cgroup, "OWN", said)

    def mark(self, path: Path, value: bytes) -> None:
        try:
            os.setxattr(path, "user.delegate", value)
        except OSError:
            pytest.skip("no extended attributes where tests have their files")


def test_group_marked_as_the_services_own_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(tmp_path, "0::/system.slice/raftsched.service/peer", monkeypatch)
    assert cgroup.delegated() is None
    service.mark(service.unit, b"0")
    assert cgroup.delegated() is None
    service.mark(service.unit, b"1")
    assert cgroup.delegated() == service.unit


@pytest.mark.parametrize("own", ["0::/", "0::/system.slice/raftsched.service/peer/below", "x"])
def test_group_that_is_marked_further_up_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str
) -> None:
    service = Service(tmp_path, own, monkeypatch)
    service.mark(service.unit, b"1")
    assert cgroup.delegated() is None
