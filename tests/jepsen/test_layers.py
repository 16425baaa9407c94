"""Faults that lie over one another on the same wires."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from jepsen_like.nemesis.base import Arena
from jepsen_like.nemesis.network import Delay, Link, Partition
from jepsen_like.net.layers import Layers, together

WIRE = ("n1", "n2")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], {}),
        ([{}, {"loss": 0.5}], {"loss": 0.5}),
        # What one stops the other does not let through.
        ([{"drop": True}, {"loss": 0.5}], {"drop": True, "loss": 0.5}),
        ([{"drop": True}, {"drop": False}], {"drop": True}),
        # Of what one lets through the other loses its share.
        ([{"loss": 0.5}, {"loss": 0.5}], {"loss": 0.75}),
        ([{"delay_ms": 50, "jitter_ms": 5}, {"delay_ms": 2}], {"delay_ms": 52, "jitter_ms": 5}),
    ],
)
def test_a_packet_meets_one_rule_after_the_other(
    rules: list[dict[str, Any]], expected: dict[str, Any]
) -> None:
    assert together(rules) == expected


def test_who_lifts_a_rule_lifts_no_other() -> None:
    layers = Layers()
    assert layers.lay("a cut", WIRE, {"drop": True}) == {"drop": True}
    assert layers.lay("a bad link", WIRE, {"loss": 0.5}) == {"drop": True, "loss": 0.5}
    assert layers.lay("a cut", WIRE, {}) == {"loss": 0.5}
    assert layers.lift("a bad link", WIRE) == {}
    assert layers.lift("a bad link", WIRE) == {}
    assert layers.lift("nobody", ("n2", "n1")) == {}
    layers.lay("a cut", WIRE, {"drop": True})
    layers.clear()
    assert layers.lay("a bad link", WIRE, {"loss": 0.5}) == {"loss": 0.5}


class _Net:
    """The last rule of every direction; what was hit grows whenever somebody asks."""

    refuses_who_is_cut_off = False

    def __init__(self) -> None:
        self.rules: dict[tuple[str, str], dict[str, Any]] = {}
        self._hit = 0

    async def shape(self, source: str, to: str, **rule: Any) -> None:
        self.rules[source, to] = rule

    async def heal(self) -> None:
        self.rules.clear()

    async def counts(self) -> dict[str, dict[str, int]]:
        self._hit += 1
        kinds = ("dropped", "lost", "delayed")
        return {"n1>n2": dict.fromkeys(kinds, self._hit), "n2>n1": dict.fromkeys(kinds, self._hit)}


class _Peers:
    ids = ("n1", "n2")
    has_disks = False
    clocks = None

    def __init__(self, net: _Net) -> None:
        self.net = net


def test_the_end_of_one_fault_is_not_the_end_of_another() -> None:
    net = _Net()
    peers: Any = _Peers(net)
    arena = Arena(peers, random.Random(1), lease_seconds=5.0)
    loss, delay, cut = Link(arena), Delay(arena), Partition(arena)

    async def go() -> None:
        await loss.begin()
        await delay.begin()
        await cut.begin()
        assert all(set(rule) == {"loss", "delay_ms", "jitter_ms", "drop"} for rule in found())
        assert (await cut.end()).verified
        assert all(set(rule) == {"loss", "delay_ms", "jitter_ms"} for rule in found())
        assert (await loss.end()).verified
        assert all(set(rule) == {"delay_ms", "jitter_ms"} for rule in found())
        await cut.begin()
        await arena.heal()
        assert not net.rules
        assert (await delay.end()).verified
        assert found() == [{}, {}]

    def found() -> list[dict[str, Any]]:
        return list(net.rules.values())

    asyncio.run(go())


def test_a_probe_says_something_of_a_cut_where_nothing_else_is_broken() -> None:
    peers: Any = _Peers(_Net())
    arena = Arena(peers, random.Random(1), lease_seconds=5.0)
    loss = Link(arena)

    async def go() -> None:
        assert arena.is_bare(*WIRE)
        await loss.begin()
        assert not arena.is_bare(*WIRE)
        await loss.end()
        assert arena.is_bare(*WIRE)

    asyncio.run(go())
