"""Routes of templates: task documents with places, kept under a name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import hdrs, web

from raftsched.api.amending import if_match
from raftsched.api.change import Change
from raftsched.api.context import Context, body_of, decode, flag, no_fields
from raftsched.api.documents import TaskRequest
from raftsched.api.pages import page_by_name
from raftsched.api.problems import Problem, check_seen, unknown_template
from raftsched.api.secrets import hidden
from raftsched.api.submission import key_of, submit_document
from raftsched.api.tasks import is_held
from raftsched.api.template_documents import checked_template, document_of
from raftsched.api.times import instant
from raftsched.core.commands import DeleteTemplate, PutTemplate
from raftsched.core.state import State
from raftsched.core.template import Template

#: Before the keys of a run; no key that is sent may have it.
RUN_SCOPE = "templates:run\0"
#: Templates of a page that are looked into before everything else has its turn.
SLICE_ROWS = 10


class RunRequest(TaskRequest, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Values for the parameters, and fields of the task that are stronger than the template's."""

    parameters: dict[str, Any] = {}


class TemplateView(msgspec.Struct, frozen=True):
    """A template: its document, and which one it is."""

    name: str
    #: Of the task.
    namespace: str
    description: str
    parameters: dict[str, Any]
    #: As it was given; values of headers that carry secrets are not shown.
    task: Any
    #: Rises with every change.
    version: int
    created_at: str | None
    modified_at: str | None
    #: The ETag.
    modify_index: int


class TemplateSummary(msgspec.Struct, frozen=True):
    """A template in a list: without the task."""

    name: str
    namespace: str
    description: str
    #: The type of each.
    parameters: dict[str, str]
    version: int
    created_at: str | None
    modified_at: str | None
    modify_index: int


class TemplatePage(msgspec.Struct, frozen=True):
    """Templates, by name."""

    items: list[TemplateSummary]
    next_cursor: str | None
    index: int


class _Parameter(msgspec.Struct, frozen=True):
    type: str = "string"


class _Summary(msgspec.Struct, frozen=True):
    """As much of a document as a list shows."""

    description: str = ""
    parameters: dict[str, _Parameter] = {}


_plain = msgspec.json.Decoder(dict[str, Any])
_runs = msgspec.json.Decoder(RunRequest)
_summaries = msgspec.json.Decoder(_Summary)
_json = msgspec.json.Encoder()


async def listing(context: Context, request: web.Request) -> web.StreamResponse:
    """Templates, by name."""
    page = await page_by_name(context, request, _names, _shown, SLICE_ROWS)
    return context.answer(TemplatePage(*page))


def _names(state: State) -> list[str]:
    return [name for name, _ in state.templates.items()]


def _shown(state: State, name: str) -> TemplateSummary | None:
    row = state.templates.get(name)
    return None if row is None else _summary(row)


async def get(context: Context, request: web.Request) -> web.StreamResponse:
    """One template."""
    await context.state(request)
    row = _known(context, request)
    if is_held(request, row.modify_index):
        return web.Response(status=304, headers={**context.headers(), **_tag(row)})
    return context.answer(template_view(row), headers=_tag(row))


async def put(context: Context, request: web.Request) -> web.StreamResponse:
    """Make a template, or replace its document; the same again changes nothing."""
    body, name, wanted = await body_of(request), request.match_info["name"], if_match(request)
    is_new = request.headers.get(hdrs.IF_NONE_MATCH, "").strip() == "*"
    dry_run = flag(request, "dry_run")
    change = await store(context, name, body, wanted, is_new=is_new, dry_run=dry_run)
    if dry_run:
        return context.answer(change.plan())
    row = change.row
    if change.action == "create":
        headers = {"Location": f"/v1/templates/{name}", **_tag(row)}
        return context.answer(template_view(row), 201, headers)
    return context.answer(template_view(row), headers=_tag(row))


