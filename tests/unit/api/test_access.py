"""Who may come in: the token, the page a request comes from, the name it used, and its type."""

from __future__ import annotations

import pytest

from raftsched.api.routes import ROUTES, Route
from raftsched.api.server import HOSTS_REMEMBERED_MAX
from tests.unit.api.fake_service import TOKEN
from tests.unit.api.harness import MUTATING, Api, filled, parse

OPEN = {
    "/v1/problems", "/v1/problems/{code}", "/v1/openapi.json",
    "/health/live", "/health/ready", "/health/leader", "/metrics",
}  # fmt: skip
GUARDED = [route for route in ROUTES if route.path not in OPEN]
TASK = {"command": ["true"]}


def test_the_open_routes_are_exactly_the_stated_ones() -> None:
    assert {route.path for route in ROUTES if route.role == "none"} == OPEN
    assert all(route.method == "GET" for route in ROUTES if route.role == "none")


def body_of(route: Route) -> object:
    return TASK if route.method == "POST" else None


async def test_without_the_right_token_nothing_is_answered_or_done(api: Api) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    for route in GUARDED:
        for given in ("", f"Basic {TOKEN}", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", TOKEN):
            answer = await api.ask(
                route.method, filled(route), body_of(route), token=None, Authorization=given
            )
            problem = answer.problem(401, "unauthorized")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN not in str(problem)
            assert not any(name.startswith("Raftsched-") for name in answer.headers)
    assert (api.service.rows(), api.state.index) == (before, index)


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_open_routes_need_no_token(api: Api, path: str) -> None:
    api.service.add_node()
    answer = await api.ask("GET", path.format(code="invalid"), token=None)
    assert answer.status == 200


async def test_the_scheme_may_be_spelled_in_any_case(api: Api) -> None:
    answer = await api.ask("GET", "/v1/tasks", token=None, Authorization=f"bearer  {TOKEN} ")
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/v1/tasks", "/nowhere"])
async def test_token_of_bytes_that_are_no_text_is_just_a_wrong_one(api: Api, path: str) -> None:
    answer = await api.raw(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
        + b"Authorization: Bearer \xff\xfe\r\n\r\n"
    )
    parse(answer).problem(401, "unauthorized")


async def test_unknown_addresses_are_not_told_from_known_ones_without_a_token(api: Api) -> None:
    for method, path in (("GET", "/v1/nowhere"), ("PUT", "/v1/tasks"), ("POST", "/")):
        (await api.ask(method, path, token="wrong")).problem(401, "unauthorized")


async def test_web_pages_of_other_origins_are_refused_even_with_the_token(api: Api) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    for route in ROUTES:
        for origin in ("http://evil.example", "null", f"https://{api.address}", "http://localhost"):
            answer = await api.ask(route.method, filled(route), body_of(route), Origin=origin)
            answer.problem(403, "forbidden-origin")
    assert (api.service.rows(), api.state.index) == (before, index)


async def test_pages_of_this_peer_itself_may_ask(api: Api) -> None:
    answer = await api.post("/v1/tasks", TASK, Origin=f"http://{api.address}")
    assert answer.status == 201


async def test_foreign_host_is_refused_even_with_the_token(api: Api) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    for route in ROUTES:
        for host in ("evil.example", "evil.example:1", "127.0.0.1.evil.example", "10.0.0.1", ":80"):
            answer = await api.ask(route.method, filled(route), body_of(route), Host=host)
            answer.problem(403, "forbidden-host")
    assert (api.service.rows(), api.state.index) == (before, index)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:7400", "raftsched.example:99"]
)
async def test_loopback_and_configured_names_are_welcome(api: Api, host: str) -> None:
    assert (await api.get("/v1/tasks", Host=host)).status == 200


async def test_foreign_host_is_refused_however_many_were_welcome_before(api: Api) -> None:
    for port in range(HOSTS_REMEMBERED_MAX + 2):
        for _ in range(2):
            assert (await api.get("/health/live", Host=f"localhost:{port}")).status == 200
        foreign = await api.get("/health/live", Host=f"evil.example:{port}")
        foreign.problem(403, "forbidden-host")


async def test_host_that_was_welcome_does_not_stand_for_a_token(api: Api) -> None:
    for _ in range(2):
        assert (await api.get("/v1/tasks", Host="localhost")).status == 200
        answer = await api.ask("GET", "/v1/tasks", token="wrong", Host="localhost")
        answer.problem(401, "unauthorized")
        origin = await api.get("/v1/tasks", Host="localhost", Origin="http://evil.example")
        origin.problem(403, "forbidden-origin")


async def test_foreign_host_hears_so_before_its_token_is_looked_at(api: Api) -> None:
    answer = await api.ask("GET", "/v1/tasks", token="wrong", Host="evil.example")
    answer.problem(403, "forbidden-host")
    answer = await api.ask("GET", "/nowhere", token="wrong", Host="evil.example")
    answer.problem(403, "forbidden-host")


async def test_a_form_or_plain_text_is_no_json(api: Api) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x", "")
    for route in MUTATING:
        for kind in kinds:
            answer = await api.ask(route.method, filled(route), data=b"{}", Content_Type=kind)
            answer.problem(415, "unsupported-media-type")
    assert (api.service.rows(), api.state.index) == (before, index)


async def test_json_may_name_its_charset(api: Api) -> None:
    answer = await api.post("/v1/tasks", TASK, Content_Type="Application/JSON; charset=utf-8")
    assert answer.status == 201


async def test_request_id_is_the_callers_if_it_is_a_word(api: Api) -> None:
    given = await api.get("/v1/tasks/none", X_Request_Id="my-id")
    assert given.problem(404, "unknown-task")["request_id"] == "my-id"
    made = await api.get("/v1/tasks/none", X_Request_Id="x" * 500)
    assert len(made.problem(404, "unknown-task")["request_id"]) <= 100
    none = await api.get("/v1/tasks/none")
    assert none.problem(404, "unknown-task")["request_id"]
