"""What a task runs; opaque bytes in its row, decoded where it runs or is shown."""

from __future__ import annotations

import msgspec


class HttpCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that an attempt makes."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: bytes = b""
    #: Status codes that are a success; empty: 200 to 299.
    expect: tuple[int, ...] = ()
    #: Redirects followed at most.
    redirects_max: int = 5
    #: False: a certificate that cannot be verified is taken.
    verify: bool = True


class PythonCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function that an attempt calls, in a worker process of an application."""

    #: ``module:function``, as the application registered it.
    function: str
    #: JSON: a list, and an object.
    args: bytes = b"[]"
    kwargs: bytes = b"{}"


class ProcessLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the kernel lets each process of an attempt have; 0: as the node has it."""

    memory_bytes: int = 0
    cpu_seconds: int = 0
    open_files: int = 0
    processes: int = 0


#: The limits of a task that asks for none.
NO_LIMITS = ProcessLimits()


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False):
    """What a task runs and how; stored as msgpack bytes, decoded where it runs or is shown."""

    #: Program and arguments; with ``shell`` exactly one element, the shell line.  Empty when
    #: ``http`` or ``python`` says what runs.
    command: tuple[str, ...] = ()
    name: str = ""
    shell: bool = False
    env: dict[str, str] = {}
    #: Working directory; empty means the attempt's own fresh directory.
    cwd: str = ""
    stdin: str = ""
    #: Longest run of one attempt; 0 means no limit.
    timeout_ms: int = 0
    #: Time between SIGTERM and SIGKILL.
    grace_ms: int = 10_000
    labels: dict[str, str] = {}
    # Since version 4.
    http: HttpCall | None = None
    python: PythonCall | None = None
    #: Programs run before the attempt's own, and after it however it ended.
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    #: Name or number; empty: as the node runs.
    user: str = ""
    group: str = ""
    #: -1: as the node has it.
    umask: int = -1
    nice: int = 0
    limits: ProcessLimits = NO_LIMITS
    # Since version 7.
    #: The task of each item, with places for it: msgpack of a `NewTask`.
    template: bytes = b""
    #: Of the items of a map that follow its submission, 16 bytes.
    items_hash: bytes = b""
    #: The stored template that it was made of, as ``name@version``; empty: none.
    origin: str = ""
