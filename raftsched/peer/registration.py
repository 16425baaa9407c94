"""This node's row in the state: made at the start, kept up, and taken back at the stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from raftsched import __version__
from raftsched.core.commands import AnyCommand, NodeLeft, RegisterNode
from raftsched.core.model import Node, NodeStatus
from raftsched.core.outcomes import Accepted, Reason
from raftsched.core.versions import POLICIES
from raftsched.peer.config import PeerConfig
from raftsched.peer.errors import PeerError
from raftsched.peer.host import PeerHost
from raftsched.peer.replica import Replica
from raftsched.peer.reports import Propose

logger = logging.getLogger(__name__)

#: The row is looked at this often, and whenever it may have changed.
LOOK_SECONDS = 1.0
#: A registration that nobody took is tried again after this, a refused one after `LOOK_SECONDS`.
RETRY_SECONDS = 0.2


class Registration:
    """Keeps the row up while `run` runs."""

    def __init__(
        self,
        config: PeerConfig,
        replica: Replica,
        slots: int,
        propose: Propose,
        on_done: Callable[[], None],
        host: PeerHost,
    ) -> None:
        self._config = config
        self._replica = replica
        self._slots = slots
        self._propose = propose
        self._on_done = on_done
        self._host = host
        self._changed = asyncio.Event()
        self._is_leaving = False
        #: Set while this incarnation's registration stands, as far as this peer knows.
        self.done = asyncio.Event()

    def look(self) -> None:
        """The row may have changed."""
        self._changed.set()

    async def run(self, incarnation: str, *, clean: bool) -> None:
        """Register this incarnation, and again whenever it was declared lost; until cancelled."""
        while True:
            row = self._replica.state.nodes.get(self._config.peer_id)
            stands = (
                self.done.is_set()
                and row is not None
                and row.incarnation == incarnation
                and row.status is NodeStatus.UP
                and self._has_said_all(row)
            )
            if not stands and not self._is_leaving:
                await self._register(self._row(incarnation, self._slots, clean=clean))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
            self._changed.clear()

    def _has_said_all(self, row: Node) -> bool:
        """Is everything in the row that the version in force has a place for?"""
        has_all = dict(row.resources) == self._config.resources and row.lease_ms > 0
        return has_all or self._replica.state.version < POLICIES

    async def leave(self, incarnation: str) -> None:
        """Say good-bye if nothing runs here any more, so that nobody waits for the lease.

        Otherwise see that nothing more is assigned; what runs is there for the next start.
        """
        self._is_leaving = True
        if not self.done.is_set():
            return
        command: AnyCommand = NodeLeft(self._config.peer_id, incarnation)
        if self._replica.state.by_node.get(self._config.peer_id):
            command = self._row(incarnation, 0, clean=False)
        try:
            await self._propose(command, 1.0)
        except PeerError as error:
            logger.debug("good-bye not heard: %s", error)

    async def _register(self, command: RegisterNode) -> None:
        try:
            outcome = await self._propose(command, 5.0)
        except PeerError as error:
            logger.debug("registration waits: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
            return
        if isinstance(outcome, Accepted):
            self.done.set()
            self._on_done()
        elif outcome.reason is Reason.STALE_INCARNATION:
            # Our copy of the row was older than the refusal, which brought the new one with it.
            logger.info("registering again: %s", outcome.detail)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            logger.error("registration refused: %s %s", outcome.reason, outcome.detail)
            await asyncio.sleep(LOOK_SECONDS)

    def _row(self, incarnation: str, slots: int, *, clean: bool) -> RegisterNode:
        config = self._config
        return RegisterNode(
            node_id=config.peer_id,
            incarnation=incarnation,
            address=f"http://{config.address.api}",
            cpu_milli=config.cpu_milli or 1000 * self._host.cpus,
            memory_bytes=config.memory_bytes or self._host.memory_bytes,
            slots=slots,
            clean=clean,
            version=__version__,
            labels=config.labels,
            lease_ms=int(config.lease_seconds * 1000),
            resources=tuple(sorted(config.resources.items())),
            replaces=self._replica.state.incarnation_of(config.peer_id),
        )
