"""Functions that run as tasks.  The same file is what clients import and what workers run.

    from raftsched import App, current

    app = App("images")

    @app.task(retries=3, queue="images", timeout="5m")
    def resize(path: str, width: int = 800) -> dict:
        current().report_progress(0.5, "half of it")
        return {"path": path, "width": width}

    resize("a.png")                     # an ordinary call
    handle = resize.submit("a.png")     # a task; raftsched serve --app images:app runs it
    handle.result(timeout_seconds=60)
    app.map(resize, ["a.png", "b.png"]).then(report).submit()      # see `raftsched.flows`

Rules
1. Importing this module is cheap and starts nothing; the client is made at the first submission.
2. Arguments and results are JSON.  What is not is a TypeError where it is submitted.
3. A worker calls only what was registered here, whatever a task names.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from raftsched.attempt import Cancelled as Cancelled
from raftsched.attempt import Context as Context
from raftsched.attempt import context as context
from raftsched.attempt import current as current
from raftsched.attempt import enter as enter
from raftsched.attempt import enter_task as enter_task

if TYPE_CHECKING:
    from inspect import Signature

    from raftsched.client.sync import Client, Task
    from raftsched.client.trees import Progress
    from raftsched.flows import Flow

#: Calls of coroutines that one worker has under way at once, unless an application says otherwise.
CONCURRENCY = 100
#: A worker is replaced after so many calls, or when it has grown beyond so many bytes of memory.
WORKER_TASKS_MAX = 1_000_000
WORKER_BYTES_MAX = 1024 * 1024 * 1024

P = ParamSpec("P")
R = TypeVar("R")
Document = dict[str, Any]


class TaskFailed(Exception):
    """The task ended otherwise than well; ``task`` is its document."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        self.task = task
        reason = task.get("reason") or ""
        text = f"task {task.get('id')} {task.get('state')}{f': {reason}' if reason else ''}"
        tail = str(task.get("output_tail") or "").strip()
        super().__init__(f"{text}\n{tail}" if tail else text)


class BatchRefused(Exception):
    """Some tasks of a `Function.submit_many` were refused; the others exist."""

    def __init__(self, handles: list[Handle | None], refused: list[tuple[int, Document]]) -> None:
        #: In the order of the arguments; None where refused.
        self.handles = handles
        #: Position and problem document of each refused one.
        self.refused = refused
        first = refused[0][1].get("detail") or refused[0][1].get("title")
        super().__init__(f"{len(refused)} of {len(handles)} tasks were refused; first: {first}")


# What is submitted -----------------------------------------------------------------------------


