"""Of G5: the rows of a schedule, against what was due and what its document lets go."""

from __future__ import annotations

from jepsen_like.ahead import Ahead
from jepsen_like.attempts import Attempt
from jepsen_like.checker.verdict import Findings
from jepsen_like.disturbed import Disturbed, faults_of
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Record
from jepsen_like.sights import Due, Row, Sight

#: Rows a schedule keeps; an answer with as many may not show all.
ROWS_KEPT = 100
#: A slot this much older than an answer has to be in it; once the schedule is paused, this much
#: older than the pause: what is due just around it may be of either side.
SETTLE_MS, PAUSE_MS = 10_000, 2_000
#: What a schedule has whose document does not say it.
MISFIRE, MISFIRE_LIMIT, MISFIRE_WINDOW_MS, OVERLAP = "latest", 10, 3_600_000, "skip"
#: Runs that wait with ``overlap: queue``, from which on slots are passed over.
QUEUED_MAX = 100
#: A slot is late that was not fired within this; a run that ended so long ago is known to have.
LATE_MS = 10_000


def duplicates(seen: Sight, runs: list[Attempt], findings: Findings) -> None:
    """One instant, several tasks."""
    for at, tasks in sorted(seen.tasks.items()):
        ran = {run.task for run in runs if run.slot == at}
        if len(ran | set(tasks)) > 1:
            everyone = sorted(ran | set(tasks))
            findings.broken(
                f"duplicate: slot {at} of {seen.name} has the tasks {', '.join(everyone)}",
                [call.ended_at or 0 for call in tasks.values()],
                [seen.name, *everyone],
                [*tasks.values(), *(run for run in runs if run.slot == at)],
            )


def look(evidence: Evidence, seen: Sight, due: Due, findings: Findings) -> None:
    """Missed, and phantom and early by the rows."""
    ahead = Ahead(evidence)
    for at, call in sorted(seen.rows.items()):
        latest = ahead.latest_ms(call.ended_at or 0)
        if at > latest:
            findings.broken(
                f"early: {seen.name} has a row for {at}, {at - latest} ms before anybody's clock",
                [call.ended_at or 0],
                [seen.name],
                [call],
            )
        elif due.has_not(at):
            findings.broken(
                f"phantom: {seen.name} has a row for {at}, when it is not due",
                [call.ended_at or 0],
                [seen.name],
                [call],
            )
    deciding = _deciding(evidence, seen)
    if not deciding:
        findings.doubt(f"the slots of {seen.name} were not read after the heal")
    for at in sorted(due.instants):
        if seen.is_covered(at):
            findings.saw("slots")
            continue
        witness = next((c for c, low, high in deciding if low <= at <= high), None)
        if witness is None:
            # Too new for the last answer, or pushed out of every one of them.
            findings.saw("slots_out_of_sight")
            continue
        findings.saw("slots")
        findings.broken(
            f"missed: slot {at} of {seen.name} has no row",
            [witness.ended_at or 0],
            [seen.name],
            [record for record in (seen.put, witness) if record is not None],
        )


def _deciding(evidence: Evidence, seen: Sight) -> list[tuple[Call, int, int]]:
    """Answers after the heal, with the instants that each must show."""
    healed = evidence.run.phase("healed")
    since = healed.from_ if healed else 0
    if seen.put is None:
        return []
    # What was due at the put itself may be of either side of it.
    put = Ahead(evidence).latest_ms(seen.put.ended_at or 0)
    found = []
    for call in seen.answers:
        upto = _settled_ms(evidence, seen, call)
        if call.invoked_at < since or upto is None:
            continue
        rows = call.answer.get("slots") or ()
        low = put
        if len(rows) >= ROWS_KEPT:
            low = max(low, min(int(slot["at_ms"]) for slot in rows))
        found.append((call, low, upto))
    return found


def _settled_ms(evidence: Evidence, seen: Sight, call: Call) -> int | None:
    """Up to when an answer has to show all slots; nothing fires behind a pause."""
    pause = seen.pause
    if pause is not None and call.invoked_at >= (pause.ended_at or 0):
        paused = evidence.run.unix_ms(pause.invoked_at)
        return None if paused is None else paused - PAUSE_MS
    asked = evidence.run.unix_ms(call.invoked_at)
    return None if asked is None else asked - SETTLE_MS


# Without a task ----------------------------------------------------------------------------------


