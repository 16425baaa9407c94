"""What a user sees when processes die: work goes on, once, and refusals come at once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, is_alive, runners, until

pytestmark = pytest.mark.timeout(60)

#: An answer without a leader takes 0.9 s; the rest is for a busy machine.
REFUSAL_SECONDS = 2.0
#: No request may take longer than its deadline of 10 s and a little.
HANG_SECONDS = 12.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # An attempt is stopped 0.95 s before its lease ends; the rest is for a busy machine.
    with Cluster(tmp_path_factory.mktemp("faults"), lease_seconds=4.0) as cluster:
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


def _beating(directory: Path, i: int) -> list[str]:
    """The first attempt writes its number again and again until a gate opens; others once."""
    log, gate = directory / f"beats-{i}", directory / "gate"
    line = f"echo $RAFTSCHED_ATTEMPT >> {log}"
    loop = f"while [ $RAFTSCHED_ATTEMPT = 1 ] && [ ! -e {gate} ]; do {line}; sleep 0.05; done"
    return ["sh", "-c", f"{loop}; {line}"]


def _followers(cluster: Cluster) -> list[str]:
    leader = cluster.leader()
    return [peer for peer in cluster.ids if peer != leader]


def test_tasks_of_a_killed_follower_run_again_elsewhere_and_succeed_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    victim, witness = _followers(cluster)
    tasks = [cluster.submit(witness, _beating(tmp_path, i)) for i in range(6)]
    nodes = [cluster.running(witness, task) for task in tasks]
    hit = [i for i, node in enumerate(nodes) if node == victim]
    assert len(hit) == 2, f"six tasks spread over three nodes: {nodes}"
    cluster.kill(victim)

    for i in hit:
        assert cluster.finished(witness, tasks[i], 20)["state"] == "succeeded"
        rows = cluster.attempts(witness, tasks[i])
        assert [(row["number"], row["status"]) for row in rows] == [
            (1, "lost"),
            (2, "succeeded"),
        ]
        assert rows[0]["node"] == victim != rows[1]["node"]
        assert rows[0]["token"] < rows[1]["token"]
        # The first attempt had ended before the second began, and stays ended.
        beats = (tmp_path / f"beats-{i}").read_text().split()
        assert beats == ["1"] * (len(beats) - 1) + ["2"]
    # Nobody touched the others.
    (tmp_path / "gate").touch()
    for i in set(range(6)) - set(hit):
        assert cluster.finished(witness, tasks[i])["state"] == "succeeded"
        rows = cluster.attempts(witness, tasks[i])
        assert len(rows) == 1, rows

    # The victim comes back, learns what happened to its attempts, and gets work again.
    cluster.start(victim)
    cluster.ready(victim)
    for i in hit:
        assert cluster.attempts(victim, tasks[i]) == cluster.attempts(witness, tasks[i])
        assert (tmp_path / f"beats-{i}").read_text().split()[-1] == "2"
    # Long enough to be under way together; else the first node that is idle gets them all.
    again = [cluster.submit(victim, ["sleep", "1"]) for _ in range(6)]
    assert victim in {cluster.finished(victim, task)["node"] for task in again}


def test_node_that_dies_as_a_whole_loses_no_task(cluster: Cluster, tmp_path: Path) -> None:
    """The peer, its runner and its attempts at once, as when a machine dies."""
    victim, witness = _followers(cluster)
    script = f"echo $$ > {tmp_path}/pid-$RAFTSCHED_ATTEMPT; [ $RAFTSCHED_ATTEMPT = 2 ]"
    tasks = [cluster.submit(witness, ["sh", "-c", f"{script} || exec sleep 60"]) for _ in range(3)]
    nodes = {cluster.running(witness, task): task for task in tasks}
    [runner] = runners(cluster.directory / victim)
    cluster.kill(victim)
    os.kill(runner, signal.SIGKILL)
    cluster.start(victim)
    # The new runner saw the old attempts dead, so nobody has to wait for the lease.
    began = time.monotonic()
    task = nodes[victim]
    assert cluster.finished(witness, task, 20)["state"] == "succeeded"
    assert time.monotonic() - began < 4.0
    assert [row["status"] for row in cluster.attempts(witness, task)] == ["lost", "succeeded"]


def test_restarted_peer_adopts_its_runner_and_the_attempt_goes_on_undisturbed(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path, lease_seconds=8.0) as cluster:
        victim, witness = _followers(cluster)
        for peer in cluster.ids:
            cluster.ready(peer)
        during, after = tmp_path / "during", tmp_path / "after"
        loop = "echo $$; i=0; while [ ! -e {} ]; do i=$((i+1)); echo $i; sleep 0.05; done; echo $$"
        # One of each pair runs on the victim; the gates open while it is down, and after.
        first = [cluster.submit(witness, ["sh", "-c", loop.format(during)]) for _ in range(3)]
        second = [cluster.submit(witness, ["sh", "-c", loop.format(after)]) for _ in range(3)]
        ends_during = {cluster.running(witness, task): task for task in first}[victim]
        ends_after = {cluster.running(witness, task): task for task in second}[victim]
        before = cluster.task(witness, ends_after)
        [runner] = runners(tmp_path / victim)
        output = tmp_path / victim / "node" / "output" / f"{ends_after}.1.out"
        pid = int(until(lambda: output.read_text().split())[0])

        cluster.kill(victim)
        during.touch()
        size = output.stat().st_size
        until(lambda: output.stat().st_size > size)
        cluster.start(victim)
        assert cluster.finished(witness, ends_during)["state"] == "succeeded"
        cluster.ready(victim)
        assert runners(tmp_path / victim) == [runner]
        assert is_alive(pid)
        now = cluster.task(victim, ends_after)
        same = ("state", "attempt", "token", "node", "started_at", "losses")
        assert {key: now[key] for key in same} == {key: before[key] for key in same}

        after.touch()
        for task in (ends_during, ends_after):
            assert cluster.finished(witness, task)["state"] == "succeeded"
            rows = cluster.attempts(witness, task)
            assert [(row["number"], row["status"]) for row in rows] == [(1, "succeeded")]
        lines = [int(line) for line in b"".join(cluster.follow(witness, ends_after)).split()]
        assert lines[0] == lines[-1] == pid
        assert lines[1:-1] == list(range(1, len(lines) - 1))


def test_node_that_stops_with_work_under_way_is_given_nothing_more(
    cluster: Cluster, tmp_path: Path
) -> None:
    victim, witness = _followers(cluster)
    tasks = [cluster.submit(witness, _beating(tmp_path, i)) for i in range(3)]
    assert victim in {cluster.running(witness, task) for task in tasks}
    assert cluster.stop(victim) == 0
    node = cluster.request(witness, "GET", f"/v1/nodes/{victim}").json
    assert (node["status"], node["slots"]) == ("up", 0)
    quick = [cluster.submit(witness, ["true"]) for _ in range(9)]
    for task in quick:
        assert cluster.finished(witness, task)["losses"] == 0
    cluster.start(victim)
    cluster.ready(victim)
    path = f"/v1/nodes/{victim}"
    until(lambda: cluster.request(witness, "GET", path).json["slots"] == 4)
    (tmp_path / "gate").touch()
    for task in tasks:
        assert cluster.finished(witness, task)["state"] == "succeeded"


def test_killed_runner_is_replaced_and_its_tasks_run_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    task = cluster.submit("n1", _beating(tmp_path, 0))
    node = cluster.running("n1", task)
    [runner] = runners(cluster.directory / node)
    os.kill(runner, signal.SIGKILL)
    assert cluster.finished("n1", task)["state"] == "succeeded"
    assert [row["status"] for row in cluster.attempts("n1", task)] == ["lost", "succeeded"]
    beats = (tmp_path / "beats-0").read_text().split()
    assert beats == ["1"] * (len(beats) - 1) + ["2"]
    assert cluster.processes[node].poll() is None
    [other] = runners(cluster.directory / node)
    assert other != runner


@pytest.mark.parametrize("survivor_leads", [False, True], ids=["follower", "leader"])
def test_without_a_majority_submissions_are_refused_at_once_until_a_peer_returns(
    cluster: Cluster, survivor_leads: bool
) -> None:
    with ThreadPoolExecutor(1) as pool:
        leader = cluster.leader()
        survivor = leader if survivor_leads else _followers(cluster)[0]
        others = [peer for peer in cluster.ids if peer != survivor]
        for peer in others:
            cluster.kill(peer)
        # Sent at once: a leader may have taken it before it knew; then its fate is not known.
        name = f"sent to {survivor} once, leads: {survivor_leads}"
        body = {"command": ["true"], "name": name}
        headers = {"Idempotency-Key": name}
        began = time.monotonic()
        early = pool.submit(
            cluster.request, survivor, "POST", "/v1/tasks", body, headers=headers, timeout=20
        )
        if survivor_leads:
            path = "/v1/cluster"
            until(lambda: cluster.request(survivor, "GET", path).json["leader"] is None, 5)

        asked = time.monotonic()
        answer = cluster.request(survivor, "POST", "/v1/tasks", body)
        assert time.monotonic() - asked < REFUSAL_SECONDS
        assert (answer.status, answer.json["code"]) == (503, "no-leader")
        assert int(answer.headers["retry-after"]) >= 1
        assert (answer.json["applied"], answer.json["retryable"]) == (False, True)
        # What needs no majority is answered.
        assert cluster.request(survivor, "GET", "/health/live").status == 200
        assert cluster.request(survivor, "GET", "/v1/tasks?consistency=local").status == 200
        assert cluster.request(survivor, "GET", "/v1/cluster").json["has_quorum"] is False
        assert cluster.request(survivor, "GET", "/health/leader").status == 503
        assert cluster.request(survivor, "GET", "/health/ready").status == 503

        cluster.start(others[0])
        cluster.leader(among=[survivor, others[0]])
        task = cluster.submit(survivor, ["true"])
        assert cluster.finished(others[0], task)["state"] == "succeeded"
        # The one from before was answered within its deadline, and truly.
        first = early.result()
        assert time.monotonic() - began < HANG_SECONDS
        assert first.status in ((201, 503, 504) if survivor_leads else (503,)), first
        # Whatever became of it, the same key makes one task.
        known = cluster.request(survivor, "POST", "/v1/tasks", body, headers=headers)
        assert known.status in (200, 201), known
        listed = cluster.request(survivor, "GET", "/v1/tasks?limit=1000").json["items"]
        assert [row["id"] for row in listed if row["name"] == name] == [known.json["id"]]


def test_stopped_leader_is_replaced_and_follows_when_it_goes_on(cluster: Cluster) -> None:
    leader = cluster.leader()
    rest = _followers(cluster)
    process = cluster.processes[leader]
    process.send_signal(signal.SIGSTOP)
    try:
        new = cluster.leader(among=rest)
        task = cluster.submit(rest[0], ["echo", "meanwhile"])
        assert cluster.finished(rest[1], task)["state"] == "succeeded"
    finally:
        process.send_signal(signal.SIGCONT)
    # It answers as one of the cluster again, and with what happened meanwhile.
    assert cluster.finished(leader, task)["output_tail"] == "meanwhile\n"
    known = until(lambda: cluster.request(leader, "GET", "/v1/cluster").json["leader"])
    assert known == cluster.leader()
    assert new in rest


def test_leader_that_slept_past_the_lease_condemns_nobody_when_it_wakes(tmp_path: Path) -> None:
    """Its clock says that no node renewed; they did, with the leader that came after it."""
    lease = 5.0
    with Cluster(tmp_path, lease_seconds=lease) as cluster:
        leader = cluster.leader()
        other, third = _followers(cluster)
        assert cluster.request(other, "POST", f"/v1/nodes/{leader}/cordon", {}).status == 200
        tasks = [cluster.submit(other, _beating(tmp_path, i)) for i in range(4)]
        assert {cluster.running(other, task) for task in tasks} == {other, third}
        process = cluster.processes[leader]
        process.send_signal(signal.SIGSTOP)
        try:
            cluster.leader(among=[other, third])
            time.sleep(lease + 2.0 + 0.5 + 1.0)  # Lease, grant window, drift margin, and some.
        finally:
            process.send_signal(signal.SIGCONT)
        until(lambda: cluster.request(leader, "GET", "/v1/cluster").json["leader"])
        time.sleep(1.0)
        for i, task in enumerate(tasks):
            rows = cluster.attempts(other, task)
            assert [(row["number"], row["status"]) for row in rows] == [(1, "running")], rows
            assert set((tmp_path / f"beats-{i}").read_text().split()) == {"1"}
        (tmp_path / "gate").touch()
        for task in tasks:
            assert cluster.finished(other, task)["state"] == "succeeded"


def test_hundreds_of_tasks_submitted_through_a_follower_all_succeed_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    count = 300
    follower, other = _followers(cluster)
    effects = tmp_path / "effects"
    lines = [
        {"command": f"echo {i} >> {effects}", "shell": True, "queue": "hundreds"}
        for i in range(count)
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "all"}
    answer = cluster.request(follower, "POST", "/v1/tasks:batch", body, headers=headers)
    assert answer.status == 200, answer
    rows = [json.loads(line) for line in answer.raw.splitlines()]
    assert [row["status"] for row in rows] == [201] * count
    assert len({row["id"] for row in rows}) == count

    path = "/v1/tasks?state=succeeded&queue=hundreds&limit=1000"
    until(lambda: len(cluster.request(other, "GET", path).json["items"]) == count, 30)
    done = cluster.request(follower, "GET", path).json["items"]
    assert {row["id"] for row in done} == {row["id"] for row in rows}
    assert {row["attempt"] for row in done} == {1}
    assert {row["node"] for row in done} == set(cluster.ids)
    assert sorted(int(line) for line in effects.read_text().split()) == list(range(count))
    # The same again is the same tasks.
    repeated = cluster.request(other, "POST", "/v1/tasks:batch", body, headers=headers)
    assert [json.loads(line)["id"] for line in repeated.raw.splitlines()] == [
        row["id"] for row in rows
    ]
    assert len(effects.read_text().split()) == count
