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
from raftsched.api.views import node_view
from raftsched.core.commands import AnyCommand, DrainNode, SetNodeLabels
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
    asked: LabelsRequest = decode(_labels, await body_of(request) or b"{}")
    for name, value in asked.labels.items():
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            text = "a label has a simple name, and a value without white space"
            raise Problem("invalid", text, pointer="/labels" + pointer_of(name))
    node_id = request.match_info["id"]
    return await _change(context, request, node_id, SetNodeLabels(node_id, asked.labels))


async def drain(context: Context, request: web.Request) -> web.StreamResponse:
    """Give a node nothing new, and move what it holds elsewhere; undone by uncordon."""
    asked: DrainRequest = decode(_drains, await body_of(request) or b"{}")
    patience_ms = milliseconds(asked.patience, "/patience")
    node_id = request.match_info["id"]
    return await _change(context, request, node_id, DrainNode(node_id, patience_ms))


async def _change(
    context: Context, request: web.Request, node_id: str, command: AnyCommand
) -> web.Response:
    if flag(request, "dry_run"):
        await context.service.read()
    nodes = context.service.state.nodes
    if node_id not in nodes:
        await context.service.read()
        if node_id not in nodes:
            raise unknown_node(node_id, nodes)
    if flag(request, "dry_run"):
        return context.answer({"valid": True})
    await context.propose(command)
    state = context.service.state
    return context.answer(node_view(state, state.nodes[node_id]))
