"""Many tasks in one request: every line gets its own answer, or all share one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from raftsched.api import batch
from raftsched.core.model import Settings
from raftsched.peer.errors import NoLeader, UnknownOutcome
from tests.unit.api.fake_service import TOKEN
from tests.unit.api.harness import Api, check_problem

TRUE = {"command": ["true"]}


def made(api: Api) -> list[str]:
    return sorted(task.id for task in api.state.list_tasks())


async def test_lines_are_answered_in_their_order(api: Api) -> None:
    ids = ["c", "a", "b"]
    answer = await api.batch([{**TRUE, "id": task_id} for task_id in ids])
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert answer.lines() == [{"id": task_id, "status": 201} for task_id in ids]
    assert made(api) == ["a", "b", "c"]
    assert int(answer.headers["Raftsched-Index"]) == api.state.index


async def test_ids_are_made_where_none_is_given(api: Api) -> None:
    answer = await api.batch([TRUE] * 3)
    assert sorted(line["id"] for line in answer.lines()) == made(api)
    assert len(made(api)) == 3


async def test_bad_lines_are_named_and_the_good_ones_kept(api: Api) -> None:
    good = [{**TRUE, "id": f"good-{n}"} for n in range(3)]
    bad: list[Any] = [
        b'{"command": [',
        {"command": []},
        {**TRUE, "bogus": 1},
        {**TRUE, "id": "a b"},
    ]
    bad += [b"\xff", b"[" * 100_000, {**TRUE, "timeout": "x"}, {"command": ["x" * 70_000]}]
    answer = await api.batch([good[0], *bad[:4], good[1], *bad[4:], good[2]])
    assert answer.status == 200
    lines = answer.lines()
    assert [line.get("id") for line in lines] == [
        "good-0", *[None] * 4, "good-1", *[None] * 4, "good-2"
    ]  # fmt: skip
    problems = {line["line"]: line for line in lines if "code" in line}
    for problem in problems.values():
        check_problem(problem)
        assert problem["applied"] is False
    pointers = {at: p["errors"][0]["pointer"] for at, p in problems.items() if "errors" in p}
    found = {at: (p["status"], pointers.get(at)) for at, p in problems.items()}
    assert found == {
        1: (400, None), 2: (422, "/2/command"), 3: (422, "/3/bogus"), 4: (422, "/4/id"),
        6: (400, None), 7: (422, "/7"), 8: (422, "/8/timeout"), 9: (413, "/9/command"),
    }  # fmt: skip
    assert made(api) == ["good-0", "good-1", "good-2"]


async def test_line_of_another_namespace_is_refused_rather_than_stored_in_the_wrong_one(
    api: Api,
) -> None:
    for headers in ({}, {"Idempotency_Key": "k"}):
        answer = await api.batch([{**TRUE, "namespace": "team-a"}], **headers)
        assert answer.lines()[0]["errors"][0]["pointer"] == "/0/namespace"
    assert not api.service.proposed


@pytest.mark.parametrize("body", [b"", b"\n", b"\n \r\n\n"])
async def test_empty_batch_has_an_empty_answer(api: Api, body: bytes) -> None:
    answer = await api.ask("POST", "/v1/tasks:batch", data=body)
    assert (answer.status, answer.body) == (200, b"")
    assert not api.service.proposed


async def test_line_ends_of_windows_blank_lines_and_a_missing_last_end_are_fine(api: Api) -> None:
    line = json.dumps(TRUE).encode()
    answer = await api.ask("POST", "/v1/tasks:batch", data=line + b"\r\n\r\n" + line)
    assert [a["status"] for a in answer.lines()] == [201, 201]


@pytest.mark.parametrize("headers", [{}, {"Idempotency_Key": "k"}], ids=["no key", "key"])
async def test_document_is_one_line_and_a_line_is_one_document(
    api: Api, headers: dict[str, str]
) -> None:
    # As many documents as lines, if line ends were just white space.
    lines = [b'{"command":', b'["true"]} {"command":["true"]}', TRUE, b"{}{}", b'"x"', b"[]"]
    answer = await api.batch(lines, **headers)
    assert [line["status"] for line in answer.lines()] == [400, 400, 201, 400, 422, 422]
    assert len(made(api)) == 1


async def test_same_id_twice_is_answered_by_line_and_not_by_id(api: Api) -> None:
    await api.submit("old")
    mine = {**TRUE, "id": "mine"}
    other = {"command": ["false"], "id": "mine"}
    answer = await api.batch([mine, mine, other, {**TRUE, "id": "old"}])
    assert [line["status"] for line in answer.lines()] == [201, 200, 409, 200]
    assert answer.lines()[2]["code"] == "duplicate-id"
    shown = (await api.get("/v1/tasks/mine")).json()
    assert shown["command"] == ["true"]


@pytest.mark.parametrize(
    "bad", [b"{", {"command": []}, {"command": ["false"], "id": "old"}], ids=str
)
async def test_atomic_batch_changes_nothing_when_one_line_is_bad(api: Api, bad: object) -> None:
    await api.submit("old")
    before = api.service.rows()
    answer = await api.batch([TRUE, TRUE, bad, TRUE], "?atomic=1", Idempotency_Key="k")
    assert answer.headers["Content-Type"] == "application/problem+json"
    check_problem(answer.json())
    assert answer.status in (400, 409, 422) and answer.json()["applied"] is False
    assert api.service.rows() == before


async def test_atomic_batch_is_one_entry(api: Api) -> None:
    answer = await api.batch([TRUE] * batch.ATOMIC_TASKS_MAX, "?atomic=true")
    assert [line["status"] for line in answer.lines()] == [201] * batch.ATOMIC_TASKS_MAX
    assert (len(api.service.proposed), api.state.index) == (1, 1)


@pytest.mark.parametrize("end", [b"\n", b""])
async def test_atomic_batch_over_its_number_of_tasks_is_413(api: Api, end: bytes) -> None:
    line = json.dumps(TRUE).encode()
    data = b"\n".join([line] * (batch.ATOMIC_TASKS_MAX + 1)) + end
    answer = await api.ask("POST", "/v1/tasks:batch?atomic=1", data=data)
    assert str(batch.ATOMIC_TASKS_MAX) in answer.problem(413, "too-large")["detail"]
    assert not api.service.proposed


async def test_atomic_batch_that_no_entry_could_hold_is_413(api: Api) -> None:
    large = {"command": ["true"], "stdin": "x" * 60_000}
    answer = await api.batch([large] * 100, "?atomic=1")
    assert str(batch.ATOMIC_BYTES_MAX) in answer.problem(413, "too-large")["detail"]
    assert not api.service.proposed


@pytest.mark.parametrize("end", [b"\n", b""])
async def test_line_over_its_limit_is_413(api: Api, end: bytes) -> None:
    data = b'{"command":["true"]}' + b" " * batch.LINE_BYTES_MAX + end
    answer = await api.ask("POST", "/v1/tasks:batch", data=data)
    problem = answer.problem(413, "too-large")
    assert str(batch.LINE_BYTES_MAX) in problem["detail"] and problem["applied"] is False
    assert "line 0 " in problem["detail"], "as the field `line` of the other answers counts"
    assert not api.service.proposed


async def test_batch_over_its_limit_is_413(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BATCH_BYTES_MAX", 300_000)
    answer = await api.batch([TRUE] * 20_000, "?atomic=1")
    answer.problem(413, "too-large")
    assert not api.service.proposed


async def test_large_batch_goes_into_few_entries_in_order(api: Api) -> None:
    documents = [{**TRUE, "id": f"t{n}", "stdin": "x" * 200} for n in range(9_000)]
    answer = await api.batch(documents)
    assert [line["id"] for line in answer.lines()] == [d["id"] for d in documents]
    assert len(api.service.proposed) == 9_000 // batch.GROUP_TASKS_MAX
    assert len(api.state.tasks) == 9_000


async def test_bad_lines_of_a_later_group_carry_their_line_number(api: Api) -> None:
    answer = await api.batch([*[TRUE] * 2_500, b"{", TRUE])
    assert answer.lines()[2_500]["line"] == 2_500
    assert len(api.state.tasks) == 2_501


async def test_same_key_and_body_replays_every_line(api: Api) -> None:
    await api.submit("old")
    refused = {"command": ["false"], "id": "old"}
    lines = [TRUE, refused, b"{", b'{"x":' * 50_000, {**TRUE, "id": "mine"}]
    first = await api.batch(lines, Idempotency_Key="k")
    before = api.service.rows()
    again = await api.batch(lines, Idempotency_Key="k")
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [line["status"] for line in first.lines()] == [201, 409, 400, 422, 201]
    assert [line["status"] for line in again.lines()] == [200, 409, 400, 422, 200]
    assert [a.get("id") for a in first.lines()] == [a.get("id") for a in again.lines()]
    assert api.service.rows() == before


async def test_same_key_with_another_body_refuses_every_line(api: Api) -> None:
    await api.batch([TRUE], Idempotency_Key="k")
    before = api.service.rows()
    answer = await api.batch([{"command": ["false"]}, TRUE], Idempotency_Key="k")
    assert [line["code"] for line in answer.lines()] == ["idempotency-key-reused"] * 2
    atomic = await api.batch([{"command": ["false"]}], "?atomic=1", Idempotency_Key="k")
    atomic.problem(422, "idempotency-key-reused")
    assert api.service.rows() == before


async def test_key_of_a_batch_is_not_the_key_of_a_single_task(api: Api) -> None:
    single = await api.post("/v1/tasks", TRUE, Idempotency_Key="k")
    batch = await api.batch([{"command": ["false"]}], Idempotency_Key="k#0")
    assert (single.status, batch.lines()[0]["status"]) == (201, 201)
    # The very key, and another task: ids come of keys, and must not be the same.
    batch = await api.batch([{"command": ["false"]}, TRUE], Idempotency_Key="k")
    assert [line["status"] for line in batch.lines()] == [201, 201]
    assert len({single.json()["id"], *(line["id"] for line in batch.lines())}) == 3
    for key in ("k#0", "tasks:batch"):
        other = await api.post("/v1/tasks", {"command": ["env"]}, Idempotency_Key=key)
        assert other.status == 201


async def test_dry_run_answers_every_line_and_proposes_nothing(api: Api) -> None:
    answer = await api.batch([TRUE, {"command": []}, TRUE], "?dry_run=1")
    good, bad, last = answer.lines()
    assert (good, last) == ({"line": 0, "valid": True}, {"line": 2, "valid": True})
    check_problem(bad)
    atomic = await api.batch([TRUE, {"command": []}], "?dry_run=1&atomic=1")
    assert atomic.pointer(422, "invalid") == "/1/command"
    assert not api.service.proposed


async def test_full_cluster_refuses_the_lines_and_says_so(api: Api) -> None:
    api.state.settings = Settings(tasks_open_max=1)
    answer = await api.batch([TRUE, TRUE])
    assert [line["code"] for line in answer.lines()] == ["overloaded"] * 2
    answer = await api.batch([TRUE, TRUE], "?atomic=1")
    answer.problem(429, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1
    assert made(api) == []


async def test_batch_that_failed_whole_was_surely_not_applied(api: Api) -> None:
    api.service.propose_trouble = NoLeader("no leader")
    answer = await api.batch([TRUE] * 7_000)
    assert answer.problem(503, "no-leader")["applied"] is False
    assert made(api) == []


@pytest.mark.parametrize("trouble", [NoLeader("no leader"), UnknownOutcome("late")])
@pytest.mark.parametrize("well", [1, 3, 5])
async def test_batch_that_failed_in_its_middle_does_not_claim_to_have_done_nothing(
    api: Api, trouble: Exception, well: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "GROUP_TASKS_MAX", 10)
    api.service.propose_trouble = trouble
    api.service.proposals_before_trouble = well
    documents = [{**TRUE, "name": str(n)} for n in range(61)]
    answer = await api.batch(documents, Idempotency_Key="k")
    assert answer.problem(504, "outcome-unknown")["applied"] == "unknown"
    assert len(made(api)) == well * 10
    api.service.propose_trouble = None
    again = await api.batch(documents, Idempotency_Key="k")
    assert [line["status"] for line in again.lines()].count(201) == 61 - well * 10
    assert "Idempotency-Replayed" not in again.headers
    assert len(made(api)) == 61


async def test_limit_broken_after_some_lines_were_stored_does_not_claim_otherwise(
    api: Api,
) -> None:
    answer = await api.batch([*[TRUE] * 2_500, b" " + b"x" * batch.LINE_BYTES_MAX])
    assert answer.problem(413, "too-large")["applied"] == "unknown"
    assert len(made(api)) == 2_500 // batch.GROUP_TASKS_MAX * batch.GROUP_TASKS_MAX


async def test_batch_cut_off_in_its_middle_stores_no_half_line(api: Api) -> None:
    head = (
        f"POST /v1/tasks:batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n"
    )
    with pytest.raises(TimeoutError):
        await api.raw(head.encode() + b'{"command":["true"]}\n{"com', 0.1)
    assert not api.service.proposed
