"""The parameters of queries: which there are, and that none is ignored without a word."""

from __future__ import annotations

from typing import Any, NamedTuple

from aiohttp import web

from raftsched.api.problems import Problem


class Parameter(NamedTuple):
    """One parameter; it means the same on all routes that take it."""

    text: str
    #: Of its value, as JSON Schema.
    schema: dict[str, Any]


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean", "default": False}
_INSTANT = {"type": "string", "format": "date-time"}
_SLOTS = {"type": "integer", "minimum": 1, "maximum": 100, "default": 10}

PARAMETERS: dict[str, Parameter] = {
    "after": Parameter("Instants after this one (now)", _INSTANT),
    "atomic": Parameter("All tasks or none, in one entry", _FLAG),
    "consistency": Parameter(
        "`local` reads what this peer has, which may be old",
        {"enum": ["linearizable", "local"], "default": "linearizable"},
    ),
    "cursor": Parameter("`next_cursor` of the page before", _TEXT),
    "dry_run": Parameter("Check only, change nothing", _FLAG),
    "follow": Parameter("Go on until the attempt has ended", _FLAG),
    "from": Parameter("Instants from this one on (now)", _INSTANT),
    "index": Parameter("Answer once there is a change after this index", _COUNT),
    "label": Parameter("Tasks with this label, as `key:value`; may be repeated", _TEXT),
    "limit": Parameter(
        "Items of a page", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
    ),
    "min_index": Parameter("Read a state at least as new as this index", _COUNT),
    "n": Parameter("So many instants", _SLOTS),
    "node": Parameter("Tasks whose latest attempt is of this node", _TEXT),
    "parent": Parameter("Subtasks of this task", _TEXT),
    "offset": Parameter("Bytes of the output to pass over", _COUNT),
    "q": Parameter("Tasks with this in their name", _TEXT),
    "queue": Parameter("Tasks of this queue", _TEXT),
    "schedule": Parameter("Tasks that this schedule made", _TEXT),
    "since": Parameter("Tasks created at this instant or later", _INSTANT),
    "state": Parameter("Tasks in one of these states, with commas between", _TEXT),
    "stream": Parameter("Which of the streams; they are kept together", {"enum": ["combined"]}),
    "tail": Parameter("Only so many bytes at the end of the output", _COUNT),
    "tasks": Parameter("End its tasks, too", _FLAG),
    "to": Parameter("Instants before this one (a day later)", _INSTANT),
    "until": Parameter("Tasks created before this instant", _INSTANT),
    "wait": Parameter("Longest wait, such as `30s`; at most a minute", _TEXT),
}


def check_names(request: web.Request, taken: tuple[str, ...]) -> None:
    """Raises Problem for a parameter that the route does not take."""
    unknown = sorted(set(request.query) - set(taken))
    if not unknown:
        return
    known = f"known: {', '.join(sorted(taken))}" if taken else "there are none"
    errors = [
        {"pointer": f"?{name}", "message": f"no parameter of this address; {known}"}
        for name in unknown
    ]
    names = ", ".join(repr(name) for name in unknown)
    raise Problem(
        "invalid", f"{names}: no parameter of this address; {known}", extra={"errors": errors}
    )
