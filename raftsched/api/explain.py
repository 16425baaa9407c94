"""Why a task does not run, for users."""

from __future__ import annotations

import msgspec
from aiohttp import web

from raftsched.api.context import Context
from raftsched.api.tasks import known_task
from raftsched.api.times import instant
from raftsched.core.explain import Blocker, Explanation, NodeAnswer, Verdict, explain
from raftsched.core.model import TaskStatus
from raftsched.core.state import State


class BlockerView(msgspec.Struct, frozen=True):
    """One thing in the way."""

    kind: str
    text: str
    #: The queue, the limit or the task it is about.
    name: str | None
    #: When time alone takes it away.
    until: str | None


class NodeAnswerView(msgspec.Struct, frozen=True):
    """What a node has to say."""

    node: str
    #: A stable word; null: the task may go there.
    reason: str | None
    text: str


class ExplainView(msgspec.Struct, frozen=True):
    """Why a task does not run, or that it does."""

    task: str
    state: TaskStatus
    verdict: Verdict
    text: str
    blockers: list[BlockerView]
    nodes: list[NodeAnswerView]
    #: Ready tasks before it; null: it is not ready, or too far behind to count.
    position: int | None
    index: int


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """Why a task does not run: what is in its way, node by node, and its position."""
    task_id = request.match_info["id"]
    state = await context.state(request, task_id)
    return context.answer(explained(context, state, task_id))


def explained(context: Context, state: State, task_id: str) -> ExplainView:
    """Why a task does not run.  Raises Problem."""
    task = known_task(context, task_id)
    found = explain(state, task, context.now_ms())
    return _view(task.id, task.status, found, state.index)


def _view(task_id: str, status: TaskStatus, found: Explanation, index: int) -> ExplainView:
    return ExplainView(
        task_id, status, found.verdict, found.text,
        [_blocker(blocker) for blocker in found.blockers],
        [_node(answer) for answer in found.nodes],
        found.position, index,
    )  # fmt: skip


def _blocker(blocker: Blocker) -> BlockerView:
    return BlockerView(blocker.kind, blocker.text, blocker.name or None, instant(blocker.until))


def _node(answer: NodeAnswer) -> NodeAnswerView:
    reason = None if answer.reason is None else str(answer.reason)
    return NodeAnswerView(answer.node_id, reason, answer.text)
