"""The calls of both clients: what each asks for, and that both have them all."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from raftsched.client import AsyncClient, AsyncTask, Client, Task, errors
from raftsched.client.batches import BATCH_TASKS_MAX
from raftsched.client.calls import listing, operation, task_operation
from raftsched.client.operations import Operations
from raftsched.client.schedules import ScheduleOperations
from raftsched.client.tasks import TaskOperations
from raftsched.client.templates import TemplateOperations
from raftsched.client.trees import TreeOperations
from tests.unit.client.both import Connect
from tests.unit.client.stub import TASK, Answer, Asked, Stub, keys, sequence


def test_submit_sends_body_key_and_token_and_returns_the_task(connect: Connect) -> None:
    with Stub(sequence(Answer(201, TASK))) as stub, connect(stub.address, token="secret") as client:
        task = client.submit(["/bin/true"], name="x")
    assert task.id == "t-1"
    asked = stub.asked[0]
    assert asked.json() == {"command": ["/bin/true"], "name": "x"}
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["content-type"] == "application/json"
    assert len(asked.headers["idempotency-key"]) == 32


def test_connections_are_kept(connect: Connect) -> None:
    with Stub(sequence(Answer(200, TASK))) as stub, connect(stub.address, token="") as client:
        for _ in range(5):
            client.get("t-1")
    assert stub.connections == 1


def created(asked: Asked) -> Answer:
    lines = asked.body.splitlines()
    names = [json.loads(line)["name"] for line in lines]
    return Answer(200, b"".join(json.dumps({"id": n}).encode() + b"\n" for n in names))


def test_batch_is_cut_into_requests_with_keys_of_their_own(connect: Connect) -> None:
    count = BATCH_TASKS_MAX + 3
    seen: list[int] = []
    with Stub(created) as stub, connect(stub.address, token="") as client:
        result = client.submit_batch(
            ({"name": str(n)} for n in range(count)), idempotency_key="k", progress=seen.append
        )
    assert result.ids == [str(n) for n in range(count)]
    assert keys(stub) == ["k-0", "k-1"]
    assert seen == [BATCH_TASKS_MAX, count]
    assert stub.asked[0].headers["content-type"] == "application/x-ndjson"


def test_refused_lines_of_a_batch_keep_their_place(connect: Connect) -> None:
    body = b'{"id": "a"}\n{"code": "invalid", "detail": "no"}\n{"id": "c"}\n'
    with Stub(sequence(Answer(200, body))) as stub, connect(stub.address, token="") as client:
        result = client.submit_batch([{}, {}, {}])
    assert result.ids == ["a", None, "c"]
    assert result.refused == [(1, {"code": "invalid", "detail": "no"})]
    assert result.created == 2


def test_batch_answered_in_part_is_not_taken_for_whole(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(200, b'{"id": "a"}\n'))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.BadReply, match="1 of 2"),
    ):
        client.submit_batch([{}, {}])


def test_dry_run_of_a_batch_counts_what_would_be_accepted(connect: Connect) -> None:
    body = b'{"line": 0, "valid": true}\n{"line": 1, "code": "invalid"}\n'
    with Stub(sequence(Answer(200, body))) as stub, connect(stub.address, token="") as client:
        result = client.submit_batch([{}, {}], dry_run=True)
    assert stub.asked[0].query == {"dry_run": "1"}
    assert (result.ids, result.created, result.accepted) == ([None, None], 0, 1)


def test_ids_are_quoted(connect: Connect) -> None:
    with Stub(sequence(Answer(200, TASK))) as stub, connect(stub.address, token="") as client:
        client.get("../nodes?x")
    assert stub.asked[0].path == "/v1/tasks/..%2Fnodes%3Fx"


#: Call, and what it asks: method, path with query, body.
CALLS: list[tuple[Any, str, str, Any]] = [
    (lambda c: c.request("GET", "/v1/problems"), "GET", "/v1/problems", None),
    (lambda c: c.request("POST", "/v1/x", {"a": 1}), "POST", "/v1/x", {"a": 1}),
    (lambda c: c.nodes(), "GET", "/v1/nodes", None),
    (lambda c: c.node("n1"), "GET", "/v1/nodes/n1", None),
    (lambda c: c.cordon("n1"), "POST", "/v1/nodes/n1/cordon", {}),
    (lambda c: c.uncordon("n1"), "POST", "/v1/nodes/n1/uncordon", {}),
    (lambda c: c.drain("n1", "5m"), "POST", "/v1/nodes/n1/drain", {"patience": "5m"}),
    (lambda c: c.set_node_labels("n1", {"a": "b"}), "PUT", "/v1/nodes/n1/labels",
     {"labels": {"a": "b"}}),
    (lambda c: list(c.queues()), "GET", "/v1/queues?limit=1000", None),
    (lambda c: c.queue("a b"), "GET", "/v1/queues/a%20b", None),
    (lambda c: c.set_queue("q", paused=True), "PUT", "/v1/queues/q", {"paused": True}),
    (lambda c: c.delete_queue("q"), "DELETE", "/v1/queues/q", None),
    (lambda c: c.pause_queue("q"), "POST", "/v1/queues/q/pause", {}),
    (lambda c: c.resume_queue("q"), "POST", "/v1/queues/q/resume", {}),
    (lambda c: c.purge_queue("q", dry_run=True), "POST", "/v1/queues/q/purge?dry_run=1",
     {"reason": ""}),
    (lambda c: list(c.limits()), "GET", "/v1/limits?limit=1000", None),
    (lambda c: c.limit("k"), "GET", "/v1/limits/k", None),
    (lambda c: c.set_limit("k", count=3), "PUT", "/v1/limits/k", {"count": 3}),
    (lambda c: c.delete_limit("k"), "DELETE", "/v1/limits/k", None),
    (lambda c: c.cluster(), "GET", "/v1/cluster", None),
    (lambda c: c.peers(), "GET", "/v1/cluster/peers", None),
    (lambda c: c.add_peer("n4", "h:1", "h:2"), "POST", "/v1/cluster/peers?wait=5s",
     {"id": "n4", "raft": "h:1", "api": "h:2", "replaces": ""}),
    (lambda c: c.remove_peer("n4"), "DELETE", "/v1/cluster/peers/n4?wait=5s", None),
    (lambda c: c.transfer_leader(), "POST", "/v1/cluster/leader:transfer", {}),
    (lambda c: c.check_replicas(), "POST", "/v1/cluster:verify?wait=5s", {}),
    (lambda c: c.reset_clock(by="me"), "POST", "/v1/cluster/clock:reset", {"by": "me"}),
    (lambda c: c.pause("t"), "POST", "/v1/tasks/t/pause", {}),
    (lambda c: c.resume("t"), "POST", "/v1/tasks/t/resume", {}),
    (lambda c: c.run_now("t"), "POST", "/v1/tasks/t/run", {}),
    (lambda c: c.retry("t"), "POST", "/v1/tasks/t/retry", {}),
    (lambda c: c.retry("t", only_failed=True), "POST", "/v1/tasks/t/retry", {"only": "failed"}),
    (lambda c: c.edit("t", {"priority": 1}), "PATCH", "/v1/tasks/t", {"priority": 1}),
    (lambda c: c.tree("t"), "GET", "/v1/tasks/t/tree?limit=1000", None),
    (lambda c: c.progress("t"), "GET", "/v1/tasks/t/tree?limit=50", None),
    (lambda c: c.map(["a", "{item}"], [1]), "POST", "/v1/tasks",
     {"map": {"task": {"command": ["a", "{item}"]}, "items": [1], "on_failure": "fail_fast"}}),
    (lambda c: c.explain("t"), "GET", "/v1/tasks/t/explain", None),
    (lambda c: c.attempts("t"), "GET", "/v1/tasks/t/attempts", None),
    (lambda c: c.result("t"), "GET", "/v1/tasks/t/result", None),
    (lambda c: c.result_json("t", 2), "GET", "/v1/tasks/t/attempts/2/result", None),
    (lambda c: c.cancel_many(queue="q", reason="r"), "POST", "/v1/tasks:cancel?queue=q",
     {"reason": "r"}),
    (lambda c: c.retry_many(queue="q"), "POST", "/v1/tasks:retry?queue=q", {}),
    (lambda c: c.retry_many(queue="q", only_failed=True), "POST", "/v1/tasks:retry?queue=q",
     {"only": "failed"}),
    (lambda c: c.pause_many(queue="q"), "POST", "/v1/tasks:pause?queue=q", {}),
    (lambda c: c.resume_many(queue="q"), "POST", "/v1/tasks:resume?queue=q", {}),
    (lambda c: c.run_many(queue="q"), "POST", "/v1/tasks:run?queue=q", {}),
    (lambda c: c.delete_many(queue="q", limit=5), "POST", "/v1/tasks:delete?queue=q&limit=5", {}),
    (lambda c: c.edit_many({"name": "x"}, queue="q"), "POST", "/v1/tasks:edit?queue=q",
     {"name": "x"}),
    (lambda c: list(c.templates()), "GET", "/v1/templates?limit=1000", None),
    (lambda c: c.template("a b"), "GET", "/v1/templates/a%20b", None),
    (lambda c: c.put_template("t", task={"command": ["x"]}, dry_run=True), "PUT",
     "/v1/templates/t?dry_run=1", {"task": {"command": ["x"]}}),
    (lambda c: c.delete_template("t"), "DELETE", "/v1/templates/t", None),
    (lambda c: c.run_template("t", {"day": "d"}, queue="q"), "POST", "/v1/templates/t/run",
     {"queue": "q", "parameters": {"day": "d"}}),
    (lambda c: list(c.schedules()), "GET", "/v1/schedules?limit=1000", None),
    (lambda c: c.schedule("s"), "GET", "/v1/schedules/s", None),
    (lambda c: c.create_schedule("s", cron="@daily"), "POST", "/v1/schedules",
     {"name": "s", "cron": "@daily"}),
    (lambda c: c.put_schedule("s", dry_run=True, every="1m"), "PUT", "/v1/schedules/s?dry_run=1",
     {"every": "1m"}),
    (lambda c: c.edit_schedule("s", every=None), "PATCH", "/v1/schedules/s", {"every": None}),
    (lambda c: c.delete_schedule("s", tasks=True), "DELETE", "/v1/schedules/s?tasks=1", None),
    (lambda c: c.pause_schedule("s"), "POST", "/v1/schedules/s/pause", {}),
    (lambda c: c.resume_schedule("s"), "POST", "/v1/schedules/s/resume", {}),
    (lambda c: c.trigger_schedule("s"), "POST", "/v1/schedules/s/trigger", {}),
    (lambda c: c.backfill_schedule("s", "a", "b"), "POST", "/v1/schedules/s/backfill",
     {"from": "a", "to": "b", "dry_run": False}),
    (lambda c: list(c.slots("s")), "GET", "/v1/schedules/s/slots?limit=1000", None),
    (lambda c: c.preview_schedule("s", n=3), "POST", "/v1/schedules:preview?n=3", {"name": "s"}),
    (lambda c: list(c.forecast("a", limit=7)), "GET", "/v1/forecast?limit=7&from=a", None),
]  # fmt: skip


def test_a_schedule_is_replaced_only_as_it_was_seen(connect: Connect) -> None:
    with Stub(sequence(Answer(200, {}))) as stub, connect(stub.address, token="") as client:
        client.put_schedule("s", if_match=7, every="1m")
        client.edit_schedule("s", if_match=8, every="1m")
    assert [asked.headers.get("if-match") for asked in stub.asked] == ['"7"', '"8"']


def test_a_creation_of_a_schedule_and_a_trigger_have_keys(connect: Connect) -> None:
    heard = (Answer(hang_up=True), Answer(201, {}))
    answers = sequence(*heard, *heard)
    with Stub(answers) as stub, connect(stub.address, token="") as client:
        client.create_schedule("s", cron="@daily")
        assert len({asked.headers["idempotency-key"] for asked in stub.asked}) == 1
        assert len(stub.asked) == 2
        client.trigger_schedule("s")
        assert len(stub.asked) == 4
        assert len({asked.headers["idempotency-key"] for asked in stub.asked[2:]}) == 1


def test_calls_ask_for_what_they_say(connect: Connect) -> None:
    with Stub(sequence(Answer(200, {}))) as stub, connect(stub.address, token="") as client:
        for call, method, target, body in CALLS:
            call(client)
            asked = stub.asked[-1]
            query = dict(parse_qsl(urlsplit(target).query))
            path = unquote(urlsplit(target).path)
            assert (asked.method, unquote(asked.path), asked.query) == (method, path, query)
            assert (asked.json() if asked.body else None) == body, target
    assert stub.connections == 1


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        mine = [name for name in set(dir(kind)) - set(dir(dict)) if not name.startswith("_")]
        found = {name: getattr(kind, name) for name in mine}
        return {
            n: list(signature(value).parameters) for n, value in found.items() if callable(value)
        }

    assert calls(Client) == calls(AsyncClient)
    assert calls(Task) == calls(AsyncTask)


def test_every_operation_is_among_those_tried() -> None:
    files = sorted(Path(__file__).parent.glob("test_client*.py"))
    source = "".join([path.read_text(encoding="utf-8") for path in files])
    names = [
        name
        for name, value in (
            *vars(Operations).items(),
            *vars(ScheduleOperations).items(),
            *vars(TreeOperations).items(),
            *vars(TemplateOperations).items(),
            *vars(TaskOperations).items(),
        )
        if isinstance(value, (operation, task_operation, listing))
    ]
    assert len(names) > 40
    assert [name for name in names if f".{name}(" not in source] == []


def test_a_task_has_the_verbs_of_its_client(connect: Connect) -> None:
    ended = {**TASK, "state": "succeeded", "attempt": 1}
    with Stub(sequence(Answer(201, TASK), Answer(200, ended))) as stub:
        with connect(stub.address, token="") as client:
            task = client.submit(["/bin/true"])
            assert not task.is_terminal
            assert (task.wait(5).state, task.refresh().is_terminal) == ("succeeded", True)
            assert task.cancel("enough")["state"] == "succeeded"
            list(task.output())
        assert [asked.path for asked in stub.asked][1:] == [
            "/v1/tasks/t-1/wait", "/v1/tasks/t-1", "/v1/tasks/t-1/cancel", "/v1/tasks/t-1",
            "/v1/tasks/t-1/attempts/1/output",
        ]  # fmt: skip


def test_an_empty_filter_is_no_filter(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(200, {}))) as stub,
        connect(stub.address, token="", timeout_seconds=1.0) as client,
        pytest.raises(ValueError, match="queue is empty"),
    ):
        client.cancel_many(queue="")
    assert stub.asked == []
