"""Results and progress that an attempt leaves in files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftsched.core.model import RESULT_BYTES_MAX
from tests.unit.executor.harness import running


def _left(directory: Path) -> list[str]:
    return [path.name for path in (directory / "results").iterdir()]


@pytest.mark.parametrize(
    ("line", "status", "reason", "result"),
    [
        ("true", "succeeded", "", b""),
        ("echo ' {\"a\": [1, 2.5, null]} ' > $F", "succeeded", "", b'{"a": [1, 2.5, null]}'),
        ("echo 7 > $F; exit 3", "failed", "exit-code-3", b"7"),
        ("echo '{no' > $F", "failed", "result-not-json: ", b""),
        ("printf '\"\\377\"' > $F", "failed", "result-not-json: ", b""),
        ("echo '{no' > $F; exit 3", "failed", "exit-code-3", b""),
        ("touch $F", "succeeded", "", b""),
        ("mkdir $F", "failed", "result-unreadable: ", b""),
        ("mkfifo $F", "succeeded", "", b""),
    ],
)
async def test_json_in_the_result_file_is_the_result(
    tmp_path: Path, line: str, status: str, reason: str, result: bytes
) -> None:
    async with running(tmp_path) as node:
        report = await node.run(f"F=$RAFTSCHED_RESULT_FILE; {line}", shell=True)
        assert (report.status, report.result) == (status, result)
        assert report.reason == reason or (reason[-2:] == ": " and report.reason.startswith(reason))


@pytest.mark.parametrize("extra", [0, 1])
async def test_result_of_64_kib_is_taken_and_a_larger_one_is_a_failure(
    tmp_path: Path, extra: int
) -> None:
    size = RESULT_BYTES_MAX + extra
    async with running(tmp_path) as node:
        text = f"printf '\"%0{size - 2}d\"' 0 > $RAFTSCHED_RESULT_FILE"
        report = await node.run(text, shell=True)
        if extra:
            assert report.reason == f"result-too-large: {size} bytes, at most {RESULT_BYTES_MAX}"
            assert (report.status, report.result) == ("failed", b"")
        else:
            assert (report.status, len(report.result)) == ("succeeded", size)


async def test_files_of_answers_are_gone_once_read(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        line = "echo 1 > $RAFTSCHED_RESULT_FILE; echo 0.5 > $RAFTSCHED_PROGRESS_FILE"
        assert (await node.run(line, shell=True)).result == b"1"
        assert _left(tmp_path) == []


async def test_progress_is_the_last_whole_line(tmp_path: Path) -> None:
    async with running(tmp_path / "n") as node:
        gate = tmp_path / "gate"
        until = f"while [ ! -e {gate} ]; do sleep 0.01; done"
        line = "(echo 0.1 begun; echo 0.255 page 3 of 9; printf 0.9) >> $RAFTSCHED_PROGRESS_FILE"
        node.start(f"{line}; {until}", shell=True)
        report = await node.report(1, "progress")
        assert (report.permille, report.text) == (255, "page 3 of 9")
        gate.touch()
        assert (await node.report(1)).status == "succeeded"


async def test_progress_that_is_no_number_is_passed_over_and_a_wild_one_bounded(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "n") as node:
        gate, seen = tmp_path / "gate", tmp_path / "n" / "results" / "1.progress"
        until = f"while [ ! -e {gate} ]; do sleep 0.01; done"
        head = "for w in nan inf half ''; do echo $w; done > $RAFTSCHED_PROGRESS_FILE"
        node.start(f"{head}; {until}; echo 7 past the end >> $RAFTSCHED_PROGRESS_FILE; sleep 9",
                   shell=True)  # fmt: skip
        async with asyncio.timeout(5):
            while not seen.exists():
                await asyncio.sleep(0.01)
        gate.touch()
        report = await node.report(1, "progress")
        assert (report.permille, report.text) == (1000, "past the end")
        node.client.stop(1, "enough")
        await node.report(1)


async def test_progress_file_that_grows_without_end_is_emptied(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        line = "yes 0.5 | head -c 200000 >> $RAFTSCHED_PROGRESS_FILE; sleep 100"
        node.start(line, shell=True)
        assert (await node.report(1, "progress")).permille == 500
        file = tmp_path / "results" / "1.progress"
        async with asyncio.timeout(5):
            while file.stat().st_size > 64 * 1024:
                await asyncio.sleep(0.01)
        node.client.stop(1, "enough")
        await node.report(1)
