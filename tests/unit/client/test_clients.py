"""Both clients against a server that fails in stated ways."""

from __future__ import annotations

import json
import random
import threading
import time
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
from tests.ports import free_port
from tests.unit.client.both import Connect
from tests.unit.client.stub import Answer, Asked, Stub, problem, sequence

TASK = {"id": "t-1", "state": "queued", "attempt": 0}


def unused_address() -> str:
    return f"127.0.0.1:{free_port()}"


def keys(stub: Stub) -> list[str]:
    return [asked.headers["idempotency-key"] for asked in stub.asked]


def test_submit_sends_body_key_and_token_and_returns_the_task(connect: Connect) -> None:
    with Stub(sequence(Answer(201, TASK))) as stub, connect(stub.address, token="secret") as client:
        task = client.submit(["/bin/true"], name="x")
    assert task.id == "t-1"
    asked = stub.asked[0]
    assert asked.json() == {"command": ["/bin/true"], "name": "x"}
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["content-type"] == "application/json"
    assert len(asked.headers["idempotency-key"]) == 32


def test_unreachable_endpoint_is_passed_over(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(201, TASK))) as stub,
        connect([unused_address(), stub.address], token="") as client,
    ):
        assert client.submit(["/bin/true"]).id == "t-1"
        client.submit(["/bin/true"])
    assert len(stub.asked) == 2


def test_connections_are_kept(connect: Connect) -> None:
    with Stub(sequence(Answer(200, TASK))) as stub, connect(stub.address, token="") as client:
        for _ in range(5):
            client.get("t-1")
    assert stub.connections == 1


@pytest.mark.parametrize(
    "trouble",
    [
        problem(503, "no-leader"),
        problem(504, "outcome-unknown"),
        problem(429, "overloaded"),
        Answer(hang_up=True),
    ],
    ids=["503", "504", "429", "hang-up"],
)
def test_trouble_is_retried_with_the_same_key(connect: Connect, trouble: Answer) -> None:
    respond = sequence(trouble, trouble, Answer(201, TASK))
    with Stub(respond) as stub, connect(stub.address, token="") as client:
        assert client.submit(["/bin/true"]).id == "t-1"
    assert len(stub.asked) == 3
    assert len(set(keys(stub))) == 1


def test_another_endpoint_is_asked_before_anybody_waits(connect: Connect) -> None:
    busy = sequence(problem(503, "no-leader", Retry_After="30"))
    with Stub(busy) as first, Stub(sequence(Answer(201, TASK))) as second:
        begin = time.monotonic()
        with connect([first.address, second.address], token="") as client:
            client.submit(["/bin/true"])
        assert time.monotonic() - begin < 1.0
        assert keys(first) == keys(second)


def test_retry_after_is_waited_for(connect: Connect) -> None:
    respond = sequence(problem(429, "overloaded", Retry_After="1"), Answer(201, TASK))
    with Stub(respond) as stub, connect(stub.address, token="") as client:
        begin = time.monotonic()
        client.submit(["/bin/true"])
        assert 1.0 <= time.monotonic() - begin < 2.0


def test_retry_after_beyond_the_deadline_gives_up_at_once(connect: Connect) -> None:
    respond = sequence(problem(503, "no-leader", "nobody leads", Retry_After="30"))
    with Stub(respond) as stub, connect(stub.address, token="", timeout_seconds=2) as client:
        begin = time.monotonic()
        with pytest.raises(errors.NoLeader, match="nobody leads") as caught:
            client.submit(["/bin/true"])
    assert caught.value.applied is False
    assert time.monotonic() - begin < 1.0


def test_unavailable_wins_over_refused_connections(connect: Connect) -> None:
    respond = sequence(problem(503, "no-leader", "no leader for 1 s"))
    silent = unused_address()
    with (
        Stub(respond) as stub,
        connect([stub.address, silent], token="", timeout_seconds=0.3) as client,
        pytest.raises(errors.NoLeader) as caught,
    ):
        client.submit(["/bin/true"])
    assert str(caught.value).startswith("no leader for 1 s (tried for 0.")
    assert str(caught.value).endswith(f"1 of 2 peers do not answer: http://{silent})")


