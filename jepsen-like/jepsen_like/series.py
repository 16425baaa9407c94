"""Many runs: a suite, one that goes on for hours, and the hunt for planted bugs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import shlex
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from jepsen_like.nemesis import NEMESES
from jepsen_like.results import RESULTS
from jepsen_like.statistics import distribution
from jepsen_like.suite import Plan, Planted

#: A run of a plan is over within its own time and so much more, or it hangs.
GRACE_SECONDS = 300.0
_PR_SET_PDEATHSIG = 1
#: A class of faults that probes saw less often in a whole suite was hardly tried.
SEEN_MIN = 3


class Done(msgspec.Struct, frozen=True):
    """A run, and what ``results.json`` says of it; None: it left none."""

    words: str
    directory: Path
    results: dict[str, Any] | None
    seconds: float

    @property
    def is_held(self) -> bool:
        return self.results is not None and self.results["valid"] is True

    def broken(self) -> list[str]:
        """Names of the checkers whose promise did not hold."""
        found = [] if self.results is None else self.results["checkers"]
        return [str(verdict["checker"]) for verdict in found if verdict["valid"] is False]


async def run_one(plan: Plan, seed: int, directory: Path, program: str = "") -> Done:
    """A process of its own for a run."""
    words = ["--workload", plan.workload, "--nemesis", ",".join(plan.nemesis) or "none",
             "--seed", str(seed), "--time-limit", str(plan.seconds), "--peers", str(plan.peers),
             "--lease", str(plan.lease_seconds),
             *(["--leave-dead"] if plan.leaves_dead else []),
            *(["--single"] if plan.is_single else [])]  # fmt: skip
    command = [sys.executable, str(Path(__file__).parents[1]), *words, "--report", str(directory)]
    command += ["--program", program] if program else []
    began = time.monotonic()
    log = directory.with_suffix(".log")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=output, stderr=output, preexec_fn=_end_with_parent
        )
        try:
            async with asyncio.timeout(plan.seconds + GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
        finally:
            if process.returncode is None:
                # Whoever ends this ends it, too; its machines go with it.
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
    path = directory / RESULTS
    results = msgspec.json.decode(path.read_bytes()) if path.exists() else None
    return Done(shlex.join(words), directory, results, time.monotonic() - began)


def _end_with_parent() -> None:
    """In the child: a SIGTERM when whoever started it is gone, also by SIGKILL (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


async def run_all(
    plans: Iterable[Plan],
    directory: Path,
    seed: int,
    jobs: int,
    *,
    for_seconds: float = 0.0,
    is_whole: bool = False,
) -> bool:
    """All plans once, or again and again for so long; did all hold?

    ``is_whole``: and did they break everything there is to be broken?
    """
    deadline = time.monotonic() + for_seconds
    endless = itertools.cycle(plans) if for_seconds else iter(plans)
    numbered: Iterator[tuple[int, Plan]] = enumerate(endless)
    done: list[Done] = []

    async def work() -> None:
        for number, plan in numbered:
            if for_seconds and time.monotonic() > deadline:
                return
            run = await run_one(plan, seed + number, directory / f"{number:03}")
            done.append(run)
            _tell(run)
            if run.is_held:
                # The evidence stays, to be judged again; the peers' data is hundreds of megabytes.
                shutil.rmtree(run.directory / "peers", ignore_errors=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(jobs):
            group.create_task(work())
    click.echo(summary(done))
    (directory / "suite.json").write_bytes(msgspec.json.format(_sums(done)))
    is_enough = not is_whole or not _rare(_summed(done))
    return bool(done) and is_enough and all(run.is_held for run in done)


def _tell(run: Done) -> None:
    state = "held" if run.is_held else f"NOT HELD ({', '.join(run.broken()) or 'in doubt'})"
    click.echo(f"{run.directory.name}  {run.seconds:5.0f} s  {state:<8}  {run.words}")
    sys.stdout.flush()


def _sums(done: list[Done]) -> bytes:
    return msgspec.json.encode(_summed(done))


def _summed(done: list[Done]) -> dict[str, Any]:
    faults: Counter[str] = Counter()
    outages: dict[str, dict[str, list[float]]] = {}
    ends: list[float] = []
    starts: list[float] = []
    operations = changes = attempts = refused = 0
    for run in done:
        if run.results is not None:
            faults.update(run.results["faults"])
            operations += sum(verb["ok"] for verb in run.results["operations"].values())
            changes += run.results["leader_changes"]
            attempts += run.results["attempts"]
            for outage in run.results["outages"]:
                for kind in ("write_ms", "read_ms", "local_ms"):
                    if outage[kind] is not None:
                        of_fault = outages.setdefault(outage["fault"], {})
                        of_fault.setdefault(kind, []).append(outage[kind])
            for verdict in run.results["checkers"]:
                refused += verdict["checked"].get("writes_refused", 0)
                measures = verdict.get("measures", {})
                for name, worst in (("heal_to_end_ms", ends), ("heal_to_last_start_ms", starts)):
                    worst += [measures[name]["p99"]] if measures.get(name) else []
    return {
        "runs": len(done), "held": sum(run.is_held for run in done), "operations": operations,
        "attempts": attempts, "leader_changes": changes, "faults": dict(sorted(faults.items())),
        "classes": {
            name: sum(faults[fault.name] for fault in kinds) for name, kinds in NEMESES.items()
        },
        # By sinks that had seen a newer token.
        "writes_refused": refused,
        # Of the longest time without a success behind each fault.
        "outages_ms": {
            fault: {kind: distribution(values) for kind, values in kinds.items()}
            for fault, kinds in sorted(outages.items())
        },
        # Of the runs' own 99th percentiles.
        "heal_to_end_p99_ms": distribution(ends),
        "heal_to_last_start_p99_ms": distribution(starts),
    }  # fmt: skip


def summary(done: list[Done]) -> str:
    """What all runs come to, in words."""
    found = _summed(done)
    faults = ", ".join(f"{name} {count}" for name, count in found["faults"].items())
    return (
        f"{found['held']} of {found['runs']} runs held: {found['operations']} operations, "
        f"{found['attempts']} attempts, {found['leader_changes']} leader changes; {faults}\n"
        f"seen fewer than {SEEN_MIN} times: {', '.join(_rare(found)) or 'nothing'}"
    )


def _rare(found: dict[str, Any]) -> list[str]:
    """What a whole suite is to see more often: classes of faults, and writes that came too late."""
    counts = {**found["classes"], "writes refused": found["writes_refused"]}
    return [f"{name} {count}" for name, count in counts.items() if count < SEEN_MIN]


async def hunt(planted: list[Planted], program: str, directory: Path, seed: int, jobs: int) -> bool:
    """Was each of them caught, by a checker that is there for it, within its seeds?"""
    waiting = iter(planted)
    missed: list[str] = []

    async def work() -> None:
        for bug in waiting:
            if not await _hunt_one(bug, f"{program} {bug.name}", directory, seed):
                missed.append(bug.name)

    async with asyncio.TaskGroup() as group:
        for _ in range(jobs):
            group.create_task(work())
    caught = len(planted) - len(missed)
    click.echo(f"{caught} of {len(planted)} caught; missed: {', '.join(missed) or 'none'}")
    return not missed


async def _hunt_one(bug: Planted, program: str, directory: Path, seed: int) -> bool:
    for tried in range(bug.seeds):
        run = await run_one(bug.plan, seed + tried, directory / f"{bug.name}-{tried}", program)
        broken = run.broken()
        is_caught = any(name in bug.caught_by for name in broken)
        shown = ", ".join(broken) or "nothing"
        click.echo(f"{bug.name:<36} seed {seed + tried}: {run.seconds:4.0f} s, broken: {shown}")
        sys.stdout.flush()
        if is_caught:
            return True
    return False
