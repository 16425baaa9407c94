"""The disk of a machine: what is durable, what is wrong with it, and that its users feel that."""

from __future__ import annotations

import errno
import json
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from jepsen_like.disk import mounting
from jepsen_like.disk.durable import Directory, File
from jepsen_like.disk.ills import BLOCK_BYTES, Ills, Later, PowerCut
from jepsen_like.orders import Program


def test_only_synced_bytes_survive_the_power() -> None:
    file = File(2, 0o644)
    file.write(0, b"durable")
    file.sync()
    file.write(7, b" and not")
    assert bytes(file.data) == b"durable and not"
    file.lose(None)
    assert bytes(file.data) == b"durable"


def test_after_a_failed_sync_the_next_one_makes_only_later_bytes_durable() -> None:
    file = File(2, 0o644)
    file.write(0, b"lost")
    file.forget()
    file.write(4, b"kept")
    file.sync()
    assert bytes(file.data) == b"lostkept"
    file.lose(None)
    assert bytes(file.data) == b"\0\0\0\0kept"


def test_name_is_durable_with_its_directory_only() -> None:
    root, file = Directory(1, 0o755), File(2, 0o644)
    root.change({b"a": file})
    root.sync()
    root.change({b"a": None, b"b": file})
    root.lose(None)
    assert root.names == {b"a": file}


def test_unsynced_writes_are_kept_lost_or_torn_by_chance() -> None:
    found = set()
    for seed in range(40):
        file = File(2, 0o644)
        file.write(0, b"0123456789")
        file.lose(random.Random(seed))
        assert b"0123456789".startswith(bytes(file.data))
        found.add(min(len(file.data), 10) // 10 + (0 < len(file.data) < 10) * 2)
    assert found == {0, 1, 2}


def test_power_goes_at_the_operation_that_was_aimed_at() -> None:
    ills = Ills()
    ills.before_change()
    ills.cut_at = ills.operations + 2
    ills.before_change()
    with pytest.raises(PowerCut):
        ills.before_change()


def test_torn_write_is_the_aimed_one_of_the_named_files_and_never_whole() -> None:
    ills = Ills()
    ills.aim_tear(2, 7, b"segment-")
    assert ills.tear(b"segment-1", 100) is None
    assert ills.tear(b"hard-state", 100) is None
    kept = ills.tear(b"segment-1", 100)
    assert kept is not None
    assert 0 < kept < 100
    assert ills.torn == f"segment-1 {kept}/100"
    assert ills.tear(b"segment-1", 100) is None


def test_full_disk_refuses_growth_only() -> None:
    ills = Ills()
    ills.blocks_max = 5
    ills.before_growth(0, 7)
    ills.before_growth(2, 3)
    with pytest.raises(OSError, match=f"Errno {errno.ENOSPC}"):
        ills.before_growth(3, 3)
    ills.cure()
    ills.before_growth(3, 3)
    assert ills.counts["no_room"] == 1


def test_slow_sync_says_how_long_it_takes() -> None:
    ills = Ills()
    assert ills.sync_delay() == 0
    ills.sync_seconds = 1.0, 5.0
    assert 1.0 <= ills.sync_delay() <= 5.0
    assert (ills.counts["syncs"], ills.counts["slow_syncs"]) == (2, 1)


def test_trap_holds_the_named_step_once() -> None:
    ills = Ills()
    ills.set_trap("rename", b"draft-")
    ills.before_step("write", b"draft-1")
    ills.before_step("rename", b"segment-1")
    with pytest.raises(Later):
        ills.before_step("rename", b"draft-1")
    ills.before_step("rename", b"draft-1")
    assert ills.trapped == "rename draft-1"
    with pytest.raises(ValueError, match="no such step: read"):
        ills.set_trap("read", b"")


# Mounted ----------------------------------------------------------------------------------------

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_APPEND = """
import os, sys, time
began = time.monotonic()
try:
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, bytes(int(sys.argv[2])))
    os.fdatasync(fd)
except OSError as error:
    sys.exit(error.errno)
print(time.monotonic() - began)
"""


class Mounted:
    """A machine with a disk."""

    def __init__(self, program: Program, path: Path) -> None:
        self._program = program
        self.path = path

    async def tell(self, words: str) -> str:
        """An order; the answer of the disk."""
        return str((await self._program.order("order", words=words))["answer"])

    async def run(self, *words: str) -> tuple[int, str]:
        """A command on that machine."""
        answer = await self._program.order("run", command=list(words))
        return answer["exit"], answer["output"]

    async def crash(self, *, boots: bool) -> None:
        """Nothing runs there any more."""
        await self._program.order("crash", boots=boots)

    async def append(self, name: str, size: int) -> tuple[int, str]:
        """Write and sync; errno or 0, and the seconds that it took."""
        return await self.run(sys.executable, "-c", _APPEND, str(self.path / name), str(size))

    async def size(self, name: str) -> int:
        """Of a file; -1: there is none."""
        code, said = await self.run("stat", "-c", "%s", str(self.path / name))
        return -1 if code else int(said)


@pytest_asyncio.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Mounted]:
    """Skips, saying why, where none can be mounted."""
    why = mounting.why_not()
    if why:
        pytest.skip(why)
    program = await Program.of_module("m", "machine", prefix=mounting.namespace())
    try:
        assert (await program.order("disk", path=str(tmp_path)))["answer"] == "ok"
        yield Mounted(program, tmp_path)
    finally:
        await program.close()


