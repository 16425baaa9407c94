"""What is written down of the peers in passing, and of all that they hold in the end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from jepsen_like.api import Api, Unreachable
from jepsen_like.evidence import FINAL
from jepsen_like.history import Final, FinalTask, Sample, Writer, write_document
from jepsen_like.nemesis.base import Arena
from jepsen_like.peers import Peers

SAMPLE_SECONDS = 0.25


class NoFinal(Exception):
    """A peer does not show what it holds; says which and why."""


async def watch(arena: Arena, states: Writer) -> None:
    """Until it is cancelled: samples of every peer, and ends that nobody asked for."""
    apis: dict[str, Api] = {}
    try:
        while True:
            for peer in list(arena.peers.ids):
                address = arena.peers.api(peer)
                api = apis.setdefault(address, arena.peers.ask(peer))
                states.write(await _sample(peer, api))
                await arena.note_end(peer)
            await asyncio.sleep(SAMPLE_SECONDS)
    finally:
        for api in apis.values():
            await api.close()


async def _sample(peer: str, api: Api) -> Sample:
    at = time.monotonic_ns()
    try:
        answer = await api.ask("GET", "/v1/cluster", seconds=0.5)
        ready = await api.ask("GET", "/health/ready", seconds=0.5)
    except Unreachable:
        return Sample(at, peer)
    body: dict[str, Any] = answer.body
    return Sample(
        at, peer, True, str(body["role"]), int(body["term"]), body["leader"],
        int(body["applied_index"]), ready.status == 200,
    )  # fmt: skip


async def all_ended(peers: Peers, seconds: float) -> list[str]:
    """Wait until every task is terminal; ids of those that are not after so long."""
    deadline = time.monotonic() + seconds
    left = ["nobody answered"]
    while time.monotonic() < deadline:
        peer = sorted(peers.running)[0] if peers.running else ""
        if peer:
            try:
                left = await _not_ended(peers.ask(peer))
            except (Unreachable, NoFinal):
                left = ["nobody answered"]
            if not left:
                return []
        await asyncio.sleep(0.25)
    return left


async def _not_ended(client: Api) -> list[str]:
    states = "waiting,queued,assigned,running,retrying,cancelling"
    async with client as api:
        answer = await api.ask("GET", f"/v1/tasks?limit=100&state={states}")
    if answer.status != 200:
        raise NoFinal(f"status {answer.status}")
    return [str(task["id"]) for task in answer.body["items"]]


async def write_finals(peers: Peers, directory: Path) -> None:
    """All that every peer holds, and the digests of all at one index.  Raises NoFinal."""
    names = sorted(peers.running)
    async with peers.ask(names[0]) as api:
        check = await _asked(api, "POST", "/v1/cluster:verify?wait=20", {})
    digests = {peer["id"]: peer["digest"] or "" for peer in check["peers"]}
    for peer in names:
        async with peers.ask(peer) as api:
            tasks = await _pages(api, "/v1/tasks", int(check["index"]))
            schedules = await _pages(api, "/v1/schedules", int(check["index"]))
        rows = [
            FinalTask(
                task["id"], task["state"], task["reason"] or "", task["attempt"],
                task["attempts_max"], task["parent"] or "", task["paused"],
                task.get("retry_of") or "", task["schedule"] or "",
            )
            for task in sorted(tasks, key=lambda task: str(task["id"]))
        ]  # fmt: skip
        final = Final(peer, int(check["index"]), digests.get(peer, ""), rows, schedules)
        write_document(directory / FINAL / f"{peer}.json", final)


async def _pages(api: Api, path: str, min_index: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    query = f"?limit=1000&consistency=local&min_index={min_index}"
    cursor = ""
    while True:
        body = await _asked(api, "GET", path + query + (f"&cursor={cursor}" if cursor else ""))
        items += body["items"]
        cursor = body["next_cursor"] or ""
        if not cursor:
            return items


async def _asked(api: Api, method: str, path: str, body: Any = None) -> dict[str, Any]:
    try:
        answer = await api.ask(method, path, body, seconds=30.0)
    except Unreachable as error:
        raise NoFinal(f"{path}: {error}") from None
    if answer.status != 200:
        raise NoFinal(f"{path}: status {answer.status} {answer.body}")
    found: dict[str, Any] = answer.body
    return found