class App:
    """The functions of an application, by the names that tasks call them by."""

    def __init__(
        self,
        name: str,
        *,
        module: str = "",
        addresses: str | Iterable[str] | None = None,
        token_file: str | None = None,
        concurrency: int = CONCURRENCY,
        worker_tasks_max: int = WORKER_TASKS_MAX,
        worker_bytes_max: int = WORKER_BYTES_MAX,
        **defaults: Any,
    ) -> None:
        """``defaults`` are fields of the task document for all its tasks, as `App.task` takes them.

        ``module``: where workers find it, if not where clients import it from.  ``addresses`` and
        ``token_file`` are for clients; without them they look as the command line does.
        ``worker_tasks_max`` and ``worker_bytes_max`` (0: no limit) say when a worker is replaced.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; at least 1 is needed")
        self.name = name
        self.concurrency = concurrency
        self.worker_tasks_max = worker_tasks_max
        self.worker_bytes_max = worker_bytes_max
        #: By ``module:name``.
        self.functions: dict[str, Function[..., Any]] = {}
        self._module = module
        self._addresses = addresses
        self._token_file = token_file
        self._defaults = document_of(defaults)
        self._client: Client | None = None
        self._client_pid = 0
        #: In a worker: where its peer answers, and the cluster's token.
        self._home = ("", "")
        self._lock = threading.Lock()

    @overload
    def task(self, function: Callable[P, R], /) -> Function[P, R]: ...

    @overload
    def task(
        self, /, *, retries: int | None = None, **options: Any
    ) -> Callable[[Callable[P, R]], Function[P, R]]: ...

    def task(self, function: Callable[P, R] | None = None, /, **options: Any) -> Any:
        """Register a function.  ``retries=3``: after a failure it is tried up to three times more.

        The other options are fields of the task document: ``queue``, ``priority``, ``timeout``,
        ``retry``, ``limits``, ``resources``, ...
        """
        document = {**self._defaults, **document_of(options)}

        def register(function: Callable[P, R]) -> Function[P, R]:
            registered = Function(self, function, self._name_of(function), document)
            self.functions[registered.name] = registered
            return registered

        return register if function is None else register(function)

    def _name_of(self, function: Callable[..., Any]) -> str:
        name = function.__qualname__
        if "<locals>" in name:
            raise ValueError(f"{name} is made inside of a function; a worker could not find it")
        return f"{self._module or _module_of(function)}:{name}"

    @property
    def client(self) -> Client:
        """What submits its tasks; made at first use, and anew in a forked process."""
        with self._lock:
            if self._client is None or self._client_pid != os.getpid():
                self._client = self._connected()
                self._client_pid = os.getpid()
            return self._client

    def _connected(self) -> Client:
        from raftsched.client.sync import Client

        address, token = self._home
        if address and not self._addresses and not os.environ.get("RAFTSCHED_ADDR"):
            return Client(address, token=token)
        return Client(self._addresses, token_file=self._token_file)

    def at_home(self, address: str, token: str) -> None:
        """Its client asks this peer unless the application says otherwise; for the worker."""
        self._home = (address, token)

    # Calls that belong together ------------------------------------------------------------------

    def map(
        self,
        step: Function[..., Any] | Bound,
        items: Iterable[Any] | Function[..., Any] | Bound,
        /,
        *,
        max_parallel: int = 0,
        on_failure: str | Mapping[str, Any] = "fail_fast",
        speculate: bool | Mapping[str, Any] = False,
        **options: Any,
    ) -> Flow:
        """Call a function with each item; its value is the list of results in their order.

        ``items``: values of JSON, a ``range``, or a function that returns them where it runs.
        ``max_parallel``: so many at once (0: as many as there is room for).  ``on_failure`` of
        one: ``fail_fast``, ``finish``, ``ignore`` or ``{"allow": n}``; a result that is missing is
        None.  ``speculate``: a call that takes far longer than others is made a second time, as
        `Client.map` has it.  ``options`` are fields of the task that is made of all.  Raises
        TypeError for an item that is no JSON.
        """
        from raftsched.flows import map_of

        return map_of(
            self, step, items, max_parallel=max_parallel, on_failure=on_failure,
            speculate=speculate, options=options,
        )  # fmt: skip

    def group(self, /, *members: Function[..., Any] | Bound | Flow, **options: Any) -> Flow:
        """Calls that run at the same time; the value is the list of theirs."""
        from raftsched.flows import group_of

        return group_of(self, members, options)

    def chain(
        self,
        first: Function[..., Any] | Bound | Flow,
        /,
        *rest: Function[..., Any] | Bound,
        **options: Any,
    ) -> Flow:
        """Calls one after the other, each with the value of the one before as first argument."""
        from raftsched.flows import chain_of

        return chain_of(self, first, rest, options)

    def close(self) -> None:
        """Close the client's connections, if there are any."""
        with self._lock:
            if self._client is not None and self._client_pid == os.getpid():
                self._client.close()
            self._client = None


