"""Mutual TLS: who is let in, and that both sides of every refusal say why in one line."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from raftsched.raft import connection as connection_module
from raftsched.raft import frames
from raftsched.raft import transport as transport_module
from raftsched.raft.config import TlsFiles
from raftsched.raft.credentials import Credentials, TlsError
from raftsched.raft.files import Identity
from raftsched.raft.tls import identity_of, identity_uri
from tests.certificates import NOW, TestAuthority, write_peer
from tests.unit.raft.test_transport import Mesh, hello, mesh

DAY_MS = 86_400_000
NOW_MS = int(NOW.timestamp() * 1000)


def bundle(directory: Path, *authorities: TestAuthority) -> Path:
    """One file of several authorities."""
    path = directory / "both.crt"
    path.write_bytes(b"".join(a.pair.cert for a in authorities))
    return path


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said about refusals, without the state of certificates at the start."""
    return sorted(
        record.getMessage() for record in caplog.records if record.name.endswith("refusals")
    )


async def test_peers_with_certificates_of_one_authority_talk(authority: TestAuthority) -> None:
    async with mesh() as m:
        one = await m.open("n1", tls=authority.files("n1"))
        two = await m.open("n2", tls=authority.files("n2"))
        await m.until(lambda: one.connected_peers() and two.connected_peers())
        big = b"x" * 5_000_000
        two.send_to("n1", {"type": "probe", "data": big})
        one.send_to("n2", {"type": "probe", "data": big})
        await m.until(lambda: m.heard["n1"] and m.heard["n2"])
        assert m.heard["n1"] == [("n2", {"type": "probe", "data": big})]


Setup = Callable[[Mesh, TestAuthority, TestAuthority, Path], "asyncio.Future[None]"]


async def other_authority_(
    m: Mesh, ours: TestAuthority, other: TestAuthority, tmp_path: Path
) -> None:
    await m.open("n1", tls=ours.files("n1"))
    await m.open("n2", cluster="other", tls=other.files("n2"))


async def other_cluster(m: Mesh, ours: TestAuthority, other: TestAuthority, tmp_path: Path) -> None:
    both = bundle(tmp_path, ours, other)
    await m.open("n1", tls=ours.files("n1", ca=both))
    await m.open("n2", cluster="other", tls=other.files("n2", ca=both))


async def unknown_peer(m: Mesh, ours: TestAuthority, other: TestAuthority, _: Path) -> None:
    m.peers = {p: a for p, a in m.peers.items() if p != "n4"}
    await m.open("n1", tls=ours.files("n1"))
    m.peers = {"n1": m.peers["n1"], "n4": m.peers["n3"]}
    await m.open("n4", tls=ours.files("n4"))


async def expired_dialler(m: Mesh, ours: TestAuthority, other: TestAuthority, _: Path) -> None:
    await m.open("n1", tls=ours.files("n1"))
    await m.open("n2", tls=ours.files("n2", days=-3))


async def expired_listener(m: Mesh, ours: TestAuthority, other: TestAuthority, _: Path) -> None:
    await m.open("n1", tls=ours.files("n1", days=-3))
    await m.open("n2", tls=ours.files("n2"))


async def plain_dialler(m: Mesh, ours: TestAuthority, other: TestAuthority, _: Path) -> None:
    await m.open("n1", tls=ours.files("n1"))
    await m.open("n2")


async def plain_listener(m: Mesh, ours: TestAuthority, other: TestAuthority, _: Path) -> None:
    await m.open("n1")
    await m.open("n2", tls=ours.files("n2"))