def test_a_bare_name_gets_the_title_of_its_problem() -> None:
    said = errors.problem_error(404, {"title": "No such task", "detail": "nope"})
    assert str(said) == "No such task: nope"
    said = errors.problem_error(404, {"title": "No such task", "detail": "there is no nope"})
    assert str(said) == "there is no nope"


def test_pauses_have_full_jitter(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    respond = sequence(*[problem(503, "no-leader")] * 4, Answer(201, TASK))
    with Stub(respond) as stub, connect(stub.address, token="") as client:
        client.submit(["/bin/true"])
    assert drawn == [(0.0, 0.05), (0.0, 0.1), (0.0, 0.2), (0.0, 0.4)]


def test_nobody_there_is_surely_not_applied_and_soon_said(connect: Connect) -> None:
    with connect(unused_address(), token="", unreachable_seconds=0.2) as client:
        begin = time.monotonic()
        with pytest.raises(errors.ConnectionFailed, match="no peer answered") as caught:
            client.submit(["/bin/true"])
    assert caught.value.applied is False
    assert time.monotonic() - begin < 2.0


def test_unknown_then_unavailable_stays_unknown(connect: Connect) -> None:
    respond = sequence(problem(504, "outcome-unknown"), problem(503, "no-leader", Retry_After="9"))
    with (
        Stub(respond) as stub,
        connect(stub.address, token="", timeout_seconds=1) as client,
        pytest.raises(errors.OutcomeUnknown) as caught,
    ):
        client.submit(["/bin/true"], idempotency_key="mine")
    assert caught.value.applied == "unknown"
    assert caught.value.idempotency_key == "mine"


def test_a_hang_up_on_a_read_is_not_an_unknown_outcome(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(hang_up=True))) as stub,
        connect(stub.address, token="", timeout_seconds=0.3) as client,
        pytest.raises(errors.ConnectionFailed),
    ):
        client.get("t-1")


def test_leader_transfer_is_not_repeated_when_unknown(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(hang_up=True))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.OutcomeUnknown),
    ):
        client.transfer_leader("n2")
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "unauthorized", errors.Unauthorized),
        (403, "forbidden", errors.Forbidden),
        (404, "unknown-task", errors.NotFound),
        (409, "task-terminal", errors.TaskTerminal),
        (409, "task-not-terminal", errors.TaskNotTerminal),
        (409, "something-new", errors.Conflict),
        (410, "output-gone", errors.OutputGone),
        (413, "too-large", errors.InvalidRequest),
        (422, "idempotency-key-reused", errors.KeyReused),
        (422, "invalid", errors.InvalidRequest),
        (500, "internal", errors.ServerFault),
    ],
)
def test_problem_becomes_its_exception(
    connect: Connect, status: int, code: str, kind: type[errors.ProblemError]
) -> None:
    with (
        Stub(sequence(problem(status, code, "what and why"))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(kind) as caught,
    ):
        client.cancel("t-1")
    assert (caught.value.status, caught.value.code) == (status, code)
    assert str(caught.value) == "what and why"
    assert len(stub.asked) == 1


def test_fields_that_were_refused_are_named(connect: Connect) -> None:
    body = {"code": "invalid", "detail": "2 fields", "errors": [{"pointer": "/x", "message": "no"}]}
    with (
        Stub(sequence(Answer(422, body))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.InvalidRequest, match=r"2 fields \(/x: no\)"),
    ):
        client.submit(["/bin/true"])


def test_answer_of_another_server_is_said_to_be_that(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(200, b"<html>"))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.BadReply, match="not JSON"),
    ):
        client.get("t-1")


