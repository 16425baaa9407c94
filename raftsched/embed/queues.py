"""Queues and limits of a peer in a program: what holds for many tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec

from raftsched.api import limits, queues
from raftsched.api.context import decode
from raftsched.core.commands import DeleteLimit, DeleteQueue, PutLimit
from raftsched.embed.calling import CALL_SECONDS, Calling, Document, as_document, encoded

_queues = msgspec.json.Decoder(queues.QueueRequest)
_limits = msgspec.json.Decoder(limits.LimitRequest)


class Queues(Calling):
    """The calls about queues and limits, whose answers are the documents that a client has.

    Raises ValueError for what is wrong or refused, KeyError for a name that none can have, or
    PeerError.
    """

    async def queues(self, *, timeout_seconds: float = CALL_SECONDS) -> AsyncIterator[Document]:
        """All queues that were set or have tasks, by name."""
        for name in sorted(queues.queue_names(await self._current(timeout_seconds))):
            yield as_document(queues.queue_view(self.state, name))

    async def queue(self, name: str, *, timeout_seconds: float = CALL_SECONDS) -> Document:
        """One queue; any name is one."""
        with self._calling(timeout_seconds) as call:
            name = queues.checked_name(name)
            return as_document(queues.queue_view(await call.read(), name))

    async def set_queue(
        self, /, name: str, *, timeout_seconds: float = CALL_SECONDS, **fields: Any
    ) -> Document:
        """Say what holds for a queue: ``concurrency``, ``max_depth``, ``paused``, ..."""
        data = encoded(fields)
        with self._calling(timeout_seconds) as call:
            wanted = partial(queues.wanted_queue, decode(_queues, data))
            await queues.change(call, queues.checked_name(name), wanted)
            return as_document(queues.queue_view(self.state, name))

    async def delete_queue(self, name: str, *, timeout_seconds: float = CALL_SECONDS) -> bool:
        """Back to the defaults; the tasks stay.  False: nothing was set."""
        with self._calling(timeout_seconds) as call:
            return await call.removed(DeleteQueue(queues.checked_name(name)), "unknown-queue")

    async def pause_queue(self, name: str, *, timeout_seconds: float = CALL_SECONDS) -> Document:
        """Start nothing of a queue; what runs goes on."""
        return await self._hold_queue(name, True, timeout_seconds)

    async def resume_queue(self, name: str, *, timeout_seconds: float = CALL_SECONDS) -> Document:
        """Undo a pause."""
        return await self._hold_queue(name, False, timeout_seconds)

    async def _hold_queue(self, name: str, paused: bool, timeout_seconds: float) -> Document:
        with self._calling(timeout_seconds) as call:
            wanted = partial(queues.set_paused, paused)
            await queues.change(call, queues.checked_name(name), wanted)
            return as_document(queues.queue_view(self.state, name))

    async def purge_queue(
        self,
        name: str,
        *,
        reason: str = "",
        dry_run: bool = False,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Document:
        """Cancel all tasks of a queue that no node has: ``matched``, ``changed``, ``ids``."""
        with self._calling(timeout_seconds) as call:
            name = queues.checked_name(name)
            return as_document(await queues.purged(call, name, reason, dry_run=dry_run))

    async def limits(self, *, timeout_seconds: float = CALL_SECONDS) -> AsyncIterator[Document]:
        """All limits that were set or are held, by key."""
        for key in sorted(limits.limit_keys(await self._current(timeout_seconds))):
            yield as_document(limits.limit_view(self.state, key))

    async def limit(self, key: str, *, timeout_seconds: float = CALL_SECONDS) -> Document:
        """One limit; a key for which nothing was set is a mutex."""
        with self._calling(timeout_seconds) as call:
            key = limits.checked_key(key)
            return as_document(limits.limit_view(await call.read(), key))

    async def set_limit(
        self, /, key: str, *, timeout_seconds: float = CALL_SECONDS, **fields: Any
    ) -> Document:
        """Say what holds for a key: ``count``, ``rate`` (``count``, ``per``, ``burst``)."""
        data = encoded(fields)
        with self._calling(timeout_seconds) as call:
            row = limits.wanted_limit(limits.checked_key(key), decode(_limits, data))
            await call.propose(PutLimit(row))
            return as_document(limits.limit_view(self.state, key))

    async def delete_limit(self, key: str, *, timeout_seconds: float = CALL_SECONDS) -> bool:
        """Back to a mutex.  False: nothing was set."""
        with self._calling(timeout_seconds) as call:
            return await call.removed(DeleteLimit(limits.checked_key(key)), "unknown-limit")
