"""Where programs are found: remembered for a moment, never longer than they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raftsched.core.spec import TaskSpec
from raftsched.executor.messages import StartAttempt
from raftsched.executor.results import Answers
from raftsched.executor.spawn import CannotStart, Spawner
from raftsched.executor.spool import Spool


class Programs:
    """Two directories on a PATH, and a spawner that looks there."""

    def __init__(self, directory: Path, found_seconds: float) -> None:
        self.first, self.second = directory / "first", directory / "second"
        self.first.mkdir()
        self.second.mkdir()
        node = directory / "node"
        self._spawner = Spawner(Spool(node), Answers(node), "mark", found_seconds=found_seconds)

    def install(self, directory: Path) -> None:
        tool = directory / "tool"
        tool.write_text(f"#!/bin/sh\necho {directory.name}\n")
        tool.chmod(0o700)

    def run(self) -> bytes:
        """What ``tool`` wrote."""
        path = f"{self.first}:{self.second}"
        attempt = StartAttempt(1, "t", 1, TaskSpec(("tool",), env={"PATH": path}))
        spawned = self._spawner.spawn(attempt)
        assert os.waitpid(spawned.pid, 0)[1] == 0
        return spawned.output.close()[0]


def test_program_that_vanished_is_looked_for_again_at_once(tmp_path: Path) -> None:
    programs = Programs(tmp_path, found_seconds=60)
    programs.install(programs.first)
    programs.install(programs.second)
    assert programs.run() == b"first\n"
    (programs.first / "tool").unlink()
    assert programs.run() == b"second\n"
    assert programs.run() == b"second\n"
    (programs.second / "tool").chmod(0o600)
    with pytest.raises(CannotStart, match="executable-not-found: tool"):
        programs.run()
    programs.install(programs.first)
    assert programs.run() == b"first\n"


def test_program_is_believed_where_it_was_and_not_for_long(tmp_path: Path) -> None:
    believed = Programs(tmp_path, found_seconds=60)
    believed.install(believed.second)
    assert believed.run() == b"second\n"
    believed.install(believed.first)
    assert believed.run() == b"second\n"
    (tmp_path / "again").mkdir()
    looked_for = Programs(tmp_path / "again", found_seconds=0)
    looked_for.install(looked_for.second)
    assert looked_for.run() == b"second\n"
    looked_for.install(looked_for.first)
    assert looked_for.run() == b"first\n"


def test_attempt_that_cannot_start_leaves_no_descriptor_and_no_file(tmp_path: Path) -> None:
    programs = Programs(tmp_path, found_seconds=60)
    before = list(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with pytest.raises(CannotStart, match="executable-not-found: tool"):
            programs.run()
    # One blank file may stay open for the next attempt.
    assert len(list(Path("/proc/self/fd").iterdir())) <= len(before) + 1
    assert list((tmp_path / "node" / "output").iterdir()) == []
