"""What is still to be sent on a socket of the runner's loop, which waits for nobody."""

from __future__ import annotations

import selectors
import socket
from typing import Any


class Outbox:
    """Bytes for one registered socket; the selector says when a full one takes more."""

    __slots__ = ("_data", "_selector", "_socket", "_unsent", "is_stuck")

    def __init__(
        self, selector: selectors.BaseSelector, registered: socket.socket, data: Any = None
    ) -> None:
        """``data``: what the socket is registered with, for reading."""
        self._selector = selector
        self._socket = registered
        self._data = data
        self._unsent = bytearray()
        #: The other side takes nothing more just now.
        self.is_stuck = False

    def put(self, frame: bytes) -> None:
        """Send this with the next `send`."""
        self._unsent += frame

    def send(self) -> bool:
        """Send as much as is taken now; False: nobody is there any more."""
        if not self._unsent:
            return True
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        del self._unsent[:sent]
        if self.is_stuck != bool(self._unsent):
            self.is_stuck = not self.is_stuck
            write = selectors.EVENT_WRITE if self.is_stuck else 0
            self._selector.modify(self._socket, selectors.EVENT_READ | write, self._data)
        return True
