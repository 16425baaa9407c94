"""All tasks that pass a filter, changed by a peer in a program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from raftsched.api import many
from raftsched.api.many import TASKS_MAX, Wanted
from raftsched.embed.calling import Calling, Document, as_document, encoded
from raftsched.embed.tasks import words_of

#: An edit of 100,000 tasks takes most of it.
MANY_SECONDS = 90.0


class Many(Calling):
    """The calls about all tasks that pass a filter.

    ``query`` is a filter as of `list`, ``limit`` and ``dry_run``.  The answer has ``matched``,
    ``changed``, ``ids``, ``more`` and ``refused``, as of a client.  Raises ValueError, also for a
    filter that says nothing, or PeerError: UnknownOutcome once some were changed.
    """

    async def cancel_many(
        self, /, *, reason: str = "", timeout_seconds: float = MANY_SECONDS, **query: Any
    ) -> Document:
        """Cancel all that have not ended."""
        with self._calling(timeout_seconds) as call:
            return as_document(await many.cancel(call, _wanted(query), reason))

    async def retry_many(
        self, /, *, only_failed: bool = False, timeout_seconds: float = MANY_SECONDS, **query: Any
    ) -> Document:
        """Try all again that ended and did not succeed."""
        with self._calling(timeout_seconds) as call:
            return as_document(await many.retry(call, _wanted(query), only_failed=only_failed))

    async def pause_many(
        self, /, *, timeout_seconds: float = MANY_SECONDS, **query: Any
    ) -> Document:
        """Keep all from being started."""
        with self._calling(timeout_seconds) as call:
            return as_document(await many.pause(call, _wanted(query)))

    async def resume_many(
        self, /, *, timeout_seconds: float = MANY_SECONDS, **query: Any
    ) -> Document:
        """Undo the pause of all."""
        with self._calling(timeout_seconds) as call:
            return as_document(await many.resume(call, _wanted(query)))

    async def run_many(self, /, *, timeout_seconds: float = MANY_SECONDS, **query: Any) -> Document:
        """End the wait of all."""
        with self._calling(timeout_seconds) as call:
            return as_document(await many.run_now(call, _wanted(query)))

    async def delete_many(
        self, /, *, timeout_seconds: float = MANY_SECONDS, **query: Any
    ) -> Document:
        """Remove all that have ended."""
        with self._calling(timeout_seconds) as call:
            return as_document(await many.delete(call, _wanted(query)))

    async def edit_many(
        self,
        /,
        patch: Mapping[str, Any],
        *,
        timeout_seconds: float = MANY_SECONDS,
        **query: Any,
    ) -> Document:
        """Change fields of all that do not run, as `edit` does for one."""
        fields = json.loads(encoded(patch))
        with self._calling(timeout_seconds) as call:
            return as_document(await many.edit(call, _wanted(query), fields))


def _wanted(query: Mapping[str, Any]) -> Wanted:
    """What a query means.  Raises ValueError or Problem."""
    filters = {**query}
    limit, dry_run = filters.pop("limit", None), bool(filters.pop("dry_run", False))
    limit = TASKS_MAX if limit is None else limit
    if not 1 <= limit <= TASKS_MAX:
        raise ValueError(f"limit is {limit}; it is a number from 1 to {TASKS_MAX}")
    return many.wanted(words_of(filters), limit, dry_run=dry_run)
