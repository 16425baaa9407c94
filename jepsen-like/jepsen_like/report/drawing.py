"""SVG of things in time.

A drawing is stretched to whatever width the page has, so it holds shapes only; words stand beside
it in HTML.  All drawings of a page share one scale, which lets the page zoom them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

#: Width of every drawing in its own units.
WIDTH = 100_000
#: Nothing is narrower than this, so that it can be seen.
WIDTH_MIN = 60


class Scale:
    """Instants (ns) to places from left to right."""

    def __init__(self, from_at: int, to_at: int) -> None:
        self.from_at = from_at
        self.to_at = max(to_at, from_at + 1)

    def x(self, at: int) -> int:
        at = min(max(at, self.from_at), self.to_at)
        return (at - self.from_at) * WIDTH // (self.to_at - self.from_at)

    def seconds(self, at: int) -> float:
        """Since the beginning, as people read it."""
        return round((at - self.from_at) / 1e9, 3)


def bar(
    scale: Scale,
    from_at: int,
    to_at: int,
    kind: str,
    title: str = "",
    top: int = 0,
    height: int = 10,
) -> str:
    """A rectangle over a stretch of time; ``title`` is shown when it is pointed at."""
    left = scale.x(from_at)
    width = max(WIDTH_MIN, scale.x(to_at) - left)
    told = f"<title>{escape(title)}</title>" if title else ""
    shape = f'<rect class="{escape(kind)}" x="{left}" y="{top}" width="{width}" height="{height}"'
    return f"{shape}>{told}</rect>" if told else f"{shape}/>"


def many(
    scale: Scale, stretches: Iterable[tuple[int, int]], kind: str, top: int = 0, height: int = 10
) -> str:
    """Rectangles that need no words of their own, as one shape."""
    steps = []
    for from_at, to_at in stretches:
        left = scale.x(from_at)
        width = max(WIDTH_MIN, scale.x(to_at) - left)
        steps.append(f"M{left} {top}h{width}v{height}h-{width}z")
    return f'<path class="{escape(kind)}" d="{"".join(steps)}"/>' if steps else ""


def line(points: Iterable[tuple[int, float]], kind: str) -> str:
    """A line through places that are given in the drawing's own units."""
    told = " ".join(f"{x},{y:.1f}" for x, y in points)
    return f'<polyline class="{escape(kind)}" points="{told}"/>' if told else ""


def area(points: list[tuple[int, float]], floor: float, kind: str) -> str:
    """The same, filled down to a floor."""
    if not points:
        return ""
    told = " ".join(f"{x},{y:.1f}" for x, y in points)
    ends = f"{points[-1][0]},{floor} {points[0][0]},{floor}"
    return f'<polygon class="{escape(kind)}" points="{told} {ends}"/>'


def drawing(shapes: Iterable[str], height: int, label: str) -> str:
    """An SVG element of all the width there is; ``label`` is for those who do not see it."""
    return (
        f'<svg class="time" viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" '
        f'style="height:{height}px" role="img" aria-label="{escape(label)}">'
        f"{''.join(shapes)}</svg>"
    )


def row(label: str, picture: str, scale_words: str = "") -> str:
    """A label and the drawing it belongs to."""
    words = f'<span class="scale">{scale_words}</span>' if scale_words else ""
    told = f'<div class="label" title="{escape(label)}">{escape(label)}</div>'
    return f'<div class="row">{told}<div class="plot">{picture}{words}</div></div>'