def written_off(
    evidence: Evidence, seen: Sight, due: Due, tried: list[list[Attempt]], findings: Findings
) -> None:
    """Rows without a task have a reason that their document gives."""
    excuses = _Excuses(evidence, seen, due, tried)
    for row in seen.idle.values():
        findings.saw("rows_without_a_task")
        says = excuses.what_is_wrong(row)
        if says:
            slots = f"slot {row.at_ms}" + (f" to {row.upto_ms}" if row.upto_ms > row.at_ms else "")
            shown: list[Record] = [*([seen.put] if seen.put else []), row.call]
            findings.broken(
                f"missed: {slots} of {seen.name} is written off ({row.state}, "
                f"{row.reason or 'no reason'}) although {says}",
                [row.call.ended_at or 0],
                [seen.name],
                shown,
            )


class _Excuses:
    """What may keep an instant of one schedule from being run."""

    def __init__(
        self, evidence: Evidence, seen: Sight, due: Due, tried: list[list[Attempt]]
    ) -> None:
        self._run = evidence.run
        self._seen = seen
        self._due = due
        self._ahead = Ahead(evidence)
        self._disturbed = Disturbed(faults_of(evidence), LATE_MS * 1_000_000)
        document = seen.document
        self._misfire = str(document.get("misfire") or MISFIRE)
        self._limit = int(document.get("misfire_limit") or MISFIRE_LIMIT)
        self._window = int(document.get("misfire_window_ms") or MISFIRE_WINDOW_MS)
        self._overlap = str(document.get("overlap") or OVERLAP)
        lease = round(evidence.run.lease_seconds * 1e9)
        #: Slot -> when the last of its attempts was over, ns: one that was killed, once its lease
        #: was.  None: nobody saw any.
        self._over: dict[int, int | None] = dict.fromkeys(seen.tasks)
        for tries in tried:
            if tries[0].slot is not None:
                last = max(tries, key=lambda run: run.token)
                self._over[tries[0].slot] = last.ended_at or last.to_at + lease

    def what_is_wrong(self, row: Row) -> str:
        """Why that row may not be; empty: it may."""
        if row.reason == "paused":
            is_paused = any(c.invoked_at <= (row.call.ended_at or 0) for c in self._seen.pauses)
            return "" if is_paused else "nobody had paused it"
        if row.reason == "overlap":
            return self._why_no_overlap(row)
        if row.reason in ("late", "superseded"):
            return self._why_not_late(row)
        # Whoever started the peers may have bounded what is open.
        is_bounded = row.reason in ("overloaded", "queue-full") and self._run.is_attached
        return "" if is_bounded else "its document gives no such reason"

    def _why_no_overlap(self, row: Row) -> str:
        earlier = [at for at in self._over if at < row.at_ms]
        if self._overlap == "queue":
            return "" if len(earlier) >= QUEUED_MAX else f"fewer than {QUEUED_MAX} were before it"
        if self._overlap != "skip":
            return f"overlap is {self._overlap}"
        at = self._monotonic(row.at_ms)
        if self._run.is_attached or self._disturbed.is_near(at):
            return "" if earlier else "there was none before it"
        # By clocks that leapt it was due while that still ran which is over by the right time.
        still = self._ahead.earliest_ns(row.at_ms) - LATE_MS * 1_000_000
        is_open = any((over := self._over[one]) is None or over >= still for one in earlier)
        return "" if is_open else "none before it was under way"

    def _why_not_late(self, row: Row) -> str:
        now = self._ahead.latest_ms(row.call.ended_at or 0)
        if row.upto_ms <= now - self._window:
            return ""
        if self._misfire == "all":
            behind = sum(row.upto_ms < at <= now for at in self._due.instants)
            if behind >= self._limit:
                return ""
            return f"misfire is all, and {behind} slots were due behind it"
        # Late is what nobody could fire in time: without a majority, or by clocks that leapt.
        due_at = self._monotonic(row.upto_ms), self._ahead.earliest_ns(row.upto_ms)
        could = not self._run.is_attached and not any(map(self._disturbed.is_near, due_at))
        return "nothing was in the way of it" if could else ""

    def _monotonic(self, at_ms: int) -> int:
        clock = self._run.clock
        assert clock is not None, "without one nothing is known to be due"
        return clock.at + (at_ms - clock.unix_ms) * 1_000_000
