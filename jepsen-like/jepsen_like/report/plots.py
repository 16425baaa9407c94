"""Plots over time: how much succeeded, how long it took, how many attempts ran."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from jepsen_like.attempts import attempts
from jepsen_like.availability import READS
from jepsen_like.evidence import Evidence
from jepsen_like.history import Call
from jepsen_like.report.drawing import WIDTH, Scale, area, bar, drawing, line, row
from jepsen_like.spans import Span
from jepsen_like.statistics import percentile

#: Stretches that a plot is divided into.
BINS = 200
HEIGHT = 96
#: Latencies are drawn between these, on a logarithmic scale.
MS_MIN = 0.1
MS_MAX = 100_000.0


class Bins:
    """Equal stretches of the run."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self.seconds = (scale.to_at - scale.from_at) / 1e9 / BINS

    def place(self, at: int) -> int:
        return min(BINS - 1, self._scale.x(at) * BINS // WIDTH)

    @staticmethod
    def x(place: float) -> int:
        return round(place * WIDTH / BINS)


def bands(faults: Iterable[Span], scale: Scale, height: int) -> list[str]:
    """Faults behind a plot."""
    return [
        bar(scale, span.from_at, span.to_at, "band", f"{span.fault} of {', '.join(span.targets)}",
            height=height)
        for span in faults
    ]  # fmt: skip


def rate_plot(evidence: Evidence, faults: list[Span], scale: Scale) -> str:
    """Calls that ended in each stretch, one on top of the other; open ones where they began."""
    bins = Bins(scale)
    kinds: dict[str, Callable[[Call], bool]] = {
        "ok-write": lambda call: call.is_ok and call.f not in READS,
        "ok-read": lambda call: call.is_ok and call.f in READS,
        "fail": lambda call: call.outcome == "fail",
        "info": lambda call: call.outcome == "info",
    }
    counts = {kind: [0] * BINS for kind in kinds}
    for call in evidence.calls:
        place = bins.place(call.ended_at if call.ended_at is not None else call.invoked_at)
        kind = next(kind for kind, is_kind in kinds.items() if is_kind(call))
        counts[kind][place] += 1
    highest = max((sum(column) for column in zip(*counts.values(), strict=True)), default=0) or 1
    shapes = bands(faults, scale, HEIGHT)
    floor = [0] * BINS
    for kind, values in counts.items():
        steps = []
        for place, value in enumerate(values):
            if value:
                top = HEIGHT - (floor[place] + value) * HEIGHT / highest
                left, width = bins.x(place), bins.x(place + 1) - bins.x(place)
                steps.append(f"M{left} {top:.1f}h{width}v{value * HEIGHT / highest:.1f}h-{width}z")
            floor[place] += value
        if steps:
            shapes.append(f'<path class="{kind}" d="{"".join(steps)}"/>')
    words = f"{highest / bins.seconds:.0f}/s"
    return row("calls a second", drawing(shapes, HEIGHT, "rate of calls"), words)


def latency_plot(evidence: Evidence, faults: list[Span], scale: Scale, name: str) -> str:
    """Median, 99th percentile and slowest of what succeeded: ``write``, ``read`` or ``local``."""
    bins = Bins(scale)
    took: list[list[float]] = [[] for _ in range(BINS)]
    for call in evidence.calls:
        if call.is_ok and call.ended_at is not None and _kind(call) == name:
            took[bins.place(call.invoked_at)].append((call.ended_at - call.invoked_at) / 1e6)
    if not any(took):
        return ""
    for values in took:
        values.sort()
    shapes = bands(faults, scale, HEIGHT)
    shapes += [
        f'<line class="grid" x1="0" x2="{WIDTH}" y1="{_y(ms):.1f}" y2="{_y(ms):.1f}"/>'
        for ms in (1, 10, 100, 1_000, 10_000)
    ]
    for share, kind in ((1.0, "slowest"), (0.99, "p99"), (0.5, "p50")):
        for points in _unbroken(took, share, bins):
            shapes.append(line(points, kind))
    ticks = "".join(
        f'<i style="top:{100 * _y(ms) / HEIGHT:.0f}%">{told}</i>'
        for ms, told in ((1, "1 ms"), (100, "100 ms"), (10_000, "10 s"))
    )
    return row(f"latency, {name}", drawing(shapes, HEIGHT, f"latency of {name}"), ticks)


def _unbroken(
    took: list[list[float]], share: float, bins: Bins
) -> Iterator[list[tuple[int, float]]]:
    """A line for each stretch in which something succeeded: nothing is drawn where nothing did."""
    points: list[tuple[int, float]] = []
    for place, values in enumerate([*took, []]):
        if values:
            y = _y(percentile(values, share))
            # From edge to edge, so that a bin by itself is seen.
            points += [(bins.x(place), y), (bins.x(place + 1), y)]
        elif points:
            yield points
            points = []


def _kind(call: Call) -> str:
    if call.f not in READS:
        return "write"
    return "local" if call.value.get("consistency") == "local" else "read"


def _y(ms: float) -> float:
    """Higher is slower, by powers of ten."""
    share = math.log10(min(max(ms, MS_MIN), MS_MAX) / MS_MIN) / math.log10(MS_MAX / MS_MIN)
    return HEIGHT * (1 - share)


def attempts_plot(evidence: Evidence, faults: list[Span], scale: Scale) -> str:
    """The most attempts that ran at once in each stretch."""
    bins = Bins(scale)
    moves = []
    for runs in attempts(evidence.effects).values():
        for run in runs:
            moves += [(run.from_at, 1), (run.to_at, -1)]
    if not moves:
        return ""
    most = [0] * BINS
    running, place = 0, 0
    for at, change in sorted(moves):
        for later in range(place, bins.place(at) + 1):
            most[later] = max(most[later], running)
        running += change
        place = bins.place(at)
        most[place] = max(most[place], running)
    highest = max(most)
    points = [(bins.x(k + 0.5), HEIGHT - n * HEIGHT / highest) for k, n in enumerate(most)]
    shapes = [*bands(faults, scale, HEIGHT), area(points, HEIGHT, "density")]
    picture = drawing(shapes, HEIGHT, "attempts at once")
    return row("attempts at once", picture, f"{highest}")
