"""Peers that come and go: added, removed, replaced, also while some do not hear each other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from jepsen_like.api import Answer, Api, Unreachable
from jepsen_like.nemesis.base import Arena, Fault, Seen
from jepsen_like.peers import TOKEN

#: A change of the members is over within so long once a majority works.
CHANGE_SECONDS = 60.0
#: Of one request.
_ASK_SECONDS = 8.0
#: What a peer that was removed ends with.
REMOVED = 13


class NotChanged(Exception):
    """The members are not what was asked for; says what was answered last."""


async def ask_any(arena: Arena, method: str, path: str, body: Any = None) -> Answer:
    """Through whichever peer answers.  Raises NotChanged."""
    said = "nobody runs"
    for peer in arena.chance.sample(sorted(arena.peers.running), len(arena.peers.running)):
        try:
            async with Api(arena.peers.api(peer), TOKEN) as api:
                answer = await api.ask(method, path, body, seconds=_ASK_SECONDS)
        except (Unreachable, KeyError) as error:
            said = f"{peer}: {error}"
            continue
        if answer.status < 300:
            return answer
        said = f"{peer}: status {answer.status} {answer.code} {answer.body}"
    raise NotChanged(said)


async def members(arena: Arena) -> dict[str, str]:
    """Id -> ``voter`` or ``learner``, as the leader knows them.  Raises NotChanged."""
    answer = await ask_any(arena, "GET", "/v1/cluster/peers")
    return {str(row["id"]): str(row["role"]) for row in answer.body["items"]}


async def change(arena: Arena, method: str, path: str, body: Any = None) -> None:
    """Ask for a change until it is done: the same question again goes on with it.

    Raises NotChanged.
    """
    deadline = time.monotonic() + CHANGE_SECONDS
    while True:
        try:
            answer = await ask_any(arena, method, path, body)
            if answer.status == 200 and answer.body["done"]:
                return
            said = f"waits for {answer.body['waits_for']}"
        except NotChanged as error:
            said = str(error)
        if time.monotonic() > deadline:
            raise NotChanged(f"{method} {path} is not done after {CHANGE_SECONDS} s: {said}")
        await asyncio.sleep(0.2)


async def add(arena: Arena, *, replaces: str = "") -> str:
    """A new peer on a new machine; its id, once it votes.  Raises NotChanged."""
    told = await arena.peers.join()
    new = told["id"]
    await change(arena, "POST", "/v1/cluster/peers?wait=5s", {**told, "replaces": replaces})
    arena.peers.is_member(new)
    return new


async def remove(arena: Arena, peer: str) -> None:
    """It is a member no more; its machine goes.  Raises NotChanged."""
    arena.expects[peer] = REMOVED
    await change(arena, "DELETE", f"/v1/cluster/peers/{peer}?wait=5s")
    await depart(arena, peer)


async def depart(arena: Arena, peer: str) -> None:
    """The machine of one that was removed goes, when the peer has ended or may be ended."""
    deadline = time.monotonic() + _ASK_SECONDS
    while peer in arena.peers.running and time.monotonic() < deadline:
        await arena.note_end(peer)
        await asyncio.sleep(0.05)
    await arena.kill(peer, machine=True)
    await arena.peers.leave(peer)


class Members(Fault):
    """One more peer, and one less after a while; so there are as many as there were."""

    nemesis = "members"
    name = "member-added"
    about = "a peer is added, and another one removed"
    takes = frozenset({"members"})
    is_alone = True
    stands = (1.0, 5.0)

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self.new = ""

    async def begin(self) -> Seen:
        self.new = await add(self.arena)
        found = await members(self.arena)
        return Seen([self.new], found.get(self.new) == "voter", f"{self.new} added: {found}")

    async def whom(self) -> str:
        """Who is to go."""
        return self.chance.choice([peer for peer in self.arena.peers.ids if peer != self.new])

    async def end(self) -> Seen:
        old = await self.whom()
        await remove(self.arena, old)
        found = await members(self.arena)
        ended = [ended for ended in self.arena.exits if ended.peer == old]
        how = f"it ended with {ended[-1].code}" if ended else "it did not run"
        is_gone = old not in found and (not ended or ended[-1].code == REMOVED)
        return Seen([old], is_gone, f"{old} removed: {found}; {how}")


class LeaderRemoved(Members):
    name = "leader-removed"
    about = "a peer is added, and the leader removed"
    moves_leader = True

    async def whom(self) -> str:
        leader = await self.arena.leader()
        return leader if leader != self.new else await super().whom()


class CutMembers(Members):
    """A change that is asked for while one peer hears nobody, and goes on when it does."""

    name = "member-added-partition"
    about = "a peer is added and another removed while a third is cut off"
    needs = frozenset({"drop"})

    async def begin(self) -> Seen:
        cut = await self.arena.leader() if self.chance.random() < 0.5 else self.arena.one()
        ids = self.arena.peers.ids
        self.directions = [(a, b) for a in ids for b in ids if (a == cut) != (b == cut)]
        await self.arena.lay(self, self.directions, {"drop": True})
        other = self.chance.choice([peer for peer in ids if peer != cut])
        is_cut = not await self.arena.reaches(other, cut)
        seen = await super().begin()
        detail = f"{cut} cut off from {', '.join(p for p in ids if p != cut)}; {seen.detail}"
        return Seen([*seen.targets, cut], bool(seen.verified) and is_cut, detail)

    async def end(self) -> Seen:
        # Removed while the cut stands: by a majority of those that are left.
        healing = asyncio.create_task(self._heal_soon())
        try:
            return await super().end()
        finally:
            await healing

    async def _heal_soon(self) -> None:
        await asyncio.sleep(self.chance.uniform(0.5, 4.0))
        await self.arena.lift(self, self.directions)


FAULTS: tuple[type[Fault], ...] = (Members, LeaderRemoved, CutMembers)
