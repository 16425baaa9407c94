"""Task documents that say a template instead of what runs: filled in by the accepting peer."""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.api.context import decode
from raftsched.api.defaults import merged
from raftsched.api.documents import TaskRequest, Use
from raftsched.api.problems import Problem
from raftsched.api.template_documents import FILLED_MAX, filled
from raftsched.core.state import State
from raftsched.core.template import Template

#: Templates that are named when the one that is asked for is not there.
NAMED_MAX = 20
#: What a template says, and nothing beside it.
_RUNS = ("command", "http", "python", "map", "workflow")

_requests = msgspec.json.Decoder(TaskRequest)
_plain = msgspec.json.Decoder(dict[str, Any])
_json = msgspec.json.Encoder()


def uses_templates(request: TaskRequest) -> bool:
    """Does it, or a task within it, say a template?"""
    if request.template is not None:
        return True
    if request.map is not None:
        return uses_templates(request.map.task)
    return request.workflow is not None and any(map(uses_templates, request.workflow.tasks))


def expanded(state: State, data: bytes, name: str = "") -> tuple[TaskRequest, bytes]:
    """The request with what its templates say, and its document.

    What stands beside a template is stronger; ``name`` is that of a task without one.  Raises
    Problem.
    """
    try:
        document = _Expansion(state).of(_plain.decode(data), "")
        if name and not document.get("name"):
            document["name"] = name
        elif not document.get("name"):
            document["name"] = (document.get("template") or {}).get("name", "")
        whole = _json.encode(document)
    except RecursionError:
        raise Problem("invalid", "it is nested too deep", pointer="/") from None
    return decode(_requests, whole), whole


class _Expansion:
    """All templates of one submission, which share one bound."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._room = FILLED_MAX

    def of(self, document: dict[str, Any], pointer: str) -> dict[str, Any]:
        """A task document without templates, but for the names of those it was made of."""
        if document.get("template") is not None:
            return self._filled(document, pointer)
        over, flow = document.get("map"), document.get("workflow")
        if over is not None:
            task = self.of(over["task"], f"{pointer}/map/task")
            return {**document, "map": {**over, "task": task}}
        if flow is not None:
            tasks = [
                self.of(task, f"{pointer}/workflow/tasks/{number}")
                for number, task in enumerate(flow["tasks"])
            ]
            return {**document, "workflow": {**flow, "tasks": tasks}}
        return document

    def _filled(self, document: dict[str, Any], pointer: str) -> dict[str, Any]:
        use = msgspec.convert(document["template"], Use)
        for field in _RUNS:
            if document.get(field) is not None:
                text = f"template {use.name} says what runs"
                raise Problem("invalid", text, pointer=f"{pointer}/{field}")
        row = self._row(use, f"{pointer}/template")
        where = f"{pointer}/template/parameters"
        found, self._room = filled(row, use, where, self._room)
        beside = {field: value for field, value in document.items() if field != "template"}
        made: dict[str, Any] = merged(found, beside)
        return {**made, "template": {"name": row.name, "version": row.version}}

    def _row(self, use: Use, pointer: str) -> Template:
        row = self._state.templates.get(use.name)
        if row is None:
            known = sorted(name for name, _ in self._state.templates.items())
            more = ", ..." if len(known) > NAMED_MAX else ""
            said = f"there are {', '.join(known[:NAMED_MAX])}{more}" if known else "there are none"
            text = f"there is no template {use.name!r}; {said}"
            raise Problem("invalid", text, pointer=f"{pointer}/name")
        if use.version and use.version != row.version:
            text = f"template {row.name} has version {row.version}, not {use.version}"
            raise Problem("modified", text, pointer=f"{pointer}/version")
        return row
