"""One peer as a process of its own."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

from raftsched.embed.peer import Peer
from raftsched.peer.config import PeerConfig
from raftsched.peer.errors import MustStop

logger = logging.getLogger(__name__)


async def serve(config: PeerConfig) -> int:
    """Run one peer until SIGTERM or SIGINT; the exit code.  Raises MustStop."""
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
            error = peer.failed.exception()
            if isinstance(error, MustStop):
                raise error
            return 1
        logger.info("stopping")
    return 0
