"""Names are looked up anew, one lookup at a time, off the loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from raftsched.raft.resolving import KEPT_SECONDS, Resolver


def rows(*addresses: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0)) for a in addresses]


async def test_addresses_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert await Resolver().address("127.0.0.1") == "127.0.0.1"
    assert await Resolver().address("::1") == "::1"


async def test_each_time_the_name_is_asked_and_the_next_address_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([rows("10.0.0.1", "10.0.0.2")] * 2 + [rows("10.0.0.9")])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: next(answers))
    resolver = Resolver()
    found = [await resolver.address("peer.example") for _ in range(3)]
    assert found == ["10.0.0.1", "10.0.0.2", "10.0.0.9"]


async def test_hanging_lookup_is_left_to_the_next_who_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, lookups = threading.Event(), []

    def hangs(name: str, *_: Any, **__: Any) -> list[Any]:
        lookups.append(name)
        assert gate.wait(10)
        return rows("10.0.0.1")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    resolver = Resolver()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await resolver.address("peer.example")
    gate.set()
    assert await resolver.address("peer.example") == "10.0.0.1"
    assert lookups == ["peer.example"]


async def test_lookup_that_ends_between_two_dials_serves_the_next_one_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, lookups = threading.Event(), []

    def slow(name: str, *_: Any, **__: Any) -> list[Any]:
        lookups.append(name)
        assert gate.wait(10)
        return rows(f"10.0.0.{len(lookups)}")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = Resolver()
    await _found_too_late(resolver, gate)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: rows("10.0.0.9"))
    assert await resolver.address("peer.example") == "10.0.0.1"
    assert await resolver.address("peer.example") == "10.0.0.9"


async def _found_too_late(resolver: Resolver, gate: threading.Event) -> None:
    """Whoever asked has gone when there is an answer."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await resolver.address("peer.example")
    gate.set()
    async with asyncio.timeout(10):
        while not resolver._found_at:
            await asyncio.sleep(0.01)


async def test_what_was_found_long_ago_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, answers = threading.Event(), iter([rows("10.0.0.1"), rows("10.0.0.2")])

    def slow(*_: Any, **__: Any) -> list[Any]:
        assert gate.wait(10)
        return next(answers)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = Resolver()
    await _found_too_late(resolver, gate)
    resolver._found_at["peer.example"] -= KEPT_SECONDS + 1
    assert await resolver.address("peer.example") == "10.0.0.2"


async def test_unknown_name_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(OSError, match=r"peer\.example"):
        await Resolver().address("peer.example")
