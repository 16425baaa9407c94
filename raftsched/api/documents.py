"""The task document of a request, checked, and the row it asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from raftsched.api.problems import Problem
from raftsched.core.model import NewTask, TaskSpec
from raftsched.core.planner import STRATEGIES
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


def parse_duration(value: Duration) -> int:
    """``"30s"``, ``"5m"`` or seconds to milliseconds; ValueError says what is allowed."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        milliseconds = float(match[1]) * _UNITS_MS[match[2]] if match else -1.0
    else:
        milliseconds = value * 1000
    if not 0 <= milliseconds <= DURATION_MS_MAX:
        raise ValueError(f'{value!r} is no duration; write "30s", "5m" or seconds')
    return round(milliseconds)


def to_new_task(request: TaskRequest, task_id: str) -> NewTask:
    """The row a submission carries.  Raises Problem."""
    command = request.command
    if isinstance(command, str):
        if not request.shell:
            raise Problem(
                "invalid",
                'a line needs "shell": true; otherwise write a list of arguments',
                pointer="/command",
            )
        command = [command]
    elif request.shell and len(command) != 1:
        raise Problem("invalid", 'with "shell" give exactly one line', pointer="/command")
    _check_texts(request, command)
    if request.placement.strategy not in STRATEGIES:
        raise Problem(
            "invalid",
            f"unknown strategy; known: {', '.join(sorted(STRATEGIES))}",
            pointer="/placement/strategy",
        )
    spec = TaskSpec(
        command=tuple(command),
        name=request.name,
        shell=request.shell,
        env=request.env,
        cwd=request.cwd,
        stdin=request.stdin,
        timeout_ms=_checked(parse_duration, request.timeout, "/timeout"),
        grace_ms=_checked(parse_duration, request.grace, "/grace"),
        labels=request.labels,
    )
    resources = request.resources
    return NewTask(
        task_id,
        _encoder.encode(spec),
        request.queue,
        request.priority,
        _checked(parse_cpu, resources.cpu, "/resources/cpu"),
        _checked(parse_bytes, resources.memory, "/resources/memory"),
        request.placement.strategy,
        request.retry.max_attempts,
    )


def _check_texts(request: TaskRequest, command: list[str]) -> None:
    """Lengths, and what the system calls that start a program do not take."""
    words = "".join(command)
    size = _bytes(words) + _bytes(request.stdin)
    variables = ""
    if request.env:
        variables = "".join([*request.env, *request.env.values()])
        size += _bytes(variables)
    if size > ARGUMENTS_BYTES_MAX:
        raise Problem(
            "too-large",
            f"command, env and stdin have {size} bytes, {ARGUMENTS_BYTES_MAX} are allowed; "
            "store the data elsewhere and pass a reference",
            pointer="/command",
        )
    for field, text in (("command", words), ("env", variables), ("cwd", request.cwd)):
        if "\0" in text:
            raise Problem("invalid", "a NUL character is not allowed", pointer=f"/{field}")
    if not command[0]:
        raise Problem("invalid", "the program has no name", pointer="/command/0")
    if request.env and any("=" in name or not name for name in request.env):
        raise Problem("invalid", "a variable's name has no '='", pointer="/env")


def _bytes(text: str) -> int:
    """Length in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def _checked(parse: Callable[[Any], int], value: Any, pointer: str) -> int:
    """The number a field stands for; most fields have their default, 0."""
    if value == 0:
        return 0
    try:
        number = parse(value)
    except ValueError as error:
        raise Problem("invalid", str(error), pointer=pointer) from None
    if not 0 <= number <= ROW_INTEGER_MAX:
        raise Problem("invalid", f"{value!r} is negative or too large", pointer=pointer)
    return number


_encoder = msgspec.msgpack.Encoder()
