"""Connections: who may come in, and that rubbish, spoofing and silence cost nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from raftsched.raft import connection as connection_module
from raftsched.raft import frames
from raftsched.raft import transport as transport_module
from raftsched.raft.config import LogConfig, TlsFiles
from raftsched.raft.connection import Connection
from raftsched.raft.host import Host
from raftsched.raft.transport import Transport
from tests.ports import free_ports


class Mesh:
    """Transports of some peers, and what each received."""

    def __init__(self, peers: dict[str, str]) -> None:
        self.peers = peers
        self.transports: dict[str, Transport] = {}
        self.heard: dict[str, list[tuple[str, dict[str, Any]]]] = {}

    async def open(self, peer: str, cluster: str = "c", tls: TlsFiles | None = None) -> Transport:
        config = LogConfig(
            cluster_id=cluster,
            peer_id=peer,
            peers=self.peers,
            data_dir=Path(),
            tls=tls,
            reconnect_seconds=0.05,
        )
        transport = Transport(config)
        self.heard[peer] = []
        transport.on_message = lambda sender, message: self.heard[peer].append((sender, message))
        await transport.open()
        self.transports[peer] = transport
        return transport

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    async def raw(self, peer: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.peers[peer].rpartition(":")
        return await asyncio.open_connection(host, int(port))


@asynccontextmanager
async def mesh(*peers: str) -> AsyncIterator[Mesh]:
    ports = free_ports(3)
    ids = ("n1", "n2", "n3")
    found = Mesh({p: f"127.0.0.1:{port}" for p, port in zip(ids, ports, strict=True)})
    for peer in peers:
        await found.open(peer)
    try:
        yield found
    finally:
        for transport in found.transports.values():
            await transport.close()


def hello(cluster: str = "c", peer: str = "n2", target: str = "n1", version: int = 1) -> bytes:
    return frames.encode(frames.Handshake(frames.MAGIC, version, cluster, peer, target))


async def test_messages_go_both_ways_in_order() -> None:
    async with mesh("n1", "n2") as m:
        one, two = m.transports["n1"], m.transports["n2"]
        await m.until(lambda: one.connected_peers() and two.connected_peers())
        for number in range(100):
            one.send_to("n2", {"type": "probe", "round": number})
            two.send_to("n1", {"type": "probe", "round": number})
        await m.until(lambda: len(m.heard["n1"]) == len(m.heard["n2"]) == 100)
        assert [message["round"] for _, message in m.heard["n2"]] == list(range(100))
        assert {sender for sender, _ in m.heard["n1"]} == {"n2"}


async def test_what_is_not_acknowledged_ends_a_connection_soon() -> None:
    """Or else nothing would come through a healed cut for as long as it was cut."""
    async with mesh("n1", "n2") as m:
        one, two = m.transports["n1"], m.transports["n2"]
        await m.until(lambda: one.connected_peers() and two.connected_peers())
        for transport, other in ((one, "n2"), (two, "n1")):
            wire = transport._connections[other].transport
            assert wire is not None
            sock = wire.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3_000


async def test_peer_that_comes_back_is_connected_again() -> None:
    async with mesh("n1", "n2") as m:
        one = m.transports["n1"]
        await m.until(one.connected_peers)
        await m.transports["n2"].close()
        await m.until(lambda: not one.connected_peers())
        assert one.send_to("n2", {"type": "probe"}) is False
        await m.open("n2")
        await m.until(one.connected_peers)


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 300,
        frames.encode({"type": "request_vote", "term": 10**6}),
        frames.encode(["raft", 1, "c", "n2", "n1"]),
        frames.LENGTH.pack(1 << 31),
        frames.LENGTH.pack(frames.HANDSHAKE_BYTES_MAX + 1),
    ],
    ids=["http", "noise", "no-handshake", "magic", "huge", "big"],
)
async def test_rubbish_is_dropped_without_a_word(
    first: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh("n1") as m:
        reader, writer = await m.raw("n1")
        writer.write(first + frames.encode({"type": "request_vote", "term": 10**6}))
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert m.heard["n1"] == []
        assert m.transports["n1"].connected_peers() == ()
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith("dropped the connection with 127.0.0.1")
        writer.close()


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (hello(cluster="other"), "'n2' is of cluster 'other', 'n1' of 'c'"),
        (hello(peer="n9"), "'n9' is not a peer that 'n1' knows"),
        (hello(peer="n1"), "two peers call themselves 'n1'"),
        (hello(target="n2"), "'n2' looks for 'n2' and found 'n1'"),
        (hello(version=9), "'n2' speaks protocol 9, 'n1' 1"),
        (b"\x16\x03\x01\x02\x00\x01", "'n1' has no [tls] and the other side has"),
    ],
    ids=["cluster", "unknown", "self", "target", "version", "tls"],
)
async def test_stranger_hears_why_it_is_refused(
    first: bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh("n1") as m:
        for _ in range(3):
            reader, writer = await m.raw("n1")
            writer.write(first + frames.encode({"type": "request_vote", "term": 10**6}))
            async with asyncio.timeout(5):
                size = frames.LENGTH.unpack(await reader.readexactly(4))[0]
                refused = frames.decode_first(await reader.readexactly(size))
            assert isinstance(refused, frames.Refused)
            assert says in refused.reason
            writer.close()
        assert m.heard["n1"] == []
        assert m.transports["n1"].connected_peers() == ()
        # Three times the same: one line.
        assert [says in line for line in caplog.messages] == [True]


async def test_dialler_tells_why_it_was_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with mesh("n1") as m:
        dials: list[Connection] = []
        m.transports["n1"].on_stranger = dials.append
        await m.open("n2", cluster="other")
        await m.until(lambda: len(dials) >= 3)
    here, there = sorted(caplog.messages)
    assert here.startswith("refused by 'n1' at 127.0.0.1: 'n2' is of cluster 'other', 'n1' of 'c'")
    assert there.startswith("refused connection of 'n2' from 127.0.0.1: 'n2' is of cluster 'other'")


async def test_strangers_of_one_address_are_few(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transport_module, "STRANGERS_PER_HOST_MAX", 3)
    async with mesh("n1") as m:
        sockets = [await m.raw("n1") for _ in range(3)]
        reader, writer = await m.raw("n1")
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert "3 of them from there" in caplog.text
        for _, other in [*sockets, (reader, writer)]:
            other.close()


async def test_dialler_survives_what_nobody_expected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with mesh("n1") as m:
        failures = iter([RuntimeError("odd"), OSError("no such name")])
        address = Host.address

        async def fails_first(host: Host, name: str) -> str:
            for failure in failures:
                raise failure
            return await address(host, name)

        monkeypatch.setattr(Host, "address", fails_first)
        two = await m.open("n2")
        await m.until(two.connected_peers)
        assert "RuntimeError: odd" in caplog.text


async def test_silent_connection_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_SECONDS", 0.1)
    async with mesh("n1") as m:
        reader, writer = await m.raw("n1")
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def test_new_connection_of_a_peer_replaces_the_old_one() -> None:
    async with mesh("n1") as m:
        links: list[bool] = []
        m.transports["n1"].on_link = lambda peer, up: links.append(up)
        first_reader, first = await m.raw("n1")
        first.write(hello())
        await m.until(m.transports["n1"].connected_peers)
        _, second = await m.raw("n1")
        second.write(hello() + frames.encode({"type": "probe", "round": 2}))
        await m.until(lambda: m.heard["n1"])
        assert links == [True, False, True]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await first_reader.readexactly(10_000)
        first.close()
        second.close()


async def test_rubbish_after_the_handshake_ends_the_connection_only() -> None:
    async with mesh("n1") as m:
        _, writer = await m.raw("n1")
        writer.write(hello())
        await m.until(m.transports["n1"].connected_peers)
        writer.write(frames.LENGTH.pack(3) + b"\xc1\xc1\xc1")
        await m.until(lambda: not m.transports["n1"].connected_peers())
        writer.close()


async def test_taken_port_is_an_error_that_names_it() -> None:
    async with mesh() as m:
        host, _, port = m.peers["n1"].rpartition(":")
        with socket.socket() as taken:
            taken.bind((host, int(port)))
            taken.listen()
            with pytest.raises(OSError, match=port):
                await m.open("n1")


# Names -------------------------------------------------------------------------------------------


def named(m: Mesh, **options: Any) -> Transport:
    """A transport of n2 that knows n1 by a name."""
    port = m.peers["n1"].rpartition(":")[2]
    config = LogConfig(
        cluster_id="c",
        peer_id="n2",
        peers={**m.peers, "n1": f"n1.example:{port}"},
        data_dir=Path(),
        **{"reconnect_seconds": 0.05, **options},
    )
    m.transports["n2"] = Transport(config)
    return m.transports["n2"]


async def test_every_dial_asks_for_the_name_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that moved is found, by nothing but its name."""
    async with mesh("n1") as m:
        two, asked = named(m), []

        def moves(name: str, *_: Any, **__: Any) -> list[Any]:
            asked.append(name)
            address = "127.0.0.1" if len(asked) > 2 else "127.0.0.9"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

        monkeypatch.setattr(socket, "getaddrinfo", moves)
        await two.open()
        await m.until(two.connected_peers)
        assert asked == ["n1.example"] * 3


