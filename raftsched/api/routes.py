"""The one table of routes: it drives the router, access, OpenAPI and the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

from raftsched.api import cluster, openapi, output, tasks
from raftsched.api.context import Context
from raftsched.api.documents import TaskRequest

Handler = Callable[[Context, web.Request], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One method on one path."""

    method: str
    path: str
    #: ``none`` is open; the others need the token.
    role: str
    handler: Handler
    body: Any = None
    #: Success status, and the problem codes beside the general ones.
    status: int = 200
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What it does, in a line."""
        return (self.handler.__doc__ or "").strip().splitlines()[0]


_ID = "/v1/tasks/{id}"
_SUBMIT = ("idempotency-key-reused", "duplicate-id", "overloaded", "invalid", "too-large")

ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/tasks", "submit", tasks.submit, TaskRequest, 201, _SUBMIT),
    Route("POST", "/v1/tasks:batch", "submit", tasks.batch, TaskRequest, 200, _SUBMIT),
    Route("GET", "/v1/tasks", "read", tasks.listing, problems=("invalid",)),
    Route("GET", _ID, "read", tasks.get, problems=("unknown-task",)),
    Route("DELETE", _ID, "operate", tasks.delete, None, 204, ("unknown-task", "task-not-terminal")),
    Route(
        "POST",
        _ID + "/cancel",
        "submit",
        tasks.cancel,
        tasks.CancelRequest,
        200,
        ("unknown-task", "task-terminal"),
    ),
    Route(
        "POST", _ID + "/pause", "submit", tasks.pause, problems=("unknown-task", "task-terminal")
    ),
    Route(
        "POST", _ID + "/resume", "submit", tasks.resume, problems=("unknown-task", "task-terminal")
    ),
    Route("GET", _ID + "/wait", "read", tasks.wait, problems=("unknown-task",)),
    Route("GET", _ID + "/attempts", "read", tasks.attempts, problems=("unknown-task",)),
    Route(
        "GET",
        _ID + "/attempts/{number}/output",
        "read",
        output.output,
        problems=("unknown-task", "output-gone", "node-unreachable"),
    ),
    Route("GET", "/v1/nodes", "read", cluster.nodes),
    Route("GET", "/v1/nodes/{id}", "read", cluster.node, problems=("unknown-node",)),
    Route("POST", "/v1/nodes/{id}/cordon", "operate", cluster.cordon, problems=("unknown-node",)),
    Route(
        "POST", "/v1/nodes/{id}/uncordon", "operate", cluster.uncordon, problems=("unknown-node",)
    ),
    Route("GET", "/v1/cluster", "read", cluster.cluster),
    Route(
        "POST", "/v1/cluster/leader:transfer", "admin", cluster.transfer, cluster.TransferRequest
    ),
    Route("GET", "/v1/agent", "admin", cluster.agent),
    Route("GET", "/v1/agent/config", "admin", cluster.agent_config),
    Route("GET", "/v1/problems", "none", cluster.problems),
    Route("GET", "/v1/problems/{code}", "none", cluster.problem, problems=("not-found",)),
    Route("GET", "/v1/openapi.json", "none", openapi.document),
    Route("GET", "/health/live", "none", cluster.live),
    Route("GET", "/health/ready", "none", cluster.ready, problems=("no-leader",)),
    Route("GET", "/health/leader", "none", cluster.leader, problems=("no-leader",)),
    Route("GET", "/metrics", "none", cluster.metrics),
)
