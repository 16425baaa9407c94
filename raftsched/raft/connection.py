"""One socket between two peers: who the other side is, then frames both ways.

Rules
1. Until `peer_id` is set the other side is a stranger: it has HANDSHAKE_SECONDS, TLS included, one
   frame of at most HANDSHAKE_BYTES_MAX, and nothing it says goes further than this module.
2. With TLS a peer is whom its certificate names; its handshake must say the same.
3. Who is refused hears why (a `frames.Refused`, or a TLS alert), if it seems to be a peer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Protocol, cast

import msgspec

from raftsched.raft import frames
from raftsched.raft.files import Identity
from raftsched.raft.refusals import Refusals
from raftsched.raft.tls import TlsChannel, is_alert, words

#: Time for the handshake of a new connection, TLS included.
HANDSHAKE_SECONDS = 2.0
#: Time for the other side to read why it is refused.
LINGER_SECONDS = 1.0
#: What is not acknowledged for so long ends the connection, and another one is dialled.  TCP itself
#: tries again ever more rarely: for half a minute behind a cut of half a minute, nothing would come
#: through that is healed.
UNACKNOWLEDGED_SECONDS = 3.0
#: How a request begins that came to the wrong port.
_HTTP = (b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC")
#: What a stranger may send before the TLS handshake is through.
TLS_HANDSHAKE_BYTES_MAX = 64 * 1024
#: Bytes that may wait to be sent to one peer.
BUFFER_BYTES_MAX = 256 * 1024 * 1024

NO_TLS_HERE = "{here!r} has no [tls] and the other side has; configure it for all peers"
NO_TLS_THERE = "{here!r} speaks TLS only; configure [tls] on the other side"


class Owner(Protocol):
    """What a connection needs of its transport."""

    loop: asyncio.AbstractEventLoop
    peer_id: str
    refusals: Refusals

    def welcome(self, connection: Connection) -> bool:
        """A socket opened; False when it must be closed at once."""

    def channel(self, target: str) -> TlsChannel | None:
        """TLS for a new connection; None for none."""

    def handshake(self, target: str) -> bytes:
        """Our first frame."""

    def refuse_certificate(self, channel: TlsChannel, dialled: str) -> str:
        """Why the other side's certificate will not do; empty if it does."""

    def refusal(self, theirs: frames.Handshake, dialled: str, channel: TlsChannel | None) -> str:
        """Why the other side may not be a peer; empty if it may."""

    def is_removed(self, who: Identity | None) -> bool:
        """Was that peer removed from this cluster, so that it should stop?"""

    def was_removed(self, who: str, dialled: str, channel: TlsChannel | None) -> None:
        """The other side (``dialled``; empty: it dialled us) says that this peer was removed."""

    def connected(self, connection: Connection) -> None:
        """The other side is ``connection.peer_id``."""

    def received(self, connection: Connection, message: dict[str, Any]) -> None:
        """A message of ``connection.peer_id`` arrived."""

    def lost(self, connection: Connection) -> None:
        """The socket closed."""


