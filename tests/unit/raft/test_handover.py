"""Hand-overs that overlap: intake pauses until the last of them has ended."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from raftsched.raft.handover import HandOver
from raftsched.raft.log import NoQuorum
from raftsched.raft.membership import Address, Configuration, Membership


class Engine:
    """A leader to whom nobody listens."""

    is_leader = True
    leader = "n1"
    term = last_index = 1

    def match_index(self, peer_id: str) -> int:
        return 0


async def test_first_hand_over_to_end_leaves_the_other_one_its_pause() -> None:
    voters = dict.fromkeys(("n1", "n2"), Address("h:1"))
    seen: list[bool] = []
    hand_over = HandOver(
        Membership("n1", Configuration(voters)),
        cast(Any, Engine()),
        lambda: ("n2",),
        lambda: seen.append(hand_over.is_active),
    )
    longer = asyncio.create_task(hand_over.run("n2", 60))
    with pytest.raises(NoQuorum):
        await hand_over.run(None, 0.03)
    assert hand_over.is_active
    longer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await longer
    assert not hand_over.is_active
    assert seen == [True, False]
