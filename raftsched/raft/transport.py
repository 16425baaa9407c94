"""One authenticated connection per peer, and PySyncObj's messages over it.

The peer with the larger id dials.  A new connection of a peer replaces the old one, which is closed
before the new one speaks.  Everything is bounded: the handshake in size and time, frames, and what
may wait to be sent; a peer past a bound loses its connection, never this process its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable
from typing import Any, cast

import msgspec
from pysyncobj.transport import Transport as PySyncObjTransport

from raftsched.raft import frames
from raftsched.raft.config import LogConfig
from raftsched.raft.node import PeerNode

logger = logging.getLogger(__name__)

#: Time for the handshake of a new connection.
HANDSHAKE_SECONDS = 2.0
#: Bytes that may wait to be sent to one peer.
BUFFER_BYTES_MAX = 256 * 1024 * 1024
#: Connections that have not shown who they are.
STRANGERS_MAX = 64


class _Connection(asyncio.Protocol):
    """One socket: frames in, frames out; says who it is before anything else."""

    def __init__(self, owner: Transport, target: str) -> None:
        self.owner = owner
        #: Whom we dialled; empty for an incoming connection.
        self.target = target
        #: Who it turned out to be; empty until the handshake is through.
        self.peer_id = ""
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses.
        self.transport = transport
        transport.set_write_buffer_limits(high=BUFFER_BYTES_MAX)
        if not self.owner.welcome(self):
            transport.abort()
            return
        self._timer = self.owner.loop.call_later(HANDSHAKE_SECONDS, self._handshake_late)
        if self.target:
            transport.write(self.owner.handshake(self.target))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        offset = 0
        size = len(self._buffer)
        while size - offset >= frames.LENGTH.size:
            (length,) = frames.LENGTH.unpack_from(self._buffer, offset)
            limit = frames.FRAME_BYTES_MAX if self.peer_id else frames.HANDSHAKE_BYTES_MAX
            if length > limit:
                self.close(f"a frame of {length} bytes is over the limit of {limit}")
                return
            end = offset + frames.LENGTH.size + length
            if size < end:
                break
            body = bytes(self._buffer[offset + frames.LENGTH.size : end])
            offset = end
            if self.peer_id:
                self._frame(body)
            else:
                self._shake_hands(body)
            if self.transport is None:
                return
        if offset:
            del self._buffer[:offset]

    def _frame(self, body: bytes) -> None:
        try:
            message = frames.decode(body)
        except (msgspec.DecodeError, ValueError) as error:
            self.close(f"it sent what is no message: {error}")
            return
        self.owner.received(self.peer_id, message)

    def _shake_hands(self, body: bytes) -> None:
        try:
            handshake = frames.decode_handshake(body)
        except msgspec.DecodeError:
            self.close("it does not speak raftsched")
            return
        refusal = self.owner.refusal(handshake, self.target)
        if refusal:
            self.close(refusal)
            return
        if self._timer is not None:
            self._timer.cancel()
        self.peer_id = handshake.peer_id
        if not self.target:
            assert self.transport is not None
            self.transport.write(self.owner.handshake(""))
        self.owner.connected(self)

    def _handshake_late(self) -> None:
        self.close(f"no handshake within {HANDSHAKE_SECONDS:.0f} s")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.transport = None
        self.owner.lost(self)

    def send(self, message: Any) -> None:
        """Queue a message; all of one loop pass leave in one write."""
        frame = frames.encode(message)
        self._out.append(frame)
        self._out_bytes += len(frame)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.owner.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand everything queued to the socket."""
        self._flush_scheduled = False
        if self.transport is None or not self._out:
            return
        if self.transport.get_write_buffer_size() > BUFFER_BYTES_MAX:
            self.close(f"{BUFFER_BYTES_MAX} bytes wait to be sent to it")
            return
        self.transport.write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    @property
    def waiting_bytes(self) -> int:
        """What is queued and not yet with the kernel."""
        return self._out_bytes + (
            self.transport.get_write_buffer_size() if self.transport is not None else 0
        )

    def close(self, why: str = "") -> None:
        """Drop the connection; ``why`` is logged."""
        if self.transport is None:
            return
        if why:
            who = self.peer_id or self.target or self.transport.get_extra_info("peername")
            logger.warning("connection with %s refused: %s", who, why)
        transport, self.transport = self.transport, None
        transport.abort()


