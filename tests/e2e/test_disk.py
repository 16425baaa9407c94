"""What a user sees when a disk loses bytes, tears a write or is full: refusals, never a guess."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.cluster import Answer, Cluster, until

pytestmark = pytest.mark.timeout(60)

#: Room for the reserve of 16 MiB and a little.
DISK_BYTES = 20 * 1024 * 1024
#: A refusal for want of a leader takes 0.9 s; the rest is for a busy machine.
REFUSAL_SECONDS = 3.0
#: A submission that was under way when the disk became full is answered by its deadline of 10 s.
HANG_SECONDS = 12.0


# Damage ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A cluster of one peer that did some work and was stopped cleanly."""
    cluster = Cluster(tmp_path_factory.mktemp("stopped"), size=1)
    with cluster:
        for task in [cluster.submit("n1", ["echo", str(i)]) for i in range(20)]:
            cluster.finished("n1", task)
        assert cluster.stop("n1") == 0
    shutil.copytree(cluster.directory / "n1" / "raft", cluster.directory / "kept")
    return cluster


def _refuses(cluster: Cluster, file: Path) -> str:
    """The peer does not start and says why in one line that names the file and the way out."""
    done = subprocess.run(
        cluster.command("n1"), capture_output=True, text=True, timeout=15, check=False
    )
    assert done.returncode not in (0, -6, -11), done
    [line] = done.stderr.splitlines()
    assert str(file) in line and "remove this peer from the cluster" in line, line
    assert "Traceback" not in done.stdout + done.stderr
    return line


def _last_segment(cluster: Cluster, peer: str) -> Path:
    return max((cluster.directory / peer / "raft" / "journal").glob("segment-*.log"))


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


@pytest.fixture
def restored(stopped: Cluster) -> Cluster:
    """The same with its data as it was after the stop."""
    shutil.rmtree(stopped.directory / "n1" / "raft")
    shutil.copytree(stopped.directory / "kept", stopped.directory / "n1" / "raft")
    return stopped


def test_damaged_byte_in_the_middle_of_the_journal_refuses_to_start(restored: Cluster) -> None:
    segment = _last_segment(restored, "n1")
    middle = segment.stat().st_size // 2
    _flip(segment, middle)
    line = _refuses(restored, segment)
    # The offset named is the start of the group that holds the byte.
    named = re.search(r"at byte (\d+)", line)
    assert named is not None and middle - 2_000 < int(named[1]) <= middle, line
    # Refusing changed nothing: with the byte put right all is there.
    _flip(segment, middle)
    restored.start("n1")
    assert restored.leader() == "n1"
    assert len(restored.request("n1", "GET", "/v1/tasks?state=succeeded").json["items"]) == 20
    assert restored.stop("n1") == 0


def test_journal_that_lost_its_end_after_a_clean_stop_refuses_to_start(restored: Cluster) -> None:
    segment = _last_segment(restored, "n1")
    os.truncate(segment, segment.stat().st_size - 5)
    assert re.search(r"at byte \d+", _refuses(restored, segment))


def test_lost_term_and_vote_refuse_to_start(restored: Cluster) -> None:
    file = restored.directory / "n1" / "raft" / "journal" / "hard-state"
    file.write_bytes(bytes(file.stat().st_size))
    assert "at byte 0" in _refuses(restored, file)
    file.unlink()
    assert "missing" in _refuses(restored, file)


