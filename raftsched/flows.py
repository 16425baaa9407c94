"""Calls of functions that belong together: maps, groups and chains, submitted as one task.

    app.map(count, files).then(total).submit().result()
    app.chain(fetch.bind(url), parse, store).submit()
    app.group(resize.bind("a.png"), resize.bind("b.png")).then(report).submit()

A flow is a plan: nothing is sent before `Flow.submit`.  It is one workflow, whose parts are the
calls; what a part is given of those before it stands in its arguments as a place (``{input}``,
``{inputs}``), which a worker fills.

Rules
1. The value of a call is its result; of a map or a group the list of the results in their order,
   with None for what did not succeed.
2. A function after another one gets its value as the first argument, before those that were bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from raftsched.app import (
    App,
    Bound,
    Document,
    Function,
    Handle,
    TaskFailed,
    check_json,
    document_of,
)

if TYPE_CHECKING:
    from raftsched.client.sync import Client, Task

#: What stands for the value of the one part before, and for the list of those of several.
INPUT, INPUTS = "{input}", "{inputs}"
#: Items of a map that is a part of a flow, and calls in one.
PARTS_MAX = 1_000
#: Characters of a part's name, which is the end of its task's id.
NAME_MAX = 40
_NO_NAME = re.compile(r"[^0-9A-Za-z_-]+")

Step = Function[..., Any] | Bound


class Flow:
    """Calls, and what each waits for.  Never changed: each method gives another one."""

    def __init__(
        self,
        app: App,
        parts: Mapping[str, Document],
        ends: tuple[str, ...],
        *,
        is_list: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.app = app
        #: Documents of the parts by their names, each behind those that it waits for.
        self.parts = dict(parts)
        #: The parts that nothing waits for yet; their values are that of the flow.
        self.ends = ends
        #: The value is a list of theirs, also if there is one.
        self.is_list = is_list
        self._options = dict(options or {})

    def __repr__(self) -> str:
        return f"<flow {', '.join(self.parts)}>"

    def then(self, step: Step) -> Flow:
        """What is called with the value of this, when it has succeeded."""
        call = _bound(step)
        value = INPUTS if self.is_list else INPUT
        part = {**call.document(value), "depends_on": list(self.ends)}
        name = _free(call.function.__name__, self.parts)
        return self._with({**self.parts, name: part}, (name,))

    def with_options(self, **options: Any) -> Flow:
        """The same with other fields of the task that is made of the whole.

        ``idempotency_key="..."`` makes a submission that is repeated take effect once.
        """
        whole = {**self._options, **document_of(options)}
        return Flow(self.app, self.parts, self.ends, is_list=self.is_list, options=whole)

    def document(self) -> Document:
        """The task document, for example for ``peer.submit(**flow.document())``."""
        if len(self.parts) > PARTS_MAX:
            raise ValueError(f"it has {len(self.parts)} calls, at most {PARTS_MAX}")
        name = " > ".join(self.parts)[:200]
        if self._is_one_map:
            [part] = self.parts.values()
            return {"name": name, **part, **self._options}
        for part in self.parts.values():
            if _items_of(part) > PARTS_MAX:
                raise ValueError(
                    f"a map within a flow may be given {PARTS_MAX:,} items; for more give it a "
                    "function that returns them"
                )
        tasks = [{"name": name, **part} for name, part in self.parts.items()]
        return {"name": name, "workflow": {"tasks": tasks}, **self._options}

    def result_ids(self, task_id: str) -> list[str]:
        """The tasks whose results are the value, of the task made of the whole."""
        return [task_id] if self._is_one_map else [f"{task_id}.{end}" for end in self.ends]

    def submit(self) -> FlowHandle:
        """Make one task of it.  Raises ValueError or ClientError."""
        client = self.app.client
        return FlowHandle(self, client, client.submit(**self.document()))

    async def asubmit(self) -> FlowHandle:
        """`submit` for coroutines: in a thread, so that the loop goes on."""
        import asyncio

        return await asyncio.to_thread(self.submit)

    @property
    def _is_one_map(self) -> bool:
        return len(self.parts) == 1 and not self.is_list and self.is_map(self.ends[0])

    def is_map(self, name: str) -> bool:
        """Is this part a map?"""
        return "map" in self.parts[name]

    def _with(self, parts: Mapping[str, Document], ends: tuple[str, ...]) -> Flow:
        return Flow(self.app, parts, ends, options=self._options)


class FlowHandle(Handle):
    """A flow that was submitted."""

    def __init__(self, flow: Flow, client: Client, task: Task) -> None:
        super().__init__(task)
        self._flow = flow
        self._client = client

    def result(self, timeout_seconds: float | None = None) -> Any:
        """The value of the flow.

        Raises TaskFailed of the first part that did not succeed, WaitTimeout or ClientError.
        """
        whole = self.wait(timeout_seconds)
        if whole.state != "succeeded":
            raise TaskFailed(self._culprit(whole))
        ids = self._flow.result_ids(whole.id)
        values = [
            self._list(task_id) if self._flow.is_map(name) else self._value(task_id)
            for name, task_id in zip(self._flow.ends, ids, strict=True)
        ]
        return values if self._flow.is_list else values[0]

    def _value(self, task_id: str) -> Any:
        task = self._client.get(task_id)
        return task.result() if task.state == "succeeded" else None

    def _list(self, task_id: str) -> list[Any]:
        return [value_of(line, self._client.result) for line in self._client.results(task_id)]

    def _culprit(self, whole: Task) -> Mapping[str, Any]:
        """The first part that failed by itself, or subtask of one; else the whole."""
        found: Mapping[str, Any] = whole
        while found.get("subtasks"):
            lines = self._client.results(str(found["id"]))
            bad = next((line for line in lines if line["state"] in ("failed", "lost")), None)
            if bad is None:
                break
            found = self._client.get(bad["id"])
        return found


def value_of(line: Mapping[str, Any], fetch: Callable[[str], Any]) -> Any:
    """The result that a line of results or inputs tells of; None of what did not succeed.

    ``fetch`` gets one that is too large to stand in the line, by the task's id.
    """
    if line["state"] != "succeeded":
        return None
    if line.get("result_bytes"):
        return fetch(line.get("id") or line["task"])
    return line["result"]


# How flows are made ----------------------------------------------------------------------------


def map_of(
    app: App,
    step: Step,
    items: Iterable[Any] | Step,
    *,
    max_parallel: int,
    on_failure: str | Mapping[str, Any],
    speculate: bool | Mapping[str, Any],
    options: dict[str, Any],
) -> Flow:
    """A call for each item, which is its first argument.  See `App.map`."""
    call = _bound(step)
    whole: Document = {"max_parallel": max_parallel, "on_failure": on_failure}
    if speculate is not False:
        whole["speculate"] = speculate
    parts: dict[str, Document] = {}
    if isinstance(items, Function | Bound):
        source = _bound(items)
        name = _free(source.function.__name__, parts)
        parts[name] = source.document()
        whole["from"] = name
    elif isinstance(items, range):
        whole["range"] = [items.start, items.stop, items.step]
    else:
        whole["items"] = list(items)
        for number, item in enumerate(whole["items"]):
            check_json(item, f"item {number} of {call.function.__name__}")
    name = _free(call.function.__name__, parts)
    parts[name] = {"map": {"task": call.document("{item}"), **whole}}
    return Flow(app, parts, (name,), options=document_of(options))


def group_of(app: App, members: Iterable[Step | Flow], options: dict[str, Any]) -> Flow:
    """All at once.  See `App.group`."""
    parts: dict[str, Document] = {}
    ends: list[str] = []
    for member in members:
        flow = member if isinstance(member, Flow) else _flow_of(app, member)
        if flow.is_list:
            raise TypeError("a group within a group is one group; or let a `then` be behind it")
        names = dict.fromkeys(flow.parts, "")
        for name, part in flow.parts.items():
            names[name] = _free(name, parts)
            parts[names[name]] = _renamed(part, names)
        ends += [names[end] for end in flow.ends]
    if not parts:
        raise ValueError("a group needs a call")
    return Flow(app, parts, tuple(ends), is_list=True, options=document_of(options))


def chain_of(app: App, first: Step | Flow, rest: Iterable[Step], options: dict[str, Any]) -> Flow:
    """One after the other.  See `App.chain`."""
    flow = first if isinstance(first, Flow) else _flow_of(app, first)
    for step in rest:
        flow = flow.then(step)
    return flow.with_options(**options)


def _flow_of(app: App, step: Step) -> Flow:
    call = _bound(step)
    name = _free(call.function.__name__, {})
    return Flow(app, {name: call.document()}, (name,))


def _bound(step: object) -> Bound:
    if isinstance(step, Bound):
        return step
    if isinstance(step, Function):
        return step.bind()
    raise TypeError(f"{step!r} is no function of an app; make it one with @app.task")


def _items_of(part: Document) -> int:
    """How many items a part is given; 0 for what is no map."""
    found = part.get("map", {})
    return len(range(*found["range"])) if "range" in found else len(found.get("items", ()))


def _renamed(part: Document, names: Mapping[str, str]) -> Document:
    """The same part, where those that it waits for are called otherwise."""
    part = dict(part)
    if "depends_on" in part:
        part["depends_on"] = [names[name] for name in part["depends_on"]]
    source = part.get("map", {}).get("from")
    if source is not None:
        part["map"] = {**part["map"], "from": names[source]}
    return part


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """A name for a part that no other one has."""
    name = _NO_NAME.sub("-", name)[:NAME_MAX].strip("_-") or "call"
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found
