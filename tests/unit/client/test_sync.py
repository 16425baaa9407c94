"""The client against a server that fails in stated ways."""

from __future__ import annotations

import json
import random
import socket
import time
from typing import Any

import pytest

from raftsched.client import errors
from raftsched.client.sync import BATCH_TASKS_MAX, Client
from tests.unit.client.stub import Answer, Asked, Stub, problem, sequence

TASK = {"id": "t-1", "state": "queued", "attempt": 0}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No environment or context of the machine takes part."""
    for name in ("RAFTSCHED_ADDR", "RAFTSCHED_TOKEN", "RAFTSCHED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def unused_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def keys(stub: Stub) -> list[str]:
    return [asked.headers["idempotency-key"] for asked in stub.asked]


def test_submit_sends_body_key_and_token_and_returns_the_task() -> None:
    with Stub(sequence(Answer(201, TASK))) as stub, Client(stub.address, token="secret") as client:
        task = client.submit(["/bin/true"], name="x")
    assert task.id == "t-1"
    asked = stub.asked[0]
    assert asked.json() == {"command": ["/bin/true"], "name": "x"}
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["content-type"] == "application/json"
    assert len(asked.headers["idempotency-key"]) == 32


def test_unreachable_endpoint_is_passed_over() -> None:
    with (
        Stub(sequence(Answer(201, TASK))) as stub,
        Client([unused_address(), stub.address], token="") as client,
    ):
        assert client.submit(["/bin/true"]).id == "t-1"
        client.submit(["/bin/true"])
    assert len(stub.asked) == 2


def test_connections_are_kept() -> None:
    with Stub(sequence(Answer(200, TASK))) as stub, Client(stub.address, token="") as client:
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
def test_trouble_is_retried_with_the_same_key(trouble: Answer) -> None:
    respond = sequence(trouble, trouble, Answer(201, TASK))
    with Stub(respond) as stub, Client(stub.address, token="") as client:
        assert client.submit(["/bin/true"]).id == "t-1"
    assert len(stub.asked) == 3
    assert len(set(keys(stub))) == 1


def test_another_endpoint_is_asked_before_anybody_waits() -> None:
    busy = sequence(problem(503, "no-leader", Retry_After="30"))
    with Stub(busy) as first, Stub(sequence(Answer(201, TASK))) as second:
        begin = time.monotonic()
        with Client([first.address, second.address], token="") as client:
            client.submit(["/bin/true"])
        assert time.monotonic() - begin < 1.0
        assert keys(first) == keys(second)


def test_retry_after_is_waited_for() -> None:
    respond = sequence(problem(429, "overloaded", Retry_After="1"), Answer(201, TASK))
    with Stub(respond) as stub, Client(stub.address, token="") as client:
        begin = time.monotonic()
        client.submit(["/bin/true"])
        assert 1.0 <= time.monotonic() - begin < 2.0


def test_retry_after_beyond_the_deadline_gives_up_at_once() -> None:
    respond = sequence(problem(503, "no-leader", "nobody leads", Retry_After="30"))
    with Stub(respond) as stub, Client(stub.address, token="", timeout_seconds=2) as client:
        begin = time.monotonic()
        with pytest.raises(errors.NoLeader, match="nobody leads") as caught:
            client.submit(["/bin/true"])
    assert caught.value.applied is False
    assert time.monotonic() - begin < 1.0


def test_unavailable_wins_over_refused_connections() -> None:
    respond = sequence(problem(503, "no-leader", "no leader for 1 s"))
    silent = unused_address()
    with (
        Stub(respond) as stub,
        Client([stub.address, silent], token="", timeout_seconds=0.3) as client,
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


def test_pauses_have_full_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    respond = sequence(*[problem(503, "no-leader")] * 4, Answer(201, TASK))
    with Stub(respond) as stub, Client(stub.address, token="") as client:
        client.submit(["/bin/true"])
    assert drawn == [(0.0, 0.05), (0.0, 0.1), (0.0, 0.2), (0.0, 0.4)]


def test_nobody_there_is_surely_not_applied_and_soon_said() -> None:
    with Client(unused_address(), token="", unreachable_seconds=0.2) as client:
        begin = time.monotonic()
        with pytest.raises(errors.ConnectionFailed, match="no peer answered") as caught:
            client.submit(["/bin/true"])
    assert caught.value.applied is False
    assert time.monotonic() - begin < 2.0


def test_unknown_then_unavailable_stays_unknown() -> None:
    respond = sequence(problem(504, "outcome-unknown"), problem(503, "no-leader", Retry_After="9"))
    with (
        Stub(respond) as stub,
        Client(stub.address, token="", timeout_seconds=1) as client,
        pytest.raises(errors.OutcomeUnknown) as caught,
    ):
        client.submit(["/bin/true"], idempotency_key="mine")
    assert caught.value.applied == "unknown"
    assert caught.value.idempotency_key == "mine"


def test_a_hang_up_on_a_read_is_not_an_unknown_outcome() -> None:
    with (
        Stub(sequence(Answer(hang_up=True))) as stub,
        Client(stub.address, token="", timeout_seconds=0.3) as client,
        pytest.raises(errors.ConnectionFailed),
    ):
        client.get("t-1")


def test_leader_transfer_is_not_repeated_when_unknown() -> None:
    with (
        Stub(sequence(Answer(hang_up=True))) as stub,
        Client(stub.address, token="") as client,
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
    status: int, code: str, kind: type[errors.ProblemError]
) -> None:
    with (
        Stub(sequence(problem(status, code, "what and why"))) as stub,
        Client(stub.address, token="") as client,
        pytest.raises(kind) as caught,
    ):
        client.cancel("t-1")
    assert (caught.value.status, caught.value.code) == (status, code)
    assert str(caught.value) == "what and why"
    assert len(stub.asked) == 1


def test_fields_that_were_refused_are_named() -> None:
    body = {"code": "invalid", "detail": "2 fields", "errors": [{"pointer": "/x", "message": "no"}]}
    with (
        Stub(sequence(Answer(422, body))) as stub,
        Client(stub.address, token="") as client,
        pytest.raises(errors.InvalidRequest, match=r"2 fields \(/x: no\)"),
    ):
        client.submit(["/bin/true"])


def test_answer_of_another_server_is_said_to_be_that() -> None:
    with (
        Stub(sequence(Answer(200, b"<html>"))) as stub,
        Client(stub.address, token="") as client,
        pytest.raises(errors.BadReply, match="not JSON"),
    ):
        client.get("t-1")


def test_later_reads_carry_the_highest_index() -> None:
    respond = sequence(Answer(201, TASK, {"Raftsched-Index": "41"}), Answer(200, TASK))
    with Stub(respond) as stub, Client(stub.address, token="") as client:
        client.submit(["/bin/true"])
        client.get("t-1")
    assert "min_index" not in stub.asked[0].query
    assert stub.asked[1].query["min_index"] == "41"


def test_watch_waits_for_a_change_after_the_task_not_after_all_that_was_seen() -> None:
    answer = Answer(200, {**TASK, "modify_index": 8}, {"Raftsched-Index": "20"})
    with Stub(sequence(answer)) as stub, Client(stub.address, token="") as client:
        client.watch_task(client.get("t-1"), 0.5)
    assert stub.asked[1].query == {"index": "8", "min_index": "20", "wait": "0.500s"}


def test_list_goes_through_all_pages() -> None:
    pages = [
        {"items": [{"id": "a"}, {"id": "b"}], "next_cursor": "c1"},
        {"items": [{"id": "c"}], "next_cursor": None},
    ]
    with (
        Stub(sequence(*(Answer(200, p) for p in pages))) as stub,
        Client(stub.address, token="") as client,
    ):
        assert [t.id for t in client.list(page=2, state="running")] == ["a", "b", "c"]
    assert stub.asked[0].query == {"limit": "2", "state": "running"}
    assert stub.asked[1].query == {"limit": "2", "state": "running", "cursor": "c1"}


def test_list_stops_at_its_limit() -> None:
    page = {"items": [{"id": "a"}, {"id": "b"}], "next_cursor": "more"}
    with Stub(sequence(Answer(200, page))) as stub, Client(stub.address, token="") as client:
        assert len(list(client.list(limit=2))) == 2
    assert len(stub.asked) == 1


def created(asked: Asked) -> Answer:
    lines = asked.body.splitlines()
    names = [json.loads(line)["name"] for line in lines]
    return Answer(200, b"".join(json.dumps({"id": n}).encode() + b"\n" for n in names))


def test_batch_is_cut_into_requests_with_keys_of_their_own() -> None:
    count = BATCH_TASKS_MAX + 3
    seen: list[int] = []
    with Stub(created) as stub, Client(stub.address, token="") as client:
        result = client.submit_batch(
            ({"name": str(n)} for n in range(count)), idempotency_key="k", progress=seen.append
        )
    assert result.ids == [str(n) for n in range(count)]
    assert keys(stub) == ["k-0", "k-1"]
    assert seen == [BATCH_TASKS_MAX, count]
    assert stub.asked[0].headers["content-type"] == "application/x-ndjson"


def test_refused_lines_of_a_batch_keep_their_place() -> None:
    body = b'{"id": "a"}\n{"code": "invalid", "detail": "no"}\n{"id": "c"}\n'
    with Stub(sequence(Answer(200, body))) as stub, Client(stub.address, token="") as client:
        result = client.submit_batch([{}, {}, {}])
    assert result.ids == ["a", None, "c"]
    assert result.refused == [(1, {"code": "invalid", "detail": "no"})]
    assert result.created == 2


def test_batch_answered_in_part_is_not_taken_for_whole() -> None:
    with (
        Stub(sequence(Answer(200, b'{"id": "a"}\n'))) as stub,
        Client(stub.address, token="") as client,
        pytest.raises(errors.BadReply, match="1 of 2"),
    ):
        client.submit_batch([{}, {}])


def test_dry_run_of_a_batch_counts_what_would_be_accepted() -> None:
    body = b'{"line": 0, "valid": true}\n{"line": 1, "code": "invalid"}\n'
    with Stub(sequence(Answer(200, body))) as stub, Client(stub.address, token="") as client:
        result = client.submit_batch([{}, {}], dry_run=True)
    assert stub.asked[0].query == {"dry_run": "1"}
    assert (result.ids, result.created, result.accepted) == ([None, None], 0, 1)


def test_cancel_repeated_after_an_unknown_outcome_reports_the_cancel() -> None:
    respond = sequence(
        Answer(hang_up=True),
        problem(409, "task-terminal"),
        Answer(200, {"id": "t-1", "state": "cancelled"}),
    )
    with Stub(respond) as stub, Client(stub.address, token="") as client:
        assert client.cancel("t-1").state == "cancelled"


def test_delete_repeated_after_an_unknown_outcome_is_done() -> None:
    with (
        Stub(sequence(problem(504, "outcome-unknown"), problem(404, "unknown-task"))) as stub,
        Client(stub.address, token="") as client,
    ):
        client.delete("t-1")
    assert [asked.method for asked in stub.asked] == ["DELETE", "DELETE"]


def test_delete_of_what_never_was_is_not_found() -> None:
    with (
        Stub(sequence(problem(404, "unknown-task"))) as stub,
        Client(stub.address, token="") as client,
        pytest.raises(errors.NotFound),
    ):
        client.delete("t-1")


def test_wait_asks_until_the_end() -> None:
    ended = {**TASK, "state": "succeeded"}
    with (
        Stub(sequence(Answer(200, TASK), Answer(200, ended))) as stub,
        Client(stub.address, token="") as client,
    ):
        assert client.wait("t-1", 5).state == "succeeded"
    assert stub.asked[0].path == "/v1/tasks/t-1/wait"


def test_wait_in_vain_says_so() -> None:
    with (
        Stub(sequence(Answer(200, TASK))) as stub,
        Client(stub.address, token="") as client,
        pytest.raises(errors.WaitTimeout, match="still queued"),
    ):
        client.wait("t-1", 0.05)


def test_output_of_the_latest_attempt() -> None:
    respond = sequence(Answer(200, {**TASK, "attempt": 2}), Answer(200, b"hello\n"))
    with Stub(respond) as stub, Client(stub.address, token="") as client:
        assert b"".join(client.output("t-1")) == b"hello\n"
    assert stub.asked[1].path == "/v1/tasks/t-1/attempts/2/output"


def test_ids_are_quoted() -> None:
    with Stub(sequence(Answer(200, TASK))) as stub, Client(stub.address, token="") as client:
        client.get("../nodes?x")
    assert stub.asked[0].path == "/v1/tasks/..%2Fnodes%3Fx"