async def wrong_address(m: Mesh, ours: TestAuthority, other: TestAuthority, _: Path) -> None:
    await m.open("n1", tls=ours.files("n1"))
    m.peers = {"n1": m.peers["n3"], "n2": m.peers["n1"], "n3": m.peers["n2"]}
    await m.open("n3", tls=ours.files("n3"))


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        (
            other_authority_,
            [
                "refused by 127.0.0.1: its tls.ca does not know the authority of this peer's",
                "refused connection to 'n1' at 127.0.0.1: its certificate is of another authority",
            ],
        ),
        (
            other_cluster,
            [
                "refused a connection from 127.0.0.1: 'n2' is of cluster 'other', 'n1' of 'c'",
                "refused connection to 'n1' at 127.0.0.1: 'n1' is of cluster 'c', 'n2' of 'other'",
            ],
        ),
        (
            unknown_peer,
            [
                "refused a connection from 127.0.0.1: 'n4' is not a peer that 'n1' knows; compare",
                "refused by 'n1' at 127.0.0.1: 'n4' is not a peer that 'n1' knows; compare",
            ],
        ),
        (
            expired_dialler,
            [
                "refused a connection from 127.0.0.1: its certificate has expired, or its",
                "refused by 'n1' at 127.0.0.1: this peer's certificate has expired by its clock",
            ],
        ),
        (
            expired_listener,
            [
                "refused by 127.0.0.1: this peer's certificate has expired by its clock; renew",
                "refused connection to 'n1' at 127.0.0.1: its certificate has expired, or its",
            ],
        ),
        (
            plain_dialler,
            [
                "refused by 'n1' at 127.0.0.1: 'n1' speaks TLS only; configure [tls]",
                "refused connection of 'n2' from 127.0.0.1: 'n1' speaks TLS only; configure",
            ],
        ),
        (
            plain_listener,
            [
                "refused a connection from 127.0.0.1: 'n1' has no [tls] and the other side has",
                "refused by 'n1' at 127.0.0.1: 'n1' has no [tls] and the other side has;",
            ],
        ),
        (
            wrong_address,
            [
                "refused by 127.0.0.1: 'n1' answers at the address of 'n2'; correct the addresses",
                "refused connection to 'n2' at 127.0.0.1: 'n1' answers at the address of 'n2'",
            ],
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_refusal_is_one_line_on_both_sides(
    setup: Setup,
    said: list[str],
    authority: TestAuthority,
    other_authority: TestAuthority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with mesh() as m:
        await setup(m, authority, other_authority, tmp_path)
        dials: list[object] = []
        m.transports["n1"].on_stranger = dials.append
        # Dialled again and again: still one line.
        await m.until(lambda: len(dials) >= 3 and len(lines(caplog)) >= 2)
        assert not any(t.connected_peers() for t in m.transports.values())
    found = lines(caplog)
    assert len(found) == len(said)
    for line, begin in zip(found, said, strict=True):
        assert line.startswith(begin), found


def dialler(files: TlsFiles | None, ca: Path) -> ssl.SSLContext:
    """A client that is no peer's transport."""
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (hello(peer="n3"), "'n3' shows the certificate of peer 'n2' of cluster 'c'"),
        (hello(version=9), "'n2' speaks protocol 9"),
        (hello(cluster="other"), "'n2' is of cluster 'other'"),
    ],
    ids=["another", "version", "cluster"],
)
async def test_handshake_must_say_what_the_certificate_says(
    first: bytes, says: str, authority: TestAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh() as m:
        one = await m.open("n1", tls=authority.files("n1"))
        host, _, port = m.peers["n1"].rpartition(":")
        context = dialler(authority.files("n2"), authority.ca)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        writer.write(first + frames.encode({"type": "request_vote", "term": 10**6}))
        async with asyncio.timeout(5):
            size = frames.LENGTH.unpack(await reader.readexactly(4))[0]
            refused = frames.decode_first(await reader.readexactly(size))
        assert isinstance(refused, frames.Refused)
        assert says in refused.reason
        assert [says in line for line in lines(caplog)] == [True]
        assert m.heard["n1"] == [] and one.connected_peers() == ()
        writer.close()


@pytest.mark.parametrize("kind", ["no-certificate", "tls-1.2"])
async def test_client_that_is_no_peer_gets_an_alert(
    kind: str, authority: TestAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh() as m:
        await m.open("n1", tls=authority.files("n1"))
        host, _, port = m.peers["n1"].rpartition(":")
        context = dialler(None, authority.ca)
        if kind == "tls-1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
                writer.write(hello())
                await reader.readexactly(1)
        expected = {"no-certificate": "it showed no certificate", "tls-1.2": "peers speak 1.3"}
        assert [expected[kind] in line for line in lines(caplog)] == [True]


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x00\x10" + b"\xff" * 16,
        b"\x16\x03\x01\x40\x00\x01\x00\xff\xf0" + bytes(70_000),
        b"\xff" * 300,
    ],
    ids=["http", "tls-noise", "tls-long", "noise"],
)
async def test_rubbish_at_a_tls_port_costs_a_line(
    first: bytes,
    authority: TestAuthority,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connection_module, "LINGER_SECONDS", 0.1)
    async with mesh() as m:
        one = await m.open("n1", tls=authority.files("n1"))
        reader, writer = await m.raw("n1")
        writer.write(first)
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert len(await reader.read()) < 100  # At most an alert.
        assert len(lines(caplog)) == 1
        await m.open("n2", tls=authority.files("n2"))
        await m.until(one.connected_peers)
        writer.close()


