"""One authenticated connection per peer, and PySyncObj's messages over it.

The peer with the larger id dials; the one with the smaller only when it was not dialled for long,
as whoever comes back with another address is known by its new one to itself alone.  A new
connection of a peer replaces the old one, which is closed before the new one speaks.  Everything is
bounded: the handshake in size and time, frames, and what may wait to be sent; a peer past a bound
loses its connection, never this process its memory.  `connection` is one socket, `tls` and
`credentials` are what makes it a peer's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from typing import Any

from pysyncobj.transport import Transport as PySyncObjTransport

from raftsched.raft import frames
from raftsched.raft.acquaintances import Acquaintances
from raftsched.raft.config import LogConfig
from raftsched.raft.connection import Connection
from raftsched.raft.credentials import Credentials
from raftsched.raft.files import Identity
from raftsched.raft.host import Host
from raftsched.raft.loading import off_loop
from raftsched.raft.node import PeerNode, node_of
from raftsched.raft.refusals import Refusals
from raftsched.raft.tls import CREATE, TlsChannel

logger = logging.getLogger(__name__)

#: Incoming connections that have not shown who they are: all of them, and those of one address.
STRANGERS_MAX = 64
STRANGERS_PER_HOST_MAX = 24
#: The files of [tls] are looked at this often; new connections take what was found last.
RENEWAL_CHECK_SECONDS = 2.0
#: A peer with a larger id that has not dialled for so long is dialled.
PATIENCE_SECONDS = 3.0


class Transport(PySyncObjTransport):  # type: ignore[misc]
    """PySyncObj's transport over asyncio.  ``open`` listens and dials; ``destroy`` ends it."""

    def __init__(self, config: LogConfig, host: Host | None = None) -> None:
        super().__init__(None, None, [])
        self.loop = asyncio.get_running_loop()
        self.peer_id = config.peer_id
        self.refusals = Refusals(self.loop.time)
        self._config = config
        self._host = host or Host()
        #: Where the others listen, by id; addresses of the configuration file come first.
        self._addresses = {p: a for p, a in config.peers.items() if p != config.peer_id}
        #: Ids of peers that were removed, and are told so.
        self._removed: frozenset[str] = frozenset()
        self._connections: dict[str, Connection] = {}
        #: All sockets that are not a peer's (yet), oldest first.
        self._strangers: dict[Connection, None] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._dialers: dict[str, asyncio.Task[None]] = {}
        #: Peers to be dialled without waiting for them to dial: they said something to be proven.
        self._asked_soon: set[str] = set()
        self._server: asyncio.Server | None = None
        self._closed = False
        #: What this peer's directory was marked with, and what it knows of the others'.
        self.mark = ""
        self.acquaintances: Acquaintances | None = None
        self._credentials: Credentials | None = None
        if config.tls is not None:
            owner = Identity(config.cluster_id, config.peer_id)
            self._credentials = Credentials(config.tls, owner, self._host.clock.wall_ms)
        #: Called with (peer id, message) for every message.
        self.on_message: Callable[[str, dict[str, Any]], None] = lambda peer, message: None
        #: Called with (peer id, is connected).
        self.on_link: Callable[[str, bool], None] = lambda peer, up: None
        #: Called with every socket that opened and may say who it is.
        self.on_stranger: Callable[[Connection], None] = lambda connection: None
        #: May a peer come in that is not known here?
        self.is_open_to_all: Callable[[], bool] = lambda: False
        #: Called with who said so when this peer is told that it was removed from the cluster.
        self.on_removed: Callable[[str], None] = lambda peer: None
        #: Sees every message PySyncObj sends; returns what is really sent, or None.
        self.outgoing: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda p, m: m

    # PySyncObj's side ----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """The socket is opened by `open`, before PySyncObj's first tick."""
        return True

    def tryGetReady(self) -> None:
        """Nothing to do."""

    def send(self, node: PeerNode, message: dict[str, Any]) -> bool:
        """Send one of PySyncObj's messages; False when there is no connection."""
        changed = self.outgoing(node.id, message)
        return changed is not None and self.send_to(node.id, changed)

    def destroy(self) -> None:
        """PySyncObj's farewell; `close` does the work."""

    # Our side ------------------------------------------------------------------------------------

    def send_to(self, peer_id: str, message: dict[str, Any]) -> bool:
        """Send a message to a peer; False when there is no connection."""
        connection = self._connections.get(peer_id)
        if connection is None:
            return False
        connection.send(message)
        return True

    def waiting_bytes(self, peer_id: str) -> int:
        """Bytes that wait to be sent to a peer."""
        connection = self._connections.get(peer_id)
        return 0 if connection is None else connection.waiting_bytes

    def connected_peers(self) -> tuple[str, ...]:
        """Peers with a connection, sorted."""
        return tuple(sorted(self._connections))

    def deliver(self, peer_id: str, message: dict[str, Any]) -> None:
        """Give PySyncObj a message as from a peer."""
        self._onMessageReceived(node_of(peer_id), message)

    def set_members(self, addresses: dict[str, str], removed: tuple[str, ...]) -> None:
        """Whom to keep connections with, and where they listen; this peer may be among them.

        Those in ``removed`` are told so, and have no connection any more.
        """
        ours = self._config
        self._addresses = {
            p: ours.peers.get(p, address) for p, address in addresses.items() if p != ours.peer_id
        }
        self._removed = frozenset(removed) - {ours.peer_id}
        if self._server is not None:
            self._dial_members()
        for peer_id in removed:
            connection = self._connections.get(peer_id)
            if connection is not None:
                connection.send({"type": "removed"})
                self.loop.call_soon(connection.end)

    def _dial_members(self) -> None:
        for peer_id in [p for p in self._dialers if p not in self._addresses]:
            self._dialers.pop(peer_id).cancel()
        for peer_id in sorted(self._addresses):
            if peer_id not in self._dialers:
                self._dialers[peer_id] = asyncio.create_task(self._dial(peer_id))

    async def open(self) -> None:
        """Listen, and dial the peers with smaller ids.

        Raises OSError when the port is taken, TlsError (one, too) for the files of [tls].
        """
        host, port = _split(self._config.peers[self._config.peer_id])
        is_allowed = self._config.insecure or self._credentials or _is_loopback(host)
        if not is_allowed:
            raise OSError(
                f"{host} is not loopback; configure [tls], or insecure = true allows it unencrypted"
            )
        if self._credentials is not None:
            await off_loop(self._credentials.load)
            self._tasks.append(asyncio.create_task(self._renew(self._credentials)))
        self._server = await self.loop.create_server(
            lambda: Connection(self, ""), host, port, reuse_address=True
        )
        self._dial_members()

    async def close(self) -> None:
        """Stop listening and dialling, send what is queued, and close all connections."""
        self._closed = True
        tasks = [*self._tasks, *self._dialers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.end()
        for stranger in list(self._strangers):
            stranger.close()

    async def _dial(self, peer_id: str) -> None:
        """Keep a connection to a peer."""
        patience = 0.0 if peer_id < self._config.peer_id else PATIENCE_SECONDS
        alone_since = self.loop.time()
        while not self._closed:
            if peer_id in self._connections:
                alone_since = self.loop.time()
            elif peer_id in self._asked_soon or self.loop.time() - alone_since >= patience:
                alone_since = self.loop.time()
                self._asked_soon.discard(peer_id)
                try:
                    await self._connect(peer_id)
                except (OSError, TimeoutError) as error:
                    logger.debug("no connection to %s: %s", peer_id, error)
                except Exception as error:
                    why = f"unexpected: {type(error).__name__}: {error}"
                    self.refusals.tell(peer_id, why, f"cannot dial {peer_id!r}: {why}")
            await asyncio.sleep(self._config.reconnect_seconds)

    async def _connect(self, peer_id: str) -> None:
        """Dial once, the name resolved anew; returns when it is known what became of it."""
        host, port = _split(self._addresses[peer_id])
        async with asyncio.timeout(self._config.connect_timeout_seconds):
            address = await self._host.address(host)
            _, connection = await self.loop.create_connection(
                lambda: Connection(self, peer_id), address, port
            )
        # Its own deadline ends it; a second one meanwhile would only replace the first.
        await connection.settled.wait()

    async def _renew(self, credentials: Credentials) -> None:
        """Have renewed files used."""
        while True:
            await asyncio.sleep(RENEWAL_CHECK_SECONDS)
            try:
                await off_loop(credentials.refresh)
            except Exception:
                logger.exception("the files of [tls] were not looked at; this is tried again")

    # Connections' side ---------------------------------------------------------------------------

    def handshake(self, target: str) -> bytes:
        """Our first frame."""
        return frames.encode(
            frames.Handshake(
                frames.MAGIC,
                frames.PROTOCOL_VERSION,
                self._config.cluster_id,
                self._config.peer_id,
                target,
                self.mark,
            )
        )

    def channel(self, target: str) -> TlsChannel | None:
        """TLS for a new connection to ``target`` (empty: of a stranger); None for none."""
        if self._credentials is None:
            return None
        if target:
            return TlsChannel(self._credentials.client, is_server=False)
        return TlsChannel(self._credentials.server, is_server=True)

    def refuse_certificate(self, channel: TlsChannel, dialled: str) -> str:
        """Why the other side's certificate will not do; empty if it does."""
        found = channel.identity()
        if found is None:
            return f"the certificate names no peer; make one with {CREATE}"
        if found.cluster_id != self._config.cluster_id:
            return self._foreign(found)
        if why := self._stranger(found.peer_id):
            return why
        if dialled and found.peer_id != dialled:
            return f"{found.peer_id!r} answers at the address of {dialled!r}; correct the addresses"
        return ""

    def refusal(self, theirs: frames.Handshake, dialled: str, channel: TlsChannel | None) -> str:
        """Why the other side may not be a peer; empty if it may.  Read on both sides."""
        ours, they = self._config, theirs.peer_id
        if theirs.version != frames.PROTOCOL_VERSION:
            return (
                f"{they!r} speaks protocol {theirs.version}, {ours.peer_id!r} "
                f"{frames.PROTOCOL_VERSION}; bring both to one version of raftsched"
            )
        if theirs.cluster_id != ours.cluster_id:
            return self._foreign(Identity(theirs.cluster_id, they))
        if why := self._stranger(they):
            return why
        if channel is not None and channel.identity() != Identity(theirs.cluster_id, they):
            return f"{they!r} shows the certificate of {channel.identity()}; give it its own"
        if dialled and they != dialled:
            return f"{they!r} answers at the address of {dialled!r}; correct the addresses"
        if not dialled and theirs.target != ours.peer_id:
            return (
                f"{they!r} looks for {theirs.target!r} and found {ours.peer_id!r}; "
                "correct the addresses"
            )
        known = self.acquaintances
        return "" if known is None else known.refusal(they, theirs.mark)

    def _foreign(self, they: Identity) -> str:
        return (
            f"{they.peer_id!r} is of cluster {they.cluster_id!r}, {self.peer_id!r} of "
            f"{self._config.cluster_id!r}; compare cluster.id and addresses"
        )

    def is_removed(self, who: Identity | None) -> bool:
        """Was a peer removed from this cluster, so that it should stop?"""
        if who is None or who.cluster_id != self._config.cluster_id:
            return False
        return who.peer_id in self._removed

    def was_removed(self, who: str, dialled: str, channel: TlsChannel | None) -> None:
        """Somebody refuses this peer as one that was removed.

        With TLS a peer of the cluster is believed; without, only a member that was dialled, as
        with the message that says so (`received`).
        One is enough: after a recovery by force there is only one who knows, and the others could
        go on without it.
        """
        if self._credentials is not None:
            found = channel.identity() if channel is not None and channel.is_open else None
            if found is None or found.cluster_id != self._config.cluster_id:
                return
        elif dialled not in self._addresses:
            return
        self.on_removed(who)

    def _stranger(self, peer_id: str) -> str:
        """Why a peer of that id may not come in; empty if it may."""
        if peer_id == self.peer_id:
            return f"two peers call themselves {peer_id!r}; give one of them another --id"
        if peer_id in self._removed:
            return f"{peer_id!r} was removed from this cluster; add it under a new id, wiped"
        if peer_id in self._addresses or self.is_open_to_all():
            return ""
        return f"{peer_id!r} is not a peer that {self.peer_id!r} knows; compare [peers]"

    def welcome(self, connection: Connection) -> bool:
        """A socket opened; False when too many have not said who they are."""
        if self._closed:
            return False
        if not connection.target:
            hosts = [c.host for c in self._strangers if not c.target]
            here = hosts.count(connection.host)
            if len(hosts) >= STRANGERS_MAX or here >= STRANGERS_PER_HOST_MAX:
                why = f"{len(hosts)} connections, {here} of them from there, are not known yet"
                line = f"dropped a connection from {connection.host}: {why}"
                self.refusals.tell(connection.host, "too many", line)
                return False
        self._strangers[connection] = None
        self.on_stranger(connection)
        return True

    def connected(self, connection: Connection) -> None:
        """A handshake is through: this is the peer's one connection from now on."""
        if self.acquaintances is not None:
            # Before anything it says counts.
            self.acquaintances.meet(connection.peer_id, connection.mark)
        self._strangers.pop(connection, None)
        peer_id = connection.peer_id
        old = self._connections.pop(peer_id, None)
        if old is not None:
            old.peer_id = ""
            old.close()
            self._down(peer_id)
        self._connections[peer_id] = connection
        logger.info("connected with %s", peer_id)
        self._onNodeConnected(node_of(peer_id))
        self.on_link(peer_id, True)

    def lost(self, connection: Connection) -> None:
        """A socket closed."""
        self._strangers.pop(connection, None)
        peer_id = connection.peer_id
        if peer_id and self._connections.get(peer_id) is connection:
            del self._connections[peer_id]
            if not self._closed:
                logger.info("connection with %s lost", peer_id)
            self._down(peer_id)

    def _down(self, peer_id: str) -> None:
        self._onNodeDisconnected(node_of(peer_id))
        self.on_link(peer_id, False)

    def received(self, connection: Connection, message: dict[str, Any]) -> None:
        """A message of ``connection.peer_id`` arrived."""
        if message["type"] != "removed":
            self.on_message(connection.peer_id, message)
        elif connection.target or self._credentials is not None:
            self.on_removed(connection.peer_id)
        else:
            # Whoever reaches the port can say hello as a peer and say this.  Ask at its address.
            self._asked_soon.update({connection.peer_id} & self._addresses.keys())
            connection.close()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
