"""What a task document says is to be run: a command, an HTTP request, or a Python function."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec

from raftsched.api.checked import checked, milliseconds
from raftsched.api.problems import Problem
from raftsched.core.spec import NO_LIMITS, HttpCall, ProcessLimits, PythonCall, TaskSpec
from raftsched.peer.config import parse_bytes

if TYPE_CHECKING:
    from raftsched.api.documents import TaskRequest

#: Of command, env, stdin, body and arguments together.
ARGUMENTS_BYTES_MAX = 64 * 1024
HEADERS_MAX = 64
REDIRECTS_MAX = 20

_METHOD = r"^[A-Z]{1,16}$(?!\n)"
_FUNCTION = r"^[A-Za-z_][\w.]{0,199}:[A-Za-z_][\w.]{0,199}$(?!\n)"
_HEADER = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]{1,100}")

Status = Annotated[int, msgspec.Meta(ge=100, le=599)]
Argv = Annotated[list[str], msgspec.Meta(max_length=4096)]


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request that the attempt makes."""

    url: Annotated[str, msgspec.Meta(max_length=8192)]
    method: Annotated[str, msgspec.Meta(pattern=_METHOD)] = "GET"
    headers: Annotated[dict[str, str], msgspec.Meta(max_length=HEADERS_MAX)] = {}
    #: A text as it is; anything else as JSON.
    body: Any = None
    #: Status codes that are a success; empty: 200 to 299.
    expect: Annotated[list[Status], msgspec.Meta(max_length=64)] = []
    redirects: Annotated[int, msgspec.Meta(ge=0, le=REDIRECTS_MAX)] = 5
    #: False: take a certificate that cannot be verified.
    verify: bool = True


class Python(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function of an application that the node serves."""

    #: ``module:function``.
    function: Annotated[str, msgspec.Meta(pattern=_FUNCTION)]
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Rlimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the kernel lets each process of a command have; 0: as the node has it."""

    memory: str | int = 0
    #: Seconds of processor time.
    cpu: str | int | float = 0
    open_files: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 0
    processes: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 0


NO_RLIMITS = Rlimits()
_json = msgspec.json.Encoder()


def spec_of(request: TaskRequest) -> TaskSpec:
    """What runs.  Raises Problem."""
    command = _command(request)
    http = None if request.http is None else _http(request.http)
    python = None if request.python is None else _python(request.python)
    _check_texts(request, command, http, python)
    return TaskSpec(
        command,
        request.name,
        request.shell,
        request.env,
        request.cwd,
        request.stdin,
        milliseconds(request.timeout, "/timeout"),
        milliseconds(request.grace, "/grace"),
        request.labels,
        http,
        python,
        tuple(request.before) if request.before else (),
        tuple(request.after) if request.after else (),
        request.user,
        request.group,
        _umask(request.umask) if request.umask else -1,
        request.nice,
        NO_LIMITS if request.rlimits is NO_RLIMITS else _limits(request.rlimits),
        origin=_origin(request),
    )


def _origin(request: TaskRequest) -> str:
    """The template that was filled in, and its version."""
    use = request.template
    return "" if use is None else f"{use.name}@{use.version}"


def _command(request: TaskRequest) -> tuple[str, ...]:
    command = request.command
    kinds = {
        "command": command,
        "http": request.http,
        "python": request.python,
        "map": request.map,
        "workflow": request.workflow,
    }
    given = [name for name, kind in kinds.items() if kind is not None] or ["command"]
    if len(given) > 1 or kinds[given[0]] is None:
        raise Problem(
            "invalid",
            'give exactly one of "command", "http", "python", "map", "workflow" and "template"',
            pointer=f"/{given[-1]}",
        )
    if command is None:
        return ()
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
    if not command[0]:
        raise Problem("invalid", "the program has no name", pointer="/command/0")
    return tuple(command)


def _http(http: Http) -> HttpCall:
    try:
        url = urlsplit(http.url)
        is_good = url.scheme in ("http", "https") and bool(url.hostname)
        is_good = is_good and url.port != 0 and http.url.isprintable() and " " not in http.url
    except ValueError:
        is_good = False
    if not is_good:
        raise Problem("invalid", "an http:// or https:// address is needed", pointer="/http/url")
    if url.username is not None or url.password is not None:
        raise Problem(
            "invalid", "a name or password goes into a header, not here", pointer="/http/url"
        )
    for name, value in http.headers.items():
        if not _HEADER.fullmatch(name) or not (value.isprintable() or not value):
            raise Problem("invalid", f"{name[:100]!r} is no header", pointer="/http/headers")
    headers, body = dict(sorted(http.headers.items())), b""
    if isinstance(http.body, str):
        body = http.body.encode()
    elif http.body is not None:
        body = _json.encode(http.body)
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
    return HttpCall(
        http.url, http.method, headers, body, tuple(sorted(set(http.expect))), http.redirects,
        http.verify,
    )  # fmt: skip


def _python(python: Python) -> PythonCall:
    return PythonCall(python.function, _json.encode(python.args), _json.encode(python.kwargs))


def _umask(text: str) -> int:
    try:
        value = int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        raise Problem("invalid", 'write it in octal, for example "027"', pointer="/umask")
    return value


def _limits(limits: Rlimits) -> ProcessLimits:
    return ProcessLimits(
        checked(parse_bytes, limits.memory, "/rlimits/memory"),
        # The kernel counts whole seconds; a part of one is one.
        -(-milliseconds(limits.cpu, "/rlimits/cpu") // 1_000),
        limits.open_files,
        limits.processes,
    )


def _check_texts(
    request: TaskRequest,
    command: tuple[str, ...],
    http: HttpCall | None,
    python: PythonCall | None,
) -> None:
    """Lengths, and what the system calls that start a program do not take."""
    words = "".join((*command, *request.before, *request.after))
    size = _bytes(words) + _bytes(request.stdin)
    variables = ""
    if request.env:
        variables = "".join([*request.env, *request.env.values()])
        size += _bytes(variables)
    where = "/command"
    if http is not None:
        where = "/http/body"
        size += len(http.body) + _bytes("".join([*http.headers, *http.headers.values()]))
    if python is not None:
        where = "/python/args"
        size += len(python.args) + len(python.kwargs)
    if size > ARGUMENTS_BYTES_MAX:
        raise Problem(
            "too-large",
            f"command, env, stdin, body and arguments have {size} bytes, {ARGUMENTS_BYTES_MAX} "
            "are allowed; store the data elsewhere and pass a reference",
            pointer=where,
        )
    for field, text in (("command", words), ("env", variables), ("cwd", request.cwd)):
        if "\0" in text:
            raise Problem("invalid", "a NUL character is not allowed", pointer=f"/{field}")
    if request.env and any("=" in name or not name for name in request.env):
        raise Problem("invalid", "a variable's name has no '='", pointer="/env")
    for field, argv in (("before", request.before), ("after", request.after)):
        if argv and not argv[0]:
            raise Problem("invalid", "the program has no name", pointer=f"/{field}/0")


def _bytes(text: str) -> int:
    """Length in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
