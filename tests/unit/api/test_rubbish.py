"""Rubbish on every route that may change something: each is named, and none changes anything."""

from __future__ import annotations

from typing import Any

import pytest

from raftsched.api.context import BODY_BYTES_MAX
from raftsched.api.programs import ARGUMENTS_BYTES_MAX
from raftsched.api.routes import ROUTES, Route
from tests.unit.api.fake_service import TOKEN
from tests.unit.api.harness import MUTATING, Api, body_of, filled, named, parse

#: Refused everywhere; how deep the first bracket is looked into decides between 400 and 422.
BODIES = {
    "cut short": b'{"command": ["true"]',
    "no JSON": b"command=true",
    "two documents": b"{} {}",
    "a comment": b"{} // nothing",
    "single quotes": b"{'command': ['true']}",
    "not a number": b'{"timeout": NaN}',
    "not UTF-8": b"\xff\xfe{\x00}\x00",
    "not UTF-8 in a field": b'{"\xff\xff": "true"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a NUL": b"\0",
    "a list": b"[]",
    "a number": b"7",
    "nothing": b"null",
    "text": b'"true"',
    "unknown field": b'{"bogus": 1}',
    "unknown field of odd name": b'{"a/b~c`d": 1}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and whole": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
UNKNOWN_IDS = (
    "none", "T", "t%20", "t%00", "%ff", "%F0%9F%A6%84", "..%2f..%2fetc", "a%2Fcancel", "x" * 2_000,
    "%0d%0aSet-Cookie:%20x=1", "%7Bid%7D", "'%20OR%201=1", "t;x", "t:x", "..", "-",
)  # fmt: skip
WITH_ID = [route for route in ROUTES if "{id}" in route.path]
#: Field values that are refused, and where the pointer must lead.
WRONG_FIELDS = [
    ("command", [], "/command"), ("command", [1], "/command/0"), ("command", {}, "/command"),
    ("command", "a line", "/command"), ("command", [""], "/command/0"),
    ("command", ["a\0b"], "/command"), ("command", None, "/command"),
    ("id", "", "/id"), ("id", "a b", "/id"), ("id", "a/b", "/id"), ("id", "../x", "/id"),
    ("id", "x\n", "/id"), ("id", "x" * 65, "/id"), ("id", 7, "/id"), ("id", "é", "/id"),
    ("name", "x" * 201, "/name"), ("name", 1, "/name"),
    ("namespace", "", "/namespace"), ("namespace", "a\0b", "/namespace"),
    ("namespace", "a\n", "/namespace"), ("queue", "a b", "/queue"), ("queue", "q\n", "/queue"),
    ("priority", -1, "/priority"), ("priority", 101, "/priority"), ("priority", 1.5, "/priority"),
    ("priority", "50", "/priority"), ("priority", True, "/priority"),
    ("priority", 10**30, "/priority"),
    ("labels", [], "/labels"), ("labels", {"a": 1}, "/labels"),
    ("labels", {str(n): "" for n in range(65)}, "/labels"),
    ("shell", 1, "/shell"), ("shell", True, ""),
    ("env", {"A=B": "x"}, "/env"), ("env", {"": "x"}, "/env"), ("env", {"A": "\0"}, "/env"),
    ("env", {f"V{n}": "" for n in range(257)}, "/env"), ("env", {"A": None}, "/env"),
    ("cwd", "a\0b", "/cwd"), ("cwd", "x" * 4_097, "/cwd"), ("stdin", 1, "/stdin"),
    ("timeout", "5 minutes", "/timeout"), ("timeout", -1, "/timeout"),
    ("timeout", "-5s", "/timeout"), ("timeout", 1e12, "/timeout"), ("timeout", 10**400, "/timeout"),
    ("timeout", "9" * 400 + "s", "/timeout"), ("timeout", [], "/timeout"),
    ("timeout", True, "/timeout"), ("grace", "x", "/grace"), ("grace", "1y", "/grace"),
    ("retry", {"max_attempts": 0}, "/retry/max_attempts"), ("retry", 3, "/retry"),
    ("retry", {"max_attempts": 101}, "/retry/max_attempts"), ("retry", {"x": 1}, "/retry/x"),
    ("resources", {"cpu": -1}, "/resources/cpu"), ("resources", {"cpu": "x"}, "/resources/cpu"),
    ("resources", {"cpu": "nan"}, "/resources/cpu"),
    ("resources", {"cpu": "inf"}, "/resources/cpu"),
    ("resources", {"cpu": 1e300}, "/resources/cpu"), ("resources", {"cpu": []}, "/resources"),
    ("resources", {"memory": "1MB"}, "/resources/memory"),
    ("resources", {"memory": -1}, "/resources/memory"),
    ("resources", {"memory": 1 << 64}, "/resources/memory"),
    ("resources", {"memory": "99999999999TiB"}, "/resources/memory"),
    ("resources", {"memory": "9" * 5_000}, "/resources/memory"),
    ("resources", {"memory": "²"}, "/resources/memory"),
    ("resources", {"gpu": "x"}, "/resources/gpu"),
    ("placement", {"strategy": "best"}, "/placement/strategy"),
    ("placement", "spread", "/placement"), ("placement", {"key": "x" * 201}, "/placement/key"),
    ("queue_timeout", "soon", "/queue_timeout"), ("lease_seconds", 1, "/lease_seconds"),
    ("lease_seconds", "2d", "/lease_seconds"), ("max_losses", 101, "/max_losses"),
    ("max_losses", -1, "/max_losses"), ("not_before", "tomorrow", "/not_before"),
    ("not_before", "2026-01-01", "/not_before"),
    ("not_before", "2026-01-01T00:00:00", "/not_before"), ("not_before", -5, "/not_before"),
    ("deadline", "0001-01-01T00:00:00Z", "/deadline"), ("deadline", [], "/deadline"),
    ("deadline", "2026-02-30T00:00:00Z", "/deadline"),
    ("retry", {"backoff": "random"}, "/retry/backoff"), ("retry", {"base": "x"}, "/retry/base"),
    ("retry", {"max": -1}, "/retry/max"), ("retry", {"jitter": 1.5}, "/retry/jitter"),
    ("retry", {"on_exit": [256]}, "/retry/on_exit/0"), ("retry", {"node": "n1"}, "/retry/node"),
    ("delivery", "exactly_once", "/delivery"), ("idempotent", "yes", "/idempotent"),
    ("on_lease_loss", "pray", "/on_lease_loss"),
    ("constraints", ["zone ~ a"], "/constraints/0"), ("constraints", "zone = a", "/constraints"),
    ("constraints", ["zone = a", "disk in []"], "/constraints/1"),
    ("constraints", ["zone = a b"], "/constraints/0"), ("constraints", [""], "/constraints/0"),
    ("constraints", ["a = b"] * 33, "/constraints"),
    ("affinity", [{"match": "x"}], "/affinity/0/match"),
    ("affinity", [{"match": "a = b", "weight": 101}], "/affinity/0/weight"),
    ("affinity", [{"weight": 1}], "/affinity/0"), ("limits", ["a b"], "/limits/0"),
    ("limits", ["x"] * 17, "/limits"), ("unique", {"key": ""}, "/unique/key"),
    ("unique", {"key": "x", "on_conflict": "fight"}, "/unique/on_conflict"),
    ("unique", "x", "/unique"), ("http", {"url": "http://x"}, "/http"),
    ("python", {"function": "a:b"}, "/python"), ("before", [""], "/before/0"),
    ("after", "rm", "/after"), ("user", "a/b", "/user"), ("group", "a b", "/group"),
    ("umask", "9", "/umask"), ("umask", "1777", "/umask"), ("nice", 20, "/nice"),
    ("rlimits", {"memory": "x"}, "/rlimits/memory"), ("rlimits", {"cpu": -1}, "/rlimits/cpu"),
    ("rlimits", {"open_files": -1}, "/rlimits/open_files"), ("rlimits", {"x": 1}, "/rlimits/x"),
    ("resources", {"a b": 1}, "/resources/a b"), ("resources", {"gpu": 0.5}, "/resources/gpu"),
    ("resources", {"gpu": -1}, "/resources/gpu"),
    ("resources", {f"r{n}": 1 for n in range(17)}, "/resources"),
]  # fmt: skip


@pytest.mark.parametrize("route", MUTATING, ids=named)
async def test_body_that_is_rubbish_is_named_and_changes_nothing(api: Api, route: Route) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    for name, data in BODIES.items():
        answer = await api.ask(route.method, filled(route), data=data)
        assert answer.status in (400, 422), (name, answer)
        code = "malformed-json" if answer.status == 400 else "invalid"
        assert answer.problem(answer.status, code)["applied"] is False, name
        assert (api.service.rows(), api.state.index) == (before, index), name


@pytest.mark.parametrize(
    "data", [b"[1,2", b'{"command":[1]', b'{"bogus":1} x', b'"x" "y"', b'{"priority":-1,}']
)
@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks:batch?atomic=1", "/v1/tasks/t/cancel"])
async def test_what_is_no_json_is_400_wherever_its_first_fault_is(
    api: Api, path: str, data: bytes
) -> None:
    (await api.ask("POST", path, data=data)).problem(400, "malformed-json")


@pytest.mark.parametrize("text", [r"\ud800", r"a\uDFFFb", r"\ud83d\ud83d", r"\ude00\ud83d"])
async def test_half_of_a_surrogate_pair_is_named(api: Api, text: str) -> None:
    data = b'{"command":["%s"]}' % text.encode()
    problem = (await api.ask("POST", "/v1/tasks", data=data)).problem(400, "malformed-json")
    assert "surrogate pair" in problem["detail"]
    cut = (await api.ask("POST", "/v1/tasks", data=b'{"command":["a')).problem(
        400, "malformed-json"
    )
    assert "surrogate" not in cut["detail"]
    whole = await api.post("/v1/tasks", {"command": ["true"], "stdin": "😀"})
    assert whole.status == 201


@pytest.mark.parametrize("route", ROUTES, ids=named)
async def test_unknown_parameter_is_pointed_at_and_changes_nothing(api: Api, route: Route) -> None:
    await api.populate()
    before = api.service.rows()
    path = filled(route).partition("?")[0]
    body: dict[str, Any] | None = None if route.method == "GET" else {}
    answer = await api.ask(route.method, f"{path}?bogus=1&an+other=", body)
    errors = answer.problem(422, "invalid")["errors"]
    assert [error["pointer"] for error in errors] == ["?an other", "?bogus"]
    for name in route.query:
        assert name in errors[0]["message"]
    assert api.service.rows() == before


@pytest.mark.parametrize(
    "path", ["/v1/nodes?cursor=x", "/v1/cluster?index=1&wait=1s", "/v1/tasks/t/wait?index=1"]
)
async def test_parameter_of_another_route_is_refused(api: Api, path: str) -> None:
    await api.populate()
    assert (await api.get(path)).json()["errors"][0]["pointer"] in ("?cursor", "?index")


@pytest.mark.parametrize("route", MUTATING, ids=named)
async def test_unknown_field_is_pointed_at(api: Api, route: Route) -> None:
    line = "/0" if route.path.endswith(":batch") else ""
    for name, token in (("bogus", "bogus"), ("a/b~c", "a~1b~0c")):
        body = {**({"command": ["true"]} if line or route.path == "/v1/tasks" else {}), name: 1}
        answer = await api.ask(route.method, filled(route), body)
        assert answer.pointer(422, "invalid") == f"{line}/{token}"
    assert not api.service.proposed


@pytest.mark.parametrize("route", MUTATING, ids=named)
async def test_body_over_the_limit_is_413_and_changes_nothing(api: Api, route: Route) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    data = b'{"command": ["true"]}' + b" " * BODY_BYTES_MAX
    problem = (await api.ask(route.method, filled(route), data=data)).problem(413, "too-large")
    assert str(BODY_BYTES_MAX) in problem["detail"], "the limit is named"
    assert (api.service.rows(), api.state.index) == (before, index)


@pytest.mark.parametrize("field", ["stdin", "command", "env"])
async def test_arguments_over_their_limit_are_413_with_the_way_out(api: Api, field: str) -> None:
    large = "x" * (ARGUMENTS_BYTES_MAX + 1)
    values = {"stdin": large, "command": ["true", large], "env": {"A": large}}
    answer = await api.post("/v1/tasks", {"command": ["true"], field: values[field]})
    assert "pass a reference" in answer.problem(413, "too-large")["detail"]
    assert not api.service.proposed


async def test_wrong_fields_are_pointed_at_alone_and_in_a_batch(api: Api) -> None:
    for field, value, pointer in WRONG_FIELDS:
        body = {"command": ["true", "x"], field: value}
        answer = await api.post("/v1/tasks", body)
        assert answer.status == 422, (field, value, answer.body)
        assert answer.pointer(422, "invalid") == (pointer or "/command"), (field, value)
        answer = await api.batch([{"command": ["true"]}, body], "?atomic=1")
        assert answer.pointer(422, "invalid") == "/1" + (pointer or "/command"), (field, value)
    missing = await api.post("/v1/tasks", {"name": "x"})
    assert "command" in missing.problem(422, "invalid")["detail"]
    assert not api.service.proposed


async def test_lone_surrogates_are_not_text(api: Api) -> None:
    for body in (b'{"command": ["\\ud800"]}', b'{"command": ["a"], "env": {"\\udc00": "x"}}'):
        answer = await api.ask("POST", "/v1/tasks", data=body)
        assert answer.status in (400, 422), answer.body
    assert not api.service.proposed


@pytest.mark.parametrize("route", WITH_ID, ids=named)
async def test_unknown_id_is_404_and_changes_nothing(api: Api, route: Route) -> None:
    await api.populate()
    before = api.service.rows()
    kinds = {"/v1/nodes": "unknown-node", "/v1/cluster/peers": "unknown-peer"}
    code = next((kinds[p] for p in kinds if route.path.startswith(p)), "unknown-task")
    for unknown in UNKNOWN_IDS:
        path = filled(route, id=unknown)
        if unknown == ".." and not path.endswith(".."):
            continue
        answer = await api.ask(route.method, path, body_of(route))
        assert answer.status == 404, (unknown, answer)
        answer.problem(404, "not-found" if "%7B" in unknown else code)
        assert "Set-Cookie" not in answer.headers
    assert api.service.rows() == before


async def test_wrong_method_is_405_with_the_right_ones(api: Api) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    for route in ROUTES:
        allowed = {other.method for other in ROUTES if other.path == route.path}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - allowed:
            answer = await api.ask(method, filled(route), {} if method != "GET" else None)
            answer.problem(405, "method-not-allowed")
            assert set(answer.headers["Allow"].split(", ")) == allowed
    assert (api.service.rows(), api.state.index) == (before, index)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v2/tasks", "/v1/tasks/", "/v1/tasks/t/", "/v1/tasks/t/kill",
        "/v1/tasks/t/cancel/now", "/v1/tasks:purge", "/V1/tasks", "/v1//tasks", "/health",
        "/v1/tasks%2Ft", "/%ff", "/v1/nodes/n1/drains", "/" + "x" * 4_000,
    ],
)  # fmt: skip
async def test_unknown_address_is_404(api: Api, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "PUT"):
        answer = await api.ask(method, path, {} if method != "GET" else None)
        answer.problem(404, "not-found")
    assert not api.service.proposed


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Encoding: gzip\r\nContent-Length: 20\r\n", b'{"command":["true"]}'),
        (b"Content-Encoding: deflate\r\nContent-Length: 4\r\n", b"\xff\xff\xff\xff"),
        (b"Transfer-Encoding: chunked\r\n", b"4\r\n{}  \r\nzz\r\n"),
    ],
    ids=["no gzip", "no deflate", "broken chunks"],
)
@pytest.mark.parametrize("path", [b"/v1/tasks", b"/v1/tasks:batch", b"/v1/tasks/t/pause"])
async def test_body_that_breaks_on_the_way_is_the_callers_fault(
    api: Api, path: bytes, headers: bytes, body: bytes
) -> None:
    await api.populate()
    before, index = api.service.rows(), api.state.index
    request = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    request += b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
    request += b"Content-Type: application/json\r\n" + headers + b"\r\n" + body
    answer = await api.raw(request)
    assert parse(answer).status == 400, answer
    assert (api.service.rows(), api.state.index) == (before, index)


