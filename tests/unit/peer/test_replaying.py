"""The log of a stopped peer applied again: the same rows, outcomes and digests as it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftsched.core import codec
from raftsched.core.commands import (
    ActivateVersion,
    Assignment,
    AssignTasks,
    CancelTask,
    SubmitTasks,
)
from raftsched.core.model import TaskStatus
from raftsched.core.outcomes import Accepted, Rejected
from raftsched.peer.errors import UpgradeNeeded
from raftsched.peer.replaying import BadEntry, Damaged, Replay, Step
from raftsched.raft.membership import Address, Configuration, encode
from tests.unit.core.builders import new_task, register
from tests.unit.peer.directories import Directory


def steps(path: Path) -> list[Step]:
    replay = Replay(path)
    try:
        return list(replay.steps())
    finally:
        replay.close()


def filled(path: Path) -> Directory:
    directory = Directory(path)
    directory.do(ActivateVersion(7), register())
    directory.do(SubmitTasks((new_task("a"), new_task("b"))), CancelTask("nobody"))
    directory.do(AssignTasks((Assignment("a", "n1", "a"),)))
    return directory


def test_every_entry_is_told_with_what_it_did(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    began, registered, submitted, assigned = steps(directory.stop())
    assert (began.index, began.term, began.decided, began.is_stray) == (1, 3, None, False)
    assert registered.decided is not None
    assert list(registered.decided.changed.nodes) == ["n1"]
    assert submitted.decided is not None
    accepted, rejected = submitted.decided.applied.outcomes[0]
    assert isinstance(accepted, Accepted) and isinstance(rejected, Rejected)
    assert list(submitted.decided.changed.tasks) == ["a", "b"]
    assert assigned.decided is not None
    row = assigned.decided.changed.tasks["a"]
    assert row is not None
    assert (row.status, row.token, row.modify_index) == (TaskStatus.ASSIGNED, 1, 4)


def test_the_digest_is_that_of_the_peer(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    assert steps(directory.stop())[-1].digest == directory.state.digest()


def test_what_was_compacted_away_changes_no_digest(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    directory.snapshot()
    directory.compact()
    directory.do(CancelTask("b"))
    directory.do(CancelTask("b"))
    replay = Replay(directory.stop())
    about = replay.about
    assert (about.base_index, about.last_index, about.committed_index) == (4, 6, 4)
    cancelled, again = replay.steps()
    assert replay.state.index == 6
    replay.close()
    assert cancelled.decided is not None and again.decided is not None
    assert list(cancelled.decided.changed.tasks) == ["b"]
    assert again.digest == directory.state.digest()


def test_an_entry_that_stands_in_another_term_is_skipped(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    directory.do(CancelTask("b"), term=2)
    stray = steps(directory.stop())[-1]
    assert (stray.index, stray.is_stray, stray.decided) == (5, True, None)
    assert stray.digest == directory.state.digest()


def test_members_are_told(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    directory.add(encode(Configuration({"n2": Address("h:2"), "n1": Address("h:1")})))
    assert [step.members for step in steps(directory.stop())] == [None, (("n1", "n2"), ())]


def test_a_version_that_is_not_known_is_refused_where_it_begins(tmp_path: Path) -> None:
    directory = filled(tmp_path)
    directory.do(CancelTask("b"), version=99)
    replay = Replay(directory.stop())
    drawn = replay.steps()
    assert [next(drawn).index for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(UpgradeNeeded, match="version 99"):
        next(drawn)
    replay.close()


@pytest.mark.parametrize("rubbish", [b"", b"\xc1", codec.encode_entry.__name__.encode()])
def test_an_entry_of_rubbish_is_named(tmp_path: Path, rubbish: bytes) -> None:
    directory = filled(tmp_path)
    directory.add(b"\0" + rubbish)
    with pytest.raises(BadEntry, match="entry 5 of term 3 cannot be read"):
        steps(directory.stop())


def test_damage_is_refused_and_lets_go_of_the_directory(tmp_path: Path) -> None:
    path = filled(tmp_path).stop()
    segment = path / "raft" / "journal" / "segment-000000000001.log"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-1])
    with pytest.raises(Damaged, match="segment"):
        Replay(path)
    segment.write_bytes(whole)
    Directory(tmp_path / "other").stop()
    assert len(steps(path)) == 4