class Transport(PySyncObjTransport):  # type: ignore[misc]
    """PySyncObj's transport over asyncio.  ``open`` listens and dials; ``destroy`` ends it."""

    def __init__(self, config: LogConfig) -> None:
        super().__init__(None, None, [])
        self.loop = asyncio.get_running_loop()
        self._config = config
        self._nodes = {p: PeerNode(p) for p in config.peers if p != config.peer_id}
        self._connections: dict[str, _Connection] = {}
        self._strangers: set[_Connection] = set()
        self._dialers: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self._closed = False
        #: Called with (peer id, message) for every message.
        self.on_message: Callable[[str, dict[str, Any]], None] = lambda peer, message: None
        #: Called with (peer id, is connected).
        self.on_link: Callable[[str, bool], None] = lambda peer, up: None
        #: Sees every message PySyncObj sends; returns what is really sent, or None.
        self.outgoing: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda p, m: m
        self._last_refusal = ""

    # PySyncObj's side ----------------------------------------------------------------------------

    @property
    def nodes(self) -> dict[str, PeerNode]:
        """PySyncObj's objects for the other peers, by id."""
        return self._nodes

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
        self._onMessageReceived(self._nodes[peer_id], message)

    async def open(self) -> None:
        """Listen, and dial the peers with smaller ids.  Raises OSError when the port is taken."""
        if len(self._config.peers) == 1:
            return
        host, _, port = self._config.peers[self._config.peer_id].rpartition(":")
        host = host.strip("[]")
        if not self._config.insecure and not _is_loopback(host):
            raise OSError(f"{host} is not loopback; insecure = true allows it, unencrypted")
        self._server = await self.loop.create_server(
            lambda: _Connection(self, ""), host, int(port), reuse_address=True
        )
        for peer_id in sorted(self._nodes):
            if peer_id < self._config.peer_id:
                self._dialers.append(asyncio.create_task(self._dial(peer_id)))

    async def close(self) -> None:
        """Stop listening and dialling, send what is queued, and close all connections."""
        self._closed = True
        for task in self._dialers:
            task.cancel()
        await asyncio.gather(*self._dialers, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.flush()
            if connection.transport is not None:
                connection.transport.close()
        for stranger in list(self._strangers):
            stranger.close()

    async def _dial(self, peer_id: str) -> None:
        """Keep a connection to a peer; the name is resolved anew at every try."""
        config = self._config
        while not self._closed:
            if peer_id not in self._connections:
                host, _, port = config.peers[peer_id].rpartition(":")
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(config.connect_timeout_seconds):
                        await self.loop.create_connection(
                            lambda: _Connection(self, peer_id), host.strip("[]"), int(port)
                        )
            await asyncio.sleep(config.reconnect_seconds)

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
            )
        )

    def refusal(self, theirs: frames.Handshake, dialled: str) -> str:
        """Why a connection may not be used; empty if it may."""
        ours = self._config
        if theirs.magic != frames.MAGIC:
            return "it does not speak raftsched"
        if theirs.version != frames.PROTOCOL_VERSION:
            return f"it speaks protocol {theirs.version}, this peer {frames.PROTOCOL_VERSION}"
        if theirs.cluster_id != ours.cluster_id:
            return f"it belongs to cluster {theirs.cluster_id!r}, this peer to {ours.cluster_id!r}"
        if theirs.peer_id not in self._nodes:
            return f"peer {theirs.peer_id!r} is not configured here"
        if dialled and theirs.peer_id != dialled:
            return f"it is {theirs.peer_id!r}, not {dialled!r}"
        if not dialled and theirs.target != ours.peer_id:
            return f"it looks for {theirs.target!r}, this is {ours.peer_id!r}"
        return ""

    def welcome(self, connection: _Connection) -> bool:
        """A socket opened; False when too many have not said who they are."""
        if self._closed or len(self._strangers) >= STRANGERS_MAX:
            return False
        self._strangers.add(connection)
        return True

    def connected(self, connection: _Connection) -> None:
        """A handshake is through: this is the peer's one connection from now on."""
        self._strangers.discard(connection)
        peer_id = connection.peer_id
        old = self._connections.pop(peer_id, None)
        if old is not None:
            old.peer_id = ""
            old.close()
            self._down(peer_id)
        self._connections[peer_id] = connection
        logger.info("connected with %s", peer_id)
        self._onNodeConnected(self._nodes[peer_id])
        self.on_link(peer_id, True)

    def lost(self, connection: _Connection) -> None:
        """A socket closed."""
        self._strangers.discard(connection)
        peer_id = connection.peer_id
        if peer_id and self._connections.get(peer_id) is connection:
            del self._connections[peer_id]
            if not self._closed:
                logger.info("connection with %s lost", peer_id)
            self._down(peer_id)

    def _down(self, peer_id: str) -> None:
        self._onNodeDisconnected(self._nodes[peer_id])
        self.on_link(peer_id, False)

    def received(self, peer_id: str, message: dict[str, Any]) -> None:
        """A message arrived."""
        self.on_message(peer_id, message)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
