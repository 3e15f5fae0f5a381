"""The roofline (Williams, Waterman & Patterson 2009): what bounds an operation, and how near to that it is.

Operations a byte to the right, operations a second upwards. No point can be above the slope, where memory brings the
bytes no faster, nor above the flat part, where nothing multiplies faster; but for convolutions that multiply less than
the direct sum, in whose operations they are measured. Each precision of the products has a flat part of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minigan.errors import UserError

__all__ = ["draw"]

COLOURS = {  # by who computed it, and in which precision where there are several
    "torch": "tab:orange",
    "torch, fp32": "tab:orange",
    "torch, tf32": "tab:red",
    "torch, bf16": "saddlebrown",
    "minigan": "tab:blue",
    "minigan, fp32": "tab:blue",
    "minigan, tf32": "tab:cyan",
    "minigan, bf16": "navy",
}
MARKERS = {"conv2d": "o", "conv2d_transpose": "s", "conv2d_weight_grad": "^"}
OTHERS = "D"  # such a kernel's points are one above another, and its name is below them
SMALL = 1 << 16  # bytes: what moves fewer is not seen, since its time is that of any call
CLOSE = 1.12  # of two places on the axis, the quotient below which they are one
ASIDE = {"minigan": 0.97, "torch": 1.03}  # so that neither hides the other: both belong in the middle
TEXT = {"fontsize": 8, "color": "#444444"}


def draw(report: dict, file: Path) -> None:
    """The picture of a report. Raises UserError where it has nothing to show."""
    points = sorted(set(_points(report["rows"])))
    if not points:
        raise UserError(f"--plot: every call moves less than {SMALL:,} bytes or does not multiply: choose others")
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    for kernel, player, x, y in points:
        style = {"color": COLOURS[player], "markeredgecolor": "white", "markeredgewidth": 0.5}
        aside = ASIDE[player.partition(",")[0]]
        marker = _marker(kernel)
        axes.plot(aside * x, y, marker, markersize=4.5 if marker == OTHERS else 6, **style)
    _ceilings(axes, report["ceilings"], [x for _, _, x, _ in points])
    axes.set_ylim(min(y for *_, y in points) / 20)  # the names stand there
    _names(axes, {(kernel, x) for kernel, _, x, _ in points if _marker(kernel) == OTHERS})
    _legend(axes, {player for _, player, _, _ in points})
    axes.set_xlabel("operations of the direct sum for each byte that must move")
    axes.set_ylabel("GFLOP/s")
    presets = dict.fromkeys(f"{row['preset']}, batch {row['batch_size']}" for row in report["rows"])
    threads = f"{report['threads']} thread{'s' if report['threads'] > 1 else ''}"
    where = report["machine"].get("card", f"{report['machine']['cpu']}, {threads}")
    axes.set_title(f"{where}: every kernel of {' and '.join(presets)}")
    axes.grid(alpha=0.25)
    FigureCanvasAgg(figure).print_png(file)


def _marker(kernel: str) -> str:
    """A convolution's, whether its result's statistics were asked for or not."""
    return MARKERS.get(kernel.removesuffix("_with_statistics"), OTHERS)


def _points(rows: list[dict]) -> Iterator[tuple[str, str, float, float]]:
    """The kernel, who computed it, operations a byte, 10^9 operations a second."""
    for row in rows:
        if row["flop"] and row["bytes"] >= SMALL:
            precision = f", {row['precision']}" if "precision" in row else ""
            for player, way in (("minigan", "minigan"), ("torch", row.get("peer"))):
                if "flops" in row["ways"].get(way, {}):
                    yield row["kernel"], player + precision, row["flop"] / row["bytes"], row["ways"][way]["flops"] / 1e9


def _ceilings(axes: Axes, ceilings: dict[str, float], intensities: list[float]) -> None:
    """The slope and the flat parts, from left of all points to right of them."""
    copy, rates = ceilings["copy"] / 1e9, {name: c / 1e9 for name, c in ceilings.items() if name != "copy"}
    ridges = [rate / copy for rate in rates.values()]
    left, right = min(*intensities, *ridges) / 2, 2 * max(*intensities, *ridges)
    for rate in set(rates.values()):
        ridge, names = rate / copy, ", ".join(name for name in rates if rates[name] == rate)
        axes.plot([left, ridge, right], [left * copy, rate, rate], color="black", linewidth=1.2, zorder=0)
        axes.text(right / 1.05, 1.08 * rate, f"{names} {rate:,.0f} GFLOP/s", ha="right", **TEXT)
    axes.set_xlim(left, right)
    along = {"rotation": math.degrees(math.atan(copy)), "rotation_mode": "anchor", "transform_rotates_text": True}
    foot = min(ridges) / 5
    axes.text(foot, 1.12 * copy * foot, f"copy {copy:,.1f} GB/s", **along, **TEXT)


def _legend(axes: Axes, players: set[str]) -> None:
    """Who has which colour, and which kernel has which shape."""
    entries = [(player, "o", colour) for player, colour in COLOURS.items() if player in players]
    entries += [(kernel, marker, "#888888") for kernel, marker in {**MARKERS, "named below": OTHERS}.items()]
    handles = [Line2D([], [], marker=m, color=colour, label=name, linestyle="") for name, m, colour in entries]
    axes.legend(handles=handles, loc="upper left")


def _names(axes: Axes, kernels: set[tuple[str, float]]) -> None:
    """Upright, each below its points; names too near to one another share a line."""
    places = []  # where a name stands, and those that stand there
    for x, kernel in sorted((x, kernel) for kernel, x in kernels):
        if not places or x > CLOSE * places[-1][0]:
            places.append((x, {}))
        places[-1][1][kernel] = None
    for x, names in places:
        axes.text(x, 0.01, ", ".join(names), transform=axes.get_xaxis_transform(), rotation=90, ha="center", **TEXT)
