"""Files that exist only once something is in them, and are used again only by their sole opener."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest

from raftsched.executor import output
from raftsched.executor.output import OutputReader
from raftsched.executor.spool import HELD_MAX, TAIL_BYTES, Output, Spool


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "output").iterdir())


def _silent(spool: Spool, number: int) -> int:
    """An attempt that writes nothing; the inode it had."""
    each, child = spool.open("t", number)
    inode = os.fstat(child).st_ino
    os.close(child)
    assert each.close() == (b"", 0)
    return inode


def _wrote(spool: Spool, number: int, data: bytes) -> Output:
    each, child = spool.open("t", number)
    os.write(child, data)
    os.close(child)
    return each


def test_silent_attempts_share_one_file_and_leave_none(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert len({_silent(spool, number) for number in range(100)}) == 1
    assert _names(tmp_path) == []


def test_file_gets_its_name_at_a_look_once_something_is_in_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    each, child = spool.open("t", 1)
    each.look()
    assert _names(tmp_path) == []
    os.write(child, b"one ")
    each.look()
    assert _names(tmp_path) == ["t.1.out"]
    os.write(child, b"two")
    os.close(child)
    assert each.close() == (b"one two", 7)
    assert OutputReader(tmp_path).read("t", 1, "out", 0, 100) == (b"one two", 7, True)


def test_file_gets_its_name_at_the_end_and_is_never_used_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    written = b"x" * 100 + b"y" * TAIL_BYTES
    assert _wrote(spool, 1, written).close() == (b"y" * TAIL_BYTES, len(written))
    file = tmp_path / "output" / "t.1.out"
    assert file.read_bytes() == written
    assert file.stat().st_mode & 0o777 == 0o600
    assert _silent(spool, 2) != file.stat().st_ino


def test_file_that_somebody_still_holds_is_not_used_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    each, child = spool.open("t", 1)
    inode = os.fstat(child).st_ino
    assert each.close() == (b"", 0)
    assert _silent(spool, 2) != inode
    os.write(child, b"late")
    os.close(child)
    assert _silent(spool, 3) != inode
    assert _names(tmp_path) == []


@pytest.mark.parametrize("how", ["named", "opened to others"])
def test_file_that_was_tampered_with_is_not_used_again(tmp_path: Path, how: str) -> None:
    spool = Spool(tmp_path)
    each, child = spool.open("t", 1)
    inode = os.fstat(child).st_ino
    if how == "named":
        os.link(f"/proc/self/fd/{child}", tmp_path / "kept", src_dir_fd=child, follow_symlinks=True)
    else:
        os.fchmod(child, 0o666)
    os.close(child)
    assert each.close() == (b"", 0)
    # Its number may be given again at once when the file is gone, so the marks are looked for.
    again, child = spool.open("t", 2)
    found = os.fstat(child)
    assert (found.st_nlink, found.st_mode & 0o777) == (0, 0o600)
    assert how != "named" or found.st_ino != inode
    os.close(child)
    again.close()


def test_file_of_an_earlier_task_of_that_name_goes_when_the_next_one_starts(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    _wrote(spool, 1, b"earlier").close()
    each, child = spool.open("t", 1)
    assert _names(tmp_path) == []
    os.close(child)
    each.close()
    assert _names(tmp_path) == []


def test_past_the_limit_files_have_their_name_from_the_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    opened = [spool.open("t", number) for number in range(HELD_MAX + 2)]
    assert _names(tmp_path) == [f"t.{HELD_MAX}.out", f"t.{HELD_MAX + 1}.out"]
    os.write(opened[-1][1], b"written")
    for _, child in opened:
        os.close(child)
    ends = [each.close() for each, _ in opened]
    assert ends == [(b"", 0)] * (HELD_MAX + 1) + [(b"written", 7)]
    assert _names(tmp_path) == [f"t.{HELD_MAX + 1}.out"]


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    _silent(spool, 0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(1, 20):
        _wrote(spool, number, b"x").close()
        each, child = spool.open("t", 100 + number)
        each.close()
        os.close(child)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_output_of_an_earlier_runner_under_the_same_name_is_replaced(tmp_path: Path) -> None:
    earlier = Spool(tmp_path)
    _wrote(earlier, 1, b"old").close()
    assert _wrote(Spool(tmp_path), 1, b"new").close() == (b"new", 3)
    assert OutputReader(tmp_path).read("t", 1, "out", 0, 100) == (b"new", 3, True)
    assert _names(tmp_path) == ["t.1.out"]


def _disk_bytes(directory: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in (directory / "output").iterdir())


def test_past_its_bound_the_newest_half_and_all_offsets_stay(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    each, child = spool.open("t", 1)
    line = b"%015d\n"
    lines = output.STREAM_BYTES_MAX // 16 + 1_000
    os.write(child, b"".join(line % number for number in range(lines)))
    each.look()
    assert _disk_bytes(tmp_path) < output.STREAM_BYTES_MAX
    os.write(child, line % lines)
    os.close(child)
    tail, size = each.close()
    assert (tail[-16:], size) == (line % lines, 16 * (lines + 1))
    reader = OutputReader(tmp_path)
    data, after, _ = reader.read("t", 1, "out", 16 * (lines - 2), 32)
    assert (data, after) == (line % (lines - 2) + line % (lines - 1), 16 * lines)
    assert reader.read("t", 1, "out", 16 * lines, 100) == (line % lines, size, True)
    data, after, _ = reader.read("t", 1, "out", 0, 16)
    assert after > output.STREAM_BYTES_MAX // 3, "the older half is gone, and the offset says so"
    assert data == line % (after // 16 - 1)


def test_nothing_written_while_it_is_trimmed_is_lost_or_moved(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    each, child = spool.open("t", 1)
    line, total = b"%015d\n", 5 * output.STREAM_BYTES_MAX // 16

    def write() -> None:
        for first in range(0, total, 4096):
            last = min(total, first + 4096)
            os.write(child, b"".join(line % number for number in range(first, last)))

    writer = threading.Thread(target=write)
    writer.start()
    reader, offset = OutputReader(tmp_path), 0
    while writer.is_alive() or offset < 16 * total:
        each.look()
        with contextlib.suppress(FileNotFoundError):
            data, after, _ = reader.read("t", 1, "out", offset, 1 << 20)
            if len(data) >= 32:
                begin = after - len(data)
                whole = -begin % 16
                number = (begin + whole) // 16
                assert data[whole : whole + 16] == line % number
            offset = after
    writer.join()
    os.close(child)
    assert each.close()[1] == 16 * total
    assert _disk_bytes(tmp_path) <= output.STREAM_BYTES_MAX


def test_file_system_that_cannot_free_a_part_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, end: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(output, "_punch", refuse)
    monkeypatch.setattr(output, "STREAM_BYTES_MAX", 1024 * 1024)
    each, child = Spool(tmp_path).open("t", 1)
    os.write(child, bytes(1024 * 1024 + 1) + b"end")
    os.close(child)
    with pytest.raises(output.CannotTrim, match=str(tmp_path)):
        each.look()
    assert each.close()[0].endswith(b"end")


def test_sweep_removes_the_oldest_past_the_bound_and_nothing_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "NODE_BYTES_MAX", 40 * 4096)
    monkeypatch.setattr(output, "SWEEP_FILES", 10)
    spool = Spool(tmp_path)
    runs, child = spool.open("t", 0)
    os.write(child, b"x")
    runs.look()
    for number in range(1, 100):
        _wrote(spool, number, b"x").close()
        os.utime(tmp_path / "output" / f"t.{number}.out", (number, number))
    os.utime(tmp_path / "output" / "t.0.out", (0, 0))
    steps = sum(1 for _ in spool.sweep())
    assert steps >= 10
    kept = {int(name.split(".")[1]) for name in _names(tmp_path)}
    assert 0 in kept
    assert kept - {0} == set(range(100 - len(kept) + 1, 100))
    assert 35 <= len(kept) <= 40
    os.close(child)
    runs.close()


@pytest.mark.parametrize("task_id", ["../t", "a/b", ".hidden"])
def test_id_that_would_climb_is_refused(tmp_path: Path, task_id: str) -> None:
    with pytest.raises(ValueError, match="cannot be a task id"):
        Spool(tmp_path).open(task_id, 1)
