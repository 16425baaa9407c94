"""What both clients read: tasks, lists, outputs and results."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.client import errors
from tests.unit.client.both import Connect
from tests.unit.client.stub import TASK, Answer, Stub, problem, sequence


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
