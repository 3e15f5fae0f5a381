"""Line charts as SVG, for a page: drawn in Python, so that they are there without a script and on paper too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from minigan.pictures import running_mean

__all__ = ["key", "line_chart", "spread"]

WIDTH, HEIGHT = 360, 220  # of the whole, about that many pixels on a phone
LEFT, TOP, RIGHT, BOTTOM = 42, 10, 10, 26  # margins, for the ticks
POINTS = 500  # of a curve, at most: there are not more pixels


def line_chart(
    steps: Sequence[int], curves: Mapping[str, Sequence[float]], said: str, top: float, middle: float | None = None
) -> str:
    """The curves over the steps, from 0 up to `top`; what is above leaves the frame.

    curves: label -> a value for each step; the first is solid, the second dashed. Thin lines are the values, bold ones
    their `running_mean`. said: what a screen reader says of the chart. middle: a height to mark.
    """
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    last = max(1, steps[-1])
    chosen = spread(len(steps), POINTS)
    xs = np.array(steps, float)[chosen] * width / last
    lines = []
    if middle is not None:
        y = height * (1 - middle / top)
        lines.append(f'<path class="middle" d="M0 {y:.1f}H{width}"/>')
    for number, values in enumerate(curves.values()):
        values = np.array(values, float)
        for kind, heights in (("raw", values), ("mean", running_mean(values))):
            # One point by itself is no line, and lies at the frame: it is drawn with what would lead to it.
            points = (f"{x:.1f} {height * (1 - y / top):.1f}" for x, y in zip(xs, heights[chosen], strict=True))
            lines.append(f'<path class="{kind} curve-{number}" d="M{"L".join(points)}{"h-8" * (len(xs) == 1)}"/>')
    lines.append(f'<path class="now" data-last="{last}" d="M0 0V{height}" transform="translate({width})"/>')

    ticks = []
    for value in _ticks(top, 5):
        y = TOP + height * (1 - value / top)
        ticks.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{width}"/>')
        ticks.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>')
    for value in _ticks(last, 3):
        x = LEFT + width * value / last
        ticks.append(f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{value:,g}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">{"".join(ticks)}'
        f'<svg x="{LEFT}" y="{TOP}" width="{width}" height="{height}" class="plot">{"".join(lines)}</svg></svg>'
    )


def key(labels: Sequence[str]) -> str:
    """What each curve of a chart is, beside a piece of it."""
    piece = '<svg viewBox="0 0 30 8" aria-hidden="true"><path class="mean curve-{}" d="M0 4H30"/></svg>'
    return "".join(f'<span class="key">{piece.format(i)}{escape(label)}</span>' for i, label in enumerate(labels))


def spread(count: int, most: int) -> np.ndarray:
    """At most so many of `count` indices, evenly, the first and the last among them."""
    return np.unique(np.rint(np.linspace(0, count - 1, min(count, most))).astype(int))


def _ticks(top: float, about: int) -> list[float]:
    """Round numbers from 0 to at most `top`, about so many steps apart."""
    rough = top / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough)
    return [i * step for i in range(math.floor(top / step + 1e-9) + 1)]
