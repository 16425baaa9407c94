"""The network between the machines of the ``netns`` backend: a program that carries each packet.

Each machine has a TUN device, whose other end is here.  So a packet can be dropped, refused,
delayed, doubled or overtaken, for every direction by itself, without a kernel that knows how to.

Run with the path of a UNIX socket; a machine sends ``NAME ADDRESS`` there with the file
descriptor of its device.  Orders come on stdin, a JSON object a line, each answered with one::

    {"do": "rule", "from": "n1", "to": "n2", "rule": {...}}   -> {}      the fields of `Rule`
    {"do": "clear"}                                          -> {}
    {"do": "counts"}    since the last `clear`                -> {"n1>n2": {"carried": 7, ...}}
    {"do": "machines"}                                       -> {"machines": ["n1", ...]}

It ends with its stdin.
"""

from __future__ import annotations

import array
import contextlib
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

PACKET_MAX = 1 << 16
_TCP = 6
_RST_ACK = 0x14


class Rule:
    """What becomes of the packets of one direction; as it comes, all are carried at once."""

    def __init__(
        self,
        drop: bool = False,
        reject: bool = False,
        loss: float = 0.0,
        delay_ms: float = 0.0,
        jitter_ms: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
    ) -> None:
        self.drop = drop
        #: The sender of a TCP packet is told that there is no such connection.
        self.reject = reject
        #: Shares of packets, 0 to 1.
        self.loss, self.duplicate, self.reorder = loss, duplicate, reorder
        #: Between no jitter and all of it is added; order is kept, but for `reorder`.
        self.delay_ms, self.jitter_ms = delay_ms, jitter_ms
        self.last_at = 0.0


