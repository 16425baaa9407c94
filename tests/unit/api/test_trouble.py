"""Trouble of the cluster: what surely did not happen, what may have, and when to come back."""

from __future__ import annotations

import pytest

from raftsched.api.routes import ROUTES, Route
from raftsched.peer.errors import (
    IndexNotReached,
    NoLeader,
    Overloaded,
    PeerError,
    PeerStopped,
    ReadTimeout,
    UnknownOutcome,
)
from tests.unit.api.harness import MUTATING, TASK, Api, body_of, filled, named

#: Trouble, and the status, code and certainty it is told with.
TROUBLE: list[tuple[PeerError, int, str, object]] = [
    (NoLeader("no leader for 3.2 s", leader="n2"), 503, "no-leader", False),
    (PeerStopped("this peer is stopping"), 503, "stopping", False),
    (Overloaded("20000 commands are under way", retry_after_seconds=7), 429, "overloaded", False),
    (UnknownOutcome("no outcome within 10.0 s"), 504, "outcome-unknown", "unknown"),
]
#: Reads of the replicated state.
READING = [
    route
    for route in ROUTES
    if route.method == "GET" and route.path.startswith(("/v1/tasks", "/v1/nodes"))
]


@pytest.mark.parametrize(("error", "status", "code", "applied"), TROUBLE, ids=lambda v: str(v)[:20])
async def test_every_route_that_writes_tells_what_is_certain(
    api: Api, error: PeerError, status: int, code: str, applied: object
) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    api.service.propose_trouble = error
    for route in MUTATING:
        answer = await api.ask(route.method, filled(route), body_of(route))
        problem = answer.problem(status, code)
        assert (problem["applied"], problem["retryable"]) == (applied, True), named(route)
        assert str(error) in problem["detail"]
        if status in (429, 503):
            assert int(answer.headers["Retry-After"]) >= 1
    assert (api.service.rows(), api.state.index) == (before, index)


async def test_overload_says_when_to_come_back_and_no_leader_says_who_may_lead(api: Api) -> None:
    api.service.propose_trouble = Overloaded("full", retry_after_seconds=7)
    assert (await api.post("/v1/tasks", TASK)).headers["Retry-After"] == "7"
    api.service.propose_trouble = NoLeader("gone", leader="n2")
    assert (await api.post("/v1/tasks", TASK)).json()["leader_hint"] == "n2"


async def test_unknown_outcome_repeated_with_its_key_takes_effect_once(api: Api) -> None:
    api.service.answer_trouble = UnknownOutcome("no outcome within 10.0 s")
    answer = await api.post("/v1/tasks", TASK, Idempotency_Key="k")
    answer.problem(504, "outcome-unknown")
    api.service.answer_trouble = None
    again = await api.post("/v1/tasks", TASK, Idempotency_Key="k")
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert len(api.state.tasks) == 1


async def test_dry_runs_and_what_is_wrong_anyway_need_no_leader(api: Api) -> None:
    api.service.lose_the_leader()
    assert (await api.post("/v1/tasks?dry_run=1", TASK)).status == 200
    (await api.post("/v1/tasks", {"command": []})).problem(422, "invalid")


@pytest.mark.parametrize("route", READING, ids=named)
async def test_reads_that_cannot_be_current_are_503_but_local_ones_answer(
    api: Api, route: Route
) -> None:
    await api.populate()
    api.service.lose_the_leader()
    api.service.read_trouble = ReadTimeout("no linearizable read: no quorum")
    answer = await api.get(filled(route))
    assert answer.problem(503, "no-leader")["retryable"] is True
    assert int(answer.headers["Retry-After"]) >= 1
    # One waits, and one is of tasks that were split.
    if not route.path.endswith(("/wait", "/results")):
        local = await api.get(filled(route) + "?consistency=local")
        assert local.status == 200
        assert local.headers["Raftsched-Known-Leader"] == ""


@pytest.mark.parametrize("query", ["?min_index=99", "?min_index=99&consistency=local"])
async def test_index_that_is_not_reached_is_not_taken_for_a_missing_leader(
    api: Api, query: str
) -> None:
    error = IndexNotReached("index 99 was not applied on n1 within 5.0 s")
    api.service.read_trouble = error
    problem = (await api.get("/v1/tasks" + query)).problem(503, "index-not-reached")
    assert (problem["detail"], problem["retryable"]) == (str(error), True)


async def test_what_needs_no_leader_answers_without_one(api: Api) -> None:
    await api.populate()
    api.service.lose_the_leader()
    api.service.read_trouble = ReadTimeout("no quorum")
    paths = ["/v1/cluster", "/v1/agent", "/v1/agent/config", "/v1/problems", "/v1/openapi.json"]
    for path in [*paths, "/health/live", "/metrics"]:
        assert (await api.get(path)).status == 200, path


@pytest.mark.parametrize("route", MUTATING, ids=named)
async def test_bug_is_a_500_that_tells_nothing_of_its_inside(
    api: Api, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    await api.populate()
    api.service.propose_trouble = RuntimeError("the secret of /etc/inside")
    answer = await api.ask(route.method, filled(route), body_of(route))
    problem = answer.problem(500, "internal")
    assert problem["applied"] == "unknown"
    assert b"secret" not in answer.body and b"Traceback" not in answer.body
    assert problem["request_id"] in caplog.text, "the log can be searched by it"
