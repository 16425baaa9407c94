"""Rows as JSON documents, and the task document of a request as rows."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any

import msgspec

from raftsched.api.problems import Problem
from raftsched.core.model import Attempt, NewTask, Node, Task, TaskSpec
from raftsched.core.planner import STRATEGIES
from raftsched.core.state import State
from raftsched.peer.config import parse_bytes, parse_cpu

#: Bounds on one task document.
ARGUMENTS_BYTES_MAX = 64 * 1024
ENV_MAX = 256
LABELS_MAX = 64
DURATION_MS_MAX = 366 * 24 * 3_600_000
#: Largest number a row holds; more could not be encoded into an entry.
ROW_INTEGER_MAX = (1 << 63) - 1

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# ``$`` alone would let a line feed at the end through.
_ID = r"^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$(?!\n)"

Name = Annotated[str, msgspec.Meta(max_length=200)]
Word = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$(?!\n)")]
Duration = str | int | float


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a task needs of its node."""

    #: Cores: ``0.5`` or ``"0.5"``.
    cpu: str | float = 0
    #: ``"256MiB"`` or bytes.
    memory: str | int = 0


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a node is chosen."""

    strategy: str = "spread"


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a task that fails is tried."""

    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1


class TaskRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The task document of a submission."""

    #: Program and arguments.
    command: Annotated[list[str], msgspec.Meta(min_length=1, max_length=4096)] | str
    id: Annotated[str, msgspec.Meta(pattern=_ID)] | None = None
    name: Name = ""
    namespace: Word = "default"
    queue: Word = "default"
    priority: Annotated[int, msgspec.Meta(ge=0, le=100)] = 50
    labels: Annotated[dict[str, str], msgspec.Meta(max_length=LABELS_MAX)] = {}
    #: True: ``command`` is one line for ``/bin/sh``.
    shell: bool = False
    env: Annotated[dict[str, str], msgspec.Meta(max_length=ENV_MAX)] = {}
    cwd: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    stdin: str = ""
    timeout: Duration = 0
    grace: Duration = 10
    retry: Retry = Retry()
    resources: Resources = Resources()
    placement: Placement = Placement()


def parse_duration(value: Duration, pointer: str) -> int:
    """``"30s"``, ``"5m"`` or seconds to milliseconds."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        milliseconds = float(match[1]) * _UNITS_MS[match[2]] if match else -1.0
    else:
        milliseconds = value * 1000
    if not 0 <= milliseconds <= DURATION_MS_MAX:
        raise Problem(
            "invalid", f'{value!r} is no duration; write "30s", "5m" or seconds', pointer=pointer
        )
    return round(milliseconds)


def to_new_task(request: TaskRequest, task_id: str, at: str = "") -> NewTask:
    """The row a submission carries.  ``at`` is the pointer of the document.  Raises Problem."""
    command = request.command
    if isinstance(command, str):
        if not request.shell:
            raise Problem(
                "invalid",
                'a line needs "shell": true; otherwise write a list of arguments',
                pointer=f"{at}/command",
            )
        command = [command]
    elif request.shell and len(command) != 1:
        raise Problem("invalid", 'with "shell" give exactly one line', pointer=f"{at}/command")
    size = sum(len(part) for part in command) + len(request.stdin)
    size += sum(len(k) + len(v) for k, v in request.env.items())
    if size > ARGUMENTS_BYTES_MAX:
        raise Problem(
            "too-large",
            f"command, env and stdin have {size} characters, {ARGUMENTS_BYTES_MAX} are allowed; "
            "store the data elsewhere and pass a reference",
            pointer=f"{at}/command",
        )
    for field, texts in (
        ("command", command),
        ("env", [*request.env, *request.env.values()]),
        ("cwd", [request.cwd]),
    ):
        if any("\0" in text for text in texts):
            raise Problem("invalid", "a NUL character is not allowed", pointer=f"{at}/{field}")
    if not command[0]:
        raise Problem("invalid", "the program has no name", pointer=f"{at}/command/0")
    if any("=" in name or not name for name in request.env):
        raise Problem("invalid", "a variable's name has no '='", pointer=f"{at}/env")
    if request.placement.strategy not in STRATEGIES:
        raise Problem(
            "invalid",
            f"unknown strategy; known: {', '.join(sorted(STRATEGIES))}",
            pointer=f"{at}/placement/strategy",
        )
    spec = TaskSpec(
        command=tuple(command),
        name=request.name,
        shell=request.shell,
        env=request.env,
        cwd=request.cwd,
        stdin=request.stdin,
        timeout_ms=parse_duration(request.timeout, f"{at}/timeout"),
        grace_ms=parse_duration(request.grace, f"{at}/grace"),
        labels=request.labels,
    )
    return NewTask(
        task_id,
        _encoder.encode(spec),
        request.queue,
        request.priority,
        _checked(parse_cpu, request.resources.cpu, f"{at}/resources/cpu"),
        _checked(parse_bytes, request.resources.memory, f"{at}/resources/memory"),
        request.placement.strategy,
        request.retry.max_attempts,
    )


