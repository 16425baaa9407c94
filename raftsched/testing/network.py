"""Simulated TCP between simulated machines.

Within a connection bytes arrive in order and none is lost; only the end of the connection loses
any.  A link that is cut delays: what was written meanwhile arrives after it is whole again, unless
the connection ended before, just as TCP sends again.  Machines are told apart by the loop's name,
and every port belongs to one machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any
from zlib import crc32

from raftsched.testing.loop import PeerLoop
from raftsched.testing.world import World

#: What TCP waits before it sends again over a link that is whole again.
RESEND_SECONDS = (0.02, 0.6)
#: One write of so many arrives in two pieces.
SPLIT_ONE_IN = 16


class Link:
    """One direction between two machines."""

    def __init__(self, delay: tuple[float, float]) -> None:
        #: Seconds a packet takes: at least, at most.
        self.delay = delay
        self.is_cut = False


class Server:
    """Listens, until closed."""

    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port

    def close(self) -> None:
        self._network.listeners.pop(self._port, None)

    async def wait_closed(self) -> None:
        pass


class Endpoint(asyncio.Transport):
    """One end of a connection."""

    other: Endpoint

    def __init__(self, network: Network, loop: PeerLoop, there: str) -> None:
        super().__init__()
        self._network = network
        self.loop = loop
        self.here = loop.name
        self.there = there
        self.protocol: asyncio.Protocol | None = None
        #: Nothing is sent or heard here any more.
        self.is_closed = False
        #: When the last byte written arrives, so that the next does not overtake it.
        self.arrives_at = 0.0
        #: Waits for the link: bytes, or the end of the connection (None: orderly, else the error).
        self.held: list[bytes | Exception | None] = []
        self._waiting_bytes = 0

    # asyncio's interface.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closed and data:
            self._waiting_bytes += len(data)
            self._network.send(self, bytes(data))

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(ConnectionResetError("aborted there"))

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return self._waiting_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.there if name == "peername" else default

    # The network's side.

    def _end(self, error: Exception | None) -> None:
        if self.is_closed:
            return
        self._network.send(self, error)
        self.is_closed = True
        self._network.forget(self)
        self.loop.call_soon(self._lost, None)

    def _lost(self, error: Exception | None) -> None:
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.connection_lost(error)

    def vanish(self) -> None:
        """The machine is gone, or does not know of this connection any more."""
        self.is_closed = True
        self.held.clear()
        self._network.forget(self)

    def arrived(self, what: bytes | Exception | None) -> None:
        """Something written at the other end is here."""
        if isinstance(what, bytes):
            self.other._waiting_bytes -= len(what)
        if self.loop.is_dead or self.is_closed:
            self._network.answer_reset(self)
            return
        if isinstance(what, bytes):
            self._network.world.mark(crc32(what))
            self.loop.call_soon(self._received, what)
            return
        self.is_closed = True
        self._network.forget(self)
        self.loop.call_soon(self._lost, what)

    def _received(self, data: bytes) -> None:
        if self.protocol is not None and not self.is_closed:
            self.protocol.data_received(data)

    def reset(self) -> None:
        """The connection broke, as seen from here."""
        if not self.is_closed:
            self.is_closed = True
            self._network.forget(self)
            self.loop.call_soon(self._lost, ConnectionResetError("connection reset"))


class Network:
    """All machines' links.  Implements ``loop.Wires``."""

    def __init__(self, world: World, delay: tuple[float, float] = (0.0001, 0.0008)) -> None:
        self.world = world
        self._chance = world.chance("network")
        self.delay = delay
        self._links: dict[tuple[str, str], Link] = {}
        self.listeners: dict[int, tuple[PeerLoop, Callable[[], Any]]] = {}
        #: Machine by port, also while nobody listens there.
        self._machines: dict[int, str] = {}
        self._off: dict[str, None] = {}
        self._endpoints: dict[Endpoint, None] = {}
        self.bytes_sent = 0
        self.messages_sent = 0

    # Faults --------------------------------------------------------------------------------------

    def link(self, here: str, there: str) -> Link:
        """The way from one machine to another."""
        link = self._links.get((here, there))
        if link is None:
            link = self._links[(here, there)] = Link(self.delay)
        return link

    def cut(self, here: str, there: str) -> None:
        """Nothing gets from one machine to the other."""
        self.link(here, there).is_cut = True

    def mend(self, here: str, there: str) -> None:
        """The way is whole again; what waits is sent again soon."""
        link = self.link(here, there)
        if link.is_cut:
            link.is_cut = False
            for endpoint in list(self._endpoints):
                if (endpoint.here, endpoint.there) == (here, there) and endpoint.held:
                    self.world.after(self._chance.uniform(*RESEND_SECONDS), self._resend, endpoint)

    def mend_all(self) -> None:
        """All links are whole and as fast as at the beginning."""
        for (here, there), link in list(self._links.items()):
            link.delay = self.delay
            self.mend(here, there)

    def slow(self, here: str, there: str, delay: tuple[float, float]) -> None:
        """Packets take so long from now on."""
        self.link(here, there).delay = delay

    def break_connections(self, here: str, there: str) -> None:
        """Both ends of every connection between two machines see it broken, each in its time."""
        for endpoint in list(self._endpoints):
            if (endpoint.here, endpoint.there) in ((here, there), (there, here)):
                self.world.after(self._chance.random() * 0.01, endpoint.reset)

    def process_died(self, loop: PeerLoop) -> None:
        """The kernel closes what a process had open; its listeners are gone."""
        self._stop_listening(loop)
        for endpoint in self._of(loop):
            self.send(endpoint, ConnectionResetError("connection reset by peer"))
            endpoint.is_closed = True
            self.forget(endpoint)

    def machine_died(self, loop: PeerLoop) -> None:
        """The power is off: nobody is told."""
        self._stop_listening(loop)
        self._off[loop.name] = None
        for endpoint in self._of(loop):
            endpoint.vanish()

    def machine_is_up(self, name: str) -> None:
        """The power is on."""
        self._off.pop(name, None)

    def _of(self, loop: PeerLoop) -> Iterable[Endpoint]:
        return [endpoint for endpoint in self._endpoints if endpoint.loop is loop]

    def _stop_listening(self, loop: PeerLoop) -> None:
        for port, (owner, _) in list(self.listeners.items()):
            if owner is loop:
                del self.listeners[port]

    def forget(self, endpoint: Endpoint) -> None:
        """It is closed; what it still holds back will be sent all the same."""
        if not endpoint.held:
            self._endpoints.pop(endpoint, None)

    def end(self) -> None:
        """Let go of everything that was connected."""
        self._endpoints.clear()
        self.listeners.clear()

    # Sending -------------------------------------------------------------------------------------

    def send(self, endpoint: Endpoint, what: bytes | Exception | None) -> None:
        """Bytes, or the end of the connection, on their way to the other end."""
        link = self.link(endpoint.here, endpoint.there)
        if link.is_cut or endpoint.held:
            endpoint.held.append(what)
            return
        if isinstance(what, bytes):
            self.messages_sent += 1
            self.bytes_sent += len(what)
            if len(what) > 1 and not self._chance.randrange(SPLIT_ONE_IN):
                cut = self._chance.randrange(1, len(what))
                self._deliver(link, endpoint, what[:cut])
                what = what[cut:]
        self._deliver(link, endpoint, what)

    def _deliver(self, link: Link, endpoint: Endpoint, what: bytes | Exception | None) -> None:
        when = self.world.time + self._chance.uniform(*link.delay)
        endpoint.arrives_at = when = max(when, endpoint.arrives_at)
        self.world.at(when, endpoint.other.arrived, what)

    def _resend(self, endpoint: Endpoint) -> None:
        if self.link(endpoint.here, endpoint.there).is_cut:
            return
        held, endpoint.held = endpoint.held, []
        for what in held:
            self.send(endpoint, what)
        if endpoint.is_closed:
            self.forget(endpoint)

    def answer_reset(self, endpoint: Endpoint) -> None:
        """Something arrived for a connection this machine does not know: it says so, if it can."""
        link = self.link(endpoint.here, endpoint.there)
        if endpoint.here not in self._off and not link.is_cut:
            self.world.after(self._chance.uniform(*link.delay), endpoint.other.reset)

    # Connecting ----------------------------------------------------------------------------------

    def listen(self, loop: PeerLoop, factory: Callable[[], Any], port: int) -> Server:
        """Take connections on a port.  Raises OSError when it is taken."""
        if port in self.listeners:
            raise OSError(98, "address already in use")
        self._machines[port] = loop.name
        self.listeners[port] = (loop, factory)
        return Server(self, port)

    async def connect(self, loop: PeerLoop, factory: Callable[[], Any], port: int) -> Any:
        """A connection to a port.  Hangs where nobody answers; raises ConnectionRefusedError."""
        future: asyncio.Future[Any] = loop.create_future()
        there = self._machines.get(port, "")
        way = self.link(loop.name, there)
        if not way.is_cut and there not in self._off:
            self.world.after(
                self._chance.uniform(*way.delay), self._knock, loop, factory, port, there, future
            )
        return await future

    def _knock(
        self,
        loop: PeerLoop,
        factory: Callable[[], Any],
        port: int,
        there: str,
        future: asyncio.Future[Any],
    ) -> None:
        back = self.link(there, loop.name)
        listener = self.listeners.get(port)
        delay = self._chance.uniform(*back.delay)
        if listener is None:
            if not back.is_cut and there not in self._off:
                self.world.after(delay, loop.call_soon, _refuse, future)
            return
        server, client = (
            Endpoint(self, listener[0], loop.name),
            Endpoint(self, loop, listener[0].name),
        )
        server.other, client.other = client, server
        self._endpoints[server] = self._endpoints[client] = None
        listener[0].call_soon(_made, server, listener[1])
        if not back.is_cut:
            self.world.after(delay, loop.call_soon, _connected, client, factory, future)


def _made(endpoint: Endpoint, factory: Callable[[], Any]) -> Any:
    if endpoint.is_closed:
        return None
    protocol = endpoint.protocol = factory()
    protocol.connection_made(endpoint)
    return protocol


def _connected(endpoint: Endpoint, factory: Callable[[], Any], future: asyncio.Future[Any]) -> None:
    if future.done():
        endpoint.abort()
        return
    protocol = _made(endpoint, factory)
    if protocol is None:
        future.set_exception(ConnectionResetError("connection reset"))
    else:
        future.set_result((endpoint, protocol))


def _refuse(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(ConnectionRefusedError("nobody listens there"))
