"""Both clients against a server that fails in stated ways: what they try again, and say."""

from __future__ import annotations

import random
import threading
import time

import pytest

from raftsched.client import errors
from tests.ports import free_port
from tests.unit.client.both import Connect
from tests.unit.client.stub import TASK, Answer, Asked, Stub, keys, problem, sequence


def unused_address() -> str:
    return f"127.0.0.1:{free_port()}"


def test_unreachable_endpoint_is_passed_over(connect: Connect) -> None:
    with (
        Stub(sequence(Answer(201, TASK))) as stub,
        connect([unused_address(), stub.address], token="") as client,
    ):
        assert client.submit(["/bin/true"]).id == "t-1"
        client.submit(["/bin/true"])
    assert len(stub.asked) == 2


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
