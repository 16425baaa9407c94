"""A bit flipped in a file of a stopped peer: refused in one line, or put right; never served."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, until
from tests.e2e.machines import SmallInitCluster
from tests.e2e.test_membership import cli
from tests.e2e.test_power_loss import same_replicas

IS_SOAK = bool(os.environ.get("RAFTSCHED_SOAK"))
pytestmark = pytest.mark.timeout(1800 if IS_SOAK else 120)

#: Flips tried in each file.
FLIPS = 40 if IS_SOAK else 1
VICTIM = "n2"


class Stopped:
    """Three peers over TLS that worked and ended, some with snapshots; can be put back so."""

    def __init__(self, cluster: Cluster, is_clean: bool) -> None:
        self.cluster = cluster
        self.is_clean = is_clean
        self.tasks: list[str] = []
        self.kept = cluster.directory / "kept"

    def work(self) -> None:
        """Until there are two snapshots and some segments, and then the end."""
        cluster = self.cluster
        with cluster:
            while len(list(self.raft(VICTIM).glob("snapshots/*.snap"))) < 2:
                self.tasks += [cluster.submit(peer, ["true"]) for peer in cluster.ids]
            for task in self.tasks:
                cluster.finished(VICTIM, task)
            for peer in cluster.ids:
                if self.is_clean:
                    assert cluster.stop(peer) == 0
                else:
                    cluster.kill(peer)
        for peer in cluster.ids:
            shutil.copytree(self.raft(peer), self.kept / peer)

    def raft(self, peer: str) -> Path:
        return self.cluster.directory / peer / "raft"

    def restore(self) -> None:
        """All files as they were."""
        for peer in self.cluster.ids:
            shutil.rmtree(self.raft(peer))
            shutil.copytree(self.kept / peer, self.raft(peer))

    def files(self) -> list[Path]:
        """Those of the victim that have something in them."""
        found = sorted(path for path in self.kept.glob(f"{VICTIM}/**/*") if path.is_file())
        return [self.raft(VICTIM) / p.relative_to(self.kept / VICTIM) for p in found if size(p)]


def size(path: Path) -> int:
    return path.stat().st_size


class Flip:
    """One bit of a file, to be changed again and again."""

    def __init__(self, path: Path, chance: random.Random, *, last_bytes: int = 0) -> None:
        self.path = path
        self.offset = chance.randrange(max(size(path) - (last_bytes or size(path)), 0), size(path))
        self._bit = 1 << chance.randrange(8)

    def __repr__(self) -> str:
        return f"{self.path.name} byte {self.offset} bit {self._bit}"

    def apply(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            [byte] = file.read(1)
            file.seek(self.offset)
            file.write(bytes([byte ^ self._bit]))


@pytest.fixture(scope="module", params=["stopped", "killed"])
def stopped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stopped]:
    cluster = SmallInitCluster(tmp_path_factory.mktemp(request.param))
    found = Stopped(cluster, request.param == "stopped")
    found.work()
    yield found


def start_alone(cluster: Cluster) -> tuple[int | None, str]:
    """Exit code and log of the victim without the others; code None if it does start."""
    log = cluster.directory / f"{VICTIM}.log"
    log.unlink(missing_ok=True)
    cluster.start(VICTIM)
    process = cluster.processes[VICTIM]
    until(lambda: process.poll() is not None or " answers on " in log.read_text())
    code = process.poll()
    if code is None:
        cluster.kill(VICTIM)
    return code, log.read_text()


def check_refusal(flip: Flip, code: int, log: str) -> None:
    """One line for people, that names file, place and way out; one code for supervisors."""
    [line] = [text for text in log.splitlines() if not re.search(" (INFO|WARNING) ", text)]
    words = rf"raftsched: peer {VICTIM} cannot run: {re.escape(str(flip.path))}: .* at byte (\d+); "
    found = re.match(words, line)
    assert found and int(found[1]) <= flip.offset, f"{flip}: {line}"
    assert (
        "remove this peer from the cluster and add it again under a new peer id with an empty"
        in line
    )
    assert code == 14


def is_put_right(flip: Flip, log: str, is_clean: bool) -> bool:
    """May a peer start so?  It says what it did, where it had to do something."""
    name = flip.path.name
    if name == "reserve":
        return True
    if name == "hard-state":
        return "mended the copy" in log
    if name.endswith(".snap"):
        newest = max(flip.path.parent.glob("snapshot-*"))
        return f"{flip.path} is damaged and was set aside" in log or newest.name > name
    found = re.search(re.escape(str(flip.path)) + r": cut \d+ bytes .* at byte (\d+)", log)
    return not is_clean and found is not None and int(found[1]) <= flip.offset


def test_flipped_bit_is_refused_or_put_right_and_never_served(stopped: Stopped) -> None:
    cluster, chance = stopped.cluster, random.Random(os.environ.get("RAFTSCHED_SOAK_SEED", "7"))
    harmless: dict[str, Flip] = {}
    refused = set()
    flips = [Flip(path, chance) for path in stopped.files() * FLIPS]
    [*_, last] = sorted(stopped.raft(VICTIM).glob("journal/segment-*"))
    for flip in [*flips, Flip(last, chance, last_bytes=20)]:
        path = flip.path
        stopped.restore()
        flip.apply()
        code, log = start_alone(cluster)
        if code is not None:
            check_refusal(flip, code, log)
            refused.add(path.name)
        else:
            assert is_put_right(flip, log, stopped.is_clean), f"{flip}: {log}"
            # Of two snapshots one must be whole: the newer one comes last.
            harmless[path.parent.name if path.suffix == ".snap" else path.name] = flip
    assert {"identity", "founding"} < refused
    assert {"hard-state", "reserve", "snapshots"} <= harmless.keys()
    # What looks like a torn write is one only where the peer had no time to say where it ended.
    assert (last.name in harmless) == (not stopped.is_clean)

    stopped.restore()
    for flip in harmless.values():
        flip.apply()
    with cluster:
        assert same_replicas(cluster), harmless
        for task in stopped.tasks:
            rows = [
                cluster.request(peer, "GET", f"/v1/tasks/{task}?consistency=local").json
                for peer in cluster.ids
            ]
            assert rows == [rows[0]] * 3 and rows[0]["state"] == "succeeded", harmless


def test_both_snapshots_damaged_are_refused(stopped: Stopped) -> None:
    stopped.restore()
    flips = [
        Flip(path, random.Random(7))
        for path in sorted(stopped.raft(VICTIM).glob("snapshots/*.snap"))
    ]
    for flip in flips:
        flip.apply()
    code, log = start_alone(stopped.cluster)
    assert code is not None
    check_refusal(flips[-1], code, log)


def test_a_disk_that_cannot_be_read_at_the_start_is_a_matter_of_the_disk(stopped: Stopped) -> None:
    stopped.restore()
    [hard_state] = stopped.raft(VICTIM).rglob("hard-state")
    hard_state.unlink()
    hard_state.mkdir()  # Reading it gives an error, whoever asks.
    code, log = start_alone(stopped.cluster)
    assert code == 70, log
    assert f"{hard_state.parent} cannot be opened: [Errno" in log


def test_remedy_in_the_refusal_works_to_the_letter(tmp_path: Path) -> None:
    """The damaged peer is removed and added under a new id with an empty directory, over TLS."""
    with SmallInitCluster(tmp_path) as cluster:
        tasks = [cluster.submit(peer, ["true"]) for peer in cluster.ids * 5]
        assert cluster.stop(VICTIM) == 0
        flip = Flip(tmp_path / VICTIM / "raft" / "journal" / "identity", random.Random(7))
        flip.apply()
        code, log = start_alone(cluster)
        assert code is not None
        check_refusal(flip, code, log)

        subprocess.run(["cp", "-a", tmp_path / VICTIM, tmp_path / "copy"], check=True)
        done = cli(cluster, "peers", "remove", VICTIM, "--yes")
        assert done.returncode == 0, done.stderr
        done = cli(
            cluster,
            "cert",
            "create",
            "--ca",
            f"{tmp_path}/ca",
            "--peer",
            "n4",
            "--out",
            f"{tmp_path}/n4",
        )
        assert done.returncode == 0, done.stderr
        new = cluster.join("n4")
        done = cli(cluster, "peers", "add", "n4", "--raft", new["raft"], "--api", new["api"])
        assert done.returncode == 0, done.stderr + cluster.logs()
        cluster.ids.remove(VICTIM)

        for peer in cluster.ids:
            cluster.ready(peer)
        assert same_replicas(cluster)
        for task in tasks:
            assert cluster.finished("n4", task)["state"] == "succeeded"
        # It votes: with it, the cluster goes on without another one.
        cluster.kill("n1")
        cluster.leader(among=["n3", "n4"])
        assert cluster.task("n4", cluster.submit("n4", ["true"]))
