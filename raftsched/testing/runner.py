"""A node's runner, as the peer sees it, with attempts that are scripts instead of processes.

It outlives its peer's process, as the real one does, keeps leases on the machine's monotonic
clock, and ends with the machine.  What ran when, in the world's time, is kept for the checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from raftsched.executor.messages import AttemptReport, Running, StartAttempt
from raftsched.testing.clocks import SimulatedClock
from raftsched.testing.loop import PeerLoop
from raftsched.testing.world import World

#: From a signal to the end of a process that obeys it.
SIGNAL_SECONDS = 0.01
#: As the real runner's: the last signal goes out so long before the lease ends.
KILL_MARGIN_SECONDS = 0.2
#: Leases are looked at this often at most.
LOOK_SECONDS = 0.05


class Run(NamedTuple):
    """How an attempt goes."""

    seconds: float = 0.1
    exit_code: int = 0
    output: bytes = b""
    #: Ends only by SIGKILL.
    ignores_sigterm: bool = False


#: What an attempt does, by what it was told to run.
Script = Callable[[StartAttempt], Run]


class Span(NamedTuple):
    """One attempt's life in the world's time."""

    task_id: str
    number: int
    token: int
    node: str
    began: float
    ended: float | None
    succeeded: bool


class _Attempt:
    def __init__(self, spec: StartAttempt, run: Run, began: float) -> None:
        self.spec = spec
        self.run = run
        self.began = began
        self.end: int | None = None
        self.status = ""
        self.reason = ""
        self.is_signalled = False
        #: When SIGKILL follows, in the world's time; of no meaning before it was signalled.
        self.kill_at = 0.0
        #: Its lease runs out, and it is to end before that.
        self.is_last_call = False


class SimulatedRunner:
    """The process that owns the attempts of one simulated node."""

    def __init__(
        self,
        world: World,
        node: str,
        clock: SimulatedClock,
        lease_seconds: float,
        script: Script,
        spans: list[Span],
    ) -> None:
        self._world = world
        self._node = node
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._script = script
        self._spans = spans
        self.incarnation = f"{node}-{world.serial()}"
        self._slots = 1
        self._waiting: dict[int, StartAttempt] = {}
        self._attempts: dict[int, _Attempt] = {}
        self._finished: dict[int, AttemptReport] = {}
        self._granted_at = 0.0
        self._lease_timer: int | None = None
        self.connection: Connection | None = None
        self.is_dead = False

    # The connection's side -----------------------------------------------------------------------

    def inventory(self) -> dict[int, Running]:
        """What it has."""
        found = {t: Running(t, a.spec.task_id, a.spec.number) for t, a in self._attempts.items()}
        found |= {t: Running(t, s.task_id, s.number) for t, s in self._waiting.items()}
        found |= {t: Running(t, r.task_id, r.number, r) for t, r in self._finished.items()}
        return found

    def start(self, attempts: Sequence[StartAttempt], slots: int) -> None:
        """Run these when there is room."""
        if self.is_dead:
            return
        self._slots = slots
        for spec in attempts:
            known = spec.token in self._attempts or spec.token in self._finished
            if not known:
                self._waiting[spec.token] = spec
        self._start_waiting()

    def stop(self, token: int, reason: str) -> None:
        """End one."""
        waiting = self._waiting.pop(token, None)
        attempt = self._attempts.get(token)
        if waiting is not None:
            self._finish(waiting, "cancelled", reason)
        elif attempt is not None:
            self._signal(attempt, "cancelled", reason, attempt.spec.spec.grace_ms / 1000)

    def renew(self, granted_at: float, lease_seconds: float) -> None:
        """Leases are counted from then on, by this machine's monotonic clock."""
        self._end_leases()
        self._granted_at = max(self._granted_at, granted_at)
        self._lease_seconds = lease_seconds
        self._watch()

    def _lease_until(self, spec: StartAttempt) -> float:
        return self._granted_at + self._length(spec)

    def _length(self, spec: StartAttempt) -> float:
        return spec.lease_ms / 1000 if spec.lease_ms else self._lease_seconds

    def forget(self, tokens: Sequence[int]) -> None:
        """The state has answered their reports."""
        for token in tokens:
            self._finished.pop(token, None)

    def die(self) -> None:
        """The machine is off, or the runner was killed with all it ran."""
        self.is_dead = True
        self.connection = None
        for attempt in self._attempts.values():
            if attempt.end is not None:
                self._world.cancel(attempt.end)
            self._span(attempt, succeeded=False)
        self._attempts.clear()
        self._waiting.clear()
        if self._lease_timer is not None:
            self._world.cancel(self._lease_timer)

    @property
    def is_idle(self) -> bool:
        """Nothing runs or waits here."""
        return not self._attempts and not self._waiting

    def open_spans(self) -> list[Span]:
        """What runs now."""
        return [
            Span(a.spec.task_id, a.spec.number, token, self._node, a.began, None, False)
            for token, a in self._attempts.items()
        ]

    # Attempts ------------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        while self._waiting and len(self._attempts) < self._slots:
            spec = self._waiting.pop(next(iter(self._waiting)))
            over = self._clock.monotonic() >= self._lease_until(spec) - self._early(spec)
            if over:
                self._finish(spec, "lost", "lease-expired")
                continue
            run = self._script(spec)
            attempt = self._attempts[spec.token] = _Attempt(spec, run, self._world.time)
            attempt.end = self._world.after(run.seconds, self._ended, attempt)
            self._report(AttemptReport(spec.token, spec.task_id, spec.number, "started"))
            self._watch()

    def _early(self, spec: StartAttempt) -> float:
        return min(spec.spec.grace_ms / 1000, self._length(spec) / 4) + KILL_MARGIN_SECONDS

    def _signal(self, attempt: _Attempt, status: str, reason: str, grace: float) -> None:
        now, grace = self._world.time, max(grace, 0.0)
        if not attempt.is_signalled:
            # The first reason stays.
            attempt.is_signalled, attempt.status, attempt.reason = True, status, reason
            attempt.kill_at = now + grace
            over = attempt.kill_at if attempt.run.ignores_sigterm else now + SIGNAL_SECONDS
        elif attempt.run.ignores_sigterm and now + grace < attempt.kill_at:
            over = attempt.kill_at = now + grace
        else:
            return
        if attempt.end is not None:
            self._world.cancel(attempt.end)
        attempt.end = self._world.at(over, self._ended, attempt)

    def _ended(self, attempt: _Attempt) -> None:
        spec, code = attempt.spec, attempt.run.exit_code
        del self._attempts[spec.token]
        status = attempt.status or ("failed" if code else "succeeded")
        self._span(attempt, succeeded=status == "succeeded")
        reason = attempt.reason or (f"exit-code-{code}" if code else "")
        run_ms = int((self._world.time - attempt.began) * 1000)
        self._finish(spec, status, reason, run_ms, None if attempt.status else code, attempt.run)
        self._start_waiting()

    def _finish(
        self,
        spec: StartAttempt,
        status: str,
        reason: str,
        run_ms: int = 0,
        exit_code: int | None = None,
        run: Run | None = None,
    ) -> None:
        output = run.output if run is not None else b""
        report = self._finished[spec.token] = AttemptReport(
            spec.token, spec.task_id, spec.number, "finished", status, run_ms, exit_code,
            reason=reason, output_tail=output[-2048:], output_bytes=len(output),
        )  # fmt: skip
        self._report(report)

    def _report(self, report: AttemptReport) -> None:
        if self.connection is not None:
            self.connection.news(report)

    def _span(self, attempt: _Attempt, *, succeeded: bool) -> None:
        spec, now = attempt.spec, self._world.time
        self._spans.append(
            Span(spec.task_id, spec.number, spec.token, self._node, attempt.began, now, succeeded)
        )

    def _watch(self) -> None:
        """Look at the leases when the first of them has to be given up."""
        if self._lease_timer is not None:
            self._world.cancel(self._lease_timer)
            self._lease_timer = None
        if self.is_dead:
            return
        ends = [
            self._lease_until(a.spec) - self._early(a.spec)
            for a in self._attempts.values()
            if not (a.spec.is_kept or a.is_last_call)
        ]
        ends += [self._lease_until(spec) for spec in self._waiting.values()]
        if ends:
            at = max(self._clock.when(min(ends)), self._world.time + LOOK_SECONDS)
            self._lease_timer = self._world.at(at, self._look)

    def _look(self) -> None:
        self._lease_timer = None
        self._end_leases()
        self._watch()

    def _end_leases(self) -> None:
        """End what has no lease any more."""
        now = self._clock.monotonic()
        for attempt in list(self._attempts.values()):
            left = self._lease_until(attempt.spec) - now
            if left <= self._early(attempt.spec) + 0.01 and not attempt.spec.is_kept:
                attempt.is_last_call = True
                self._signal(attempt, "lost", "lease-expired", left - KILL_MARGIN_SECONDS)
        for token, spec in list(self._waiting.items()):
            if now >= self._lease_until(spec):
                del self._waiting[token]
                self._finish(spec, "lost", "lease-expired")


