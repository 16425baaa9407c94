"""The peer that programs embed: a member of the cluster, its HTTP API, and the calls."""

from __future__ import annotations

from raftsched.api.server import ApiServer
from raftsched.embed.many import Many
from raftsched.embed.nodes import Nodes
from raftsched.embed.queues import Queues
from raftsched.embed.results import Results
from raftsched.embed.schedules import Schedules
from raftsched.embed.templates import Templates
from raftsched.embed.trees import Trees
from raftsched.peer.config import PeerConfig
from raftsched.peer.host import PeerHost


class Peer(Trees, Results, Many, Schedules, Templates, Queues, Nodes):
    """A member of the cluster with its HTTP API.

    What it offers is in the modules of this package, by what it is about.
    """

    def __init__(self, config: PeerConfig, *, host: PeerHost | None = None) -> None:
        super().__init__(config, host=host)
        self._api: ApiServer | None = None

    async def start(self) -> None:
        """Join the cluster and answer the API.  Raises OSError when a port is taken."""
        await super().start()
        try:
            api = ApiServer(self, self.scanning)
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
