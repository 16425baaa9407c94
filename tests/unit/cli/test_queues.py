"""Commands about queues, limits, explanations, drains and labels against a stub."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from raftsched.cli.main import cli
from tests.unit.client.stub import Answer, Stub, sequence

QUEUE = {
    "name": "q", "paused": False, "concurrency": 2, "max_depth": 7, "open": 5, "running": 2,
    "modify_index": 9,
}  # fmt: skip
LIMIT = {
    "key": "a/b", "count": 0, "rate": {"count": 10, "per": 60, "burst": 3}, "held": 1,
    "full_at": None, "modify_index": 4,
}  # fmt: skip
EXPLAINED = {
    "task": "t", "state": "waiting", "verdict": "blocked", "text": "its time has not come yet",
    "blockers": [{"kind": "not_before", "text": "x", "name": None, "until": "2026-01-01T00:00Z"}],
    "nodes": [{"node": "n1", "reason": "node-full", "text": "no slot is free"}],
    "position": None, "index": 1,
}  # fmt: skip
NODE = {"id": "n1", "attempts": 3, "labels": {"zone": "b"}, "labels_set": {"zone": "b"}}


def call(stub: Stub, *arguments: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, [*arguments, "--addr", stub.address], input=text)


def sent(stub: Stub) -> list[tuple[str, str, object]]:
    """What was asked: method, path, body."""
    return [(a.method, a.path, json.loads(a.body) if a.body else None) for a in stub.asked]


def test_queue_ls_shows_every_queue() -> None:
    with Stub(sequence(Answer(200, {"items": [QUEUE], "next_cursor": None}))) as stub:
        line = call(stub, "queue", "ls").stdout.splitlines()[1]
    assert line.split() == ["q", "no", "5", "2", "2", "7"]


def test_queue_set_keeps_what_is_not_said() -> None:
    with Stub(sequence(Answer(200, QUEUE))) as stub:
        assert call(stub, "queue", "set", "q", "--concurrency", "4").exit_code == 0
    assert sent(stub)[1] == ("PUT", "/v1/queues/q", {"concurrency": 4, "max_depth": 7})


def test_queue_pause_and_resume() -> None:
    with Stub(sequence(Answer(200, QUEUE))) as stub:
        assert call(stub, "queue", "pause", "q").stdout == "q\n"
        assert call(stub, "queue", "resume", "q").stdout == "q\n"
    assert [path for _, path, _ in sent(stub)] == ["/v1/queues/q/pause", "/v1/queues/q/resume"]


def test_queue_purge_asks_with_the_number_of_tasks() -> None:
    answer = Answer(200, {"matched": 3, "changed": 3, "ids": ["a"], "more": False})
    with Stub(sequence(answer)) as stub:
        assert call(stub, "queue", "purge", "q", text="n\n").exit_code != 0
        assert [asked.query for asked in stub.asked] == [{"dry_run": "1"}]
        result = call(stub, "queue", "purge", "q", "--reason", "old", text="y\n")
    assert result.exit_code == 0
    assert sent(stub)[-1] == ("POST", "/v1/queues/q/purge", {"reason": "old"})
    assert stub.asked[-1].query == {}


def test_limit_set_takes_a_count_and_a_rate() -> None:
    with Stub(sequence(Answer(200, LIMIT))) as stub:
        assert call(stub, "limit", "set", "a/b", "--count", "4").exit_code == 0
        assert call(stub, "limit", "set", "a/b", "--rate", "10/1m", "--burst", "3").exit_code == 0
        assert call(stub, "limit", "set", "a/b", "--rate", "ten").exit_code == 2
        assert call(stub, "limit", "set", "a/b").exit_code == 2
    rate = {"count": 10, "per": "1m", "burst": 3}
    assert sent(stub)[:2] == [
        ("PUT", "/v1/limits/a%2Fb", {"count": 4}),
        ("PUT", "/v1/limits/a%2Fb", {"count": 0, "rate": rate}),
    ]


def test_limit_ls_says_a_rate_in_words() -> None:
    with Stub(sequence(Answer(200, {"items": [LIMIT], "next_cursor": None}))) as stub:
        assert "10 in 60 s, 3 at once" in call(stub, "limit", "ls").stdout


def test_rm_of_queues_and_limits() -> None:
    with Stub(sequence(Answer(204, None))) as stub:
        assert call(stub, "queue", "rm", "q").stdout == "q\n"
        assert call(stub, "limit", "rm", "a/b").stdout == "a/b\n"
    assert [(m, p) for m, p, _ in sent(stub)] == [
        ("DELETE", "/v1/queues/q"), ("DELETE", "/v1/limits/a%2Fb"),
    ]  # fmt: skip


def test_explain_says_the_verdict_and_node_by_node_why() -> None:
    with Stub(sequence(Answer(200, EXPLAINED))) as stub:
        lines = call(stub, "explain", "t").stdout.splitlines()
        assert json.loads(call(stub, "explain", "t", "-o", "json").stdout) == EXPLAINED
    assert lines[0] == "blocked: its time has not come yet"
    assert lines[1] == "  not_before until 2026-01-01T00:00Z"
    assert lines[3].split()[:2] == ["n1", "node-full"]


def test_drain_says_the_impact_first() -> None:
    with Stub(sequence(Answer(200, NODE))) as stub:
        assert call(stub, "node", "drain", "n1", text="n\n").exit_code != 0
        assert len(stub.asked) == 1
        result = call(stub, "node", "drain", "n1", "--patience", "5m", "-y")
    assert result.stdout == "n1\n"
    assert sent(stub)[-1] == ("POST", "/v1/nodes/n1/drain", {"patience": "5m"})


def test_labels_are_set_one_by_one_and_taken_back() -> None:
    with Stub(sequence(Answer(200, NODE))) as stub:
        assert "zone" in call(stub, "node", "labels", "n1").stdout
        assert call(stub, "node", "labels", "n1", "gpu=", "zone-").exit_code == 0
        assert call(stub, "node", "labels", "n1", "zone").exit_code == 2
    assert sent(stub)[2] == ("PUT", "/v1/nodes/n1/labels", {"labels": {"gpu": ""}})
