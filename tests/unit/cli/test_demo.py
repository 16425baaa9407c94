"""The judgement of ``make demo`` over results made by hand."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest

from raftsched.cli import demo

CONTENT = b"print('hello')\n"


def done(directory: Path, number: int, *tokens: int, losses: int = 0) -> dict[str, Any]:
    """A task that ran with these fencing tokens and left the right result."""
    stem = directory / str(number)
    stem.with_suffix(".gz").write_bytes(gzip.compress(CONTENT))
    notes = "".join(f"task {n} {token}\n" for n, token in enumerate(tokens, start=1))
    stem.with_suffix(".runs").write_text(notes)
    tail = hashlib.sha256(CONTENT).hexdigest() + "  -\n"
    return {"state": "succeeded", "reason": "", "losses": losses, "output_tail": tail}


@pytest.fixture
def work(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    path = tmp_path / "source.py"
    path.write_bytes(CONTENT)
    return {name: (path, tmp_path / str(n)) for n, name in enumerate("abc")}


def test_all_right(
    work: dict[str, tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {
        "a": done(tmp_path, 0, 1),
        "b": done(tmp_path, 1, 2),
        "c": done(tmp_path, 2, 3, 4, losses=1),
    }
    seen = demo.observe(work, tasks)
    assert (seen.right, seen.moved, seen.several) == (3, 1, ["c"])
    assert demo.report(seen, 1.0) == 0
    text = capsys.readouterr().out
    assert "2 ran 1x, 1 ran 2x" in text
    assert "3 of 3 results are right, 0 lost, 0 ran twice" in text


def test_missing_and_never_run_are_listed_under_their_own_id(
    work: dict[str, tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queued = {"state": "queued", "reason": "no-room", "losses": 0, "output_tail": ""}
    seen = demo.observe(work, {"b": queued, "c": done(tmp_path, 2, 3)})
    assert demo.report(seen, 1.0) == 1
    text = capsys.readouterr().out
    assert "WRONG  a: lost\n" in text
    assert "WRONG  source.py (b): queued (no-room)\n" in text
    assert "1 of 3 results are right, 1 lost, 0 ran twice" in text


def test_what_ran_twice_is_counted(
    work: dict[str, tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {
        "a": done(tmp_path, 0, 1, 1, losses=1),
        "b": done(tmp_path, 1, 2, 3),
        "c": done(tmp_path, 2, 4),
    }
    seen = demo.observe(work, tasks)
    seen.twice.append("c")
    assert demo.report(seen, 1.0) == 1
    text = capsys.readouterr().out
    assert "0 lost, 2 ran twice" in text
    assert "source.py (b): ran 2 times with 0 losses" in text


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_damaged_results_are_no_traceback(
    work: dict[str, tuple[Path, Path]], tmp_path: Path, damage: str
) -> None:
    tasks = {name: done(tmp_path, n, n) for n, name in enumerate("abc")}
    packed = tmp_path / "1.gz"
    if damage == "missing":
        packed.unlink()
    else:
        packed.write_bytes(packed.read_bytes()[:-9] if damage == "cut" else gzip.compress(b"x"))
    (tmp_path / "2.runs").unlink()
    seen = demo.observe(work, tasks)
    assert seen.right == 1
    assert [line.split(":")[0] for line in seen.wrong] == ["source.py (b)", "source.py (c)"]
