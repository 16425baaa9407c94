"""A million tasks in the state: snapshots under load, a laggard, a restart, and the long run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from raftsched.cli.bench.figures import Report, bar, longest_within
from raftsched.cli.bench.raft.cluster import JOURNAL_BYTES_MAX, NEVER, OURS, Trio
from raftsched.cli.bench.raft.measures import Options
from raftsched.cli.bench.raft.pipes import Message, Worker
from raftsched.cli.exits import Failure
from raftsched.cli.output import hint

#: The journal's tail that a restart has to work off.
TAIL_BYTES = 128 * 1024 * 1024
SNAPSHOT_SECONDS_MAX = 300.0
LAGGARD_SECONDS_MAX = 300.0
SLICE_SECONDS = 1.0
#: Brings a snapshot about and leaves most of it alone: kind, callers, burst, seconds.
BRINGING_ABOUT = ("plain", 1, 2_000, 0.05)
#: A snapshot reaches so far beyond the calls that begin and end it.
AROUND_SECONDS = 0.02
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
        tails = report["restart_with_tail"] = {}
        tails["tasks made and removed"] = await _restart_with_tail(trio, ("churn", 8, 200))
        if options.soak:
            report["soak"] = await _soak(trio, options)
        tails["tasks submitted"] = await _restart_with_tail(trio, ("submit", 8, 1_000))
        report["elections"] = await trio.term() - term
    report["bars"] = _bars(report)
    return report


def _bars(report: Report) -> Report:
    snapshots = report["snapshots"].values()
    bars = {
        "loop stall in a snapshot, ms": bar(
            max([each["longest_ms"] for each in snapshots]), 50, at_most=True
        ),
        "the same, its own CPU, ms": bar(
            max([each["busiest_ms"] for each in snapshots]), 50, at_most=True
        ),
        "laggard seconds": bar(report["laggard"]["seconds"], 30, at_most=True),
        "loading seconds": bar(report["restart"]["load_seconds"], 5, at_most=True),
        **{
            f"restart with a tail of {name}, seconds": bar(tail["seconds"], 15, at_most=True)
            for name, tail in report["restart_with_tail"].items()
        },
        "elections": bar(report["elections"], 0, at_most=True),
    }
    if "soak" in report:
        bars["elections in the long run"] = bar(report["soak"]["elections"], 0, at_most=True)
    return bars


# Snapshots ---------------------------------------------------------------------------------------


async def _snapshot(trio: Trio, load: tuple[str, int, int] | None) -> Report:
    """Loop and memory of the leader while its next snapshot is taken, and without one.

    Without a load, it is brought about by one that ends when the snapshot begins.
    """
    leader = await trio.leader()
    hint(f"a snapshot, with {load or 'nothing else'}")
    count = len((await leader.ask("status"))["snapshots"])
    await leader.ask("window")
    begin = time.monotonic()
    while time.monotonic() < begin + SNAPSHOT_SECONDS_MAX:
        snapshots = (await leader.ask("status"))["snapshots"][count:]
        if snapshots and len(snapshots[0]) == 2:
            return _taken(await leader.ask("window"), snapshots[0])
        if load is not None:
            await _load(leader, *load, SLICE_SECONDS)
        elif snapshots:
            await asyncio.sleep(SLICE_SECONDS)
        else:
            await _load(leader, *BRINGING_ABOUT)
    raise Failure(f"a snapshot took longer than {SNAPSHOT_SECONDS_MAX:g} s")


def _taken(window: Message, snapshot: list[float]) -> Report:
    begin, end = snapshot
    # Before it, for what the same load does without.
    before = longest_within(window["delays"], 0.0, begin - AROUND_SECONDS)
    return {
        "seconds": round(end - begin, 2),
        **longest_within(window["delays"], begin - AROUND_SECONDS, end + AROUND_SECONDS),
        "without": before,
        "resident_mib": round(window["resident_before"] / 2**20),
        "peak_mib": round(window["resident_peak"] / 2**20),
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
        "longest_ms": round(window["longest_ms"], 1),
        "busiest_ms": round(window["busiest_ms"], 1),
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
    """It ends and starts again; until it has applied what the leader had committed before."""
    target = (await (await trio.leader()).ask("status"))["commit_index"]
    trio.running.discard(worker.peer_id)
    await stop()
    term, begin = await trio.term(), time.monotonic()
    ready = await worker.start()
    await worker.ask("window")
    await _until(worker, lambda status: bool(status["applied_index"] >= target))
    took = time.monotonic() - begin
    window = await worker.ask("window")
    trio.running.add(worker.peer_id)
    return {
        "seconds": round(took, 2),
        "until_it_answers_seconds": round(ready["start_seconds"], 2),
        "load_seconds": round(ready["load_seconds"], 2),
        "longest_ms": round(window["longest_ms"], 1),
        "busiest_ms": round(window["busiest_ms"], 1),
        "elections": await trio.term() - term,
    }


async def _restart(trio: Trio) -> Report:
    """A follower stops cleanly and loads its snapshot."""
    hint("a follower restarts")
    worker = await _follower(trio)
    return await _restarted(trio, worker, worker.stop)


async def _restart_with_tail(trio: Trio, load: tuple[str, int, int]) -> Report:
    """A follower with a long tail behind its snapshot is killed and comes back."""
    hint(f"a follower's journal grows by {TAIL_BYTES >> 20} MiB")
    worker = await _follower(trio)
    await _start_anew(trio, worker, NEVER)
    leader = await trio.leader()
    while (status := await worker.ask("status"))["tail_bytes"] < TAIL_BYTES:
        await _load(leader, *load, SLICE_SECONDS / 4)
    await trio.caught_up(worker, LAGGARD_SECONDS_MAX)
    report = await _restarted(trio, worker, worker.kill)
    report["tail_mib"] = round(status["tail_bytes"] / 2**20)
    await _start_anew(trio, worker, JOURNAL_BYTES_MAX)
    return report


async def _start_anew(trio: Trio, worker: Worker, journal_bytes_max: int) -> None:
    """With another bound of its journal."""
    trio.running.discard(worker.peer_id)
    await worker.stop()
    await worker.start(journal_bytes_max=journal_bytes_max)
    trio.running.add(worker.peer_id)
    await trio.caught_up(worker, LAGGARD_SECONDS_MAX)


# The long run ------------------------------------------------------------------------------------


async def _soak(trio: Trio, options: Options) -> Report:
    """Full load for a long time: tasks made and removed at the leader, reads on the followers."""
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
        "longest_ms": {p: round(w["longest_ms"], 1) for p, w in windows.items()},
        "busiest_ms": {p: round(w["busiest_ms"], 1) for p, w in windows.items()},
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