class Switch:
    """The devices, the rules, and the packets that are on their way."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._names: dict[bytes, str] = {}
        self.devices: dict[str, int] = {}
        self._rules: dict[tuple[str, str], Rule] = {}
        self._counts: dict[tuple[str, str], dict[str, int]] = {}
        #: (when, number, name of the receiver, packet).
        self._late: list[tuple[float, int, str, bytes]] = []
        self._number = 0

    def attach(self, name: str, address: str, device: int) -> None:
        """A machine has come, or come again."""
        os.set_blocking(device, False)
        if name in self.devices:
            os.close(self.devices[name])
        self.devices[name] = device
        self._names[socket.inet_aton(address)] = name

    def set_rule(self, source: str, to: str, rule: Rule) -> None:
        """For one direction, instead of what there was."""
        before = self._rules.get((source, to))
        if before is not None:
            rule.last_at = before.last_at
        self._rules[source, to] = rule

    def clear(self) -> None:
        """All is carried again; what is delayed still comes when it comes."""
        self._rules.clear()
        self._counts.clear()

    def counts(self) -> dict[str, dict[str, int]]:
        """Packets by direction and by what became of them."""
        return {f"{source}>{to}": counts for (source, to), counts in self._counts.items()}

    def carry(self, source: str, packet: bytes, now: float) -> None:
        """Take a packet from a machine."""
        if len(packet) < 20 or packet[0] >> 4 != 4:
            return
        to = self._names.get(packet[16:20])
        if to is None:
            return
        rule = self._rules.get((source, to))
        counts = self._counts.setdefault((source, to), {})
        if rule is None:
            _count(counts, "carried")
            self._write(to, packet)
        elif rule.reject:
            _count(counts, "rejected")
            answer = refusal(packet)
            if answer:
                self._write(source, answer)
        elif rule.drop:
            _count(counts, "dropped")
        elif rule.loss and self._chance.random() < rule.loss:
            _count(counts, "lost")
        else:
            self._send(to, packet, rule, counts, now)

    def _send(self, to: str, packet: bytes, rule: Rule, counts: dict[str, int], now: float) -> None:
        chance = self._chance
        at = now + (rule.delay_ms + rule.jitter_ms * chance.random()) / 1000
        if rule.reorder and chance.random() < rule.reorder:
            at += 0.02 + rule.jitter_ms / 1000
            _count(counts, "reordered")
        else:
            at = rule.last_at = max(at, rule.last_at)
        copies = 1
        if rule.duplicate and chance.random() < rule.duplicate:
            copies = 2
            _count(counts, "doubled")
        for _ in range(copies):
            if at <= now:
                _count(counts, "carried")
                self._write(to, packet)
            else:
                _count(counts, "delayed")
                self._number += 1
                heapq.heappush(self._late, (at, self._number, to, packet))

    def deliver(self, now: float) -> float | None:
        """Carry what is late enough; seconds until the next one is, None: nothing is late."""
        while self._late and self._late[0][0] <= now:
            _, _, to, packet = heapq.heappop(self._late)
            self._write(to, packet)
        return self._late[0][0] - now if self._late else None

    def _write(self, to: str, packet: bytes) -> None:
        # A machine that is down, or whose queue is full: networks lose packets.
        with contextlib.suppress(OSError, KeyError):
            os.write(self.devices[to], packet)


def _count(counts: dict[str, int], what: str) -> None:
    counts[what] = counts.get(what, 0) + 1


def refusal(packet: bytes) -> bytes:
    """The TCP reset that answers a packet as its receiver would (RFC 9293 3.5.2); empty: none."""
    header = (packet[0] & 15) * 4
    if packet[9] != _TCP or len(packet) < header + 20:
        return b""
    source, to, sequence, acknowledged, offset, flags = struct.unpack_from(
        "!HHIIBB", packet, header
    )
    if flags & 4:
        return b""
    length = struct.unpack_from("!H", packet, 2)[0] - header - (offset >> 4) * 4
    if flags & 16:
        fields = (to, source, acknowledged, 0, 0x50, 4)
    else:
        # A SYN counts as one byte, and so does a FIN.
        upto = (sequence + length + (flags >> 1 & 1) + (flags & 1)) & 0xFFFFFFFF
        fields = (to, source, 0, upto, 0x50, _RST_ACK)
    tcp = struct.pack("!HHIIBBHHH", *fields, 0, 0, 0)
    pseudo = packet[16:20] + packet[12:16] + struct.pack("!BBH", 0, _TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, _TCP, 0)
    ip += packet[16:20] + packet[12:16]
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp


def checksum(data: bytes) -> int:
    """That of IP and TCP (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def obey(switch: Switch, order: dict[str, Any]) -> dict[str, Any]:
    """Do what an order says."""
    match order["do"]:
        case "rule":
            switch.set_rule(order["from"], order["to"], Rule(**order["rule"]))
            return {}
        case "clear":
            switch.clear()
            return {}
        case "counts":
            return switch.counts()
        case "machines":
            return {"machines": sorted(switch.devices)}
    raise ValueError(f"no such order: {order['do']}")


def serve(path: str) -> None:
    """Until stdin ends."""
    switch, buffer = Switch(), b""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    print(json.dumps({}), flush=True)
    poll: Any = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(listener, select.POLLIN)
    by_device: dict[int, str] = {}
    while True:
        wait = switch.deliver(time.monotonic())
        for number, _ in poll.poll(None if wait is None else max(wait * 1000, 0)):
            if number == 0:
                data = os.read(0, 1 << 16)
                if not data:
                    Path(path).unlink(missing_ok=True)
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    try:
                        answer = obey(switch, json.loads(line))
                    except (ValueError, KeyError, TypeError) as error:
                        answer = {"error": f"{type(error).__name__}: {error}"}
                    print(json.dumps(answer), flush=True)
            elif number == listener.fileno():
                words, sent, _, _ = listener.recvmsg(1000, socket.CMSG_SPACE(4))
                name, address = words.decode().split()
                fds = array.array("i")
                fds.frombytes(sent[0][2][:4])
                if name in switch.devices:
                    poll.unregister(switch.devices[name])
                switch.attach(name, address, fds[0])
                by_device[fds[0]] = name
                poll.register(fds[0], select.POLLIN)
            else:
                _take(switch, by_device[number], number, poll)


def _take(switch: Switch, name: str, device: int, poll: Any) -> None:
    """A few packets of one machine."""
    for _ in range(64):
        try:
            packet = os.read(device, PACKET_MAX)
        except BlockingIOError:
            return
        except OSError:
            # Its machine is gone, and with it the device.
            poll.unregister(device)
            return
        switch.carry(name, packet, time.monotonic())


if __name__ == "__main__":
    serve(sys.argv[1])