async def store(
    context: Context,
    name: str,
    body: bytes,
    if_index: int = 0,
    *,
    is_new: bool = False,
    dry_run: bool = False,
) -> Change[Template]:
    """Make a template, or replace its document.  Raises Problem or PeerError.

    ``if_index``: the modify index that it must have (0: any); ``is_new``: there must be none.
    """
    state = await context.read()
    known = state.templates.get(name)
    document, namespace = checked_template(name, body, known)
    if is_new and known is not None:
        text = f"there is a template {name!r}; ask without If-None-Match to replace it"
        raise Problem("modified", text)
    _check_seen(name, known, if_index)
    fields = _differences(known, document)
    action = "create" if known is None else "update" if fields else "none"
    if dry_run:
        return Change(known or Template(name, document), action, fields)
    row = await context.propose(PutTemplate(name, document, namespace, if_index, is_new))
    return Change(row, action, fields)


async def delete(context: Context, request: web.Request) -> web.StreamResponse:
    """Remove a template; tasks and schedules that were made of it stay as they are."""
    if request.can_read_body:
        await no_fields(request)
    name, wanted = request.match_info["name"], if_match(request)
    if flag(request, "dry_run"):
        await context.read()
        _check_seen(name, _known(context, request), wanted)
        return context.answer({"valid": True})
    await context.propose(DeleteTemplate(name, wanted))
    return web.Response(status=204, headers=context.headers())


async def run(context: Context, request: web.Request) -> web.StreamResponse:
    """Submit the task of a template, with values for its parameters."""
    name, key = request.match_info["name"], key_of(request)
    body = await body_of(request) or b"{}"
    with run_of(name, body) as data:
        return await submit_document(context, request, data, key and RUN_SCOPE + key)


@contextlib.contextmanager
def run_of(name: str, body: bytes) -> Iterator[bytes]:
    """The task document of a run; what is wrong with it is said of this body.  Raises Problem."""
    parsed: RunRequest = decode(_runs, body)
    if parsed.template is not None:
        raise Problem("invalid", f"the address says {name!r}; leave it out", pointer="/template")
    given = _plain.decode(body)
    given.pop("parameters", None)
    document = {**given, "template": {"name": name, "parameters": parsed.parameters}}
    try:
        yield _json.encode(document)
    except RecursionError:
        raise Problem("invalid", "it is nested too deep", pointer="/") from None
    except Problem as problem:
        if problem.pointer == "/template/name":
            raise unknown_template(name) from None
        # The parameters stand elsewhere in this body.
        problem.pointer = problem.pointer.removeprefix("/template")
        raise


def _known(context: Context, request: web.Request) -> Template:
    """The row of the template that the address names.  Raises Problem."""
    name = request.match_info["name"]
    row = context.service.state.templates.get(name)
    if row is None:
        raise unknown_template(name)
    return row


def _check_seen(name: str, known: Template | None, wanted: int) -> None:
    check_seen(f"template {name!r}", 0 if known is None else known.modify_index, wanted)


def _differences(known: Template | None, document: bytes) -> list[str]:
    """Fields of the document that say something else."""
    if known is None or known.document == document:
        return []
    old, new = document_of(known), _plain.decode(document)
    names = sorted({*old, *new})
    return [name for name in names if _json.encode(old.get(name)) != _json.encode(new.get(name))]


def _tag(row: Template) -> dict[str, str]:
    return {"ETag": f'"{row.modify_index}"'}


def template_view(row: Template) -> TemplateView:
    document = document_of(row)
    return TemplateView(
        row.name,
        row.namespace,
        document.get("description", ""),
        document.get("parameters", {}),
        hidden(document["task"]),
        row.version,
        instant(row.created_at),
        instant(row.modified_at),
        row.modify_index,
    )


def _summary(row: Template) -> TemplateSummary:
    found = _summaries.decode(row.document)
    return TemplateSummary(
        row.name,
        row.namespace,
        found.description,
        {name: parameter.type for name, parameter in found.parameters.items()},
        row.version,
        instant(row.created_at),
        instant(row.modified_at),
        row.modify_index,
    )
