"""What the networks of the harness do to packets and connections, without any peer."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from jepsen_like.net.base import CannotBreak, Net
from jepsen_like.net.proxy import ProxyNet
from jepsen_like.net.switch import Rule, Switch, checksum, refusal

ONE, TWO = "10.77.0.1", "10.77.0.2"


def packet(source: str, to: str, flags: int = 0x18, data: bytes = b"x" * 10) -> bytes:
    """A TCP packet."""
    tcp = struct.pack("!HHIIBBHHH", 40_000, 7401, 1_000, 2_000, 0x50, flags, 65_535, 0, 0) + data
    length = 20 + len(tcp)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0, 64, socket.IPPROTO_TCP, 0)
    return ip + socket.inet_aton(source) + socket.inet_aton(to) + tcp


class Wires:
    """A switch between two machines, whose devices are pipes."""

    def __init__(self) -> None:
        self.switch = Switch(seed=1)
        self.ends = {}
        for name, address in (("n1", ONE), ("n2", TWO)):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            theirs.setblocking(False)
            self.switch.attach(name, address, ours.detach())
            self.ends[name] = theirs

    def close(self) -> None:
        for device in self.switch.devices.values():
            os.close(device)
        for end in self.ends.values():
            end.close()

    def got(self, name: str) -> list[bytes]:
        """All that has come to a machine."""
        found = []
        try:
            while True:
                found.append(self.ends[name].recv(1 << 16))
        except BlockingIOError:
            return found


@pytest.fixture
def wires() -> Iterator[Wires]:
    found = Wires()
    yield found
    found.close()


def test_packets_go_where_they_are_addressed_and_nowhere_else(wires: Wires) -> None:
    wires.switch.carry("n1", packet(ONE, TWO), 0.0)
    wires.switch.carry("n1", packet(ONE, "10.77.0.9"), 0.0)
    wires.switch.carry("n1", b"rubbish", 0.0)
    assert wires.got("n2") == [packet(ONE, TWO)]
    assert wires.got("n1") == []


def test_one_direction_is_cut_and_the_other_is_not(wires: Wires) -> None:
    wires.switch.set_rule("n1", "n2", Rule(drop=True))
    wires.switch.carry("n1", packet(ONE, TWO), 0.0)
    wires.switch.carry("n2", packet(TWO, ONE), 0.0)
    assert (wires.got("n2"), len(wires.got("n1"))) == ([], 1)
    assert wires.switch.counts() == {"n1>n2": {"dropped": 1}, "n2>n1": {"carried": 1}}
    wires.switch.clear()
    wires.switch.carry("n1", packet(ONE, TWO), 0.0)
    assert len(wires.got("n2")) == 1


def test_who_is_refused_gets_the_reset_that_its_receiver_would_send(wires: Wires) -> None:
    wires.switch.set_rule("n1", "n2", Rule(reject=True))
    wires.switch.carry("n1", packet(ONE, TWO, flags=0x02, data=b""), 0.0)
    (answer,) = wires.got("n1")
    assert wires.got("n2") == []
    assert (answer[12:16], answer[16:20]) == (socket.inet_aton(TWO), socket.inet_aton(ONE))
    source, to, sequence, acknowledged, _, flags = struct.unpack_from("!HHIIBB", answer, 20)
    assert (source, to, sequence, acknowledged, flags) == (7401, 40_000, 0, 1_001, 0x14)
    assert checksum(answer[:20]) == 0, "that of the IP header is right"
    pseudo = answer[12:20] + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20)
    assert checksum(pseudo + answer[20:]) == 0, "and that of TCP"
    established = refusal(packet(ONE, TWO, flags=0x18))
    assert struct.unpack_from("!HHIIBB", established, 20)[2:] == (2_000, 0, 0x50, 0x04)
    assert refusal(packet(ONE, TWO, flags=0x04)) == b"", "no reset is answered with one"


def test_what_is_late_comes_in_its_order(wires: Wires) -> None:
    wires.switch.set_rule("n1", "n2", Rule(delay_ms=100, jitter_ms=50))
    sent = [packet(ONE, TWO, data=bytes([number])) for number in range(20)]
    for number, one in enumerate(sent):
        wires.switch.carry("n1", one, number / 1000)
    assert wires.got("n2") == []
    left = wires.switch.deliver(0.05)
    assert left is not None and left > 0
    assert wires.switch.deliver(1.0) is None
    assert wires.got("n2") == sent


def test_packets_are_lost_doubled_and_overtaken(wires: Wires) -> None:
    wires.switch.set_rule("n1", "n2", Rule(loss=0.3))
    for _ in range(300):
        wires.switch.carry("n1", packet(ONE, TWO), 0.0)
    counts = wires.switch.counts()["n1>n2"]
    assert 50 < counts["lost"] < 130 and counts["lost"] + counts["carried"] == 300
    wires.got("n2")
    wires.switch.set_rule("n1", "n2", Rule(duplicate=0.5, reorder=0.3))
    sent = [packet(ONE, TWO, data=bytes([number])) for number in range(100)]
    for number, one in enumerate(sent):
        wires.switch.carry("n1", one, number / 1000)
    wires.switch.deliver(10.0)
    got = wires.got("n2")
    assert len(got) > 100 and set(got) == set(sent)
    assert list(dict.fromkeys(got)) != sent


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[ProxyNet, str]]:
    """Proxies, and an echo behind n2; the address that n1 dials for it."""
    net = ProxyNet(["n1", "n2"])
    await net.open()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    host, _, port = net.raft("n2").rpartition(":")
    server = await asyncio.start_server(echo, host, int(port))
    try:
        yield net, net.raft("n2", seen_by="n1")
    finally:
        await net.close()
        server.close()


async def test_a_direction_of_a_proxied_connection_stands_still_and_goes_on() -> None:
    async with proxied() as (net, address), asyncio.timeout(10):
        assert address != net.raft("n2")
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"one")
        assert await reader.read(100) == b"one"
        await net.shape("n2", "n1", drop=True)
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(100)
        assert (await net.counts())["n2>n1"]["dropped"] == 1
        await net.heal()
        assert await reader.read(100) == b"two"
        await net.shape("n1", "n2", delay_ms=150)
        before = time.monotonic()
        writer.write(b"three")
        assert await reader.read(100) == b"three"
        assert time.monotonic() - before >= 0.15
        await net.shape("n1", "n2", reject=True)
        with pytest.raises(ConnectionError):
            if await reader.read(100) == b"":
                raise ConnectionError
        _, refused = await asyncio.open_connection(host, int(port))
        refused.close()
        writer.close()


async def test_a_backend_says_what_it_cannot_break() -> None:
    with pytest.raises(CannotBreak, match="backend plain cannot drop"):
        await Net(["n1"]).shape("n1", "n2", drop=True)
    with pytest.raises(CannotBreak, match="backend proxy cannot loss"):
        await ProxyNet(["n1"]).shape("n1", "n2", loss=0.1)
