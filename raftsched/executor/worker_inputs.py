"""The arguments of a call, with what became of the tasks that its task depends on in their place.

``"{input}"`` as an argument, or anywhere within one, is the value of the first of these tasks,
``"{inputs}"`` the list of the values of all.  The value of a task is its result, of one that was
split the list of the results of its subtasks; None is that of what did not succeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from raftsched.app import App, Context
from raftsched.executor.worker import decode_json
from raftsched.executor.worker_messages import Call
from raftsched.flows import INPUT, INPUTS, value_of

_PLACES = (b'"{input}"', b'"{inputs}"')


def has_places(call: Call) -> bool:
    """Is there something to fill?  Only in calls of tasks that depend on others."""
    return bool(call.inputs) and any(p in call.args or p in call.kwargs for p in _PLACES)


def arguments_of(call: Call, app: App, context: Context) -> tuple[Any, Any]:
    """Positional ones and those by name.  Raises OSError, or ClientError for a result that is gone.

    Waits for large results, which are fetched from the peers.
    """
    args = () if call.args == b"[]" else decode_json(call.args)
    kwargs = {} if call.kwargs == b"{}" else decode_json(call.kwargs)
    if not has_places(call):
        return args, kwargs
    values = values_of(context.inputs(), app)
    return _filled(args, values), _filled(kwargs, values)


def values_of(lines: Iterable[Mapping[str, Any]], app: App) -> list[Any]:
    """The value of each task that is depended on."""

    def fetch(task_id: str) -> Any:
        return app.client.result(task_id)

    values: list[Any] = []
    for line in lines:
        if "of" in line:
            values[-1].append(value_of(line, fetch))
        else:
            values.append([] if line["split"] else value_of(line, fetch))
    return values


def _filled(value: Any, values: list[Any]) -> Any:
    if value == INPUT:
        return values[0] if values else None
    if value == INPUTS:
        return values
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    if isinstance(value, dict):
        return {name: _filled(one, values) for name, one in value.items()}
    return value
