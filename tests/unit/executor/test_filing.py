"""Results that are too large to be replicated: files on the node's disk, if they are JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from raftsched.core.model import RESULT_BYTES_MAX, RESULT_FILE_BYTES_MAX
from raftsched.core.spec import TaskSpec
from raftsched.executor import filing, output
from raftsched.executor.children import Children
from raftsched.executor.filing import Filing, checked
from raftsched.executor.messages import AttemptReport, StartAttempt
from raftsched.executor.output import OutputReader, keep_result
from raftsched.executor.results import BadResult
from tests.e2e.cluster import is_alive
from tests.unit.executor.harness import Node, nothing_runs, running

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may be another user")


async def _run(node: Node, line: str, token: int = 1, **options: object) -> AttemptReport:
    """An attempt of a line for the shell, of a cluster that knows such results."""
    spec = TaskSpec((f"F=$RAFTSCHED_RESULT_FILE; {line}",), shell=True, **options)  # type: ignore[arg-type]
    node.client.start([StartAttempt(token, f"t{token}", 1, spec, files_result=True)], 8)
    return await node.report(token)


async def test_what_is_large_is_told_with_the_attempt(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        spec = TaskSpec((f"F=$RAFTSCHED_RESULT_FILE; {_text(101)}",), shell=True)
        start = StartAttempt(1, "t1", 1, spec, files_result=True, result_max=100)
        node.client.start([start, replace(start, token=2, task_id="t2", result_max=101)], 8)
        first, second = await node.report(1), await node.report(2)
        assert (first.result, first.result_bytes) == (b"", 101)
        assert (len(second.result), second.result_bytes) == (101, 0)


def _text(size: int) -> str:
    """A line that writes one JSON string of so many bytes."""
    return f"(printf '\"'; head -c {size - 2} /dev/zero | tr '\\0' x; printf '\"') > $F"


def _kept(directory: Path) -> dict[str, int]:
    """Files of results, and what is left of some, with their sizes."""
    folder = directory / "output"
    return {p.name: p.stat().st_size for p in folder.iterdir() if not p.name.endswith(".out")}


@pytest.mark.parametrize("size", [RESULT_BYTES_MAX + 1, 5 << 20, RESULT_FILE_BYTES_MAX])
async def test_large_result_is_kept_as_a_file_and_its_size_is_told(
    tmp_path: Path, size: int
) -> None:
    async with running(tmp_path) as node:
        report = await _run(node, f"{_text(size)}; echo said")
        assert (report.status, report.reason, report.result) == ("succeeded", "", b"")
        assert (report.result_bytes, report.output_tail) == (size, b"said\n")
        assert _kept(tmp_path) == {"t1.1.result": size}
        data, _, is_all = OutputReader(tmp_path).read("t1", 1, "result", 0, size)
        assert is_all and json.loads(data) == "x" * (size - 2)
        assert list((tmp_path / "results").iterdir()) == []
        mode = (tmp_path / "output" / "t1.1.result").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


async def test_small_result_is_no_file(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        report = await _run(node, _text(RESULT_BYTES_MAX))
        assert (len(report.result), report.result_bytes) == (RESULT_BYTES_MAX, 0)
        assert _kept(tmp_path) == {}


async def test_failed_attempt_keeps_a_large_result_it_left(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        report = await _run(node, f"{_text(100_000)}; exit 3")
        assert (report.status, report.reason) == ("failed", "exit-code-3")
        assert (report.exit_code, report.result_bytes) == (3, 100_000)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (_text(RESULT_FILE_BYTES_MAX + 1), "result-too-large: 16777217 bytes, at most 16777216"),
        ("truncate -s 1G $F", "result-too-large: 1073741824 bytes, at most 16777216"),
        ("truncate -s 1M $F", "result-not-json: "),
        ("(printf '['; head -c 100000 /dev/zero | tr '\\0' 1) > $F", "result-not-json: "),
        ("(printf '\"\\377'; head -c 100000 /dev/zero | tr '\\0' x; printf '\"') > $F",
         "result-not-json: "),
        ("head -c 100000 /dev/zero | tr '\\0' '[' > $F", "result-not-json: "),
        (f"{_text(100_000)}; mv $F here; ln -s $PWD/here $F", "result-unreadable: "),
    ],
    ids=["too large", "huge", "zeros", "cut off", "no text", "deep", "a link"],
)  # fmt: skip
async def test_what_is_no_result_fails_the_attempt_and_is_not_kept(
    tmp_path: Path, line: str, reason: str
) -> None:
    async with running(tmp_path) as node:
        report = await _run(node, line)
        assert (report.status, report.result_bytes, report.result) == ("failed", 0, b"")
        assert report.reason == reason or (reason[-2:] == ": " and report.reason.startswith(reason))
        assert _kept(tmp_path) == {}


async def test_older_cluster_takes_no_large_result(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        report = await node.run(
            f"F=$RAFTSCHED_RESULT_FILE; {_text(RESULT_BYTES_MAX + 1)}", shell=True
        )
        assert report.reason == "result-too-large: 65537 bytes, at most 65536"
        assert (report.status, report.result_bytes) == ("failed", 0)
        assert _kept(tmp_path) == {}


@root
async def test_large_result_of_another_user_is_kept_as_the_nodes_own(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        report = await _run(node, _text(200_000), user="nobody")
        assert (report.status, report.result_bytes) == ("succeeded", 200_000)
        assert (tmp_path / "output" / "t1.1.result").stat().st_uid == os.getuid()
        assert pwd.getpwnam("nobody").pw_uid != os.getuid()


async def test_who_has_the_file_open_does_not_change_what_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        link = tmp_path / "link"
        report = await _run(node, f"{_text(100_000)}; ln $F {link}")
        assert report.result_bytes == 100_000
        link.write_text("rubbish")
        data, _, _ = OutputReader(tmp_path / "n").read("t1", 1, "result", 0, 1 << 20)
        assert json.loads(data) == "x" * 99_998


async def test_large_result_of_a_hook_is_refused_and_touches_no_other(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        after = ("sh", "-c", f"F=$RAFTSCHED_RESULT_FILE; {_text(90_000)}")
        report = await _run(node, _text(100_000), after=after)
        assert report.status == "failed"
        assert report.reason == "after-failed: result-too-large: 90000 bytes, at most 65536"
        assert (report.result_bytes, _kept(tmp_path)) == (100_000, {"t1.1.result": 100_000})


async def test_other_attempts_go_on_while_results_are_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        spec = TaskSpec((f"F=$RAFTSCHED_RESULT_FILE; {_text(8 << 20)}",), shell=True)
        starts = [StartAttempt(n, f"t{n}", 1, spec, files_result=True) for n in range(1, 7)]
        node.client.start(starts, 8)
        small = [node.run("true", token=token) for token in range(10, 20)]
        for report in await asyncio.gather(*small):
            assert report.status == "succeeded"
        for token in range(1, 7):
            assert (await node.report(token)).result_bytes == 8 << 20
    await nothing_runs(tmp_path)


#: JSON that takes a while to be looked through, as Python writes it.
_NESTED = "'[' + '[],' * 5_500_000 + '1]'"


async def _filing_stopped(node: Node, directory: Path) -> int:
    """Start an attempt and stop the process that checks its result: its pid."""
    code = f"import os; open(os.environ['RAFTSCHED_RESULT_FILE'], 'w').write({_NESTED})"
    spec = TaskSpec((sys.executable, "-c", code))
    node.client.start([StartAttempt(1, "t1", 1, spec, files_result=True)], 8)
    await node.report(1, "started")
    runner = (directory / "runner.pid").read_text().strip()
    async with asyncio.timeout(15):
        while True:
            # One that has the runner's own words is its fork, and no program.
            words = Path(f"/proc/{runner}/cmdline").read_bytes()
            children = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()
            for pid in children:
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/cmdline").read_bytes() == words:
                        os.kill(int(pid), signal.SIGSTOP)
                        return int(pid)
            await asyncio.sleep(0.002)


async def test_attempt_whose_result_is_being_kept_is_over_and_is_not_stopped(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as node:
        pid = await _filing_stopped(node, tmp_path)
        node.client.stop(1, "too late")
        # Heard once the runner has answered something that was asked after it.
        assert (await node.run("true", token=2)).status == "succeeded"
        assert not any(report.token == 1 and report.phase == "finished" for report in node.reports)
        os.kill(pid, signal.SIGCONT)
        report = await node.report(1)
        assert (report.status, report.result_bytes) == ("succeeded", 16_500_003)


async def test_result_that_is_being_kept_as_the_runner_dies_is_none(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        pid = await _filing_stopped(node, tmp_path)
        os.kill(int((tmp_path / "runner.pid").read_text()), signal.SIGKILL)
        async with asyncio.timeout(10):
            while is_alive(pid):
                await asyncio.sleep(0.005)
        assert "t1.1.result" not in _kept(tmp_path)


def _source(tmp_path: Path, data: bytes) -> int:
    path = tmp_path / "source"
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


@pytest.fixture
def filed(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[[bytes], tuple[Filing, Callable[[], tuple[int, str]]]]:
    """Begin a filing of some bytes; then wait for what it says."""
    children = Children()
    folder = tmp_path / "output"
    folder.mkdir()

    def begin(data: bytes) -> tuple[Filing, Callable[[], tuple[int, str]]]:
        said: list[tuple[int, str]] = []
        source = _source(tmp_path, data)
        each = Filing(
            source, str(folder), "t", 1, children, lambda size, why: said.append((size, why))
        )

        def wait() -> tuple[int, str]:
            while not said:
                children.reap()
            return said[0]

        return each, wait

    return begin


Begin = Callable[[bytes], tuple[Filing, Callable[[], tuple[int, str]]]]


def test_filing_strips_what_is_around_the_value(tmp_path: Path, filed: Begin) -> None:
    _, wait = filed(b"  [1, 2]\n\n")
    assert wait() == (6, "")
    assert (tmp_path / "output" / "t.1.result").read_bytes() == b"[1, 2]"


def test_filing_that_is_killed_keeps_nothing(tmp_path: Path, filed: Begin) -> None:
    each, wait = filed(b"[" + b"1," * (4 << 20) + b"1]")
    each.kill()
    assert wait() == (0, "result-not-kept: what checked it was killed")
    assert not (tmp_path / "output" / "t.1.result").exists()


def test_disk_that_takes_too_long_fails_the_attempt(
    filed: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filing, "FILING_SECONDS_MAX", 0.0)
    each, wait = filed(b"[" + b"1," * (4 << 20) + b"1]")
    each.look(each._until)
    assert wait() == (0, "result-not-kept: not on the disk within 0 s")


def test_disk_that_takes_nothing_fails_the_attempt(tmp_path: Path, filed: Begin) -> None:
    (tmp_path / "output").rmdir()
    _, wait = filed(b"[1]")
    assert wait() == (0, "result-not-kept: No such file or directory")


def test_filing_parts_from_what_the_runner_holds(filed: Begin) -> None:
    read, write = os.pipe()
    each, wait = filed(b"[" + b"1," * (4 << 20) + b"1]")
    os.close(write)
    # At the end as soon as the child has closed its own, long before it has ended.
    assert os.read(read, 1) == b""
    os.close(read)
    assert not Path(f"/proc/{each._pid}/fd/{write}").exists()
    assert wait()[0] > 0


@pytest.mark.parametrize(
    "data",
    [
        b"{no", b'"\xff"', b"[1,]", b'{"a":}', b"01", b"1.", b'"\\x"', b'"\\ud800"', b"tru", b"",
        b"[1 2]", b"1 2", b'"\x01"', b"NaN", b"[}", b'{"a":1,}', b"\xef\xbb\xbf1", b'"a', b"+1",
        b"[" * 100_000 + b"]" * 100_000, b'"' + "é".encode()[:1] + b'"',
    ],
)  # fmt: skip
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(BadResult, match="result-not-json: "):
        checked(data)


@pytest.mark.parametrize("data", [b"null", b" 7\n", b'{"a": [1, 2.5e-3, null]}', '"é€"'.encode()])
def test_json_is_taken_without_what_is_around_it(data: bytes) -> None:
    assert checked(data) == data.strip()


def test_characters_that_span_pieces_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filing, "_PIECE_BYTES", 2)
    data = '"aé€😀b"'.encode()
    assert checked(data) == data


def test_result_is_synced_before_it_has_its_name_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        seen.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_rename(source: str, target: str) -> None:
        seen.append(f"name {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    keep_result(str(tmp_path), "t", 1, b"[1]")
    assert seen == ["sync t.1.part", "name t.1.result", f"sync {tmp_path.name}"]
    assert (tmp_path / "t.1.result").read_bytes() == b"[1]"


def test_disk_that_is_full_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        keep_result(str(tmp_path), "t", 1, b"[1]")
    assert list(tmp_path.iterdir()) == []


def test_sweep_counts_results_and_takes_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    for number in range(4):
        keep_result(str(folder), f"t{number}", 1, b"x" * 8_192)
        os.utime(folder / f"t{number}.1.result", (number, number))
    monkeypatch.setattr(output, "NODE_BYTES_MAX", 2 * 8_192)
    assert list(output.sweep(tmp_path, lambda name: False)) == []
    assert sorted(path.name for path in folder.iterdir()) == ["t2.1.result", "t3.1.result"]
