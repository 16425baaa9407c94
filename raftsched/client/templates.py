"""Task documents with places, kept under a name: templates, and what is made of them; as plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raftsched.client.calls import (
    Calls,
    Document,
    Pages,
    Plan,
    listing,
    new_key,
    operation,
    part,
    task_operation,
)

_PATH = "/v1/templates"


class TemplateOperations(Calls):
    """The calls about templates."""

    @listing
    def templates(self) -> Pages:
        """All templates, by name, without their tasks."""
        return self._all(_PATH)

    @operation
    def template(self, name: str) -> Plan[Document]:
        """One template."""
        return (yield from self._read(f"{_PATH}/{part(name)}"))

    @operation
    def put_template(
        self, /, name: str, *, if_match: int = 0, dry_run: bool = False, **fields: Any
    ) -> Plan[Document]:
        """Make a template, or replace its document; the same again changes nothing.

        ``fields`` are those of the template document: ``task``, ``parameters``, ``description``.
        ``if_match``: the ``modify_index`` that it must have.  ``dry_run`` answers with ``action``
        (``create``, ``update`` or ``none``) and the ``fields`` that would change.
        """
        path, query = f"{_PATH}/{part(name)}", {"dry_run": dry_run}
        return (yield from self._write(path, fields, query=query, method="PUT", if_match=if_match))

    @operation
    def delete_template(self, name: str) -> Plan[None]:
        """Remove a template; tasks and schedules that were made of it stay as they are."""
        yield from self._delete(f"{_PATH}/{part(name)}")

    @task_operation
    def run_template(
        self,
        /,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        dry_run: bool = False,
        **fields: Any,
    ) -> Plan[Document]:
        """Submit the task of a template, with values for its parameters.

        ``fields`` are of the task document (``id``, ``queue``, ``priority``, ...) and stronger than
        the template's.  Given the same ``idempotency_key`` it takes effect once.
        """
        path, body = f"{_PATH}/{part(name)}/run", {**fields, "parameters": dict(parameters or {})}
        key, query = idempotency_key or new_key(), {"dry_run": dry_run}
        return (yield from self._write(path, body, key=key, query=query))
