"""One `ApiServer` over a `FakeService`, and the requests tests make of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from raftsched.api.routes import ROUTES, Route
from raftsched.api.server import ApiServer
from raftsched.core.commands import PauseTask, PutLimit, PutQueue
from raftsched.core.model import Limit, Queue
from raftsched.peer.service import PeerService
from tests.ports import free_port
from tests.unit.api.fake_service import TOKEN, FakeService

#: Fields every problem document has.
PROBLEM_FIELDS = {
    "type", "title", "status", "detail", "code", "request_id", "retryable", "applied",
}  # fmt: skip


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    def problem(self, status: int, code: str) -> Any:
        """The problem document, which must be whole, with this status and code."""
        assert (self.status, self.headers["Content-Type"]) == (
            status,
            "application/problem+json",
        ), self.body
        document = self.json()
        check_problem(document)
        assert (document["status"], document["code"]) == (status, code), document
        assert document["request_id"] == self.headers["X-Request-Id"]
        return document

    def pointer(self, status: int, code: str) -> str:
        """Which part of the request the problem is about."""
        errors = self.problem(status, code)["errors"]
        assert len(errors) == 1 and errors[0]["message"]
        return str(errors[0]["pointer"])


def check_problem(document: dict[str, Any]) -> None:
    """Assert what holds for all problem documents."""
    assert set(document) >= PROBLEM_FIELDS, document
    assert document["type"] == f"/v1/problems/{document['code']}"
    assert document["title"] and document["detail"], document
    assert document["applied"] in (False, "unknown")
    assert isinstance(document["retryable"], bool)
    if document["code"] == "invalid":
        assert document["errors"][0]["pointer"][0] in "/?#", document


class Api:
    """A server that runs, the service behind it, and a caller with the token."""

    def __init__(self, service: FakeService, session: aiohttp.ClientSession) -> None:
        self.service = service
        self.state = service.state
        self.address = service.config.address.api
        self._session = session

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: bytes | None = None,
        token: str | None = TOKEN,
        **headers: str,
    ) -> Answer:
        """One request; ``body`` as JSON or ``data`` as it is; ``_`` in header names is ``-``."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            names.setdefault("Authorization", f"Bearer {token}")
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            names.setdefault("Content-Type", "application/json")
        async with self._session.request(
            method,
            URL(f"http://{self.address}{path}", encoded=True),
            data=None if data is None else io.BytesIO(data),
            headers={k: v for k, v in names.items() if v},
            skip_auto_headers=("Content-Type",),
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET whose body is read as it comes."""
        async with self._session.get(
            URL(f"http://{self.address}{path}", encoded=True),
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as answer:
            yield answer

    async def get(self, path: str, **headers: Any) -> Answer:
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, body: Any = None, **headers: Any) -> Answer:
        return await self.ask("POST", path, {} if body is None else body, **headers)

    async def submit(self, task_id: str, **fields: Any) -> dict[str, Any]:
        """A stored task."""
        answer = await self.post("/v1/tasks", {"id": task_id, "command": ["true"], **fields})
        assert answer.status == 201, answer.body
        return answer.json()  # type: ignore[no-any-return]

    async def batch(self, lines: list[Any], query: str = "", **headers: str) -> Answer:
        """Documents, or bytes as they are, one a line."""
        parts = [x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines]
        headers.setdefault("Content_Type", "application/x-ndjson")
        path = "/v1/tasks:batch" + query
        return await self.ask("POST", path, data=b"\n".join(parts) + b"\n", **headers)

    async def populate(self) -> None:
        """Two nodes; tasks ``t`` (queued), ``running`` (on n1), ``failed``, ``done``, ``held``."""
        self.service.add_node("n1")
        self.service.add_node("n2")
        for task_id in ("t", "running", "failed", "done", "held"):
            await self.submit(task_id)
        self.service.start("running")
        self.service.start("failed")
        self.service.finish("failed", "failed", exit_code=1)
        self.service.start("done")
        self.service.finish("done", output_bytes=5, result=b"7")
        self.service.outputs["done", 1] = b"done\n"
        self.service.apply(PauseTask("held"))
        self.service.apply(PutQueue(Queue("q", concurrency=3)))
        self.service.apply(PutLimit(Limit("k", count=2)))
        await self.ask("PUT", "/v1/schedules/q", SCHEDULE)
        await self.ask("PUT", "/v1/templates/q", {"task": TASK})
        self.service.proposed.clear()

    async def raw(self, request: bytes, timeout_seconds: float = 5.0) -> bytes:
        """Bytes as they are on a connection of their own; everything until it is closed."""
        host, _, port = self.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request)
            return await asyncio.wait_for(reader.read(), timeout_seconds)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(peer_id: str = "n1") -> AsyncIterator[Api]:
    """A server on a free port of its own."""
    fake = FakeService(free_port(), peer_id)
    service: PeerService = fake
    server = ApiServer(service)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Api(fake, session)
    finally:
        await server.stop()


#: Every route that may change something.
MUTATING = tuple(
    route for route in ROUTES if route.method != "GET" and not route.path.endswith(":preview")
)


#: A peer to add.
PEER = {"id": "n4", "raft": "127.0.0.1:14", "api": "127.0.0.1:4"}
TASK = {"command": ["true"]}
#: Bodies of routes that do not take an empty one.
SCHEDULE = {"cron": "0 2 * * *", "task": TASK}
PAST = {"from": "2023-11-10T00:00:00Z", "to": "2023-11-11T00:00:00Z"}
#: By method and path.
BODIES = {
    "POST /v1/tasks": TASK,
    "POST /v1/tasks:batch": TASK,
    "POST /v1/cluster/peers": PEER,
    "POST /v1/schedules": {"name": "new", **SCHEDULE},
    "POST /v1/schedules:preview": {"name": "q"},
    "PUT /v1/schedules/{name}": {**SCHEDULE, "overlap": "allow"},
    "PATCH /v1/schedules/{name}": {"overlap": "queue"},
    "POST /v1/schedules/{name}/backfill": PAST,
    "PUT /v1/templates/{name}": {"task": {"command": ["false"]}},
}
#: Queries without which a route does nothing.
QUERIES = {
    "/v1/tasks:batch": "?atomic=1",
    **{
        f"/v1/tasks:{verb}": "?queue=default"
        for verb in ("cancel", "retry", "pause", "resume", "run", "delete", "edit")
    },
}


def named(route: Route) -> str:
    """A route as a test's id."""
    return f"{route.method} {route.path}"


def filled(route: Route, **values: str) -> str:
    """The route's path with ids of what `Api.populate` made, where its verb would succeed."""
    if "{code}" in route.path:
        default = "invalid"
    elif route.path.startswith("/v1/cluster/peers"):
        default = "n3"
    elif route.path.startswith("/v1/nodes"):
        default = "n1"
    elif route.path.endswith("/retry"):
        default = "failed"
    else:
        has_ended = route.method == "DELETE" or route.path.endswith(("/output", "/result"))
        default = "done" if has_ended else "t"
    queue = "default" if route.path.endswith("/purge") else "q"
    values = {"id": default, "code": default, "number": "1", "name": queue, "key": "k", **values}
    return route.path.format(**values) + QUERIES.get(route.path, "")


def body_of(route: Route) -> Any:
    """A body that the route takes."""
    if named(route) in BODIES:
        return BODIES[named(route)]
    return {} if route.method in ("POST", "PUT", "PATCH") else None


def parse(answer: bytes) -> Answer:
    """A raw answer with a whole body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(status.split()[1]), headers, body)
