"""A planned stop: how it ended, and whether that is its own doing."""

from __future__ import annotations

import random
import signal
from typing import Any, cast

import pytest

from jepsen_like.nemesis.base import Arena
from jepsen_like.nemesis.processes import Restart


class _Peers:
    """One peer that ends with a given code when it is told to stop."""

    def __init__(self, code: int | None, *, runs: bool = True) -> None:
        self.ids = ["n1"]
        self.running = {"n1"} if runs else set()
        self._code = code

    async def stop(self, peer: str) -> int | None:
        self.running.discard(peer)
        return self._code


@pytest.mark.parametrize(
    ("code", "verified", "asked"),
    [
        (0, True, True),
        (-signal.SIGTERM, True, True),
        (None, False, True),
        # Its disk failed first: whether it may is the logs' judge's to say.
        (70, None, False),
        (1, None, False),
    ],
)
async def test_only_an_end_that_was_asked_for_is_one(
    code: int | None, verified: bool | None, asked: bool
) -> None:
    arena = Arena(cast(Any, _Peers(code)), random.Random(1), 5.0)
    seen = await Restart(arena).begin()
    assert seen.verified is verified
    [ended] = arena.exits
    assert (ended.code, ended.asked) == (-signal.SIGKILL if code is None else code, asked)


async def test_a_peer_that_another_fault_ended_cannot_be_stopped() -> None:
    arena = Arena(cast(Any, _Peers(0, runs=False)), random.Random(1), 5.0)
    seen = await Restart(arena).begin()
    assert (seen.verified, seen.detail, arena.exits) == (None, "it does not run", [])
