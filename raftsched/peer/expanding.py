"""The node's part in a fan-out: what a task ran here named as items becomes subtasks of another.

A fork that waits for items is expanded by the node that ran the task which names them: the output
is on its disk.  Pieces are numbered, so whatever comes between, the next look goes on behind them.
For a node whose peer was removed the leader stands in, with what is replicated: nobody else ever
would, and the fork would wait for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from raftsched.core.commands import AddSubtasks, AnyCommand
from raftsched.core.items import BadItem, Template, pieces, template_of
from raftsched.core.model import REASON_MAX, TERMINAL, NewTask, Task, TaskStatus
from raftsched.core.outcomes import Accepted, Outcome, Reason, Rejected
from raftsched.core.state import State
from raftsched.executor.items import NoItems
from raftsched.peer.errors import PeerError
from raftsched.peer.host import PeerHost

logger = logging.getLogger(__name__)

#: A look at least this often, and a pause before what was refused for a while is tried again.
LOOK_SECONDS = 1.0
PROPOSE_SECONDS = 10.0
#: Items made into tasks between two looks at what else is to be done.
ITEMS_MAX = 500

Propose = Callable[[AnyCommand, float], Awaitable[Outcome]]


class _Later(Exception):
    """There is no room just now: the next look goes on, others have their turn before."""


class Expanding:
    """Makes subtasks of what was named on this node, one fork after the other."""

    def __init__(
        self,
        peer_id: str,
        directory: Path,
        state: Callable[[], State],
        propose: Propose,
        host: PeerHost,
        *,
        stands_in: Callable[[str], bool],
    ) -> None:
        """``stands_in``: is this peer to act for that node, which will not come back?"""
        self._peer_id = peer_id
        self._host = host
        self._directory = directory
        self._state = state
        self._propose = propose
        self._stands_in = stands_in
        self._has_news = asyncio.Event()

    def look(self) -> None:
        """A fork may have begun."""
        self._has_news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._has_news.clear()
            for fork_id, source_id in list(self._state().relations.expecting.items()):
                source = self._state().tasks.get(source_id)
                if source is not None and source.status in TERMINAL:
                    await self._try(fork_id, source)
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: of news and a cancellation together it tells the news alone.
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._has_news.wait()

    async def _try(self, fork_id: str, source: Task) -> None:
        """One fork's trouble is nobody else's."""
        try:
            ran = self._ran(source)
            if source.status is not TaskStatus.SUCCEEDED or ran is None:
                why = f"items-missing: {source.id} is {source.status} and names none"
                await self._add(AddSubtasks(fork_id, 0, (), failure=why))
            elif ran.node == self._peer_id or self._stands_in(ran.node):
                await self._expand(fork_id, ran)
        except (PeerError, _Later) as error:
            logger.info("the items of %s are not all added yet: %s", fork_id, error)
        except Exception as error:
            logger.exception("the items of %s cannot be used", fork_id)
            why = f"items-unusable: {type(error).__name__}: {error}"
            with contextlib.suppress(PeerError, _Later):
                await self._add(AddSubtasks(fork_id, 0, (), failure=why[:REASON_MAX]))

    def _ran(self, source: Task) -> Task | None:
        """The task whose latest attempt made the result of this one; None: there is none."""
        product = source.product
        ran = self._state().tasks.get(product.task_id) if product is not None else None
        return ran if ran is not None and ran.product == product else None

    async def _expand(self, fork_id: str, source: Task) -> None:
        try:
            items = await self._items(source)
            fork = self._state().tasks.get(fork_id)
            if fork is None or fork.extra is None:
                return
            first = fork.extra.subtasks
            tasks = await _filled(fork, items, first)
        except NoItems as error:
            await self._add(AddSubtasks(fork_id, 0, (), failure=str(error)))
            return
        for at, piece in pieces(tasks, first):
            if not await self._add(AddSubtasks(fork_id, at, piece)):
                return
        await self._add(AddSubtasks(fork_id, len(items), (), is_last=True))

    async def _items(self, source: Task) -> list[Any]:
        """Raises NoItems."""
        latest = source.attempts[-1]
        is_on_disk = latest.result_bytes or (latest.output_bytes and not latest.result)
        if source.node != self._peer_id and is_on_disk:
            why = f"{source.node}, which ran {source.id}, was removed with what it left"
            raise NoItems(f"items-gone: {why}")
        return await self._host.items(self._directory, source)

    async def _add(self, command: AddSubtasks) -> bool:
        """False: there is nothing more to do.  Raises PeerError, _Later."""
        outcome = await self._propose(command, PROPOSE_SECONDS)
        if isinstance(outcome, Accepted):
            return True
        assert isinstance(outcome, Rejected)
        if outcome.reason is Reason.OVERLOADED:
            raise _Later(outcome.detail)
        logger.info("no more items of %s: %s", command.task_id, outcome.detail)
        return False


async def _filled(fork: Task, items: list[Any], first: int) -> list[NewTask]:
    """The tasks of the items that have none yet.  Raises NoItems."""
    template = Template(template_of(fork.spec))
    tasks = []
    for number, item in enumerate(items[first:], first):
        try:
            tasks.append(template.task(number, item))
        except BadItem as error:
            raise NoItems(f"items-unfit: item {number}: {error}") from None
        if not number % ITEMS_MAX:
            await asyncio.sleep(0)
    return tasks
