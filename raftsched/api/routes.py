"""The one table of routes: it drives the router, access, OpenAPI and the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from raftsched.api import (
    amending,
    batch,
    bulk,
    checks,
    clock,
    cluster,
    explain,
    forecasts,
    limits,
    listing,
    nodes,
    openapi,
    output,
    peers,
    queues,
    reports,
    results,
    schedule_documents,
    schedule_views,
    schedules,
    scheduling,
    submission,
    tasks,
    templates,
    tree,
)
from raftsched.api.context import Context
from raftsched.api.documents import TaskRequest
from raftsched.api.template_documents import TemplateRequest
from raftsched.api.views import AttemptList, NodePage, NodeView, TaskPage, TaskView

Handler = Callable[[Context, web.Request], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One method on one path."""

    method: str
    path: str
    #: ``none`` is open; the others need the token.
    role: str
    handler: Handler
    #: Type of the request's body, and of the answer's where it has a schema; `msgspec.Raw`: JSON of
    #: any kind.
    body: Any = None
    answer: Any = None
    #: Success status, and the problem codes beside the general ones.
    status: int = 200
    problems: tuple[str, ...] = ()
    #: Name in OpenAPI, from which clients are generated; stable also when a handler moves.
    operation: str = ""
    #: Names of the query parameters; any other is refused.
    query: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What it does, in a line."""
        return (self.handler.__doc__ or "").strip().splitlines()[0]

    @property
    def operation_id(self) -> str:
        """The name in OpenAPI: as stated, or module and function of the handler."""
        module = self.handler.__module__.rpartition(".")[2]
        return self.operation or f"{module}_{self.handler.__name__}"


_ID = "/v1/tasks/{id}"
_NODE = "/v1/nodes/{id}"
_SUBMIT = (
    "idempotency-key-reused", "duplicate-id", "unique-conflict", "overloaded", "queue-full",
    "invalid", "too-large", "needs-version",
)  # fmt: skip
_UNKNOWN = ("unknown-task",)
_VERB = ("unknown-task", "task-terminal")
_DELETE = ("unknown-task", "task-not-terminal", "part-of-tree", "task-has-dependents")
_OUTPUT = ("unknown-task", "output-gone", "node-unreachable")
_RESULT = ("no-result", *_OUTPUT)
_QUEUE = "/v1/queues/{name}"
_LIMIT = "/v1/limits/{key}"
_PUT_QUEUE = ("unknown-queue", "modified", "overloaded", "invalid", "needs-version")
_PUT_LIMIT = ("unknown-limit", "modified", "overloaded", "invalid", "needs-version")
_SCHEDULE = "/v1/schedules/{name}"
_UNKNOWN_SCHEDULE = ("unknown-schedule",)
_PUT_SCHEDULE = ("modified", "overloaded", "invalid", "too-large", "needs-version")
_CREATE_SCHEDULE = ("schedule-exists", "idempotency-key-reused", *_PUT_SCHEDULE)
_RUN_SCHEDULE = ("unknown-schedule", "queue-full", "overloaded", "needs-version")
_TEMPLATE = "/v1/templates/{name}"
_UNKNOWN_TEMPLATE = ("unknown-template",)
_PUT_TEMPLATE = ("modified", "overloaded", "invalid", "too-large", "needs-version")
_UNKNOWN_NODE = ("unknown-node",)
_NO_LEADER = ("no-leader",)
_READY = ("no-leader", "replica-divergence")
_CHANGE = ("unknown-peer", "change-refused", "invalid")
_DRY_RUN = ("dry_run",)
_READ = ("consistency", "min_index")
#: A read that may wait for a change.
_POLL = (*_READ, "index", "wait")
_FILTERS = (*listing.FILTERS, "limit", "cursor")
_BULK = (*listing.FILTERS, "limit", *_DRY_RUN)
_EDIT = (
    "unknown-task", "task-terminal", "task-running", "part-of-tree", "modified", "invalid",
    "needs-version",
)  # fmt: skip
_RETRY = (
    "unknown-task", "task-not-terminal", "task-succeeded", "part-of-tree", "inputs-gone",
    "overloaded",
    "invalid", "too-large", "needs-version",
)  # fmt: skip

ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/v1/tasks", "submit", submission.submit, TaskRequest, TaskView, 201, _SUBMIT,
        operation="tasks_submit", query=_DRY_RUN,
    ),
    Route(
        "POST", "/v1/tasks:batch", "submit", batch.batch, TaskRequest, problems=_SUBMIT,
        operation="tasks_batch", query=("atomic", "dry_run"),
    ),
    Route(
        "GET", "/v1/tasks", "read", listing.listing, None, TaskPage, problems=("invalid",),
        operation="tasks_listing", query=(*_FILTERS, *_POLL),
    ),
    Route("GET", _ID, "read", tasks.get, None, TaskView, problems=_UNKNOWN, query=_POLL),
    Route("DELETE", _ID, "operate", tasks.delete, status=204, problems=_DELETE, query=_DRY_RUN),
    Route(
        "POST", _ID + "/cancel", "submit", tasks.cancel, tasks.CancelRequest, TaskView,
        problems=_VERB, query=_DRY_RUN,
    ),
    Route(
        "POST", _ID + "/pause", "submit", tasks.pause, None, TaskView,
        problems=_VERB, query=_DRY_RUN,
    ),
    Route(
        "POST", _ID + "/resume", "submit", tasks.resume, None, TaskView,
        problems=_VERB, query=_DRY_RUN,
    ),
    Route(
        "PATCH", _ID, "submit", amending.edit, None, TaskView, problems=_EDIT, query=_DRY_RUN,
        operation="tasks_edit",
    ),
    Route(
        "POST", _ID + "/run", "submit", amending.run_now, None, TaskView,
        problems=(*_VERB, "task-not-queued", "needs-version"), query=_DRY_RUN,
        operation="tasks_run",
    ),
    Route(
        "POST", _ID + "/retry", "submit", amending.retry, amending.RetryRequest,
        TaskView, 201, _RETRY, query=_DRY_RUN, operation="tasks_retry",
    ),
    Route(
        "POST", "/v1/tasks:cancel", "operate", bulk.cancel, bulk.BulkRequest, reports.BulkAnswer,
        problems=("invalid", "needs-version"), query=_BULK, operation="tasks_cancel_many",
    ),
    Route(
        "POST", "/v1/tasks:retry", "operate", bulk.retry, bulk.BulkRetryRequest, reports.BulkAnswer,
        problems=("invalid", "needs-version"), query=_BULK, operation="tasks_retry_many",
    ),
    *[
        Route(
            "POST", f"/v1/tasks:{verb}", "operate", handler, None, reports.BulkAnswer,
            problems=("invalid", "needs-version"), query=_BULK, operation=f"tasks_{verb}_many",
        )
        for verb, handler in (
            ("pause", bulk.pause), ("resume", bulk.resume), ("run", bulk.run_now),
            ("delete", bulk.delete), ("edit", bulk.edit),
        )
    ],
    Route(
        "GET", _ID + "/wait", "read", tasks.wait, None, TaskView,
        problems=_UNKNOWN, query=(*_READ, "wait"),
    ),
    Route(
        "GET", _ID + "/explain", "read", explain.get, None, explain.ExplainView,
        problems=_UNKNOWN, query=_POLL,
    ),
    Route(
        "GET", _ID + "/tree", "read", tree.get, None, tree.TreeView,
        problems=_UNKNOWN, query=("limit", "cursor", *_POLL), operation="tasks_tree",
    ),
    Route(
        "GET", _ID + "/results", "read", tree.results, None,
        problems=(*_UNKNOWN, "no-subtasks"), query=_POLL, operation="tasks_results",
    ),
    Route(
        "GET", _ID + "/attempts", "read", tasks.attempts, None, AttemptList,
        problems=_UNKNOWN, query=_POLL,
    ),
    Route(
        "GET", _ID + "/attempts/{number}/output", "read", output.output,
        problems=_OUTPUT, query=("follow", "tail", "offset", "stream", *_READ),
    ),
    Route(
        "GET", _ID + "/result", "read", results.of_task, None, msgspec.Raw,
        problems=_RESULT, query=_READ, operation="tasks_result",
    ),
    Route(
        "GET", _ID + "/attempts/{number}/result", "read", results.of_attempt, None, msgspec.Raw,
        problems=_RESULT, query=_READ, operation="attempts_result",
    ),
    Route("GET", "/v1/nodes", "read", cluster.nodes, None, NodePage, query=_POLL),
    Route("GET", _NODE, "read", cluster.node, None, NodeView, problems=_UNKNOWN_NODE, query=_POLL),
    Route(
        "POST", _NODE + "/cordon", "operate", cluster.cordon, None, NodeView,
        problems=_UNKNOWN_NODE, query=_DRY_RUN,
    ),
    Route(
        "POST", _NODE + "/uncordon", "operate", cluster.uncordon, None, NodeView,
        problems=_UNKNOWN_NODE, query=_DRY_RUN,
    ),
    Route(
        "POST", _NODE + "/drain", "operate", nodes.drain, nodes.DrainRequest, NodeView,
        problems=(*_UNKNOWN_NODE, "invalid", "needs-version"), query=_DRY_RUN,
    ),
    Route(
        "PUT", _NODE + "/labels", "operate", nodes.labels, nodes.LabelsRequest, NodeView,
        problems=(*_UNKNOWN_NODE, "invalid", "needs-version"), query=_DRY_RUN,
    ),
    Route(
        "GET", "/v1/queues", "read", queues.listing, None, queues.QueuePage,
        query=("limit", "cursor", *_POLL),
    ),
    Route(
        "GET", _QUEUE, "read", queues.get, None, queues.QueueView,
        problems=("unknown-queue",), query=_POLL,
    ),
    Route(
        "PUT", _QUEUE, "operate", queues.put, queues.QueueRequest, queues.QueueView,
        problems=_PUT_QUEUE, query=_DRY_RUN,
    ),
    Route(
        "DELETE", _QUEUE, "operate", queues.delete, status=204,
        problems=("unknown-queue", "needs-version"), query=_DRY_RUN,
    ),
    Route(
        "POST", _QUEUE + "/pause", "operate", queues.pause, None, queues.QueueView,
        problems=_PUT_QUEUE, query=_DRY_RUN,
    ),
    Route(
        "POST", _QUEUE + "/resume", "operate", queues.resume, None, queues.QueueView,
        problems=_PUT_QUEUE, query=_DRY_RUN,
    ),
    Route(
        "POST", _QUEUE + "/purge", "operate", queues.purge, bulk.BulkRequest, reports.BulkAnswer,
        problems=("unknown-queue", "needs-version"), query=_DRY_RUN,
    ),
    Route(
        "GET", "/v1/limits", "read", limits.listing, None, limits.LimitPage,
        query=("limit", "cursor", *_POLL),
    ),
    Route(
        "GET", _LIMIT, "read", limits.get, None, limits.LimitView,
        problems=("unknown-limit",), query=_POLL,
    ),
    Route(
        "PUT", _LIMIT, "operate", limits.put, limits.LimitRequest, limits.LimitView,
        problems=_PUT_LIMIT, query=_DRY_RUN,
    ),
    Route(
        "DELETE", _LIMIT, "operate", limits.delete, status=204,
        problems=("unknown-limit", "needs-version"), query=_DRY_RUN,
    ),
    Route(
        "GET", "/v1/schedules", "read", schedules.listing, None, schedule_views.SchedulePage,
        query=("limit", "cursor", *_POLL),
    ),
    Route(
        "POST", "/v1/schedules", "submit", schedules.create, schedule_documents.ScheduleRequest,
        schedule_views.ScheduleView, 201, _CREATE_SCHEDULE, query=_DRY_RUN,
    ),
    Route(
        "POST", "/v1/schedules:preview", "read", forecasts.preview_of,
        schedule_documents.PreviewRequest, forecasts.PreviewView,
        problems=("unknown-schedule", "invalid"), query=("n", "after", *_READ),
        operation="schedules_preview",
    ),
    Route(
        "GET", _SCHEDULE, "read", schedules.get, None, schedule_views.ScheduleView,
        problems=_UNKNOWN_SCHEDULE, query=_POLL,
    ),
    Route(
        "PUT", _SCHEDULE, "submit", schedules.put, schedule_documents.ScheduleRequest,
        schedule_views.ScheduleView, problems=_PUT_SCHEDULE, query=_DRY_RUN,
    ),
    Route(
        "PATCH", _SCHEDULE, "submit", schedules.edit, None, schedule_views.ScheduleView,
        problems=(*_UNKNOWN_SCHEDULE, *_PUT_SCHEDULE), query=_DRY_RUN,
    ),
    Route(
        "DELETE", _SCHEDULE, "operate", schedules.delete, status=204,
        problems=("unknown-schedule", "modified", "needs-version"), query=("tasks", *_DRY_RUN),
    ),
    *[
        Route(
            "POST", f"{_SCHEDULE}/{handler.__name__}", "submit", handler, None,
            schedule_views.ScheduleView, problems=(*_UNKNOWN_SCHEDULE, "needs-version"),
            query=_DRY_RUN,
        )
        for handler in (schedules.pause, schedules.resume)
    ],
    Route(
        "POST", _SCHEDULE + "/trigger", "submit", schedules.trigger, None, TaskView, 201,
        _RUN_SCHEDULE, query=_DRY_RUN,
    ),
    Route(
        "POST", _SCHEDULE + "/backfill", "operate", schedules.backfill, scheduling.BackfillRequest,
        scheduling.BackfillView, problems=(*_RUN_SCHEDULE, "modified", "task-running", "invalid"),
        query=_DRY_RUN,
    ),
    Route(
        "GET", _SCHEDULE + "/slots", "read", schedules.slots, None, schedule_views.SlotPage,
        problems=_UNKNOWN_SCHEDULE, query=("limit", "cursor", *_POLL),
    ),
    Route(
        "GET", "/v1/forecast", "read", forecasts.forecast, None, forecasts.ForecastView,
        problems=("invalid",), query=("from", "to", "limit", "cursor", *_READ),
    ),
    Route(
        "GET", "/v1/templates", "read", templates.listing, None, templates.TemplatePage,
        query=("limit", "cursor", *_POLL),
    ),
    Route(
        "GET", _TEMPLATE, "read", templates.get, None, templates.TemplateView,
        problems=_UNKNOWN_TEMPLATE, query=_POLL,
    ),
    Route(
        "PUT", _TEMPLATE, "submit", templates.put, TemplateRequest, templates.TemplateView,
        problems=_PUT_TEMPLATE, query=_DRY_RUN,
    ),
    Route(
        "DELETE", _TEMPLATE, "operate", templates.delete, status=204,
        problems=("unknown-template", "modified", "needs-version"), query=_DRY_RUN,
    ),
    Route(
        "POST", _TEMPLATE + "/run", "submit", templates.run, templates.RunRequest, TaskView, 201,
        (*_UNKNOWN_TEMPLATE, *_SUBMIT), query=_DRY_RUN, operation="templates_run",
    ),
    Route("GET", "/v1/cluster", "read", cluster.cluster),
    Route(
        "POST", "/v1/cluster/leader:transfer", "admin", cluster.transfer, cluster.TransferRequest,
        query=_DRY_RUN,
    ),
    Route(
        "POST", "/v1/cluster:verify", "admin", checks.check, None, checks.CheckView,
        problems=("needs-version",), query=("wait",),
    ),
    Route(
        "POST", "/v1/cluster/clock:reset", "admin", clock.reset, clock.ResetRequest,
        problems=("invalid", "needs-version"), query=_DRY_RUN,
    ),
    Route("GET", "/v1/cluster/peers", "read", peers.listing, None, peers.MembersView),
    Route(
        "POST", "/v1/cluster/peers", "admin", peers.add, peers.AddRequest, peers.MembersView,
        problems=_CHANGE, query=("wait", *_DRY_RUN),
    ),
    Route(
        "DELETE", "/v1/cluster/peers/{id}", "admin", peers.remove, None, peers.MembersView,
        problems=_CHANGE, query=("wait", *_DRY_RUN),
    ),
    Route("GET", "/v1/agent", "admin", cluster.agent),
    Route("GET", "/v1/agent/config", "admin", cluster.agent_config),
    Route("GET", "/v1/problems", "none", cluster.problems),
    Route("GET", "/v1/problems/{code}", "none", cluster.problem, problems=("not-found",)),
    Route("GET", "/v1/openapi.json", "none", openapi.document),
    Route("GET", "/health/live", "none", cluster.live),
    Route("GET", "/health/ready", "none", cluster.ready, problems=_READY),
    Route("GET", "/health/leader", "none", cluster.leader, problems=_NO_LEADER),
    Route("GET", "/metrics", "none", cluster.metrics),
)  # fmt: skip
