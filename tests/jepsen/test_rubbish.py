"""Rubbish on the command line and in a run's directory: refused by name, never a traceback."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from jepsen_like.cli import main
from jepsen_like.history import BadEvidence
from jepsen_like.recheck import recheck
from tests.jepsen.builders import good, write_run

#: What a number or a word of a record becomes.
_RUBBISH = (
    b"null", b"-1", b"99999999999999999999", b"9223372036854775807", b'"x"', b"{}", b"[]",
    b"1e300", b"[1, 2]", b'""',
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--program", '"open'], "No closing quotation"),
        (["--program", "no-such-program serve"], "'no-such-program' is no program here"),
        (["--program", " "], "'nothing' is no program here"),
        (["--time-limit", "nan"], "nan is no amount"),
        (["--lease", "nan"], "nan is no amount"),
        (["--report", "/proc/nothing/here"], "/proc/nothing/here: No such file"),
        (["--report", "/tmp/" + "x" * 120], "is too long a name for the sockets in it"),
        (["--workload", "tasks", "list"], "--workload is of a run: it means nothing to list"),
        (["suite", "soak", "--hours", "inf"], "inf is no amount"),
        (["mutants", "--program", "no-such-program"], "is no program here"),
        (["attach", "n1", "--token-file", __file__], "'n1' is not ID=HOST:PORT of another peer"),
        (["attach", "a=b:1", "a=c:2", "--token-file", __file__], "'a=c:2' is not ID=HOST:PORT"),
        (["recheck", "/proc/self"], "/proc/self/run.json: not there"),
    ],
)
def test_rubbish_on_the_command_line_is_refused_with_what_is_wrong(
    words: list[str], says: str
) -> None:
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, says in done.output) == (2, True), done.output


def _spoil(data: bytes, chance: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    match chance.randrange(6):
        case 0:
            at = chance.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[: chance.randrange(len(data))]
        case 2:
            return b"".join(lines[:place] + lines[place + 1 :])
        case 3:
            return b"".join([*lines, lines[place]])
        case 4:
            values = list(re.finditer(rb':\s*("[^"]*"|\d+)', data))
            found = chance.choice(values) if values else None
            if found is not None:
                return data[: found.start() + 1] + chance.choice(_RUBBISH) + data[found.end() :]
    at = chance.randrange(len(data))
    return data[:at] + b"\xff" + data[at + 1 :]


def test_a_directory_that_is_damaged_anywhere_is_judged_or_refused(tmp_path: Path) -> None:
    whole, spoiled = tmp_path / "whole", tmp_path / "spoiled"
    write_run(whole, good())
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    chance, refused = random.Random(6), 0
    for _ in range(40):
        shutil.copytree(whole, spoiled)
        file = spoiled / chance.choice(files)
        file.write_bytes(_spoil(file.read_bytes(), chance))
        try:
            found = recheck(spoiled)
        except BadEvidence as error:
            refused += 1
            assert str(spoiled) in str(error) or "operation" in str(error)
        else:
            assert not any("the checker failed" in d for v in found.checkers for d in v.doubts)
        shutil.rmtree(spoiled)
    assert 8 <= refused <= 32


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run", good())
    (tmp_path / "run" / "history.jsonl").unlink()
    (tmp_path / "run" / "history.jsonl").mkdir()
    done = CliRunner().invoke(main, ["recheck", str(tmp_path / "run")])
    assert (done.exit_code, "history.jsonl: Is a directory" in done.output) == (2, True)
