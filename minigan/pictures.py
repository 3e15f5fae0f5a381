"""Pictures out: arrays become a grid in one PNG or an animation, a run's log becomes a plot of its losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from minigan.files import replacing

__all__ = ["ANIMATIONS", "grid", "plot_losses", "running_mean", "save_animation", "save_png", "to_uint8"]

ANIMATIONS = {".webp": "WEBP", ".gif": "GIF"}  # Pillow's format by the ending of a name

COLOURS = ("#0072b2", "#d55e00")  # blue and vermilion, which nearly all eyes tell apart


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Pictures with values in [-1, 1], of any shape, to the nearest of 0 .. 255; what lies outside is clipped.

    The inverse of the `image_batch` kernel's scaling. uint8 arrays pass as they are. NaN becomes 0, black.
    """
    if images.dtype == np.uint8:
        return images
    return np.rint(np.clip(np.nan_to_num((images + 1) * 127.5, nan=0), 0, 255)).astype(np.uint8)


def grid(images: np.ndarray, columns: int | None = None, pad: int = 2, scale: int = 1) -> Image.Image:
    """The pictures (N,H,W,C), C 1 or 3, floats in [-1, 1] or uint8, row by row on white; the last row may be shorter.

    columns: as many as make the grid about square, unless given. pad: white pixels around and between the pictures.
    scale: each pixel becomes scale x scale equal ones, for tiny pictures; nothing is ever stretched or smoothed.
    """
    n, h, w, c = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    pixels = to_uint8(images).repeat(scale, axis=1).repeat(scale, axis=2)  # (N, scale H, scale W, C)
    step_y, step_x = scale * h + pad, scale * w + pad
    sheet = np.full((rows * step_y + pad, columns * step_x + pad, c), 255, np.uint8)
    for index, picture in enumerate(pixels):
        y, x = pad + index // columns * step_y, pad + index % columns * step_x
        sheet[y : y + scale * h, x : x + scale * w] = picture
    return Image.fromarray(sheet if c == 3 else sheet[:, :, 0])


def save_png(image: Image.Image, path: Path) -> None:
    """Write the picture as PNG, whole or not at all.

    Raises
    ------
    OSError: `path` cannot be written.
    """
    with replacing(path) as file:
        image.save(file, "PNG", compress_level=3)  # optimize=True takes up to 40 times as long, for 8% at most


def save_animation(frames: Sequence[Image.Image], path: Path, milliseconds: int) -> None:
    """Write the frames, at least one and all of one size, as an animation that begins anew for ever; whole or not.

    path: its ending, one of ANIMATIONS, decides the format. GIF has 256 colours a frame; WebP compresses like JPEG.
    milliseconds: that each frame is shown; GIF counts in tens. Frames in a row that look the same become one, shown
    for longer.

    Raises
    ------
    OSError: `path` cannot be written.
    """
    first, *rest = frames
    form = ANIMATIONS[path.suffix.lower()]
    with replacing(path) as file:
        first.save(file, form, save_all=True, append_images=rest, duration=milliseconds, loop=0, quality=90)


def plot_losses(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot the rows of a run's log over their `step` into a PNG: the two losses above, D's mean scores below.

    rows: at least one, each with `step`, `d_loss`, `g_loss`, `d_real` and `d_fake`. Thin lines are the values, bold
    ones their `running_mean`.

    Raises
    ------
    OSError: `path` cannot be written.
    """
    from matplotlib.figure import Figure  # half a second to import, and only wanted now and then

    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(8, 6), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    marker = "o" if len(rows) == 1 else ""  # one point makes no line
    for axes, title, curves in (
        (above, "Losses", {"d_loss": "discriminator", "g_loss": "generator"}),
        (below, "Discriminator's mean scores", {"d_real": "real, D(x)", "d_fake": "fake, D(G(z))"}),
    ):
        for (name, label), colour in zip(curves.items(), COLOURS, strict=True):
            values = np.array([row[name] for row in rows], float)
            axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
            axes.plot(steps, running_mean(values), color=colour, linewidth=2, marker=marker, label=label)
        axes.set_title(title, loc="left", fontsize=13, fontweight="bold")
        axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.98), fontsize=12)
        axes.grid(color="#e0e0e0", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=11)
    above.set_ylim(bottom=0)
    below.set_ylim(-0.02, 1.02)
    below.axhline(0.5, color="#888888", linewidth=1, linestyle="--")  # a discriminator that cannot tell
    below.set_xlabel("step", fontsize=12)
    below.set_xlim(left=0)
    below.xaxis.get_major_locator().set_params(integer=True)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def running_mean(values: np.ndarray) -> np.ndarray:
    """The exponential running mean of (n,) values over about n/30 of them, each weighted from the first one on.

    mean_i = sum_j beta^(i-j) v_j / sum_j beta^(i-j) over j <= i, so that the first values do not count too much.
    """
    beta = 1 - 1 / max(1, len(values) / 30)
    means, total, weight = np.empty_like(values), 0.0, 0.0
    for i, value in enumerate(values):
        total, weight = beta * total + value, beta * weight + 1
        means[i] = total / weight
    return means
