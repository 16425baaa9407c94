"""Commits, reads and failover: each measure drives a few peers and returns what is reported.

What is compared runs in turns, in short slices, on clusters that all stay up: an idle one costs
next to nothing, and all see the same noise of the machine.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

from raftsched.cli.bench.figures import Report, bar, runs, spread
from raftsched.cli.bench.raft.cluster import JOURNAL_BYTES_MAX, OURS, STOCK, Trio
from raftsched.cli.output import hint

#: Name -> callers, commands per request, whether commands share entries.
SHAPES: dict[str, tuple[int, int, bool]] = {
    "64 in flight": (64, 1, True),
    "pipelined": (8, 1_000, True),
    "64 in flight, an entry each": (64, 1, False),
    "pipelined, an entry each": (8, 1_000, False),
}
READERS = 64
KILL_CALLERS = 64
FIRST_COMMIT_SECONDS_MAX = 30.0
CATCH_UP_SECONDS_MAX = 60.0


class Options(NamedTuple):
    """Of the command."""

    seconds: float
    rounds: int
    kills: int
    tasks: int
    soak: float
    base_port: int
    directory: Path


async def commits(options: Options) -> Report:
    """Ours and stock in turns, in every shape."""
    port, directory = options.base_port, options.directory
    trios = {
        "ours": Trio(OURS, port, directory / "commits", journal_bytes_max=JOURNAL_BYTES_MAX),
        "stock": Trio(STOCK, port + 3, directory, use_batch=False),
        "stock, batches": Trio(STOCK, port + 6, directory, use_batch=True),
    }
    samples: dict[tuple[str, str], list[Report]] = {}
    async with AsyncExitStack() as stack:
        for trio in trios.values():
            await stack.enter_async_context(trio.run())
        for number in range(options.rounds):
            for shape in SHAPES:
                for name, trio in trios.items():
                    hint(f"commits, {shape}, {name}, round {number + 1}")
                    sample = await _commit(trio, shape, options.seconds)
                    samples.setdefault((shape, name), []).append(sample)
    report: Report = {}
    for shape in SHAPES:
        report[shape] = {name: _commit_summary(samples[shape, name]) for name in trios}
    _compare(report)
    return report


async def _commit(trio: Trio, shape: str, seconds: float) -> Report:
    callers, burst, is_grouped = SHAPES[shape]
    leader = await trio.leader()
    cpu = await trio.cpu_seconds()
    sample = await leader.ask(
        "load",
        seconds + 60,
        kind="plain",
        callers=callers,
        burst=burst,
        is_grouped=is_grouped,
        seconds=seconds,
    )
    # The moment to warm up is in the CPU time and not in the count.
    share = seconds / (seconds + 0.5)
    used = (await trio.cpu_seconds() - cpu) * share
    sample["cpu_micros"] = used / max(sample["commands"], 1) * 1e6
    return sample


def _commit_summary(samples: list[Report]) -> Report:
    latencies = [sample["latency_ms"] for sample in samples]
    return {
        "per_second": runs([sample["per_second"] for sample in samples], "commands per second"),
        "p50_ms": runs(
            [latency["p50"] for latency in latencies], "ms per request", 2, least_is_best=True
        ),
        "p99_ms": runs(
            [latency["p99"] for latency in latencies], "ms per request", 2, least_is_best=True
        ),
        "cpu_micros": runs(
            [s["cpu_micros"] for s in samples], "µs of all three per command", least_is_best=True
        ),
        "lost": sum(sample["is_lost"] for sample in samples),
    }


def _compare(report: Report) -> None:
    """The bars, and ours beside the better of the two stock ones."""
    best = 0.0
    for shape in SHAPES:
        entry = report[shape]
        stock = max(entry[name]["per_second"]["median"] for name in entry if name != "ours")
        ours = entry["ours"]["per_second"]["median"]
        entry["ours_of_stock"] = round(ours / max(stock, 1e-9), 2)
        best = max(best, stock)
    few, many = report["64 in flight"]["ours"], report["pipelined"]["ours"]
    report["bars"] = {
        "64 in flight, per second": bar(few["per_second"]["median"], 25_000),
        "64 in flight, p50 ms": bar(few["p50_ms"]["median"], 3, at_most=True),
        "pipelined, per second": bar(many["per_second"]["median"], 100_000),
        "pipelined, of the best of stock": bar(many["per_second"]["median"] / max(best, 1e-9), 1),
    }


async def reads(options: Options) -> Report:
    """Linearizable reads on a follower: alone, and while the leader is loaded."""
    port, directory = options.base_port, options.directory / "reads"
    idle: list[Report] = []
    loaded: list[Report] = []
    trio = Trio(OURS, port, directory, journal_bytes_max=JOURNAL_BYTES_MAX)
    async with trio.run():
        for number in range(options.rounds):
            hint(f"reads on a follower, round {number + 1}")
            leader, follower = await trio.leader(), (await trio.followers())[0]
            idle.append(await _read(follower, options.seconds))
            load = asyncio.create_task(_load(leader, options.seconds + 1.0))
            await asyncio.sleep(0.5)
            loaded.append(await _read(follower, options.seconds))
            await load
    report = {"alone": _read_summary(idle), "with 64 writers": _read_summary(loaded)}
    report["bars"] = {
        "per second": bar(report["alone"]["per_second"]["median"], 3_000),
        "p50 ms": bar(report["alone"]["p50_ms"]["median"], 5, at_most=True),
    }
    return report


async def _read(worker: Any, seconds: float) -> Report:
    answer: Report = await worker.ask("read", seconds + 30, readers=READERS, seconds=seconds)
    return answer


async def _load(worker: Any, seconds: float) -> Report:
    answer: Report = await worker.ask(
        "load", seconds + 60, kind="plain", callers=64, burst=1, is_grouped=True, seconds=seconds
    )
    return answer


def _read_summary(samples: list[Report]) -> Report:
    return {
        "per_second": runs([sample["per_second"] for sample in samples], "reads per second"),
        "p50_ms": runs(
            [sample["latency_ms"]["p50"] for sample in samples], "ms", 2, least_is_best=True
        ),
        "p99_ms": runs(
            [sample["latency_ms"]["p99"] for sample in samples], "ms", 2, least_is_best=True
        ),
        "readers": READERS,
    }


async def failover(options: Options) -> Report:
    """Leaders killed under load, one after the other; until the next one's first commit."""
    trio = Trio(
        OURS, options.base_port, options.directory / "kills", journal_bytes_max=JOURNAL_BYTES_MAX
    )
    seconds: list[float] = []
    terms: list[int] = []
    async with trio.run():
        for worker in trio.workers.values():
            await worker.ask("lead", callers=KILL_CALLERS)
        for number in range(options.kills):
            if number % 10 == 0:
                hint(f"leader killed, {number} of {options.kills}")
            leader = await trio.leader()
            term = await trio.term()
            took, new_term = await _kill(trio, leader.peer_id)
            seconds.append(took)
            terms.append(new_term - term)
            await leader.start()
            trio.running.add(leader.peer_id)
            await leader.ask("lead", callers=KILL_CALLERS)
            await trio.caught_up(leader, CATCH_UP_SECONDS_MAX)
    report: Report = {"seconds": spread(seconds, 3), "terms": spread(terms, 0)}
    report["over_1_second"] = sum(took > 1.0 for took in seconds)
    report["bars"] = {
        "median seconds": bar(report["seconds"]["p50"], 1.0, at_most=True),
        "p99 seconds": bar(report["seconds"]["p99"], 2.5, at_most=True),
    }
    return report


async def _kill(trio: Trio, leader: str) -> tuple[float, int]:
    """Seconds from the SIGKILL to the first commit of another leader, and its term."""
    trio.running.discard(leader)
    survivors = [trio.workers[peer] for peer in sorted(trio.running)]
    for worker in survivors:
        worker.forget_events()
    begin = time.monotonic()
    kill = asyncio.create_task(trio.workers[leader].kill())
    waits = [
        asyncio.create_task(worker.event("first_commit", FIRST_COMMIT_SECONDS_MAX))
        for worker in survivors
    ]
    done, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in rest:
        wait.cancel()
    await asyncio.gather(kill, *rest, return_exceptions=True)
    first = min([wait.result() for wait in done], key=lambda event: float(event["at"]))
    return first["at"] - begin, first["term"]
