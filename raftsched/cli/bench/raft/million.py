"""A million tasks in the state: snapshots under load, a laggard, a restart, and the long run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from raftsched.cli.bench.raft.cluster import JOURNAL_BYTES_MAX, NEVER, OURS, Trio
from raftsched.cli.bench.raft.figures import Report, bar
from raftsched.cli.bench.raft.measures import Options
from raftsched.cli.bench.raft.pipes import Message, Worker
from raftsched.cli.exits import Failure
from raftsched.cli.output import hint

#: The journal's tail that a restart has to work off.
TAIL_BYTES = 128 * 1024 * 1024
SNAPSHOT_SECONDS_MAX = 300.0
LAGGARD_SECONDS_MAX = 300.0
SLICE_SECONDS = 1.0
#: Loads that go on while a snapshot is taken: kind, callers, commands per request.
LOADS: dict[str, tuple[str, int, int]] = {
    "plain commands, 64 in flight": ("plain", 64, 1),
    "tasks made and removed, 64 in flight": ("churn", 64, 1),
}


async def million(options: Options) -> Report:
    """Every measure that needs a large state, on one cluster."""
    trio = Trio(
        OURS,
        options.base_port,
        options.directory / "million",
        journal_bytes_max=JOURNAL_BYTES_MAX,
    )
    report: Report = {"tasks": options.tasks}
    async with trio.run("n1", "n2"):
        hint(f"{options.tasks:,} tasks into the state of two peers")
        leader = await trio.leader()
        filled = await leader.ask("fill", 600 + options.tasks / 1_000, tasks=options.tasks)
        report["filled_per_second"] = round(filled["per_second"])
        term = await trio.term()
        report["snapshots"] = {"nothing else": await _snapshot(trio, None)}
        report["laggard"] = await _laggard(trio)
        for name, load in LOADS.items():
            report["snapshots"][name] = await _snapshot(trio, load)
        report["restart"] = await _restart(trio)
        report["restart_with_tail"] = await _restart_with_tail(trio)
        report["elections"] = await trio.term() - term
        if options.soak:
            report["soak"] = await _soak(trio, options)
    report["bars"] = _bars(report)
    return report


def _bars(report: Report) -> Report:
    stalls = [s["stall_longest_ms"] for s in report["snapshots"].values()]
    tail = report["restart_with_tail"]
    bars = {
        "loop stall in a snapshot, ms": bar(max(stalls), 50, at_most=True),
        "laggard seconds": bar(report["laggard"]["seconds"], 30, at_most=True),
        "loading seconds": bar(report["restart"]["load_seconds"], 5, at_most=True),
        "restart with a tail, seconds": bar(tail["seconds"], 15, at_most=True),
        "elections": bar(report["elections"], 0, at_most=True),
    }
    if "soak" in report:
        bars["elections in the long run"] = bar(report["soak"]["elections"], 0, at_most=True)
    return bars


# Snapshots ---------------------------------------------------------------------------------------


async def _snapshot(trio: Trio, load: tuple[str, int, int] | None) -> Report:
    """Loop and memory of the leader while its next snapshot is taken, and shortly before.

    Without a load, it is brought about by one that ends when the snapshot begins.
    """
    leader = await trio.leader()
    hint(f"a snapshot, with {load or 'nothing else'}")
    count = len((await leader.ask("status"))["snapshots"])
    kind, callers, burst = load or ("plain", 8, 1_000)
    while True:
        await leader.ask("window")
        loading = asyncio.create_task(_load(leader, kind, callers, burst, SLICE_SECONDS))
        begun = await _begun(leader, count, loading)
        before = await leader.ask("window")
        if begun:
            break
    return await _taken(trio, leader, count, load, before, loading)


async def _begun(leader: Worker, count: int, loading: asyncio.Task[Message]) -> bool:
    """Whether the next snapshot began while a load went on."""
    while not loading.done():
        if len((await leader.ask("status"))["snapshots"]) > count:
            return True
        await asyncio.sleep(0.01)
    await loading
    return False


async def _taken(
    trio: Trio,
    leader: Worker,
    count: int,
    load: tuple[str, int, int] | None,
    before: Message,
    loading: asyncio.Task[Message],
) -> Report:
    """The rest of the snapshot, under its load."""
    commands, begin = 0, time.monotonic()
    while time.monotonic() < begin + SNAPSHOT_SECONDS_MAX:
        if loading.done():
            commands += loading.result()["commands"]
            if load is not None:
                loading = asyncio.create_task(_load(leader, *load, SLICE_SECONDS))
        taken = (await leader.ask("status"))["snapshots"][count]
        if len(taken) == 2 and (load is None or time.monotonic() > begin + SLICE_SECONDS):
            break
        await asyncio.sleep(0.05)
    else:
        raise Failure(f"a snapshot took longer than {SNAPSHOT_SECONDS_MAX:g} s")
    during = await leader.ask("window")
    await loading
    return {
        "seconds": round(taken[1] - taken[0], 2),
        "stall_longest_ms": round(max(during["stall_longest_ms"], before["stall_longest_ms"]), 1),
        "stall_p99_ms": round(during["stall_p99_ms"], 1),
        "resident_mib": round(during["resident_before"] / 2**20),
        "peak_mib": round(max(during["resident_peak"], before["resident_peak"]) / 2**20),
    }


async def _load(worker: Worker, kind: str, callers: int, burst: int, seconds: float) -> Message:
    return await worker.ask(
        "load",
        seconds + 120,
        kind=kind,
        callers=callers,
        burst=burst,
        is_grouped=True,
        seconds=seconds,
    )


# Followers that come back ------------------------------------------------------------------------


async def _laggard(trio: Trio) -> Report:
    """The third peer starts with nothing: until it has applied what the leader had committed."""
    hint("a third peer, with nothing, catches up")
    worker = trio.workers["n3"]
    term, begin = await trio.term(), time.monotonic()
    await worker.start()
    trio.running.add("n3")
    await worker.ask("window")
    target = (await (await trio.leader()).ask("status"))["commit_index"]
    await _until(worker, lambda status: bool(status["applied_index"] >= target))
    took = time.monotonic() - begin
    window = await worker.ask("window")
    status = await worker.ask("status")
    return {
        "seconds": round(took, 2),
        "load_seconds": round(status["load_seconds"], 2),
        "stall_longest_ms": round(window["stall_longest_ms"], 1),
        "elections": await trio.term() - term,
    }


async def _until(worker: Worker, is_done: Callable[[Message], bool]) -> None:
    deadline = time.monotonic() + LAGGARD_SECONDS_MAX
    while not is_done(await worker.ask("status")):
        if time.monotonic() > deadline:
            raise Failure(f"peer {worker.peer_id} was not where it should be in time")
        await asyncio.sleep(0.05)


async def _follower(trio: Trio) -> Worker:
    return (await trio.followers())[-1]


async def _restarted(trio: Trio, worker: Worker, stop: Callable[[], Awaitable[None]]) -> Report:
    """It ends and starts again; until it is current."""
    trio.running.discard(worker.peer_id)
    await stop()
    term, begin = await trio.term(), time.monotonic()
    ready = await worker.start()
    trio.running.add(worker.peer_id)
    current = await worker.event("current", LAGGARD_SECONDS_MAX)
    return {
        "seconds": round(time.monotonic() - begin, 2),
        "until_it_answers_seconds": round(ready["start_seconds"], 2),
        "load_seconds": round(current["load_seconds"], 2),
        "stall_longest_ms": round(current["stall_longest_ms"], 1),
        "elections": await trio.term() - term,
    }


async def _restart(trio: Trio) -> Report:
    """A follower stops cleanly and loads its snapshot."""
    hint("a follower restarts")
    worker = await _follower(trio)
    return await _restarted(trio, worker, worker.stop)


async def _restart_with_tail(trio: Trio) -> Report:
    """A follower with a long tail behind its snapshot is killed and comes back."""
    hint(f"a follower's journal grows by {TAIL_BYTES >> 20} MiB")
    worker = await _follower(trio)
    trio.running.discard(worker.peer_id)
    await worker.stop()
    await worker.start(journal_bytes_max=NEVER)
    trio.running.add(worker.peer_id)
    await trio.caught_up(worker, LAGGARD_SECONDS_MAX)
    leader = await trio.leader()
    before = (await worker.ask("status"))["journal_bytes"]
    while (status := await worker.ask("status"))["journal_bytes"] < before + TAIL_BYTES:
        await _load(leader, "churn", 8, 200, SLICE_SECONDS)
    await trio.caught_up(worker, LAGGARD_SECONDS_MAX)
    report = await _restarted(trio, worker, worker.kill)
    report["journal_mib"] = round(status["journal_bytes"] / 2**20)
    return report


# The long run ------------------------------------------------------------------------------------


async def _soak(trio: Trio, options: Options) -> Report:
    """Full load for a long time: tasks made and removed at the leader, reads on the followers."""
    for worker in await trio.followers():
        # The one with the long tail is as the others again.
        trio.running.discard(worker.peer_id)
        await worker.stop()
        await worker.start(journal_bytes_max=JOURNAL_BYTES_MAX)
        trio.running.add(worker.peer_id)
        await trio.caught_up(worker, LAGGARD_SECONDS_MAX)
    leader = await trio.leader()
    term = await trio.term()
    first = await trio.statuses()
    for worker in trio.workers.values():
        await worker.ask("window")
    totals: dict[str, Any] = {"commands": 0, "journal": 0, "longest": 0.0}
    begin = time.monotonic()
    while (left := begin + options.soak - time.monotonic()) > 0:
        hint(f"full load, {left:.0f} s to go")
        await _soak_slice(trio, leader, totals)
    took = time.monotonic() - begin
    last = await trio.statuses()
    windows = {p: await w.ask("window") for p, w in trio.workers.items()}
    return {
        "seconds": round(took),
        "elections": await trio.term() - term,
        "tasks_made_and_removed_per_second": round(totals["commands"] / took),
        "longest_commit_ms": round(totals["longest"], 1),
        "snapshots": {p: len(last[p]["snapshots"]) - len(first[p]["snapshots"]) for p in last},
        "journal_mib_max": round(totals["journal"] / 2**20),
        "stall_longest_ms": {p: round(w["stall_longest_ms"], 1) for p, w in windows.items()},
        "peak_mib": {p: round(w["resident_peak"] / 2**20) for p, w in windows.items()},
    }


async def _soak_slice(trio: Trio, leader: Worker, totals: dict[str, Any]) -> None:
    follower = await _follower(trio)
    load, _ = await asyncio.gather(
        _load(leader, "churn", 64, 1, 10.0),
        follower.ask("read", 60.0, readers=8, seconds=10.0),
    )
    if load["is_lost"]:
        raise Failure("the leader lost its leadership under load")
    totals["commands"] += load["commands"]
    totals["longest"] = max(totals["longest"], load["latency_ms"]["longest"])
    sizes = [status["journal_bytes"] for status in (await trio.statuses()).values()]
    totals["journal"] = max(totals["journal"], *sizes)