def test_later_reads_carry_the_highest_index(connect: Connect) -> None:
    respond = sequence(Answer(201, TASK, {"Raftsched-Index": "41"}), Answer(200, TASK))
    with Stub(respond) as stub, connect(stub.address, token="") as client:
        client.submit(["/bin/true"])
        client.get("t-1")
    assert "min_index" not in stub.asked[0].query
    assert stub.asked[1].query["min_index"] == "41"


def test_watch_waits_for_a_change_after_the_task_not_after_all_that_was_seen(
    connect: Connect,
) -> None:
    answer = Answer(200, {**TASK, "modify_index": 8}, {"Raftsched-Index": "20"})
    with Stub(sequence(answer)) as stub, connect(stub.address, token="") as client:
        client.watch_task(client.get("t-1"), 0.5)
    assert stub.asked[1].query == {"index": "8", "min_index": "20", "wait": "0.500s"}


def test_list_goes_through_all_pages(connect: Connect) -> None:
    pages = [
        {"items": [{"id": "a"}, {"id": "b"}], "next_cursor": "c1"},
        {"items": [{"id": "c"}], "next_cursor": None},
    ]
    with (
        Stub(sequence(*(Answer(200, p) for p in pages))) as stub,
        connect(stub.address, token="") as client,
    ):
        assert [t.id for t in client.list(page=2, state="running")] == ["a", "b", "c"]
    assert stub.asked[0].query == {"limit": "2", "state": "running"}
    assert stub.asked[1].query == {"limit": "2", "state": "running", "cursor": "c1"}


def test_list_stops_at_its_limit(connect: Connect) -> None:
    page = {"items": [{"id": "a"}, {"id": "b"}], "next_cursor": "more"}
    with Stub(sequence(Answer(200, page))) as stub, connect(stub.address, token="") as client:
        assert len(list(client.list(limit=2))) == 2
    assert len(stub.asked) == 1


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


def test_cancel_repeated_after_an_unknown_outcome_reports_the_cancel(connect: Connect) -> None:
    respond = sequence(
        Answer(hang_up=True),
        problem(409, "task-terminal"),
        Answer(200, {"id": "t-1", "state": "cancelled"}),
    )
    with Stub(respond) as stub, connect(stub.address, token="") as client:
        assert client.cancel("t-1").state == "cancelled"


def test_delete_repeated_after_an_unknown_outcome_is_done(connect: Connect) -> None:
    with (
        Stub(sequence(problem(504, "outcome-unknown"), problem(404, "unknown-task"))) as stub,
        connect(stub.address, token="") as client,
    ):
        client.delete("t-1")
    assert [asked.method for asked in stub.asked] == ["DELETE", "DELETE"]


def test_delete_of_what_never_was_is_not_found(connect: Connect) -> None:
    with (
        Stub(sequence(problem(404, "unknown-task"))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.NotFound),
    ):
        client.delete("t-1")


def test_wait_asks_until_the_end(connect: Connect) -> None:
    ended = {**TASK, "state": "succeeded"}
    with (
        Stub(sequence(Answer(200, TASK), Answer(200, ended))) as stub,
        connect(stub.address, token="") as client,
    ):
        assert client.wait("t-1", 5).state == "succeeded"
    assert stub.asked[0].path == "/v1/tasks/t-1/wait"


def test_wait_in_vain_says_so(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(200, TASK))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.WaitTimeout, match="still queued"),
    ):
        client.wait("t-1", 0.05)


def test_output_of_the_latest_attempt(connect: Connect) -> None:
    respond = sequence(Answer(200, {**TASK, "attempt": 2}), Answer(200, b"hello\n"))
    with Stub(respond) as stub, connect(stub.address, token="") as client:
        assert b"".join(client.output("t-1")) == b"hello\n"
    assert stub.asked[1].path == "/v1/tasks/t-1/attempts/2/output"


