"""TLS between peers without a socket: bytes in, bytes out, and failures in words.

asyncio's own TLS is not used: it hangs up on a bad certificate without sending the alert that would
tell the other side why, and its listener keeps the context that it began with.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

from raftsched.raft.files import Identity

_SCHEME = "raftsched://"
#: What a TLS record holds at most.
_RECORD_BYTES = 16_384
#: Encrypted at once, so that a long message is not copied whole again and again.
_SLICE_BYTES = 1024 * 1024
#: OpenSSL's codes for a certificate it does not accept (X509_V_ERR_*).
_EXPIRED, _NOT_YET_VALID, _BAD_PURPOSE = 10, 9, 26

#: DIR is where the authority lies, ID the peer's.
CREATE = "'raftsched cert create --ca DIR --peer ID --out NEW'"
RENEW = f"renew it with {CREATE}"
_OTHER_AUTHORITY = (
    "is of another authority than those in tls.ca; is that a peer of another cluster?"
)
_CERTIFICATE = {
    _EXPIRED: f"has expired, or its authority's has; {RENEW}",
    _NOT_YET_VALID: "is not valid yet; compare the clocks of the two machines",
    _BAD_PURPOSE: f"is not made for peers; make one with {CREATE}",
}
#: How an alert's name ends -> what the other side has against us.
_ALERTS = {
    "CERTIFICATE_EXPIRED": f"this peer's certificate has expired by its clock; {RENEW}",
    "UNKNOWN_CA": "its tls.ca does not know the authority of this peer's certificate; "
    "is that a peer of another cluster?",
    "CERTIFICATE_REQUIRED": "this peer showed no certificate; see [tls]",
    "BAD_CERTIFICATE": f"this peer's certificate is not valid for it; {RENEW}",
    "UNSUPPORTED_CERTIFICATE": "this peer's certificate is not made for peers; "
    f"make one with {CREATE}",
    "PROTOCOL_VERSION": "it speaks another version of TLS, peers speak 1.3",
}
#: OpenSSL's reason -> what is wrong with the other side.
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate; is that a peer?",
    "UNSUPPORTED_PROTOCOL": "it speaks another version of TLS, peers speak 1.3",
}


def identity_uri(identity: Identity) -> str:
    """The name in a peer's certificate that says who it is."""
    parts = (quote(part, safe="") for part in (identity.cluster_id, identity.peer_id))
    return _SCHEME + "/".join(parts)


def identity_of(uris: Iterable[str]) -> Identity | None:
    """Whose certificate has these URIs as alternative names; None unless exactly one of ours."""
    ours = [uri.removeprefix(_SCHEME) for uri in uris if uri.startswith(_SCHEME)]
    parts = ours[0].split("/") if len(ours) == 1 else []
    if len(parts) != 2 or not all(parts):
        return None
    return Identity(unquote(parts[0]), unquote(parts[1]))


class TlsChannel:
    """One end of a TLS connection; whoever owns the socket carries the bytes.

    After every call, failed ones too, what `pending` returns is to be sent: it may be the alert.
    """

    def __init__(self, context: ssl.SSLContext, *, is_server: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server)
        #: Is the TLS handshake through on this side?
        self.is_open = False

    def receive(self, data: bytes) -> bytes:
        """What the other side's bytes mean.  Raises ssl.SSLError; see `words` and `is_alert`."""
        self._incoming.write(data)
        parts = []
        try:
            if not self.is_open:
                self._tls.do_handshake()
                self.is_open = True
            while part := self._tls.read(_RECORD_BYTES):
                parts.append(part)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass  # All that there is; an end of TLS is followed by the end of the connection.
        return b"".join(parts)

    def seal(self, data: bytes) -> bytes:
        """What to send for ``data``; after the handshake only."""
        view, parts = memoryview(data), []
        while view:
            size = self._tls.write(view[:_SLICE_BYTES])
            view = view[size:]
            parts.append(self._outgoing.read())
        return b"".join(parts)

    def pending(self) -> bytes:
        """What is to be sent now."""
        return self._outgoing.read()

    def certificate(self) -> dict[str, Any]:
        """The other side's certificate, as ``ssl`` describes one; after the handshake only."""
        return dict(self._tls.getpeercert() or {})

    def identity(self) -> Identity | None:
        """Whom the other side's certificate names; None when it is no peer's."""
        names = self.certificate().get("subjectAltName", ())
        return identity_of(value for kind, value in names if kind == "URI")


def is_alert(error: ssl.SSLError) -> bool:
    """Did the other side refuse us, rather than we the other side?"""
    return "ALERT" in (error.reason or "")


def words(error: ssl.SSLError) -> str:
    """What went wrong and what to do; after ``who:``."""
    if isinstance(error, ssl.SSLCertVerificationError):
        what = _CERTIFICATE.get(error.verify_code, _OTHER_AUTHORITY)
        if error.verify_code not in (*_CERTIFICATE, 2, 18, 19, 20, 21):
            what = f"is not accepted: {error.verify_message}"
        return f"its certificate {what}"
    reason = error.reason or str(error)
    if reason in _REASONS:
        return _REASONS[reason]
    if is_alert(error):
        name = reason.rpartition("ALERT_")[2]
        return _ALERTS.get(name, f"TLS alert {name.lower().replace('_', ' ')}; see its log")
    return f"TLS failed ({reason.lower().replace('_', ' ')}); is that a peer?"