class Function(Generic[P, R]):
    """A registered function: called it runs here, submitted it runs as a task."""

    def __init__(
        self, app: App, function: Callable[P, R], name: str, document: Mapping[str, Any]
    ) -> None:
        self.app = app
        self.function = function
        #: ``module:name``.
        self.name = name
        self._options = dict(document)
        self._signature: Signature | None = None
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def with_options(self, **options: Any) -> Function[P, R]:
        """The same function with other fields of the task document, for some submissions.

        ``idempotency_key="..."`` makes a submission that is repeated take effect once.
        """
        return Function(
            self.app, self.function, self.name, {**self._options, **document_of(options)}
        )

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """Make a task of this call.  Raises TypeError for what is no JSON, or ClientError."""
        return Handle(self.app.client.submit(**self.document(args, kwargs)))

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Handle:
        """`submit` for coroutines: in a thread, so that the loop goes on."""
        import asyncio

        return await asyncio.to_thread(self.submit, *args, **kwargs)

    def submit_many(self, calls: Iterable[Any]) -> list[Handle]:
        """A task for each: a tuple is the positional arguments, all else is the one argument.

        Sent in bulk.  Raises TypeError before anything is sent, BatchRefused or ClientError.
        """
        documents = []
        options = {k: v for k, v in self._options.items() if k != "idempotency_key"}
        for arguments in calls:
            args = arguments if isinstance(arguments, tuple) else (arguments,)
            documents.append({**options, "python": self._call(args, {})})
        client = self.app.client
        key = self._options.get("idempotency_key")
        result = client.submit_batch(documents, idempotency_key=key)
        handles = [Handle.of(client, task_id) if task_id else None for task_id in result.ids]
        if result.refused:
            raise BatchRefused(handles, result.refused)
        return [handle for handle in handles if handle is not None]

    def bind(self, *args: Any, **kwargs: Any) -> Bound:
        """A call of it for a flow (`App.map`, `App.chain`, `App.group`); nothing is called yet."""
        return Bound(self, args, kwargs)

    def document(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Document:
        """The task document of a call.  Raises TypeError for what is no JSON."""
        return {**self._options, "python": self._call(tuple(args), kwargs)}

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Document:
        if self._signature is None:
            import inspect

            self._signature = inspect.signature(self.function)
        self._signature.bind(*args, **kwargs)
        for number, value in enumerate(args, 1):
            check_json(value, f"argument {number} of {self.__name__}")
        for name, value in kwargs.items():
            check_json(value, f"{name} of {self.__name__}")
        return {"function": self.name, "args": list(args), "kwargs": dict(kwargs)}


class Bound:
    """A function with arguments, behind those that it gets when it is called."""

    def __init__(
        self, function: Function[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.function = function
        self._args = args
        self._kwargs = dict(kwargs)

    def document(self, *first: Any) -> Document:
        """The task document of the call with these arguments first.  Raises TypeError."""
        document = self.function.document((*first, *self._args), self._kwargs)
        document.pop("idempotency_key", None)
        return document


class Handle:
    """A task that was submitted."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @classmethod
    def of(cls, client: Client, task_id: str) -> Handle:
        """The handle of a task by its id."""
        from raftsched.client.sync import Task

        return cls(Task(client, {"id": task_id}))

    def __repr__(self) -> str:
        return f"<task {self.id} {self._task.state}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._task.id

    @property
    def task(self) -> Task:
        """The task's document, as it was when it was last asked for."""
        return self._task

    def refresh(self) -> Task:
        """The task's document as it is now."""
        self._task = self._task.refresh()
        return self._task

    def progress(self) -> Progress:
        """How many of its subtasks have ended; ``fraction`` is 0 to 1."""
        return self._task.progress()

    def wait(self, timeout_seconds: float | None = None) -> Task:
        """The task's document when it has ended.  Raises WaitTimeout."""
        if not self._task.is_terminal:
            self._task = self._task.wait(timeout_seconds)
        return self._task

    def result(self, timeout_seconds: float | None = None) -> Any:
        """What the function returned, as JSON gives it back.

        Raises TaskFailed or WaitTimeout, and of a large result, which is fetched, ClientError.
        """
        task = self.wait(timeout_seconds)
        if task.state != "succeeded":
            raise TaskFailed(task)
        return task.result()

    async def aresult(self, timeout_seconds: float | None = None) -> Any:
        """`result` for coroutines: in a thread, so that the loop goes on."""
        import asyncio

        return await asyncio.to_thread(self.result, timeout_seconds)

    def cancel(self, reason: str = "") -> None:
        """Ask for the task's end."""
        self._task = self._task.cancel(reason)


def document_of(options: dict[str, Any]) -> Document:
    """Options of a decorator as fields of the task document."""
    document = dict(options)
    retries = document.pop("retries", None)
    if retries is not None:
        if "retry" in document:
            raise TypeError("give retries=3 or retry={...}, not both")
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries is {retries!r}; it is a number from 0")
        document["retry"] = {"max_attempts": retries + 1}
    for name in ("command", "http", "python", "map", "workflow"):
        if name in document:
            raise TypeError(f"{name} is no option of a function")
    return document


def _module_of(function: Callable[..., Any]) -> str:
    """Where others import it from, also when it is the program that was started."""
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    return Path(getattr(main, "__file__", None) or "__main__").stem


def check_json(value: object, what: str) -> None:
    """Raise TypeError unless JSON gives back just this (tuples as lists)."""
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{what} is {value}, for which JSON has no number")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            check_json(item, f"{what}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{what} has the key {key!r}; keys of JSON are texts")
            check_json(item, f"{what}[{json.dumps(key)}]")
    else:
        raise TypeError(
            f"{what} is a {type(value).__name__}, which is no JSON; pass texts, numbers, lists "
            "and dicts, or a reference to where the data is"
        )