def test_torn_tail_of_a_killed_peer_is_cut_and_fetched_again(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        leader = cluster.leader()
        victim, witness = (peer for peer in cluster.ids if peer != leader)
        tasks = [cluster.submit(witness, ["echo", str(i)]) for i in range(20)]
        for task in tasks:
            cluster.finished(witness, task)
        cluster.kill(victim)
        segment = _last_segment(cluster, victim)
        os.truncate(segment, segment.stat().st_size - 7)
        tasks += [cluster.submit(witness, ["echo", "meanwhile"])]
        cluster.start(victim)
        cluster.ready(victim)
        log = (tmp_path / f"{victim}.log").read_text()
        assert re.search(re.escape(str(segment)) + r": cut \d+ bytes of an unfinished write", log)
        tasks += [cluster.submit(victim, ["echo", "after"])]
        for task in tasks:
            seen = [cluster.finished(peer, task) for peer in (victim, witness)]
            assert seen[0]["state"] == "succeeded"
            assert seen[0] == seen[1]


# A full disk -----------------------------------------------------------------------------------


def _own_disk(path: Path) -> list[str]:
    """Words that run a command with a small disk of its own at a path: a private tmpfs.

    It is gone with the last process that sees it, so nothing has to be unmounted.
    """
    mount = f'mount -t tmpfs -o size={DISK_BYTES} tmpfs {path} && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]


@pytest.fixture
def small_disks(tmp_path: Path) -> None:
    """Skips where a process may not mount a disk of its own."""
    path = tmp_path / "try"
    path.mkdir()
    try:
        done = subprocess.run(
            [*_own_disk(path), "true"], capture_output=True, text=True, timeout=10
        )
    except OSError as error:
        pytest.skip(f"no private disk can be made here: {error}")
    if done.returncode:
        pytest.skip(f"no private disk can be mounted here: {done.stderr.strip()}")


class Disks:
    """The small disks of a cluster's peers, seen from outside."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        for peer in cluster.ids:
            path = cluster.directory / peer
            path.mkdir()
            cluster.wrappers[peer] = _own_disk(path)

    def _filler(self, peer: str) -> Path:
        process = self._cluster.processes[peer]
        inside = (self._cluster.directory / peer / "filler").relative_to("/")
        return Path(f"/proc/{process.pid}/root", inside)

    def fill(self, peer: str) -> None:
        """Leave not one page free."""
        with self._filler(peer).open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
            try:
                file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC

    def free(self, peer: str) -> None:
        self._filler(peer).unlink()


def _submit(cluster: Cluster, peer: str) -> Answer:
    """Something that does not fit the last page of a file, with a bound on the time to answer."""
    began = time.monotonic()
    body = {"command": ["true"], "stdin": "x" * 20_000}
    answer = cluster.request(peer, "POST", "/v1/tasks", body, timeout=2 * HANG_SECONDS)
    assert time.monotonic() - began < HANG_SECONDS
    return answer


@contextlib.contextmanager
def _on_small_disks(directory: Path, size: int) -> Iterator[tuple[Cluster, Disks]]:
    cluster = Cluster(directory, size=size, lease_seconds=2.0)
    disks = Disks(cluster)
    with cluster:
        for peer in cluster.ids:
            cluster.ready(peer)
        task = cluster.submit("n1", ["true"])
        assert cluster.finished("n1", task)["state"] == "succeeded"
        yield cluster, disks
        assert [process.poll() for process in cluster.processes.values()] == [None] * size


def _paused(cluster: Cluster, peer: str) -> bool:
    return bool(cluster.request(peer, "GET", "/v1/cluster").json["paused"] == "disk-full")


def _accepted(cluster: Cluster, peer: str) -> str:
    """A submission that is taken, within some seconds; its task."""

    def taken() -> str | None:
        answer = _submit(cluster, peer)
        return answer.json["id"] if answer.status == 201 else None

    task: str = until(taken)
    return task


def _refused(cluster: Cluster, peer: str) -> None:
    """A submission is refused at once, in words that say why."""
    began = time.monotonic()
    answer = _submit(cluster, peer)
    assert time.monotonic() - began < REFUSAL_SECONDS
    assert (answer.status, answer.json["code"]) == (503, "no-leader"), answer
    assert int(answer.headers["retry-after"]) >= 1
    assert cluster.request(peer, "GET", "/health/live").status == 200


def test_full_disk_of_one_peer_stops_only_that_peer_until_there_is_room(
    small_disks: None, tmp_path: Path
) -> None:
    with _on_small_disks(tmp_path, 3) as (cluster, disks):
        for whose in ("leader", "follower"):
            leader = cluster.leader()
            full = leader if whose == "leader" else next(p for p in cluster.ids if p != leader)
            rest = [peer for peer in cluster.ids if peer != full]
            disks.fill(full)
            # The others lose at most the moment of an election.
            tasks = [_accepted(cluster, rest[0])]
            assert cluster.leader(among=rest) != full
            until(functools.partial(_paused, cluster, full))
            _refused(cluster, full)
            path = f"/v1/nodes/{full}"
            assert cluster.request(rest[0], "POST", f"{path}/cordon", {}).status == 200
            for peer in rest:
                answer = _submit(cluster, peer)
                assert answer.status == 201
                assert cluster.finished(peer, answer.json["id"])["state"] == "succeeded"

            disks.free(full)
            tasks += [_accepted(cluster, full)]
            assert cluster.request(full, "POST", f"{path}/uncordon", {}).status == 200
            for task in tasks:
                assert cluster.finished(full, task)["state"] == "succeeded"
            cluster.ready(full)
            assert not _paused(cluster, full)
        lists = [cluster.request(peer, "GET", "/v1/tasks").json["items"] for peer in cluster.ids]
        assert lists[0] == lists[1] == lists[2]


def test_full_disks_everywhere_refuse_submissions_until_there_is_room(
    small_disks: None, tmp_path: Path
) -> None:
    with _on_small_disks(tmp_path, 3) as (cluster, disks), ThreadPoolExecutor(6) as pool:
        for peer in cluster.ids:
            disks.fill(peer)
        # Under way while the disks become full: answered in time, whatever the answer.
        early = [pool.submit(_submit, cluster, peer) for peer in cluster.ids]
        until(lambda: sum(_paused(cluster, peer) for peer in cluster.ids) >= 2)
        # Until then one may believe to lead a majority, and what it takes is in doubt, not refused.
        until(lambda: _submit(cluster, cluster.ids[0]).status == 503)
        for refusal in [pool.submit(_refused, cluster, peer) for peer in cluster.ids]:
            refusal.result()
        for peer in cluster.ids:
            disks.free(peer)
        for peer in cluster.ids:
            assert cluster.finished(peer, _accepted(cluster, peer))["state"] == "succeeded"
        assert {answer.result().status for answer in early} <= {201, 503, 504}
