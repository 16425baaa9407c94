"""What earlier programs wrote means today what it meant to them."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path

import pytest

from raftsched.core import codec, invariants, versions
from raftsched.core.model import TaskStatus
from raftsched.core.state import State
from raftsched.peer.replaying import Replay
from raftsched.raft.files import OsDisk
from raftsched.raft.snapshot import SnapshotStore
from tests.earlier import CLUSTER, EARLIER, Earlier

_ALL_ROWS = 1 << 60


@pytest.fixture(params=EARLIER, ids=lambda earlier: f"version {earlier.version}")
def earlier(request: pytest.FixtureRequest) -> Earlier:
    found: Earlier = request.param
    return found


@pytest.fixture
def data(earlier: Earlier, tmp_path: Path) -> Path:
    """Its data directory."""
    with lzma.open(earlier.archive) as file, tarfile.open(fileobj=file) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                path = tmp_path / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stream.read())
    return tmp_path


def _digest(state: State) -> bytes:
    state.freeze_digest()
    digest = state.frozen_digest(_ALL_ROWS)
    assert digest is not None
    return digest


def test_the_log_comes_to_the_state_that_its_program_saved(earlier: Earlier, data: Path) -> None:
    """Its own snapshot, made by its own ``apply``, against the log that led there, by ours."""
    store = SnapshotStore.open(data / "raft" / "snapshots", cluster_id=CLUSTER, disk=OsDisk())
    snapshot = store.usable(1 << 60)
    assert snapshot is not None
    saved = codec.restore_state(store.read(snapshot))
    saved.index = snapshot.meta.index
    replay = Replay(data)
    digests = {step.index: step.digest for step in replay.steps()}
    replay.close()
    assert replay.about.base_index == 0, "the log is there from the first entry on"
    assert digests[saved.index] == _digest(saved)
    assert replay.state.version == earlier.version
    if earlier.at:
        assert digests[earlier.at].hex() == earlier.digest, "by its own word"
    assert list(invariants.check(replay.state)) == []
    states = {task.status for task in replay.state.tasks.values()}
    assert {TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED} <= states
    assert len(replay.state.schedules) == (2 if earlier.version >= versions.SCHEDULES else 0)


def test_every_version_that_others_may_have_in_force_is_here() -> None:
    newest = max(earlier.version for earlier in EARLIER)
    assert newest == versions.SUPPORTED.highest, "python -m tests.earlier writes the newest"
