"""What a task asked for, kept through the front door while peers are stopped and killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, until

pytestmark = pytest.mark.timeout(90)

LEASE_SECONDS = 8.0
#: Of a task that is to move sooner than its node's other tasks.
SHORT_LEASE_SECONDS = 5.0
#: Window and drift margin of a verdict, and what a busy machine takes to act on it.
VERDICT_SECONDS = 2.0
BUSY_SECONDS = 6.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("execution"), lease_seconds=LEASE_SECONDS) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """Three peers, all up and ready, with a short lease."""
    for peer in shared.ids:
        if shared.processes[peer].poll() is not None:
            shared.start(peer)
    shared.leader()
    for peer in shared.ids:
        shared.ready(peer)
    return shared


def witness_of(cluster: Cluster, *others: str) -> str:
    return next(peer for peer in cluster.ids if peer not in others)


def beating(log: Path, seconds: float = 60.0) -> list[str]:
    """Writes its attempt and the time, again and again; the second attempt only once."""
    loop = (
        "import os, sys, time\n"
        "n, end = os.environ['RAFTSCHED_ATTEMPT'], time.time() + float(sys.argv[2])\n"
        "while True:\n"
        "    with open(sys.argv[1], 'a') as log: log.write(f'{n} {time.time()}\\n')\n"
        "    if n != '1' or time.time() > end: break\n"
        "    time.sleep(0.02)\n"
    )
    return ["python3", "-S", "-c", loop, str(log), str(seconds)]


def beats(log: Path) -> dict[str, list[float]]:
    """When each attempt wrote."""
    found: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        number, at = line.split()
        found.setdefault(number, []).append(float(at))
    return found


def test_attempt_of_a_stopped_peer_ends_at_its_lease_and_the_next_begins_after(
    cluster: Cluster, tmp_path: Path
) -> None:
    log = tmp_path / "beats"
    first = cluster.submit(cluster.ids[0], beating(log))
    node = cluster.running(cluster.ids[0], first)
    witness = witness_of(cluster, node)
    until(lambda: log.exists() and len(log.read_text().splitlines()) > 3)
    cluster.processes[node].send_signal(signal.SIGSTOP)
    try:
        ended = cluster.finished(witness, first, 40)
    finally:
        cluster.processes[node].send_signal(signal.SIGCONT)
    assert (ended["state"], ended["attempt"], ended["losses"]) == ("succeeded", 2, 1)
    assert ended["node"] != node
    one, two = (beats(log)[number] for number in ("1", "2"))
    assert max(one) < min(two), "the attempts overlap"
    # Until the peer goes on, the first one writes nothing more.
    assert beats(log)["1"] == one
    cluster.ready(node, 30)


def test_retries_go_on_when_the_leader_dies_in_between(cluster: Cluster, tmp_path: Path) -> None:
    leader = cluster.leader()
    witness = witness_of(cluster, leader)
    tries = tmp_path / "tries"
    script = f"date +%s.%N >> {tries}; [ $RAFTSCHED_ATTEMPT = 3 ]"
    task = cluster.submit(
        witness,
        ["sh", "-c", script],
        retry={"max_attempts": 3, "backoff": "constant", "base": "2s", "jitter": 0},
        lease_seconds=SHORT_LEASE_SECONDS,
    )
    until(lambda: cluster.task(witness, task)["state"] == "retrying")
    cluster.kill(leader)
    ended = cluster.finished(witness, task, 40)
    assert (ended["state"], ended["reason"]) == ("succeeded", "")
    failed = [row for row in cluster.attempts(witness, task) if row["status"] == "failed"]
    assert len(failed) == 2
    times = [float(line) for line in tries.read_text().split()]
    assert all(b - a >= 1.9 for a, b in pairwise(times))


def test_a_deadline_stops_the_process_and_says_so(cluster: Cluster, tmp_path: Path) -> None:
    peer = cluster.ids[0]
    pid_file = tmp_path / "pid"
    task = cluster.submit(
        peer, ["sh", "-c", f"echo $$ > {pid_file}; exec sleep 60"], deadline="2s", grace="1s"
    )
    ended = cluster.finished(peer, task)
    assert (ended["state"], ended["reason"]) == ("expired", "deadline")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_delay_a_queue_timeout_and_run_now(cluster: Cluster) -> None:
    peer = cluster.ids[0]
    delayed = cluster.submit(peer, ["true"], not_before="1s")
    never = cluster.submit(peer, ["true"], resources={"cpu": 10_000}, queue_timeout="1s")
    later = cluster.submit(peer, ["true"], not_before="1h")
    assert cluster.task(peer, delayed)["state"] == "waiting"
    assert cluster.request(peer, "POST", f"/v1/tasks/{later}/run", {}).status == 200
    assert cluster.finished(peer, later)["state"] == "succeeded"
    ended = cluster.finished(peer, never)
    assert (ended["state"], ended["reason"]) == ("expired", "queue-timeout")
    ended = cluster.finished(peer, delayed)
    assert ended["state"] == "succeeded"
    assert ended["started_at"] >= ended["not_before"]


def test_a_task_that_may_start_once_is_lost_with_its_node(cluster: Cluster, tmp_path: Path) -> None:
    peer = cluster.ids[0]
    log = tmp_path / "beats"
    task = cluster.submit(
        peer, beating(log), delivery="at_most_once", lease_seconds=SHORT_LEASE_SECONDS
    )
    node = cluster.running(peer, task)
    witness = witness_of(cluster, node)
    cluster.kill(node)
    ended = cluster.finished(witness, task, 40)
    assert (ended["state"], ended["reason"], ended["attempt"]) == ("lost", "lease-expired", 1)
    assert set(beats(log)) <= {"1"}


def test_what_replaces_a_running_task_begins_when_nothing_of_it_runs(
    cluster: Cluster, tmp_path: Path
) -> None:
    peer = cluster.ids[0]
    log = tmp_path / "beats"
    unique = {"key": "import", "on_conflict": "replace"}
    first = cluster.submit(peer, beating(log), unique=unique, grace="1s")
    cluster.running(peer, first)
    until(lambda: log.exists())
    second = cluster.submit(peer, ["sh", "-c", f"echo 2 $(date +%s.%N) >> {log}"], unique=unique)
    assert cluster.finished(peer, second)["state"] == "succeeded"
    assert cluster.task(peer, first)["reason"] == "replaced"
    found = beats(log)
    assert max(found["1"]) < min(found["2"])


def test_the_dead_leaders_attempts_move_and_the_others_run_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    leader = cluster.leader()
    witness = witness_of(cluster, leader)
    logs = [tmp_path / f"beats-{n}" for n in range(9)]
    tasks = [
        cluster.submit(witness, beating(log, 14.0), lease_seconds=SHORT_LEASE_SECONDS)
        for log in logs
    ]
    nodes = [cluster.running(witness, task) for task in tasks]
    hit = [n for n, node in enumerate(nodes) if node == leader]
    assert 0 < len(hit) < len(nodes)
    killed_at = time.time()
    cluster.kill(leader)
    for n in hit:
        ended = cluster.finished(witness, tasks[n], 40)
        rows = cluster.attempts(witness, tasks[n])
        assert (ended["state"], len(rows), ended["losses"]) == ("succeeded", 2, 1), rows
        found = beats(logs[n])
        assert max(found["1"]) < min(found["2"])
        late = min(found["2"]) - killed_at
        assert late < SHORT_LEASE_SECONDS + VERDICT_SECONDS + BUSY_SECONDS, late
    for n in set(range(len(nodes))) - set(hit):
        ended = cluster.finished(witness, tasks[n], 40)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1), "it was disturbed"
