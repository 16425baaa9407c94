"""Non-blocking sockets and ``poll`` as the library's modules see them, on the simulated network.

The transport, the connections and the poller are the library's own.  A connection attempt sends
its SYN again after 1, 3, 7, ... seconds as Linux does, since the library itself never gives up.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import types
from typing import Any, Protocol

from raftsched.testing.loop import PeerLoop
from raftsched.testing.network import Network

#: Pauses between one SYN and the next, in seconds.
SYN_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
#: What the kernel takes of a connection before the other end has it.
SEND_BUFFER_BYTES = 1 << 16
#: What sending costs the process, for a message and for each byte that waits: the library copies
#: all of it every time.
CALL_SECONDS = 100e-6
BYTE_SECONDS = 5e-9


class Process(Protocol):
    """The process that calls: the part of it that deals with sockets."""

    loop: PeerLoop | None
    network: Network
    #: By descriptor, all that are open.
    sockets: dict[int, Socket]

    def wake(self) -> None:
        """Something may be ready."""


class Socket(asyncio.Protocol):
    """What ``socket.socket`` gives."""

    def __init__(self, process: Process) -> None:
        assert process.loop is not None
        self._process = process
        self._loop = process.loop
        self._fd = process.loop.world.serial() + 10
        process.sockets[self._fd] = self
        self._endpoint: Any = None
        self._attempt: asyncio.Future[Any] | None = None
        self._port = 0
        self._backlog: list[Socket] | None = None
        self._received = bytearray()
        self._is_at_end = False
        self._is_closed = False
        self._error = 0

    # What the library calls ----------------------------------------------------------------------

    def setsockopt(self, *_: int) -> None:
        pass

    def getsockopt(self, *_: int) -> int:
        """SO_ERROR is the only one asked for."""
        return self._error

    def setblocking(self, _: int) -> None:
        pass

    def fileno(self) -> int:
        return self._fd

    def bind(self, address: tuple[str, int]) -> None:
        self._port = address[1]

    def listen(self, _backlog: int) -> None:
        self._process.network.listen(self._loop, self._accepted, self._port)
        self._backlog = []

    def accept(self) -> tuple[Socket, tuple[str, int]]:
        if not self._backlog:
            raise BlockingIOError(errno.EAGAIN, "nobody there")
        return self._backlog.pop(0), ("127.0.0.1", 0)

    def connect(self, address: tuple[str, int]) -> None:
        self._port = address[1]
        self._knock(0)
        raise BlockingIOError(errno.EINPROGRESS, "in progress")

    def recv(self, size: int) -> bytes:
        if self._received:
            data = bytes(self._received[:size])
            del self._received[:size]
            return data
        self._raise()
        if self._is_at_end:
            return b""
        raise BlockingIOError(errno.EAGAIN, "nothing there")

    def send(self, data: bytes) -> int:
        self._raise()
        self._loop.world.lag += CALL_SECONDS + len(data) * BYTE_SECONDS
        room: int = SEND_BUFFER_BYTES - self._endpoint.get_write_buffer_size()
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self._endpoint.write(data[:room])
        return min(len(data), room)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._process.sockets.pop(self._fd, None)
        if self._attempt is not None:
            self._attempt.cancel()
        if self._endpoint is not None:
            self._endpoint.close()
        if self._backlog is not None:
            self._process.network.listeners.pop(self._port, None)

    def _raise(self) -> None:
        if self._error:
            raise OSError(self._error, "connection broken")

    # What the network calls ----------------------------------------------------------------------

    def _accepted(self) -> Socket:
        accepted = Socket(self._process)
        assert self._backlog is not None
        self._backlog.append(accepted)
        self._process.wake()
        return accepted

    def _knock(self, number: int) -> None:
        """Send the SYN, and again later."""
        if self._is_closed or self._endpoint is not None or self._error or self._loop.is_dead:
            return
        if self._attempt is not None:
            self._attempt.cancel()
        attempt = self._process.network.connect(self._loop, lambda: self, self._port)
        # Nobody can wait here: the network has the future it settles.
        self._attempt = attempt.send(None)
        attempt.close()
        self._attempt.add_done_callback(self._settled)
        if number < len(SYN_SECONDS):
            self._loop.world.after(SYN_SECONDS[number], self._knock, number + 1)

    def _settled(self, attempt: asyncio.Future[Any]) -> None:
        if attempt.cancelled():
            return
        error = attempt.exception()
        if isinstance(error, OSError):
            self._error = error.errno or errno.ECONNREFUSED
        self._process.wake()

    def connection_made(self, transport: Any) -> None:
        self._endpoint = transport
        if self._is_closed:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._process.wake()

    def connection_lost(self, error: Exception | None) -> None:
        if error is None:
            self._is_at_end = True
        else:
            self._error = errno.ECONNRESET
        self._process.wake()

    def events(self) -> int:
        """What ``poll`` says of it."""
        found = 0
        if self._error:
            found |= select.POLLERR | select.POLLHUP
        if self._received or self._is_at_end or self._backlog or self._error:
            found |= select.POLLIN
        if (
            self._endpoint is not None
            and self._endpoint.get_write_buffer_size() < SEND_BUFFER_BYTES
        ):
            found |= select.POLLOUT
        return found


class Poll:
    """What ``select.poll`` gives; in the order in which descriptors were registered."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._masks: dict[int, int] = {}
        #: The last `poll` found something.
        self.was_busy = False

    def register(self, fd: int, mask: int) -> None:
        self._masks[fd] = mask

    def unregister(self, fd: int) -> None:
        del self._masks[fd]

    def poll(self, _milliseconds: float) -> list[tuple[int, int]]:
        found = []
        for fd, mask in self._masks.items():
            socket_ = self._process.sockets.get(fd)
            if socket_ is not None:
                events = socket_.events() & (mask | select.POLLERR | select.POLLHUP)
                if events:
                    found.append((fd, events))
        self.was_busy = bool(found)
        return found


class System:
    """The names ``socket`` and ``select`` of whichever process runs."""

    def __init__(self, process: Any) -> None:
        """``process``: called for the `Process` that runs just now."""
        real = {name: getattr(socket, name) for name in dir(socket) if not name.startswith("__")}
        self.socket = types.SimpleNamespace(
            **{**real, "socket": lambda *_: Socket(process()), "errno": errno}
        )
        self.select = types.SimpleNamespace(
            **{
                name: getattr(select, name)
                for name in ("POLLIN", "POLLOUT", "POLLERR", "POLLHUP", "poll")
            }
        )
        self.select.poll = lambda: process().new_poll()