@pytest.mark.parametrize("sent", [0, 1, 100], ids=["silent", "one-byte", "half"])
async def test_half_a_tls_handshake_is_dropped_in_time(
    sent: int,
    authority: TestAuthority,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_SECONDS", 0.1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = dialler(None, authority.ca).wrap_bio(incoming, outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    async with mesh() as m:
        await m.open("n1", tls=authority.files("n1"))
        reader, writer = await m.raw("n1")
        writer.write(outgoing.read()[:sent])
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert ["no handshake within" in line for line in lines(caplog)] == [True]
        writer.close()


async def test_renewed_files_are_used_without_a_restart(
    authority: TestAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "RENEWAL_CHECK_SECONDS", 0.02)
    directory = tmp_path / "n2"
    write_peer(directory, authority, "n2", days=-3)
    async with mesh() as m:
        files = TlsFiles(ca=authority.ca, cert=directory / "peer.crt", key=directory / "peer.key")
        dials: list[object] = []
        one = await m.open("n1", tls=authority.files("n1"))
        one.on_stranger = dials.append
        two = await m.open("n2", tls=files)
        await m.until(lambda: dials)
        assert not two.connected_peers()
        write_peer(directory, authority, "n2")
        await m.until(two.connected_peers)


# The files ---------------------------------------------------------------------------------------


def credentials(files: TlsFiles, peer_id: str = "n1", wall_ms: int = NOW_MS) -> Credentials:
    return Credentials(files, Identity("c", peer_id), lambda: wall_ms)


def copied(authority: TestAuthority, directory: Path) -> TlsFiles:
    """Files of n1 that a test may change."""
    write_peer(directory, authority, "n1")
    ca = directory / "ca.crt"
    ca.write_bytes(authority.pair.cert)
    return TlsFiles(ca=ca, cert=directory / "peer.crt", key=directory / "peer.key")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f, o: f.ca.unlink(), "tls.ca .*: no such file"),
        (lambda f, o: f.key.unlink(), "tls.key .*: no such file"),
        (lambda f, o: f.ca.write_text("hello"), "tls.ca .*: not certificates in PEM form"),
        (lambda f, o: f.cert.write_text("hello"), "not a certificate and a key in PEM form"),
        (lambda f, o: f.key.write_bytes(o.files("n1").key.read_bytes()), "the key is not that of"),
        (lambda f, o: f.key.chmod(0o644), r"others than its owner may use it \(mode 0644\)"),
        (lambda f, o: f.key.chmod(0o620), "chmod 600 it"),
        (lambda f, o: f.ca.write_bytes(o.pair.cert), "is of another authority"),
        (lambda f, o: write_peer(f.cert.parent, o, "n1"), "is of another authority"),
    ],
)
def test_unusable_file_is_named(
    change: Callable[[TlsFiles, TestAuthority], object],
    says: str,
    authority: TestAuthority,
    other_authority: TestAuthority,
    tmp_path: Path,
) -> None:
    files = copied(authority, tmp_path)
    credentials(files).load()
    change(files, other_authority)
    with pytest.raises(TlsError, match=says) as caught:
        credentials(files).load()
    assert "\n" not in str(caught.value)


def test_certificate_of_another_peer_is_refused_at_the_start(authority: TestAuthority) -> None:
    with pytest.raises(TlsError, match="is that of peer 'n2' of cluster 'c', this is peer 'n1'"):
        credentials(authority.files("n2")).load()


@pytest.mark.parametrize(
    ("days", "later_ms", "says"),
    [
        (60, 0, ""),
        (60, 40 * DAY_MS, "expires in"),
        (5, 0, "expires in"),
        (-3, 0, "has expired: peers refuse it"),
    ],
)
def test_end_of_a_certificate_is_told_at_the_start(
    days: int,
    later_ms: int,
    says: str,
    authority: TestAuthority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    credentials(authority.files("n1", days), wall_ms=NOW_MS + later_ms).load()
    assert [says in line for line in caplog.messages] == ([True] if says else [])


def test_half_a_renewal_changes_nothing(
    authority: TestAuthority,
    other_authority: TestAuthority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    files = copied(authority, tmp_path)
    used = credentials(files)
    used.load()
    before = used.client
    whole = files.cert.read_bytes()
    files.cert.write_bytes(other_authority.files("n1").cert.read_bytes())
    for _ in range(3):
        used.refresh()
    assert used.client is before
    assert ["go on with what was read before" in line for line in caplog.messages] == [True]
    files.cert.write_bytes(whole)
    used.refresh()
    assert used.client is not before


@pytest.mark.parametrize("cluster", ["c", "a/b", "ünï cödé", "%2F"])
def test_identity_survives_being_a_uri(cluster: str) -> None:
    identity = Identity(cluster, "n-1")
    assert identity_of(["http://x/y", identity_uri(identity)]) == identity
    assert identity_uri(identity).isascii()


@pytest.mark.parametrize(
    "uris",
    [[], ["http://c/n1"], ["raftsched://c"], ["raftsched://c/"], ["raftsched:///n1"],
     ["raftsched://c/n1/x"], ["raftsched://c/n1", "raftsched://c/n2"]],
)  # fmt: skip
def test_other_uris_name_nobody(uris: list[str]) -> None:
    assert identity_of(uris) is None
