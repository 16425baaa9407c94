"""Of G5: when the programs of a schedule ran, and beside which others."""

from __future__ import annotations

from jepsen_like.ahead import Ahead
from jepsen_like.attempts import Attempt
from jepsen_like.checker.verdict import Findings
from jepsen_like.disturbed import Disturbed, closed_of, faults_of
from jepsen_like.evidence import Evidence
from jepsen_like.freezes import counted_attempts
from jepsen_like.sights import Due, Sight

#: A run starts within this of its instant, jitter aside, or of the end of what was in its way;
#: where nodes have other tasks as well, which may be before it, within more.
LATE_MS_MAX, BUSY_MS_MAX = 10_000, 30_000
#: Of several stretches without a fault, of which each begins with getting ready, it may take more.
CALM_SHARE = 1.5
#: After the heal runs are waited for at least so long, if they do not come before.
WAITED_NS = 60_000_000_000


class Judge:
    """Looks at the runs of one schedule after another."""

    def __init__(self, evidence: Evidence, findings: Findings) -> None:
        self._run = evidence.run
        self._findings = findings
        self._ahead = Ahead(evidence) if evidence.run.clock is not None else None
        stretches = [*faults_of(evidence), *closed_of(evidence)]
        self._most_ms = LATE_MS_MAX if evidence.run.workload == "schedules" else BUSY_MS_MAX
        self._disturbed = Disturbed(stretches, self._most_ms * 1_000_000)
        self._counted = counted_attempts(evidence)
        healed = evidence.run.phase("healed")
        ends = [call.ended_at or call.invoked_at for call in evidence.calls]
        self._last = healed.to + WAITED_NS if healed else max(ends, default=0)
        #: Of every run, ms.
        self.lateness: list[float] = []

    def runs(self, seen: Sight, runs: list[Attempt], due: Due | None) -> None:
        """Twice, of no slot, early and late; ``runs``: the first attempt of every task."""
        by_slot: dict[int, Attempt] = {}
        for run in sorted(runs, key=lambda run: run.from_at):
            assert run.slot is not None
            other = by_slot.setdefault(run.slot, run)
            if other.task != run.task and len(seen.tasks.get(run.slot, ())) == 0:
                self._findings.broken(
                    f"duplicate: slot {run.slot} of {seen.name} was run by {other.task} "
                    f"and {run.task}",
                    [other.from_at, run.from_at],
                    [seen.name, other.task, run.task],
                    [other, run],
                )
            self._phantom(seen, run, run.slot, due)
            self._when(seen, run, run.slot)

    def _phantom(self, seen: Sight, run: Attempt, slot: int, due: Due | None) -> None:
        row = seen.rows.get(slot)
        if row is not None and slot not in seen.tasks:
            self._findings.broken(
                f"phantom: {run.task} ran slot {slot} of {seen.name}, whose row has no task",
                [run.from_at],
                [seen.name, run.task],
                [row, run],
            )
        elif row is None and due is not None and due.has_not(slot):
            self._findings.broken(
                f"phantom: {run.task} ran slot {slot} of {seen.name}, when it is not due",
                [run.from_at],
                [seen.name, run.task],
                [run],
            )

    def _when(self, seen: Sight, run: Attempt, slot: int) -> None:
        started = self._run.unix_ms(run.from_at)
        if started is None or self._ahead is None:
            return
        late = started - slot
        self.lateness.append(float(max(0, late)))
        if slot > self._ahead.latest_ms(run.from_at):
            self._findings.broken(
                f"early: {run.task} ran slot {slot} of {seen.name} {-late} ms before it",
                [run.from_at],
                [seen.name, run.task],
                [run],
            )
        if self._run.is_attached:
            return  # Of what its owner broke meanwhile nothing is known.
        jitter = int(seen.document.get("jitter_ms") or 0)
        due_at = run.from_at - (late - jitter) * 1_000_000
        # Attempts before it that left no sign had their leases.
        leases = round((run.number - 1) * self._run.lease_seconds * 1e9)
        deadline = self._disturbed.deadline(due_at) + leases
        # One that lies behind all that anybody waited for accuses nobody.
        self._findings.saw("runs_judged_for_lateness", int(deadline <= self._last))
        over = (run.from_at - deadline) // 1_000_000 + self._most_ms
        calm = (self._disturbed.calm(due_at, run.from_at) - leases) // 1_000_000
        says = ""
        if run.from_at > deadline:
            says = f"and {over} ms after anything was in its way"
        elif calm > self._most_ms * CALM_SHARE:
            says = f"though for {calm} ms of them nothing was in its way"
        if says:
            self._findings.broken(
                f"late: {run.task} ran slot {slot} of {seen.name} {late} ms after it, {says}",
                [run.from_at],
                [seen.name, run.task],
                [run],
            )

    def overlaps(self, seen: Sight, tasks: set[str]) -> None:
        """Two runs at once, of a schedule whose document forbids it."""
        if seen.document.get("overlap", "allow") == "allow":
            return
        runs = [run for task in tasks for run in self._counted.get(task, ())]
        self._findings.saw("runs_that_may_not_overlap", len(runs))
        longest: Attempt | None = None
        for run in sorted(runs, key=lambda run: (run.from_at, run.to_at)):
            if longest is not None and run.from_at < longest.to_at and run.task != longest.task:
                self._findings.broken(
                    f"overlap: {longest.task} on {longest.node} still ran when {run.task} began "
                    f"on {run.node}, and overlap of {seen.name} is {seen.document['overlap']}",
                    [longest.from_at, run.from_at],
                    [seen.name, longest.task, run.task],
                    [longest, run],
                )
            longest = run if longest is None or run.to_at > longest.to_at else longest