class Connection(asyncio.Protocol):
    """One socket: frames in, frames out; says who it is before anything else."""

    def __init__(self, owner: Owner, target: str) -> None:
        self.owner = owner
        #: Whom we dialled; empty for an incoming connection.
        self.target = target
        #: Who it turned out to be; empty until the handshake is through.
        self.peer_id = ""
        #: What its directory was marked with.
        self.mark = ""
        #: The other end, without its port.
        self.host = ""
        #: Set when the other side is known, or gone.
        self.settled = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self._channel: TlsChannel | None = None
        #: The other side does (not) speak TLS, other than this one: what it will be told.
        self._mismatch = ""
        self._is_recognized = False
        self._is_refused = False
        self._stranger_bytes = 0
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None

    # The beginning -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses.
        self.transport = transport
        transport.set_write_buffer_limits(high=BUFFER_BYTES_MAX)
        _give_up_soon(transport.get_extra_info("socket"))
        name = transport.get_extra_info("peername") or "?"
        self.host = str(name[0] if isinstance(name, tuple) else name)
        if not self.owner.welcome(self):
            self.close()
            return
        self._timer = self.owner.loop.call_later(HANDSHAKE_SECONDS, self._handshake_late)
        self._channel = self.owner.channel(self.target)
        if self.target and self._channel is None:
            transport.write(self.owner.handshake(self.target))
        elif self.target:
            self._unseal(b"")

    def _handshake_late(self) -> None:
        self._drop(f"no handshake within {HANDSHAKE_SECONDS:g} s")

    def data_received(self, data: bytes) -> None:
        if self._is_refused or self.transport is None:
            return
        if not self._is_recognized:
            self._buffer += data
            if len(self._buffer) < 2:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
            self._is_recognized = True
            if frames.looks_like_tls(data) != (self._channel is not None) and self._mixed():
                return
        if self._channel is not None:
            data = self._unseal(data)
        if data:
            self._buffer += data
            self._take_frames()

    def _mixed(self) -> bool:
        """One side speaks TLS, the other does not; True when there is nothing more to hear."""
        here = self.owner.peer_id
        if self._channel is None:
            self._refuse(self.target, NO_TLS_HERE.format(here=here))
            return True
        # Its first frame says whether it is a peer, or why it refused our TLS.
        self._channel = None
        self._mismatch = NO_TLS_THERE.format(here=here)
        return False

    def _unseal(self, data: bytes) -> bytes:
        """What the TLS bytes of the other side mean."""
        channel = self._channel
        assert channel is not None and self.transport is not None
        was_open = channel.is_open
        if not was_open:
            self._stranger_bytes += len(data)
            if self._stranger_bytes > TLS_HANDSHAKE_BYTES_MAX:
                self._drop(f"a TLS handshake of over {TLS_HANDSHAKE_BYTES_MAX} bytes")
                return b""
        try:
            plain = channel.receive(data)
        except ssl.SSLError as error:
            self._tls_failed(error, channel.pending())
            return b""
        if pending := channel.pending():
            self.transport.write(pending)
        if channel.is_open and not was_open:
            self._tls_opened(channel)
        return b"" if self._is_refused else plain

    def _tls_opened(self, channel: TlsChannel) -> None:
        why = self.owner.refuse_certificate(channel, self.target)
        if why:
            self._refuse(self.target, why, channel.identity())
        elif self.target:
            self._write(self.owner.handshake(self.target))

    def _tls_failed(self, error: ssl.SSLError, alert: bytes) -> None:
        if self.peer_id:
            self._drop(words(error))
        elif is_alert(error):
            self._was_refused(words(error))
        else:
            self._tell_refused(self.target, words(error))
            self._hang_up(alert)

    # Frames --------------------------------------------------------------------------------------

    def _take_frames(self) -> None:
        offset = 0
        size = len(self._buffer)
        while size - offset >= frames.LENGTH.size:
            (length,) = frames.LENGTH.unpack_from(self._buffer, offset)
            limit = frames.FRAME_BYTES_MAX if self.peer_id else frames.HANDSHAKE_BYTES_MAX
            if length > limit:
                begin = bytes(self._buffer[offset : offset + 4])
                is_http = not self.peer_id and begin in _HTTP
                what = "it speaks HTTP; the API is at another port" if is_http else ""
                self._drop(what or f"a frame of {length} bytes is over the limit of {limit}")
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
            if self.transport is None or self._is_refused:
                return
        if offset:
            del self._buffer[:offset]

    def _frame(self, body: bytes) -> None:
        try:
            message = frames.decode(body)
        except (msgspec.DecodeError, ValueError) as error:
            if not self._is_refusal(body):
                self._drop(f"it sent what is no message: {error}")
            return
        self.owner.received(self, message)

    def _is_refusal(self, body: bytes) -> bool:
        """Whoever dialled looks at our handshake only after we have taken it in."""
        try:
            first = frames.decode_first(body)
        except msgspec.DecodeError:
            return False
        if isinstance(first, frames.Refused):
            self._was_refused(first.reason)
            return True
        return False

    def _shake_hands(self, body: bytes) -> None:
        try:
            first = frames.decode_first(body)
        except msgspec.DecodeError:
            self._drop("it does not speak raftsched")
            return
        if isinstance(first, frames.Refused):
            if first.is_removed and not self._mismatch:
                self.owner.was_removed(self._named, self.target, self._channel)
            self._was_refused(first.reason)
            return
        why = self._mismatch or self.owner.refusal(first, self.target, self._channel)
        if why:
            who = Identity(first.cluster_id, first.peer_id)
            self._refuse(self.target or first.peer_id, why, who)
            return
        if self._timer is not None:
            self._timer.cancel()
        self.peer_id, self.mark = first.peer_id, first.mark
        if not self.target:
            self._write(self.owner.handshake(""))
        self.owner.connected(self)
        self.settled.set()

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
            self._drop(f"{BUFFER_BYTES_MAX} bytes wait to be sent to it")
            return
        self._write(b"".join(self._out))
        self._out.clear()
        self._out_bytes = 0

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data if self._channel is None else self._channel.seal(data))

    @property
    def waiting_bytes(self) -> int:
        """What is queued and not yet with the kernel."""
        return self._out_bytes + (
            self.transport.get_write_buffer_size() if self.transport is not None else 0
        )

    # The end -------------------------------------------------------------------------------------

    def _refuse(self, claimed: str, why: str, who: Identity | None = None) -> None:
        """Tell the log and the other side (``who``, it says) why, and hang up."""
        self._tell_refused(claimed, why)
        frame = frames.encode_refusal(why, is_removed=self.owner.is_removed(who))
        self._hang_up(frame if self._channel is None else self._channel.seal(frame))

    def _hang_up(self, last: bytes) -> None:
        """Send what explains it, and close once there was time to read it."""
        assert self.transport is not None
        self._is_refused = True
        self.settled.set()
        self.transport.write(last)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.owner.loop.call_later(LINGER_SECONDS, self.close)

    def _tell_refused(self, claimed: str, why: str) -> None:
        who = f"connection of {claimed!r} from" if claimed else "a connection from"
        if self.target:
            who = f"connection to {self.target!r} at"
        self.owner.refusals.tell(f"{self.host} {claimed}", why, f"refused {who} {self.host}: {why}")

    def _was_refused(self, why: str) -> None:
        """The other side will have nothing to do with us."""
        line = f"refused by {self._named}: {why}"
        self.owner.refusals.tell(f"{self.host} {self.target}", why, line)
        self.close()

    def _drop(self, why: str) -> None:
        """Close without a word to the other side, which may not be a peer at all."""
        line = f"dropped the connection with {self._named}: {why}"
        self.owner.refusals.tell(self._named, why, line)
        self.close()

    @property
    def _named(self) -> str:
        """The other side, as far as it is known."""
        who = self.peer_id or self.target
        return f"{who!r} at {self.host}" if who else self.host

    def end(self) -> None:
        """Close once what is queued is sent."""
        self.flush()
        if self.transport is not None:
            self.transport.close()

    def close(self) -> None:
        """Close now; what waits to be sent is lost."""
        self.settled.set()
        if self.transport is not None:
            transport, self.transport = self.transport, None
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        is_news = self.transport is not None and not self._is_refused and not self.settled.is_set()
        self.transport = None
        self.settled.set()
        if is_news and self.target:
            why = "it hung up during the handshake; its log may say why"
            self.owner.refusals.tell(f"{self.host} {self.target}", why, f"{self._named}: {why}")
        self.owner.lost(self)


def _give_up_soon(sock: Any) -> None:
    """``sock``: of a connection; None where there is no real one."""
    # Linux has it (tcp(7)); elsewhere TCP gives up when it does.
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if sock is not None and option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, int(UNACKNOWLEDGED_SECONDS * 1000))
