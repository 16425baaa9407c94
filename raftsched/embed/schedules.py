"""Schedules of a peer in a program: what is to run again and again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, overload

from raftsched.api import forecasts, scheduling
from raftsched.api.forecasts import PREVIEW_MAX
from raftsched.api.listing import instant_of
from raftsched.api.schedule_views import slot_views
from raftsched.api.scheduling import known_schedule
from raftsched.api.submission import checked_key
from raftsched.core.commands import DeleteSchedule, PauseSchedule, TriggerSchedule
from raftsched.core.model import Task
from raftsched.core.schedule import Schedule
from raftsched.embed.calling import (
    CALL_SECONDS,
    Calling,
    Document,
    as_document,
    encoded,
)

#: Instants of a forecast that are reckoned at once.
PAGE_MAX = 1_000


class Schedules(Calling):
    """The calls about schedules.

    ``fields`` are those of the schedule document of the HTTP API: ``cron``, ``every``, ``at``,
    ``zone``, ..., ``overlap`` and ``task``.  Raises ValueError for what is wrong or refused,
    KeyError for a schedule that there is not, or PeerError.
    """

    async def schedules(self, *, timeout_seconds: float = CALL_SECONDS) -> AsyncIterator[Schedule]:
        """All schedules, by name."""
        names = sorted(name for name, _ in (await self._current(timeout_seconds)).schedules.items())
        for name in names:
            row = self.state.schedules.get(name)
            if row is not None:
                yield row

    async def schedule(
        self,
        name: str,
        command: Sequence[str] | str | None = None,
        *,
        task: Mapping[str, Any] | None = None,
        timeout_seconds: float = CALL_SECONDS,
        **document: Any,
    ) -> Schedule:
        """Make a schedule, or replace what and when, and return it as stored.

        ``document`` are fields of the schedule document, for example ``cron="0 2 * * *",
        zone="Europe/Berlin"``; ``task`` those of the task document beside the command.  The same
        again changes nothing, so that every peer may say it at its start.  With nothing but the
        name it is the schedule that there is.
        """
        if command is None and task is None and not document:
            with self._calling(timeout_seconds) as call:
                return known_schedule(await call.read(), name)
        whole = dict(task or {})
        if command is not None:
            whole["command"] = command if isinstance(command, str) else list(command)
        row: Schedule = await self.put_schedule(
            name, task=whole, timeout_seconds=timeout_seconds, **document
        )
        return row

    async def create_schedule(
        self,
        /,
        name: str,
        *,
        idempotency_key: str = "",
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Schedule:
        """Make a schedule; ValueError if there is one of this name that the key did not make."""
        body = encoded({"name": name, **fields})
        with self._calling(timeout_seconds) as call:
            # Without a key nobody could tell what an earlier try of this very call has made.
            key = checked_key(idempotency_key or "") or self.new_id()
            return (await scheduling.create(call, body, key)).row

    @overload
    async def put_schedule(
        self,
        /,
        name: str,
        *,
        if_match: int = 0,
        dry_run: Literal[False] = False,
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Schedule: ...

    @overload
    async def put_schedule(
        self,
        /,
        name: str,
        *,
        if_match: int = 0,
        dry_run: Literal[True],
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Document: ...

    async def put_schedule(
        self,
        /,
        name: str,
        *,
        if_match: int = 0,
        dry_run: bool = False,
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Schedule | Document:
        """Make a schedule, or replace what and when; the same again changes nothing.

        ``if_match``: the ``edit_index`` that it must have (`edited_at`).  A dry run answers with
        ``action`` (``create``, ``update`` or ``none``) and the ``fields`` that would change.
        """
        body = encoded(fields)
        with self._calling(timeout_seconds) as call:
            change = await scheduling.put(call, name, body, if_match, dry_run=dry_run)
            return change.plan() if dry_run else change.row

    async def edit_schedule(
        self,
        /,
        name: str,
        *,
        if_match: int = 0,
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Schedule:
        """Change fields of a schedule; None is the default again."""
        patch = json.loads(encoded(fields))
        with self._calling(timeout_seconds) as call:
            return (await scheduling.edit(call, name, patch, if_match)).row

    async def delete_schedule(
        self, name: str, *, tasks: bool = False, timeout_seconds: float = CALL_SECONDS
    ) -> bool:
        """Remove a schedule, with ``tasks`` also end those it made; False: there is none."""
        with self._calling(timeout_seconds) as call:
            return await call.removed(DeleteSchedule(name, tasks), "unknown-schedule")

    async def unschedule(
        self, name: str, *, tasks: bool = False, timeout_seconds: float = CALL_SECONDS
    ) -> bool:
        """The same as `delete_schedule`, for what `schedule` made."""
        return await self.delete_schedule(name, tasks=tasks, timeout_seconds=timeout_seconds)

    async def pause_schedule(self, name: str, *, timeout_seconds: float = CALL_SECONDS) -> Schedule:
        """Nothing of it fires until it is resumed; what runs goes on."""
        return await self._hold_schedule(name, True, timeout_seconds)

    async def resume_schedule(
        self, name: str, *, timeout_seconds: float = CALL_SECONDS
    ) -> Schedule:
        """Undo a pause: what was due meanwhile does not run."""
        return await self._hold_schedule(name, False, timeout_seconds)

    async def _hold_schedule(self, name: str, paused: bool, timeout_seconds: float) -> Schedule:
        with self._calling(timeout_seconds) as call:
            await call.propose(PauseSchedule(name, paused))
            return known_schedule(self.state, name)

    async def trigger_schedule(
        self,
        name: str,
        *,
        idempotency_key: str | None = None,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Task:
        """Run it now, beside its instants, and return the task.  Given the same key it runs once.

        ValueError when the task of this key has been deleted.
        """
        with self._calling(timeout_seconds) as call:
            key = checked_key(idempotency_key or "") or self.new_id()
            return call.made(await call.propose(TriggerSchedule(name, key)))

    async def backfill_schedule(
        self,
        name: str,
        since: str,
        until: str = "",
        *,
        dry_run: bool = False,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Document:
        """Run it for instants from ``since`` on and before ``until`` (now) that have no run.

        ``instants`` (the first 1,000), ``tasks``, and ``next_from`` to go on from; None when all
        is done.
        """
        body = encoded({"from": since, "to": until})
        with self._calling(timeout_seconds) as call:
            return as_document(await scheduling.backfill(call, name, body, dry_run=dry_run))

    # Looking on

    async def slots(
        self, name: str, *, timeout_seconds: float = CALL_SECONDS
    ) -> AsyncIterator[Document]:
        """What became of its instants, the latest first: ``at``, ``status``, ``task``, ..."""
        with self._calling(timeout_seconds) as call:
            state = await call.read()
            found = slot_views(state, known_schedule(state, name).name)
        for _, view in found:
            yield as_document(view)

    async def preview_schedule(
        self,
        /,
        name: str = "",
        *,
        n: int = 10,
        after: str = "",
        timeout_seconds: float = CALL_SECONDS,
        **fields: Any,
    ) -> Document:
        """The next instants of these fields, or of the schedule of this name; nothing is saved."""
        body = encoded({"name": name, **fields} if name else fields)
        if not 1 <= n <= PREVIEW_MAX:
            raise ValueError(f"n is {n}; it is a number from 1 to {PREVIEW_MAX}")
        with self._calling(timeout_seconds) as call:
            begin = instant_of({"after": [after]} if after else {}, "after")
            state = await call.read()
            return as_document(forecasts.previewed(state, body, n, begin, call.now_ms()))

    async def forecast(
        self,
        since: str = "",
        until: str = "",
        limit: int = 100,
        *,
        timeout_seconds: float = CALL_SECONDS,
    ) -> AsyncIterator[Document]:
        """Instants of all schedules, the earliest first: a day from now on unless told.

        Each has ``schedule``, ``at`` and ``starts_at``.
        """
        said = {"from": since, "to": until}
        words = {name: [text] for name, text in said.items() if text}
        with self._calling(timeout_seconds) as call:
            span = forecasts.span_of(words, call.now_ms())
            await call.read()
            cursor, left = "", limit
            while left > 0:
                size = min(PAGE_MAX, left)
                page = await forecasts.coming(call, self.state, span, size, cursor)
                for expected in page.items:
                    yield as_document(expected)
                left -= len(page.items)
                if page.next_cursor is None:
                    return
                cursor = page.next_cursor