def test_result_is_the_value_or_its_json(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(200, b'{"a": [1.50]}'))) as stub,
        connect(stub.address, token="") as client,
    ):
        assert client.result("t-1") == {"a": [1.5]}
        assert client.result_json("t-1") == b'{"a": [1.50]}'


def test_no_result_is_an_error_of_its_own(connect: Connect) -> None:
    why = "task t-1 is queued and has not run"
    with (
        Stub(sequence(problem(404, "no-result", why))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.NoResult, match=why) as caught,
    ):
        client.result("t-1")
    assert isinstance(caught.value, errors.NotFound)
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("document", "value", "asked"),
    [
        ({"result": [1]}, [1], []),
        ({"result": None}, None, []),
        ({"result": None, "result_bytes": 7, "attempt": 3}, "large",
         ["/v1/tasks/t-1/attempts/3/result"]),
    ],
)  # fmt: skip
def test_result_of_a_task_is_fetched_only_if_its_document_has_it_not(
    connect: Connect, document: dict[str, Any], value: Any, asked: list[str]
) -> None:
    answers = sequence(Answer(200, {**TASK, **document}), Answer(200, b'"large"'))
    with Stub(answers) as stub, connect(stub.address, token="") as client:
        assert client.get("t-1").result() == value
    assert [each.path for each in stub.asked][1:] == asked


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
    source = Path(__file__).read_text(encoding="utf-8")
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


def test_a_followed_output_goes_on_where_it_broke(connect: Connect) -> None:
    respond = sequence(
        Answer(200, {**TASK, "attempt": 1}),
        Answer(200, b"hel", promised=9),
        Answer(200, b"lo\n"),
    )
    with Stub(respond) as stub, connect(stub.address, token="") as client:
        assert b"".join(client.output("t-1", follow=True)) == b"hello\n"
    assert [asked.query.get("offset") for asked in stub.asked] == [None, None, "3"]


def test_an_output_that_is_not_followed_says_that_it_broke(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(200, b"hel", promised=9))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.ConnectionFailed, match="broke off"),
    ):
        list(client.output("t-1", 1))


def test_a_tail_without_its_place_is_not_asked_for_again(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(200, b"hel", promised=9))) as stub,
        connect(stub.address, token="") as client,
        pytest.raises(errors.ConnectionFailed),
    ):
        list(client.output("t-1", 1, follow=True, tail=3))
    assert len(stub.asked) == 1


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


def test_an_answer_that_breaks_off_is_an_unknown_outcome(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(201, b'{"id"', promised=50))) as stub,
        connect(stub.address, token="", timeout_seconds=1.0) as client,
        pytest.raises(errors.OutcomeUnknown, match="middle of its answer") as caught,
    ):
        client.submit(["/bin/true"], idempotency_key="mine")
    assert caught.value.idempotency_key == "mine"


def test_a_change_of_many_may_take_longer_than_a_call(connect: Connect) -> None:
    done = threading.Event()

    def respond(_: Asked) -> Answer:
        done.wait(5)
        return Answer(200, {"changed": 9})

    with Stub(respond) as stub, connect(stub.address, token="", timeout_seconds=0.1) as client:
        threading.Timer(0.2, done.set).start()
        assert client.pause_many(queue="q") == {"changed": 9}
        assert len(stub.asked) == 1


def test_an_answer_that_breaks_off_is_asked_for_again(connect: Connect) -> None:
    answers = sequence(Answer(201, b'{"id"', promised=50), Answer(201, TASK))
    with Stub(answers) as stub, connect(stub.address, token="", timeout_seconds=1.0) as client:
        assert client.submit(["/bin/true"]).id == TASK["id"]
        assert len({asked.headers["idempotency-key"] for asked in stub.asked}) == 1
        assert len(stub.asked) == 2


def test_an_empty_filter_is_no_filter(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(200, {}))) as stub,
        connect(stub.address, token="", timeout_seconds=1.0) as client,
        pytest.raises(ValueError, match="queue is empty"),
    ):
        client.cancel_many(queue="")
    assert stub.asked == []