async def test_resolver_that_takes_longer_than_a_dial_may_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with mesh("n1") as m:
        two = named(m, connect_timeout_seconds=0.1, reconnect_seconds=0.3)

        def slow(*_: Any, **__: Any) -> list[Any]:
            time.sleep(0.25)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        m.transports["n1"]._dialers["n2"].cancel()
        await two.open()
        await m.until(two.connected_peers)


# Who says that a peer was removed ----------------------------------------------------------------


async def told_removed(transport: Transport, *dialled: str) -> list[str]:
    """Whose word it was, once ``dialled`` have refused this peer as a removed one."""
    heard: list[str] = []
    transport.on_removed = heard.append
    for peer in dialled:
        transport.was_removed(f"{peer!r}", peer, None)
    return heard


async def test_without_tls_only_a_member_that_was_dialled_is_believed() -> None:
    async with mesh("n1") as m:
        one = m.transports["n1"]
        assert await told_removed(one, "", "n9", "n1") == []
        assert await told_removed(one, "n3") == ["'n3'"]


async def test_without_tls_who_dials_in_and_refuses_ends_nobody() -> None:
    async with mesh("n1") as m:
        heard: list[str] = []
        one = m.transports["n1"]
        one.on_removed = heard.append
        reader, writer = await m.raw("n1")
        writer.write(frames.encode_refusal("removed", is_removed=True))
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert heard == []
        writer.close()


