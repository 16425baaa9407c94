"""Where a runner listens, a Unix socket in the node's directory, and its connection to the peer."""

from __future__ import annotations

import os
import selectors
import socket
from pathlib import Path

import msgspec

from raftsched.executor import messages
from raftsched.executor.outbox import Outbox

#: Read from the peer at once; more would be mapped and unmapped for each message.
RECEIVE_BYTES = 64 * 1024


def socket_address(directory: Path) -> tuple[str, int]:
    """A path for the socket that is short however long the directory's is, and what it needs open.

    Unix socket paths end at 107 bytes; the descriptor must be closed after use.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/runner.sock", descriptor


def listen(directory: Path) -> socket.socket:
    """The runner's socket, for its owner only."""
    address, descriptor = socket_address(directory)
    try:
        (directory / "runner.sock").unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(address)
        finally:
            os.umask(mask)
        listener.listen(4)
        return listener
    finally:
        os.close(descriptor)


class Connection:
    """The runner's end of the connection to its peer; no call waits for anything."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._outbox: Outbox | None = None

    @property
    def is_open(self) -> bool:
        """Is a peer there, as far as is known?"""
        return self._socket is not None

    def open(self, client: socket.socket) -> None:
        """Talk to this peer from now on."""
        self.close()
        client.setblocking(False)
        self._socket = client
        self._selector.register(client, selectors.EVENT_READ)
        self._outbox = Outbox(self._selector, client)

    def close(self) -> None:
        """Hang up, if there is anybody."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = self._outbox = None
        self._received.clear()

    def receive(self) -> list[messages.AnyMessage] | None:
        """What has become whole of what the peer said; None if it says nothing now."""
        if self._socket is None:
            return None
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.close()
            return None
        self._received += data
        try:
            return messages.split(self._received)
        except (msgspec.DecodeError, ValueError):
            self.close()
            return None

    def put(self, message: messages.AnyMessage) -> None:
        """Say this with the next `send`."""
        if self._outbox is not None:
            self._outbox.put(messages.encode(message))

    def send(self) -> None:
        """Send as much as the peer takes now."""
        if self._outbox is not None and not self._outbox.send():
            self.close()
