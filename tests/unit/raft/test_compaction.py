"""Snapshots that fail again and again are told of once a minute."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any, cast

import pytest

from raftsched.raft import compaction as module
from raftsched.raft import engine
from raftsched.raft.compaction import Compaction
from raftsched.raft.membership import Configuration
from raftsched.raft.snapshot import SnapshotFailed


class Full:
    """A machine with a state, and a store without room until there is some."""

    has_room = False

    def begin_snapshot(self) -> list[bytes]:
        return []

    def end_snapshot(self) -> None: ...

    def write(self, meta: Any, chunks: Any) -> Path:
        if not self.has_room:
            raise SnapshotFailed(Path("s"), OSError(errno.ENOSPC, "No space left"))
        return Path()

    def publish(self, draft: Path) -> None: ...

    def prune(self) -> None: ...


async def test_snapshot_that_fails_again_and_again_is_told_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Full()
    compaction = Compaction(cast(Any, full), cast(Any, full), "c", lambda error: None)

    async def told() -> int:
        caplog.clear()
        for _ in range(3):
            compaction.begin((b"", 1, 1), (b"", 2, 1), Configuration())
            await compaction.close()
            assert compaction.outcome() is full.has_room
        return sum(m.startswith("no snapshot: s cannot be written") for m in caplog.messages)

    assert await told() == 1
    assert await told() == 0
    monkeypatch.setattr(module, "REPEAT_SECONDS", 0.0)
    assert await told() == 3
    monkeypatch.undo()
    full.has_room = True
    assert await told() == 0
    full.has_room = False
    assert await told() == 1


def test_pysyncobj_does_not_say_it_at_every_try(caplog: pytest.LogCaptureFixture) -> None:
    assert engine.LIBRARY_VERSION
    logger = logging.getLogger("pysyncobj.syncobj")
    logger.warning("Failed to store full dump")
    logger.warning("anything else")
    assert caplog.messages == ["anything else"]