_encoder = msgspec.msgpack.Encoder()
_specs = msgspec.msgpack.Decoder(TaskSpec)


def _checked(parse: Any, value: Any, pointer: str) -> int:
    try:
        number: int = parse(value)
    except ValueError as error:
        raise Problem("invalid", str(error), pointer=pointer) from None
    if not 0 <= number <= ROW_INTEGER_MAX:
        raise Problem("invalid", f"{value!r} is negative or too large", pointer=pointer)
    return number


def instant(milliseconds: int) -> str | None:
    """RFC 3339, UTC; None for "not yet"."""
    if not milliseconds:
        return None
    moment = dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


def task_document(state: State, task: Task) -> dict[str, Any]:
    """A task as users see it."""
    spec = _specs.decode(task.spec)
    latest = task.attempts[-1] if task.attempts else None
    return {
        "id": task.id,
        "name": spec.name,
        "namespace": task.namespace,
        "queue": task.queue,
        "priority": task.priority,
        "labels": spec.labels,
        "command": list(spec.command),
        "shell": spec.shell,
        "env": spec.env,
        "cwd": spec.cwd,
        "stdin": spec.stdin,
        "timeout": spec.timeout_ms / 1000,
        "grace": spec.grace_ms / 1000,
        "retry": {"max_attempts": task.attempts_max},
        "resources": {"cpu": task.cpu_milli / 1000, "memory": task.memory_bytes},
        "placement": {"strategy": task.strategy},
        "state": task.status.value,
        "reason": task.reason,
        "paused": task.paused,
        "attempt": task.attempt,
        "attempts_max": task.attempts_max,
        "losses": task.losses,
        "node": task.node or None,
        "token": task.token or None,
        "exit_code": latest.exit_code if latest else None,
        "signal": (latest.signal or None) if latest else None,
        "output_tail": latest.output_tail.decode("utf-8", "replace") if latest else "",
        "output_bytes": latest.output_bytes if latest else 0,
        "created_at": instant(task.created_at),
        "started_at": instant(task.started_at),
        "finished_at": instant(task.finished_at),
        "create_index": task.create_index,
        "modify_index": task.modify_index,
    }


def attempt_document(attempt: Attempt) -> dict[str, Any]:
    """An attempt as users see it."""
    return {
        "number": attempt.number,
        "token": attempt.token,
        "node": attempt.node,
        "incarnation": attempt.incarnation,
        "status": attempt.status.value,
        "reason": attempt.reason,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal or None,
        "assigned_at": instant(attempt.assigned_at),
        "started_at": instant(attempt.started_at),
        "finished_at": instant(attempt.finished_at),
        "output_tail": attempt.output_tail.decode("utf-8", "replace"),
        "output_bytes": attempt.output_bytes,
    }


def node_document(state: State, node: Node) -> dict[str, Any]:
    """A node as users see it."""
    usage = state.usage[node.id]
    return {
        "id": node.id,
        "status": node.status.value,
        "eligibility": node.eligibility.value,
        "reason": node.reason,
        "address": node.address,
        "incarnation": node.incarnation,
        "version": node.version,
        "labels": node.labels,
        "slots": node.slots,
        "attempts": usage.attempts,
        "cpu": node.cpu_milli / 1000,
        "cpu_milli": node.cpu_milli,
        "cpu_used": usage.cpu_milli / 1000,
        "memory_bytes": node.memory_bytes,
        "memory_used": usage.memory_bytes,
        "registered_at": instant(node.registered_at),
        "status_since": instant(node.status_since),
        "modify_index": node.modify_index,
    }