async def test_full_disk_has_room_again_when_it_is_told_to_be_well(disk: Mounted) -> None:
    assert (await disk.append("a", 100))[0] == 0
    assert await disk.tell("full 1") == "ok"
    assert (await disk.append("a", 3 * BLOCK_BYTES))[0] == errno.ENOSPC
    # What fits into the last block of a file needs no room.
    assert (await disk.append("a", 100))[0] == 0
    assert (await disk.run("mkdir", str(disk.path / "d")))[0] == 0
    assert await disk.tell("well") == "ok"
    assert (await disk.append("a", 3 * BLOCK_BYTES))[0] == 0
    assert json.loads(await disk.tell("counts"))["no_room"] == 1


async def test_room_comes_back_when_files_go(disk: Mounted) -> None:
    assert (await disk.append("a", 4 * BLOCK_BYTES))[0] == 0
    assert await disk.tell("full") == "ok"
    assert (await disk.append("b", 100))[0] == errno.ENOSPC
    assert (await disk.run("rm", str(disk.path / "a")))[0] == 0
    assert (await disk.append("b", 100))[0] == 0


async def test_failing_writes_and_syncs_say_eio_until_the_disk_is_well(disk: Mounted) -> None:
    for order, kind in (("bad-writes", "bad_writes"), ("bad-syncs", "bad_syncs")):
        assert await disk.tell(order) == "ok"
        assert (await disk.append(order, 100))[0] == errno.EIO
        assert json.loads(await disk.tell("counts"))[kind] == 1
        assert await disk.tell("well") == "ok"
        assert (await disk.append(order, 100))[0] == 0


async def test_slow_sync_takes_its_time_and_is_felt(disk: Mounted) -> None:
    assert await disk.tell("slow 0.3 0.4") == "ok"
    code, said = await disk.append("a", 100)
    assert code == 0
    assert 0.25 < float(said) < 5
    assert json.loads(await disk.tell("counts"))["slow_syncs"] == 1


async def test_trapped_write_hangs_and_is_done_after_all(disk: Mounted) -> None:
    assert await disk.tell("trap write draft-") == "ok"
    code, said = await disk.append("draft-1", 100)
    assert code == 0
    assert float(said) >= 1.9
    assert await disk.tell("trapped") == "write draft-1"
    assert await disk.size("draft-1") == 100


async def test_torn_write_leaves_a_part_and_turns_the_power_off(disk: Mounted) -> None:
    assert (await disk.append("segment-1", 100))[0] == 0
    assert (await disk.run("sync", str(disk.path)))[0] == 0
    assert await disk.tell("tear-at 1 7 segment-") == "ok"
    assert (await disk.append("other", 100))[0] == 0
    assert await disk.tell("state") == "on"
    assert (await disk.append("segment-1", 100))[0] != 0
    assert await disk.tell("state") == "off"
    name, _, share = (await disk.tell("torn")).partition(" ")
    kept, _, whole = share.partition("/")
    assert (name, whole) == ("segment-1", "100")
    assert await disk.tell("up") == "ok"
    # The first file was synced with its name, the other one was not.
    assert await disk.size("segment-1") == 100 + int(kept)
    assert await disk.size("other") == -1


async def test_a_machine_that_lost_its_power_says_that_it_booted(disk: Mounted) -> None:
    async def boot_id() -> str:
        return (await disk.run("cat", str(BOOT_ID)))[1]

    first = BOOT_ID.read_text()
    assert await boot_id() == first
    await disk.crash(boots=False)
    assert await boot_id() == first
    seen = {first}
    for _ in range(2):
        await disk.crash(boots=True)
        seen.add(await boot_id())
    assert len(seen) == 3
    assert {len(each) for each in seen} == {len(first)}
    assert BOOT_ID.read_text() == first


async def test_order_that_is_none_is_refused_and_the_disk_goes_on(disk: Mounted) -> None:
    assert await disk.tell("explode") == "no such order: explode"
    assert (await disk.tell("slow fast")).startswith("ValueError")
    assert (await disk.append("a", 1))[0] == 0