def test_the_table_covers_every_route_that_may_change_something() -> None:
    assert {route.method for route in MUTATING} == {"POST", "DELETE", "PATCH", "PUT"}
    assert len(MUTATING) == 43, "a new route: see that the tables above fit it"


@pytest.mark.parametrize(
    ("http", "pointer"),
    [
        ({}, "/http"), ({"url": ""}, "/http/url"), ({"url": "ftp://x/"}, "/http/url"),
        ({"url": "/relative"}, "/http/url"), ({"url": "http://"}, "/http/url"),
        ({"url": "http://u:p@x/"}, "/http/url"), ({"url": "http://x:99999/"}, "/http/url"),
        ({"url": "http://x/ y"}, "/http/url"), ({"url": "http://x/\r\nA: b"}, "/http/url"),
        ({"url": "http://x", "method": "get"}, "/http/method"),
        ({"url": "http://x", "headers": {"A b": "c"}}, "/http/headers"),
        ({"url": "http://x", "headers": {"A": "b\r\nC: d"}}, "/http/headers"),
        ({"url": "http://x", "expect": [99]}, "/http/expect/0"),
        ({"url": "http://x", "redirects": 21}, "/http/redirects"),
        ({"url": "http://x", "body": "x" * 70_000}, "/http/body"),
    ],
)  # fmt: skip
async def test_wrong_request_of_a_task_is_pointed_at(
    api: Api, http: dict[str, Any], pointer: str
) -> None:
    answer = await api.post("/v1/tasks", {"http": http})
    code = "too-large" if "x" * 70_000 in http.values() else "invalid"
    assert answer.pointer(413 if code == "too-large" else 422, code) == pointer
    assert not api.service.proposed


@pytest.mark.parametrize("function", ["", "a", "a:", ":b", "a b:c", "a:b()", "../x:y", "os:1"])
async def test_wrong_function_of_a_task_is_pointed_at(api: Api, function: str) -> None:
    answer = await api.post("/v1/tasks", {"python": {"function": function}})
    assert answer.pointer(422, "invalid") == "/python/function"
    assert not api.service.proposed


async def test_once_and_again_exclude_each_other(api: Api) -> None:
    document = {"command": ["x"], "delivery": "at_most_once", "retry": {"max_attempts": 2}}
    answer = await api.post("/v1/tasks", document)
    assert answer.pointer(422, "invalid") == "/retry/max_attempts"
