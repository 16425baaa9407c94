"""A peer's certificate and the authorities it believes: files, checked, made ready for connections.

Rules
1. Identity is the URI ``raftsched://CLUSTER/PEER`` in a certificate, never a host name.
2. TLS 1.3 only, both sides show a certificate, nothing is resumed: every connection is checked.
3. OpenSSL reads the files by their names, always in a thread; `client` and `server` are contexts
   of the files as they were last found in order.  A renewal half done changes nothing.
4. An expired certificate of our own is loud but no reason not to start: it may be renewed.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from collections.abc import Callable

from raftsched.raft.config import TlsFiles
from raftsched.raft.files import Identity
from raftsched.raft.tls import RENEW, TlsChannel, words

logger = logging.getLogger(__name__)

#: A certificate that ends within so many days is logged at the start, and then once a day.
WARN_DAYS = 30
_DAY_MS = 86_400_000
#: Flights of a TLS handshake with oneself, with room to spare.
_FLIGHTS_MAX = 6


class TlsError(OSError):
    """The files of [tls] cannot be used; one line says which and what to do."""


class Credentials:
    """What a peer shows, and whom it believes.  Methods are for a thread."""

    client: ssl.SSLContext
    server: ssl.SSLContext

    def __init__(self, files: TlsFiles, owner: Identity, wall_ms: Callable[[], int]) -> None:
        self._files = files
        self._owner = owner
        self._wall_ms = wall_ms
        #: What the files looked like when they were last tried.
        self._seen: tuple[tuple[int, ...], ...] = ()
        #: When the first certificate in use ends, in Unix milliseconds; 0 when it has.
        self.ends_at_ms = 0
        self._warned_at_ms = 0

    def load(self) -> None:
        """Read the files.  Raises TlsError; then what was read before stays in use."""
        self._seen = self._look()
        client = self._context(ssl.PROTOCOL_TLS_CLIENT)
        server = self._context(ssl.PROTOCOL_TLS_SERVER)
        server.num_tickets = 0
        self._check(client, server)
        self.client, self.server = client, server
        self._warn()

    def refresh(self) -> None:
        """Read the files again if they changed.  Trouble is logged, once for each change."""
        try:
            if self._look() != self._seen:
                self.load()
                logger.info("the files of [tls] changed; new connections use them")
        except TlsError as error:
            logger.error("%s; connections go on with what was read before", error)
        if self._wall_ms() >= self._warned_at_ms + _DAY_MS:
            self._warn()

    def _look(self) -> tuple[tuple[int, ...], ...]:
        """What tells one version of the files from another; a missing file counts as one, too."""
        found: list[tuple[int, ...]] = []
        for path in (self._files.ca, self._files.cert, self._files.key):
            try:
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode))
            except OSError as error:
                found.append((error.errno or 0,))
        return tuple(found)

    def _context(self, protocol: int) -> ssl.SSLContext:
        files = self._files
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # Rule 1; `Connection` compares identities.
        context.verify_mode = ssl.CERT_REQUIRED
        self._check_key_mode()
        for name, path in (("ca", files.ca), ("cert", files.cert), ("key", files.key)):
            if not os.access(path, os.R_OK):
                what = "cannot be read" if path.exists() else "no such file"
                raise TlsError(f"tls.{name} {path}: {what}; make it with 'raftsched cert'")
        try:
            context.load_verify_locations(cafile=files.ca)
        except (ssl.SSLError, OSError) as error:
            raise TlsError(f"tls.ca {files.ca}: not certificates in PEM form ({error})") from None
        try:
            context.load_cert_chain(files.cert, files.key, password=self._no_password)
        except ssl.SSLError as error:
            why = "not a certificate and a key in PEM form"
            if error.reason == "KEY_VALUES_MISMATCH":
                why = "the key is not that of the certificate"
            raise TlsError(f"tls.cert {files.cert}, tls.key {files.key}: {why}") from None
        return context

    def _no_password(self) -> str:
        raise TlsError(f"tls.key {self._files.key}: it has a password; nobody is there to type it")

    def _check_key_mode(self) -> None:
        """As PostgreSQL wants it: for the owner only; one of root's may be for a group, too."""
        try:
            status = self._files.key.stat()
        except OSError:
            return  # The caller says so.
        allowed = 0o740 if status.st_uid == 0 else 0o700
        if stat.S_IMODE(status.st_mode) & ~allowed:
            raise TlsError(
                f"tls.key {self._files.key}: others than its owner may use it "
                f"(mode {stat.S_IMODE(status.st_mode):04o}); chmod 600 it"
            )

    def _check(self, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
        """Would a peer with the same authorities believe this certificate?  Ask ourselves."""
        try:
            channel = _shake_hands_with_oneself(client, server)
        except ssl.SSLError as error:
            if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == 10:
                self.ends_at_ms = 0
                return
            why = words(error).removeprefix("its certificate ")
            raise TlsError(f"tls.cert {self._files.cert}: {why}") from None
        found = channel.identity()
        if found != self._owner:
            whose = f"that of {found}" if found else "no peer's"
            raise TlsError(
                f"tls.cert {self._files.cert} is {whose}, this is {self._owner}; "
                f"make one with 'raftsched cert create --ca DIR "
                f"--peer {self._owner.peer_id} --out DIR'"
            )
        ends = [channel.certificate(), *client.get_ca_certs()]
        self.ends_at_ms = min(
            int(ssl.cert_time_to_seconds(str(certificate["notAfter"])) * 1000)
            for certificate in ends
        )

    def _warn(self) -> None:
        left = self.ends_at_ms - self._wall_ms()
        self._warned_at_ms = self._wall_ms()
        where = f"{self._files.cert} or its authority's"
        if left <= 0:
            logger.error("the certificate %s has expired: peers refuse it; %s", where, RENEW)
        elif left < WARN_DAYS * _DAY_MS:
            logger.warning(
                "the certificate %s expires in %d days; %s", where, left // _DAY_MS, RENEW
            )


def _shake_hands_with_oneself(client: ssl.SSLContext, server: ssl.SSLContext) -> TlsChannel:
    """The dialler's end of a connection with oneself.  Raises ssl.SSLError as a peer would."""
    dialler = TlsChannel(client, is_server=False)
    listener = TlsChannel(server, is_server=True)
    for _ in range(_FLIGHTS_MAX):
        dialler.receive(listener.pending())
        listener.receive(dialler.pending())
        if listener.is_open:
            return dialler
    raise ssl.SSLError("no handshake with itself")