class Connection:
    """A peer's end of its runner.  Implements ``peer.host.Runner``."""

    def __init__(self, runner: SimulatedRunner, loop: PeerLoop, *, adopted: bool) -> None:
        self._runner = runner
        self._loop = loop
        self.on_reports: Callable[[list[AttemptReport]], None] = lambda reports: None
        self.on_lost: Callable[[], object] = lambda: None
        self.adopted = adopted
        self.clean = True
        self.incarnation = runner.incarnation
        self.inventory = runner.inventory()
        self._news: list[AttemptReport] = []
        runner.connection = self

    def news(self, report: AttemptReport) -> None:
        """The runner tells of an attempt; it is heard a moment later, with others."""
        if not self._news:
            self._loop.world.after(0.001, self._loop.call_soon, self._hear)
        self._news.append(report)

    def _hear(self) -> None:
        news, self._news = self._news, []
        if self._runner.connection is self:
            self.on_reports(news)

    def lost(self) -> None:
        """The runner ended."""
        self._loop.call_soon(lambda: self.on_lost())

    def start(self, attempts: Sequence[StartAttempt], slots: int) -> None:
        self._runner.start(attempts, slots)

    def serve_apps(
        self,
        generation: str,
        applications: Sequence[str],
        workers: int,
        home: tuple[str, str] = ("", ""),
    ) -> None:
        """Scripts stand for programs and functions alike."""

    def stop(self, token: int, reason: str) -> None:
        self._runner.stop(token, reason)

    def configure(self, *, http_private: bool, http_metadata: bool, cgroup: str) -> None:
        """Scripts have neither networks nor processes."""

    def renew(self, granted_at: float, lease_seconds: float) -> None:
        self._runner.renew(granted_at, lease_seconds)

    def forget(self, tokens: Sequence[int]) -> None:
        self._runner.forget(tokens)

    async def watch(self, patience_seconds: float) -> None:
        """A simulated runner does not hang."""
        await asyncio.get_running_loop().create_future()

    async def close(self, *, stop_runner: bool) -> None:
        if self._runner.connection is self:
            self._runner.connection = None
        if stop_runner and self._runner.is_idle:
            self._runner.die()
