"""Routes that change a node: its labels at run time, and its way out."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from aiohttp import web

from raftsched.api.checked import milliseconds
from raftsched.api.context import Context, body_of, decode, flag, pointer_of
from raftsched.api.problems import Problem, unknown_node
from raftsched.api.times import Duration
from raftsched.api.views import NodeView, node_view
from raftsched.core.commands import DrainNode, SetNodeLabels
from raftsched.core.handlers.nodes import LABELS_MAX

#: As constraints can name them (``constraints``).
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._/-]{0,127}")
_VALUE = re.compile(r"[0-9A-Za-z._/:@+-]{0,255}")


class LabelsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All labels that the node is given at run time; they are stronger than its own."""

    labels: Annotated[dict[str, str], msgspec.Meta(max_length=LABELS_MAX)] = {}


class DrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long what runs may go on before the node takes it back; 0: not at all."""

    patience: Duration = 0


_labels = msgspec.json.Decoder(LabelsRequest)
_drains = msgspec.json.Decoder(DrainRequest)


async def labels(context: Context, request: web.Request) -> web.StreamResponse:
    """Replace the labels that a node was given at run time."""
    body = await body_of(request) or b"{}"
    return await _change(context, request, labels_command(request.match_info["id"], body))


def labels_command(node_id: str, body: bytes) -> SetNodeLabels:
    """What gives a node the labels of a document.  Raises Problem."""
    asked: LabelsRequest = decode(_labels, body)
    for name, value in asked.labels.items():
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            text = "a label has a simple name, and a value without white space"
            raise Problem("invalid", text, pointer="/labels" + pointer_of(name))
    return SetNodeLabels(node_id, asked.labels)


async def drain(context: Context, request: web.Request) -> web.StreamResponse:
    """Give a node nothing new, and move what it holds elsewhere; undone by uncordon."""
    body = await body_of(request) or b"{}"
    return await _change(context, request, drain_command(request.match_info["id"], body))


def drain_command(node_id: str, body: bytes) -> DrainNode:
    """What drains a node with the patience of a document.  Raises Problem."""
    asked: DrainRequest = decode(_drains, body)
    return DrainNode(node_id, milliseconds(asked.patience, "/patience"))


async def _change(
    context: Context, request: web.Request, command: SetNodeLabels | DrainNode
) -> web.Response:
    if flag(request, "dry_run"):
        nodes = (await context.read()).nodes
        if command.node_id not in nodes:
            raise unknown_node(command.node_id, nodes)
        return context.answer({"valid": True})
    return context.answer(await change(context, command))


async def change(context: Context, command: SetNodeLabels | DrainNode) -> NodeView:
    """The node once it is changed.  Raises Problem or PeerError."""
    node_id, nodes = command.node_id, context.service.state.nodes
    if node_id not in nodes:
        await context.read()
        if node_id not in nodes:
            raise unknown_node(node_id, nodes)
    await context.propose(command)
    return shown(context, node_id)


def shown(context: Context, node_id: str) -> NodeView:
    """A node as users see it.  Raises Problem."""
    state = context.service.state
    node = state.nodes.get(node_id)
    if node is None:
        raise unknown_node(node_id, state.nodes)
    return node_view(state, node)