async def test_without_tls_who_dials_in_as_a_peer_and_says_so_ends_nobody() -> None:
    """Nor is it a peer's connection any more; the peer itself is asked, where it listens."""
    async with mesh("n1") as m:
        heard: list[str] = []
        one = m.transports["n1"]
        one.on_removed = heard.append
        reader, writer = await m.raw("n1")
        writer.write(hello() + frames.encode({"type": "removed"}))
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                await reader.read()
        writer.close()
        assert heard == [] and one.connected_peers() == ()
        began = one.loop.time()
        await m.open("n2")
        m.transports["n2"]._dialers["n1"].cancel()
        await m.until(one.connected_peers)
        assert heard == [] and one.loop.time() - began < transport_module.PATIENCE_SECONDS - 1


@pytest.mark.parametrize("told", ["n1", "n2"])
async def test_member_that_is_removed_while_connected_hears_it_whoever_dialled(told: str) -> None:
    async with mesh("n1", "n2") as m:
        says = "n2" if told == "n1" else "n1"
        heard: list[str] = []
        m.transports[told].on_removed = heard.append
        await m.until(lambda: all(t.connected_peers() for t in m.transports.values()))
        m.transports[says].set_members({says: m.peers[says]}, (told,))
        began = m.transports[told].loop.time()
        await m.until(lambda: heard)
        assert says in heard[0]
        assert m.transports[told].loop.time() - began < transport_module.PATIENCE_SECONDS - 1


@pytest.mark.parametrize(("cluster", "is_removed"), [("c", True), ("other", False)])
async def test_only_peers_of_this_cluster_are_told_that_they_were_removed(
    cluster: str, is_removed: bool
) -> None:
    async with mesh("n1") as m:
        m.transports["n1"].set_members({"n1": m.peers["n1"]}, ("n2",))
        reader, writer = await m.raw("n1")
        writer.write(hello(cluster=cluster))
        async with asyncio.timeout(5):
            size = frames.LENGTH.unpack(await reader.readexactly(4))[0]
            refused = frames.decode_first(await reader.readexactly(size))
        assert isinstance(refused, frames.Refused)
        assert refused.is_removed is is_removed
        writer.close()
