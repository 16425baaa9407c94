"""Templates of a peer in a program: task documents with places, kept under a name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, overload

from raftsched.api.problems import unknown_template
from raftsched.api.submission import checked_key, make
from raftsched.api.templates import RUN_SCOPE, run_of, store
from raftsched.core.commands import DeleteTemplate
from raftsched.core.model import Task
from raftsched.core.template import Template
from raftsched.embed.calling import CALL_SECONDS, Calling, Document, encoded


class Templates(Calling):
    """The calls about templates.

    Raises ValueError for what is wrong or refused, KeyError for a template that there is not, or
    PeerError.
    """

    async def templates(self, *, timeout_seconds: float = CALL_SECONDS) -> AsyncIterator[Template]:
        """All templates, by name."""
        names = sorted(name for name, _ in (await self._current(timeout_seconds)).templates.items())
        for name in names:
            row = self.state.templates.get(name)
            if row is not None:
                yield row

    async def template(self, name: str, *, timeout_seconds: float = CALL_SECONDS) -> Template:
        """One template."""
        with self._calling(timeout_seconds) as call:
            row = (await call.read()).templates.get(name)
            if row is None:
                raise unknown_template(name)
            return row

    @overload
    async def put_template(
        self,
        /,
        name: str,
        *,
        if_match: int = 0,
        dry_run: Literal[False] = False,
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Template: ...

    @overload
    async def put_template(
        self,
        /,
        name: str,
        *,
        if_match: int = 0,
        dry_run: Literal[True],
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Document: ...

    async def put_template(
        self,
        /,
        name: str,
        *,
        if_match: int = 0,
        dry_run: bool = False,
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Template | Document:
        """Make a template, or replace its document, and return it as stored.

        ``fields`` are ``task``, ``parameters`` and ``description`` of the template document of the
        HTTP API.  The same again changes nothing, so that every peer may say it at its start.
        ``if_match``: the ``modify_index`` that it must have.  A dry run answers with ``action``
        (``create``, ``update`` or ``none``) and the ``fields`` that would change.
        """
        body = encoded(fields)
        with self._calling(timeout_seconds) as call:
            change = await store(call, name, body, if_match, dry_run=dry_run)
            return change.plan() if dry_run else change.row

    async def delete_template(self, name: str, *, timeout_seconds: float = CALL_SECONDS) -> bool:
        """Remove a template, and nothing that was made of it; False: there is none."""
        with self._calling(timeout_seconds) as call:
            return await call.removed(DeleteTemplate(name), "unknown-template")

    @overload
    async def run_template(
        self,
        /,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: Literal[False] = False,
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Task: ...

    @overload
    async def run_template(
        self,
        /,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: Literal[True],
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Document: ...

    async def run_template(
        self,
        /,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Task | Document:
        """Submit the task of a template, with values for its parameters.

        ``fields`` are of the task document (``id``, ``queue``, ``priority``, ...) and stronger than
        the template's.  Given the same ``idempotency_key`` it takes effect once.
        """
        body = encoded({**fields, "parameters": dict(parameters or {})})
        with self._calling(timeout_seconds) as call, run_of(name, body) as data:
            given = checked_key(idempotency_key or "")
            key = given and RUN_SCOPE + given
            submitted = await make(call, data, key, dry_run=dry_run)
            return {"valid": True} if submitted is None else call.made(submitted)
