"""Lanes: faults, leaders, peers, clients, and the attempts of the tasks that are worth seeing."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from jepsen_like.attempts import Attempt, attempts
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call, Sample
from jepsen_like.reigns import reigns
from jepsen_like.report.drawing import Scale, bar, drawing, many, row
from jepsen_like.results import Results
from jepsen_like.spans import Span, spans

#: Tasks that get a lane of their own; the others are in the plot of attempts.
TASKS_SHOWN = 40
ATTEMPTS_SHOWN = 30
#: Lanes that clients share.
CLIENT_LANES = 16
#: Calls that can be pointed at; the others are drawn without words.
CALLS_TOLD = 1_500
#: A call this slow is worth words.
SLOW_NS = 1_000_000_000
#: A peer is drawn as it was seen until it is seen again, or this long.
SAMPLE_NS_MAX = 3_000_000_000


def fault_lanes(evidence: Evidence, scale: Scale) -> str:
    """One lane for each kind of fault; what no probe saw is hatched."""
    by_fault: dict[str, list[Span]] = {}
    for span in spans(evidence.faults):
        by_fault.setdefault(span.fault, []).append(span)
    lanes = []
    for name, of_name in sorted(by_fault.items()):
        shapes = [
            bar(
                scale,
                span.from_at,
                span.to_at,
                "fault" if span.verified else "fault unseen",
                f"{name} of {', '.join(span.targets) or 'all'}, "
                f"{scale.seconds(span.from_at)} s to "
                f"{scale.seconds(min(span.to_at, scale.to_at))} s"
                + ("" if span.verified else "; no probe saw it")
                + (f"; {span.detail}" if span.detail else ""),
            )
            for span in of_name
        ]
        lanes.append(row(name, drawing(shapes, 12, f"{name}: {len(of_name)} times")))
    for name in sorted({event.fault for event in evidence.faults if event.event == "skip"}):
        lanes.append(row(name, '<span class="note">not possible on this machine</span>'))
    return "".join(lanes)


def leader_lane(evidence: Evidence, scale: Scale) -> str:
    """Who led, as peers said of themselves."""
    shapes = [
        bar(
            scale,
            reign.from_at,
            reign.to_at,
            _of_peer(evidence, reign.peer),
            f"{reign.peer} leads term {reign.term}, {scale.seconds(reign.from_at)} s to "
            f"{scale.seconds(reign.to_at)} s",
            height=14,
        )
        for reign in reigns(evidence.samples)
    ]
    return row("leader", drawing(shapes, 14, "who led")) if shapes else ""


def peer_lanes(evidence: Evidence, scale: Scale) -> str:
    """Each peer as it was found: leads, ready, there but not ready, away."""
    by_peer: dict[str, list[Sample]] = {peer: [] for peer in evidence.run.peers}
    for sample in evidence.samples:
        by_peer.setdefault(sample.peer, []).append(sample)
    lanes = []
    for peer, samples in sorted(by_peer.items()):
        kinds: dict[str, list[tuple[int, int]]] = {}
        for place, sample in enumerate(samples):
            after = samples[place + 1].at if place + 1 < len(samples) else sample.at
            until = min(after, sample.at + SAMPLE_NS_MAX)
            _join(kinds.setdefault(_kind(sample), []), sample.at, until)
        shapes = [many(scale, stretches, kind) for kind, stretches in sorted(kinds.items())]
        lanes.append(row(peer, drawing(shapes, 10, f"peer {peer}")))
    return "".join(lanes)


def _kind(sample: Sample) -> str:
    if not sample.reachable:
        return "away"
    if sample.role == "leader":
        return "leads"
    return "ready" if sample.ready else "unready"


def _join(stretches: list[tuple[int, int]], from_at: int, to_at: int) -> None:
    """Add a stretch, as one with the last when they touch."""
    if stretches and stretches[-1][1] >= from_at:
        stretches[-1] = (stretches[-1][0], to_at)
    else:
        stretches.append((from_at, to_at))


def client_lanes(evidence: Evidence, scale: Scale) -> str:
    """What clients did, packed into few lanes: what failed, is open or was slow can be read."""
    lanes: list[list[Call]] = []
    # (free from, lane): the lane that has been free for longest.
    free: list[tuple[int, int]] = []
    for call in evidence.calls:
        until = scale.to_at if call.ended_at is None else call.ended_at
        if call.ended_at is None:
            # An open call would take its lane for ever: only its beginning is drawn.
            until = call.invoked_at
        if free and (free[0][0] <= call.invoked_at or len(lanes) == CLIENT_LANES):
            _, lane = heapq.heappop(free)
        else:
            lane = len(lanes)
            lanes.append([])
        lanes[lane].append(call)
        heapq.heappush(free, (until, lane))
    left = CALLS_TOLD
    drawn = []
    for number, calls in enumerate(lanes):
        told = [call for call in calls if _is_worth_words(call)][:left]
        left -= len(told)
        named = {call.n for call in told}
        plain: dict[str, list[tuple[int, int]]] = {}
        for call in calls:
            if call.n not in named:
                stretch = (call.invoked_at, call.ended_at or call.invoked_at)
                plain.setdefault(call.outcome, []).append(stretch)
        shapes = [many(scale, stretches, kind) for kind, stretches in sorted(plain.items())]
        shapes += [
            bar(scale, c.invoked_at, c.ended_at or c.invoked_at, c.outcome, _told(c, scale))
            for c in told
        ]
        drawn.append(row(f"client {number + 1}", drawing(shapes, 10, f"{len(calls)} calls")))
    return "".join(drawn)


def _is_worth_words(call: Call) -> bool:
    return not call.is_ok or (call.ended_at or 0) - call.invoked_at > SLOW_NS


def _told(call: Call, scale: Scale) -> str:
    ended = "open" if call.ended_at is None else f"{scale.seconds(call.ended_at)} s"
    why = f", {call.error}" if call.error else ""
    begun = scale.seconds(call.invoked_at)
    return f"{call.f} {call.id} at {call.peer}: {call.outcome}, {begun} s to {ended}{why}"


def task_lanes(evidence: Evidence, found: Results, scale: Scale) -> tuple[str, int, int]:
    """Lanes of the tasks worth seeing, how many these are, and of how many."""
    by_task = attempts(evidence.effects)
    chosen = _worth_seeing(by_task, found, spans(evidence.faults))
    accused = {name for v in found.checkers for violation in v.violations for name in violation.ids}
    lanes = []
    for task_id in chosen:
        runs = by_task[task_id]
        shapes = []
        for place, run in enumerate(runs[:ATTEMPTS_SHOWN]):
            # Neighbours take turns, so that an overlap is seen.
            kind = _of_peer(evidence, run.node) + ("" if run.ended_at else " cut")
            shapes.append(
                bar(scale, run.from_at, run.to_at, kind, _run(run, scale), place % 2 * 7, 7)
            )
        name = f"⚠ {task_id}" if task_id in accused else task_id
        lanes.append(row(name, drawing(shapes, 14, f"attempts of {task_id}")))
    return "".join(lanes), len(chosen), len(by_task)


def _run(run: Attempt, scale: Scale) -> str:
    ended = "last sign of life" if run.ended_at is None else f"exit {run.exit}"
    return (
        f"{run.task}, attempt {run.number} on {run.node}, token {run.token}: "
        f"{scale.seconds(run.from_at)} s to {scale.seconds(run.to_at)} s ({ended})"
    )


def _worth_seeing(
    by_task: dict[str, list[Attempt]], found: Results, faults: Iterable[Span]
) -> list[str]:
    """Tasks by how much there is to see: accused, cut off, hit by a fault, several attempts."""
    accused = [name for v in found.checkers for violation in v.violations for name in violation.ids]
    begins = sorted(span.from_at for span in faults)

    def worth(task_id: str) -> tuple[int, int, int, int]:
        runs = by_task[task_id]
        is_cut = any(run.ended_at is None for run in runs)
        is_hit = any(run.from_at <= at <= run.to_at for at in begins for run in runs)
        return (-is_cut, -is_hit, -len(runs), runs[0].from_at)

    first = [name for name in dict.fromkeys(accused) if name in by_task]
    others = sorted(by_task.keys() - set(first), key=worth)
    chosen = [*first, *others][:TASKS_SHOWN]
    return sorted(chosen, key=lambda task_id: (task_id not in first, by_task[task_id][0].from_at))


def _of_peer(evidence: Evidence, peer: str) -> str:
    """The colour of a peer, by its place among them."""
    names = sorted(evidence.run.peers)
    return f"peer{names.index(peer) % 7}" if peer in names else "peer-other"
