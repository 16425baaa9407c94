"""What is to run again and again: schedules, their slots, what is to come; as plans."""

from __future__ import annotations

from typing import Any

from raftsched.client.calls import (
    PAGE_MAX,
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

_PATH = "/v1/schedules"


class ScheduleOperations(Calls):
    """The calls about schedules.

    ``fields`` are those of the schedule document: ``cron``, ``every``, ``at``, ``zone``, ...,
    ``overlap`` and ``task``.
    """

    @listing
    def schedules(self) -> Pages:
        """All schedules, by name."""
        return self._all(_PATH)

    @operation
    def schedule(self, name: str) -> Plan[Document]:
        """One schedule."""
        return (yield from self._read(f"{_PATH}/{part(name)}"))

    @operation
    def create_schedule(
        self, /, name: str, *, idempotency_key: str = "", **fields: Any
    ) -> Plan[Document]:
        """Make a schedule; Conflict if there is one of this name."""
        body = {"name": name, **fields}
        return (yield from self._write(_PATH, body, key=idempotency_key or new_key()))

    @operation
    def put_schedule(
        self, /, name: str, *, if_match: int = 0, dry_run: bool = False, **fields: Any
    ) -> Plan[Document]:
        """Make a schedule, or replace what and when; the same again changes nothing.

        ``if_match``: the ``modify_index`` that it must have.  ``dry_run`` answers with ``action``
        (``create``, ``update`` or ``none``) and the ``fields`` that would change.
        """
        path, query = f"{_PATH}/{part(name)}", {"dry_run": dry_run}
        return (yield from self._write(path, fields, query=query, method="PUT", if_match=if_match))

    @operation
    def edit_schedule(self, /, name: str, *, if_match: int = 0, **fields: Any) -> Plan[Document]:
        """Change fields of a schedule; None is the default again."""
        path = f"{_PATH}/{part(name)}"
        return (yield from self._write(path, fields, method="PATCH", if_match=if_match))

    @operation
    def delete_schedule(self, name: str, *, tasks: bool = False) -> Plan[None]:
        """Remove a schedule; its tasks stay, or are told to end."""
        yield from self._delete(f"{_PATH}/{part(name)}" + ("?tasks=1" if tasks else ""))

    @operation
    def pause_schedule(self, name: str) -> Plan[Document]:
        """Nothing of it fires until it is resumed."""
        return (yield from self._write(f"{_PATH}/{part(name)}/pause", {}))

    @operation
    def resume_schedule(self, name: str) -> Plan[Document]:
        """Undo a pause: what was due meanwhile does not run."""
        return (yield from self._write(f"{_PATH}/{part(name)}/resume", {}))

    @task_operation
    def trigger_schedule(self, name: str, *, idempotency_key: str | None = None) -> Plan[Document]:
        """Run it now, beside its instants.  Given the same key it runs once."""
        path, key = f"{_PATH}/{part(name)}/trigger", idempotency_key or new_key()
        return (yield from self._write(path, {}, key=key))

    @operation
    def backfill_schedule(
        self, name: str, since: str, until: str = "", *, dry_run: bool = False
    ) -> Plan[Document]:
        """Run it for instants from ``since`` on and before ``until`` (now) that have no run.

        ``instants``, ``tasks``, and ``next_from`` to go on from; null when all is done.
        """
        body = {"from": since, "dry_run": dry_run, **({"to": until} if until else {})}
        return (yield from self._write(f"{_PATH}/{part(name)}/backfill", body))

    @listing
    def slots(self, name: str) -> Pages:
        """What became of its instants, the latest first."""
        return self._all(f"{_PATH}/{part(name)}/slots")

    @operation
    def preview_schedule(
        self, /, name: str = "", *, n: int = 10, after: str = "", **fields: Any
    ) -> Plan[Document]:
        """The next instants of these fields, or of the schedule of this name; nothing is saved."""
        body = {"name": name, **fields} if name else fields
        return (yield from self._write(f"{_PATH}:preview", body, query={"n": n, "after": after}))

    @listing
    def forecast(self, since: str = "", until: str = "", limit: int = 100) -> Pages:
        """Instants of all schedules, the earliest first: a day from now on unless told."""
        return Pages(self, "/v1/forecast", {"from": since, "to": until}, PAGE_MAX, limit)
