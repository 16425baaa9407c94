"""What load balancers, dashboards and tools read: health, metrics, problems and OpenAPI."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from raftsched.api.problems import CATALOGUE
from raftsched.api.routes import ROUTES
from raftsched.core.outcomes import Reason
from raftsched.peer.readiness import CONTACT_MS_MAX, STALE_MS_MAX
from raftsched.raft.log import Role
from tests.unit.api.harness import Api, body_of, filled


async def test_live_as_long_as_it_answers(api: Api) -> None:
    api.service.lose_the_leader()
    api.service.is_draining = True
    assert (await api.get("/health/live")).json() == {"live": True}


async def test_ready_when_its_node_is_registered_and_a_leader_is_heard(api: Api) -> None:
    answer = await api.get("/health/ready")
    assert "not registered" in answer.problem(503, "no-leader")["detail"]
    api.service.add_node("n1")
    assert (await api.get("/health/ready")).json() == {"ready": True}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"leader": None}, "no leader"),
        ({"is_current": False}, "not caught up"),
        ({"leader": "n2", "last_contact_ms": CONTACT_MS_MAX + 1}, "no word from the leader"),
        ({"leader": "n2", "last_contact_ms": None}, "no word from the leader"),
        ({"last_contact_ms": CONTACT_MS_MAX + 1}, "no word from a majority"),
        ({"leader": "n2"}, "not caught up yet with what the leader has committed"),
        ({"leader": "n2", "stale_ms": STALE_MS_MAX + 1}, "committed 2.0 s ago"),
        ({"leader": "n2", "stale_ms": 5, "is_installing": True}, "a snapshot of it is being"),
    ],
)
async def test_not_ready_says_why(api: Api, changes: dict[str, Any], why: str) -> None:
    api.service.add_node("n1")
    api.service.current = msgspec.structs.replace(api.service.current, **changes)
    answer = await api.get("/health/ready")
    assert why in answer.problem(503, "no-leader")["detail"]
    assert int(answer.headers["Retry-After"]) >= 1


async def test_follower_is_ready_whose_state_is_new(api: Api) -> None:
    api.service.add_node("n1")
    now = api.service.current
    for stale_ms in (0, STALE_MS_MAX):
        api.service.current = msgspec.structs.replace(now, leader="n2", stale_ms=stale_ms)
        assert (await api.get("/health/ready")).json() == {"ready": True}


async def test_not_ready_while_it_stops(api: Api) -> None:
    api.service.add_node("n1")
    api.service.is_draining = True
    assert "stopping" in (await api.get("/health/ready")).problem(503, "no-leader")["detail"]


async def test_only_the_leader_of_the_present_term_leads(api: Api) -> None:
    assert (await api.get("/health/leader")).json() == {"leader": True}
    now = api.service.current
    api.service.current = msgspec.structs.replace(now, leader="n2", role=Role.FOLLOWER)
    answer = await api.get("/health/leader")
    assert answer.problem(503, "no-leader")["leader_hint"] == "n2"
    api.service.current = msgspec.structs.replace(now, is_current=False)
    (await api.get("/health/leader")).problem(503, "no-leader")


async def test_metrics_are_prometheus_text(api: Api) -> None:
    api.service.numbers = {"raft_term": 3.0, "tasks_queued": 2.0, "entries_applied_total": 7.0}
    answer = await api.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.body.decode())
    samples = {s.name: s.value for family in families for s in family.samples}
    assert samples == {
        "raftsched_raft_term": 3.0,
        "raftsched_tasks_queued": 2.0,
        "raftsched_entries_applied_total": 7.0,
    }


async def test_every_problem_is_explained_at_its_type(api: Api) -> None:
    items = (await api.get("/v1/problems")).json()["items"]
    assert {item["code"] for item in items} == set(CATALOGUE)
    for item in items:
        assert (await api.get(f"/v1/problems/{item['code']}")).json() == item
        assert set(item) == {"code", "status", "title", "applied", "retryable"}
        assert (item["applied"] == "unknown") == (item["status"] in (500, 504)), item
    (await api.get("/v1/problems/none")).problem(404, "not-found")


def test_what_users_may_be_refused_for_has_a_problem_of_its_own() -> None:
    theirs = {
        Reason.UNKNOWN_TASK, Reason.UNKNOWN_NODE, Reason.DUPLICATE_ID, Reason.KEY_REUSED,
        Reason.KEYS_FULL, Reason.OVERLOADED, Reason.TASK_TERMINAL, Reason.TASK_NOT_TERMINAL,
    }  # fmt: skip
    assert {str(reason) for reason in theirs} <= set(CATALOGUE)


async def test_openapi_has_every_route_and_nothing_else(api: Api) -> None:
    document = (await api.get("/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    found = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
    assert found == {(route.method, route.path) for route in ROUTES}


async def test_openapi_says_of_each_route_what_it_takes_and_answers(api: Api) -> None:
    document = (await api.get("/v1/openapi.json")).json()
    seen = set()
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["summary"] and operation["operationId"] not in seen
        seen.add(operation["operationId"])
        assert ("security" in operation) == (route.role != "none")
        assert ("requestBody" in operation) == (route.body is not None)
        named = {(p["in"], p["name"]) for p in operation.get("parameters", ())}
        of_path = {("path", name) for name in re.findall(r"{(\w+)}", route.path)}
        assert named == of_path | {("query", name) for name in route.query}
        statuses = {str(route.status), *(str(CATALOGUE[code].status) for code in route.problems)}
        assert statuses <= set(operation["responses"])


async def test_names_in_openapi_stay_when_handlers_move(api: Api) -> None:
    paths = (await api.get("/v1/openapi.json")).json()["paths"]
    found = {paths["/v1/tasks"][method]["operationId"] for method in ("get", "post")}
    assert found == {"tasks_submit", "tasks_listing"}
    assert paths["/v1/tasks:batch"]["post"]["operationId"] == "tasks_batch"


async def test_openapi_names_the_fields_that_answers_have(api: Api) -> None:
    await api.populate()
    document = (await api.get("/v1/openapi.json")).json()
    for number, route in enumerate(ROUTES):
        if route.answer in (None, msgspec.Raw):
            continue
        operation = document["paths"][route.path][route.method.lower()]
        success = operation["responses"][str(route.status)]
        reference = success["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        values = {"id": f"task-{number}"} if "/tasks/" in route.path else {}
        if values:
            await api.submit(values["id"])
            if route.path.endswith("/retry"):
                await api.post(f"/v1/tasks/{values['id']}/cancel")
        query = "?wait=0ms" if route.path.endswith("/wait") else ""
        answer = await api.ask(route.method, filled(route, **values) + query, body_of(route))
        assert answer.status == route.status, answer
        assert list(answer.json()) == list(schema["properties"])


async def test_openapi_says_of_results_that_they_are_any_json(api: Api) -> None:
    paths = (await api.get("/v1/openapi.json")).json()["paths"]
    for path in ("/v1/tasks/{id}/result", "/v1/tasks/{id}/attempts/{number}/result"):
        answers = paths[path]["get"]["responses"]
        assert answers["200"]["content"] == {"application/json": {"schema": {}}}
        assert {"404", "410", "502"} <= set(answers)


async def test_openapi_refers_only_to_what_it_holds(api: Api) -> None:
    document = (await api.get("/v1/openapi.json")).json()
    references = re.findall(r'"\$ref":"([^"]+)"', msgspec.json.encode(document).decode())
    assert references
    for reference in references:
        here: Any = document
        for part in reference.removeprefix("#/").split("/"):
            here = here[part]
        assert here
