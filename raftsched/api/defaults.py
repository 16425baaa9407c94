"""What a queue's tasks ask for when their documents do not say it themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from raftsched.api.context import decode
from raftsched.api.documents import TaskRequest, to_new_task
from raftsched.api.problems import Problem
from raftsched.core.state import State

#: Bytes of one queue's defaults.
DEFAULTS_BYTES_MAX = 16 * 1024
#: What a task is and runs is its own.
_OWN = ("id", "namespace", "queue", "command", "http", "python", "unique", "template")

_plain = msgspec.json.Decoder()
_requests = msgspec.json.Decoder(TaskRequest)
_json = msgspec.json.Encoder()


def merged(document: Any, patch: Any) -> Any:
    """RFC 7396, JSON Merge Patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def with_defaults(state: State, parsed: TaskRequest, document: bytes) -> TaskRequest:
    """The request with what its queue says for it.  Raises Problem."""
    queue = state.queues.get(parsed.queue)
    if queue is None or not queue.defaults:
        return parsed
    whole: TaskRequest = decode(_requests, _whole(queue.defaults, document))
    return whole


def _whole(defaults: bytes, document: bytes) -> bytes:
    return _json.encode(merged(_plain.decode(defaults), _plain.decode(document)))


def checked_defaults(defaults: dict[str, Any]) -> bytes:
    """The defaults as they are stored.  Raises Problem for what no task could ask for."""
    if not defaults:
        return b""
    for name in _OWN:
        if name in defaults:
            raise Problem("invalid", "every task says this itself", pointer=f"/defaults/{name}")
    try:
        data = _json.encode(defaults)
        to_new_task(decode(_requests, _json.encode({**defaults, "command": ["x"]})), "x")
    except RecursionError:
        raise Problem("invalid", "it is nested too deep", pointer="/defaults") from None
    except Problem as problem:
        pointer = "/defaults" + problem.pointer.rstrip("/")
        raise Problem(problem.code, problem.detail, pointer=pointer) from None
    if len(data) > DEFAULTS_BYTES_MAX:
        raise Problem(
            "too-large", f"defaults may have {DEFAULTS_BYTES_MAX} bytes", pointer="/defaults"
        )
    return data
