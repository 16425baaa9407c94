"""From the runner's news to the replicated state, in batches, until the state has answered.

The runner keeps each end until it is told to forget it, so nothing is lost with this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from raftsched.core.commands import (
    AnyCommand,
    AttemptFinished,
    AttemptProgress,
    AttemptStarted,
    ReportAttempts,
)
from raftsched.core.model import REASON_MAX
from raftsched.core.outcomes import Outcome
from raftsched.executor.messages import AttemptReport
from raftsched.peer.errors import PeerError

logger = logging.getLogger(__name__)

#: Reports in one command.
REPORTS_MAX = 1_000
#: Bytes of results and output in one command, about; a single report may have more.
REPORTS_BYTES = 512 * 1024
#: Reports that could not be delivered are tried again after this.
RETRY_SECONDS = 0.2
#: A run shorter than this reports its start and its end together.
START_REPORT_DELAY_SECONDS = 0.05
#: Ends are gathered for so long while the node has more to do at once; then an entry of the log,
#: whose cost hardly depends on what is in it, carries many of them.
GATHER_SECONDS = 0.05
#: But not more than this many, and it is looked this often whether the node has run dry.
GATHER_MAX = 256
GATHER_LOOK_SECONDS = 0.005

Propose = Callable[[AnyCommand, float], Awaitable[Outcome]]


class Reports:
    """What is not yet in the state, by token."""

    def __init__(
        self,
        propose: Propose,
        on_answered: Callable[[list[int]], None],
        has_more: Callable[[], bool],
    ) -> None:
        self._propose = propose
        #: Has the node attempts at hand to start when others end?
        self._has_more = has_more
        #: Called with the tokens whose end the state has taken, or refused as stale.
        self._on_answered = on_answered
        self._started: dict[int, AttemptReport] = {}
        self._finished: dict[int, AttemptReport] = {}
        #: The latest of each attempt.
        self._progress: dict[int, AttemptReport] = {}
        self._wake = asyncio.Event()

    @property
    def unanswered(self) -> int:
        """Ends that the state does not know yet."""
        return len(self._finished)

    def clear(self) -> None:
        """Another runner: forget the news of the earlier one."""
        self._started.clear()
        self._finished.clear()
        self._progress.clear()

    def add(self, report: AttemptReport) -> None:
        """News of an attempt."""
        if report.phase == "started":
            self._started[report.token] = report
        elif report.phase == "progress":
            if report.token not in self._finished:
                self._progress[report.token] = report
        else:
            self._started.pop(report.token, None)
            self._progress.pop(report.token, None)
            self._finished[report.token] = report
        self._wake.set()

    def forget(self, token: int) -> None:
        """The state has no use for this end any more."""
        self._finished.pop(token, None)

    async def run(self, node_id: str, incarnation: str, registered: asyncio.Event) -> None:
        """Deliver until cancelled."""
        while True:
            await registered.wait()
            await self._wake.wait()
            self._wake.clear()
            try:
                while self._finished or self._started or self._progress:
                    await self._wait_for_ends()
                    await self._gather()
                    await self._deliver(node_id, incarnation)
            except PeerError as error:
                logger.debug("reports wait: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _wait_for_ends(self) -> None:
        """A short run ends before its start is worth a round of the log: a moment, no longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_REPORT_DELAY_SECONDS):
                while not self._finished:
                    await self._wake.wait()
                    self._wake.clear()

    async def _gather(self) -> None:
        """Nobody waits for a slot here, so nobody waits for these ends to be known at once."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GATHER_SECONDS
        while self._has_more() and len(self._finished) < GATHER_MAX and loop.time() < until:
            await asyncio.sleep(GATHER_LOOK_SECONDS)

    async def _deliver(self, node_id: str, incarnation: str) -> None:
        started = _first(self._started)
        finished = _within_bytes(_first(self._finished))
        progress = _first(self._progress)
        command = ReportAttempts(
            node_id=node_id,
            incarnation=incarnation,
            started=tuple([AttemptStarted(r.task_id, r.token) for r in started]),
            finished=tuple([_finished(r) for r in finished]),
            progress=tuple(
                [AttemptProgress(r.task_id, r.token, r.permille, r.text) for r in progress]
            ),
        )
        for report in started:
            del self._started[report.token]
        for report in progress:  # If it gets lost, the next one says more.
            del self._progress[report.token]
        try:
            await self._propose(command, 10.0)
        except PeerError:
            for report in started:
                if report.token not in self._finished:
                    self._started[report.token] = report
            raise
        # Taken or refused as stale: either way the state has answered.
        tokens = [report.token for report in finished]
        for token in tokens:
            self._finished.pop(token, None)
        if tokens:
            self._on_answered(tokens)


def _first(reports: dict[int, AttemptReport]) -> list[AttemptReport]:
    found = list(reports.values())
    return found[:REPORTS_MAX]


def _within_bytes(reports: list[AttemptReport]) -> list[AttemptReport]:
    """As many of the first as fit into one command, and one in any case."""
    size = 0
    for number, report in enumerate(reports):
        size += len(report.result) + len(report.output_tail)
        if size > REPORTS_BYTES and number:
            return reports[:number]
    return reports


def _finished(report: AttemptReport) -> AttemptFinished:
    return AttemptFinished(
        report.task_id,
        report.token,
        report.status,
        report.run_ms,
        report.exit_code,
        report.signal,
        report.reason[:REASON_MAX],
        report.output_tail,
        report.output_bytes,
        report.result,
        report.result_bytes,
    )
