"""Headers that carry secrets, in task documents that are kept and shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftsched.api.places import is_place
from raftsched.api.views import HIDDEN, shown_header

#: Gets where the request stands in the document, the header's name and its value.
_Change = Callable[[tuple[str, ...], str, Any], Any]


def hidden(document: Any) -> Any:
    """The document as it is shown; a place for a parameter is none of the secrets."""
    return _mapped(document, (), lambda _, name, value: _shown(name, value))


def restored(document: Any, known: Any) -> Any:
    """The document with the secrets of ``known`` where what was shown for them stands."""
    secrets: dict[tuple[tuple[str, ...], str], Any] = {}

    def collect(where: tuple[str, ...], name: str, value: Any) -> Any:
        secrets[where, name] = value
        return value

    def restore(where: tuple[str, ...], name: str, value: Any) -> Any:
        return secrets.get((where, name), value) if value == HIDDEN else value

    _mapped(known, (), collect)
    return _mapped(document, (), restore)


def _shown(name: str, value: Any) -> Any:
    return value if is_place(value) else shown_header(name, value)


def _mapped(document: Any, where: tuple[str, ...], change: _Change) -> Any:
    """A copy with other values of headers, those of tasks within the task too."""
    if not isinstance(document, dict):
        return document
    result = dict(document)
    http, over, flow = (document.get(name) for name in ("http", "map", "workflow"))
    if isinstance(http, dict) and isinstance(http.get("headers"), dict):
        headers = {name: change(where, name, value) for name, value in http["headers"].items()}
        result["http"] = {**http, "headers": headers}
    if isinstance(over, dict) and "task" in over:
        result["map"] = {**over, "task": _mapped(over["task"], (*where, "map"), change)}
    if isinstance(flow, dict) and isinstance(flow.get("tasks"), list):
        tasks = [_mapped(task, (*where, _name(task)), change) for task in flow["tasks"]]
        result["workflow"] = {**flow, "tasks": tasks}
    return result


def _name(task: Any) -> str:
    return str(task.get("name")) if isinstance(task, dict) else ""
