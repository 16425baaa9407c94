"""The whole peer, HTTP API included, for programs that embed it and for ``raftsched serve``.

::

    async with Peer(config) as peer:
        task = await peer.submit(["/usr/bin/convert", "a.png", "b.jpg"])
        task = await peer.wait(task.id)
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

from raftsched.api.server import ApiServer
from raftsched.peer.config import PeerConfig, load_config
from raftsched.peer.peer import Peer as _Peer

logger = logging.getLogger(__name__)


class Peer(_Peer):
    """A member of the cluster with its HTTP API."""

    def __init__(self, config: PeerConfig) -> None:
        super().__init__(config)
        self._api: ApiServer | None = None

    async def start(self) -> None:
        """Join the cluster and answer the API.  Raises OSError when a port is taken."""
        await super().start()
        try:
            api = ApiServer(self)
            await api.start()
        except BaseException:
            await self.stop()
            raise
        self._api = api

    async def stop(self) -> None:
        """Leave the cluster; requests under way are answered first."""
        await super().stop()
        if self._api is not None:
            await self._api.stop()
            self._api = None


async def serve(config: PeerConfig) -> int:
    """Run one peer until SIGTERM or SIGINT; the exit code."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Peer(config) as peer:
        logger.info("peer %s answers on http://%s", config.peer_id, config.address.api)
        assert peer.failed is not None
        waiting = asyncio.create_task(stopped.wait())
        futures: set[asyncio.Future[Any]] = {waiting, peer.failed}
        done, _ = await asyncio.wait(futures, return_when="FIRST_COMPLETED")
        waiting.cancel()
        if peer.failed in done:
            peer.failed.exception()
            return 1
        logger.info("stopping")
    return 0


__all__ = ["Peer", "PeerConfig", "load_config", "serve"]
