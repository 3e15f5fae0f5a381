"""Pictures cut into tiles, tiles transformed, and the products between: the kernels of winograd_cpu.py.

A tile's channels are not looked at one by one. The stride is folded away, so a picture has `phases` of channels, one
for each place of a pixel in a square of stride by stride; and PANEL channels of a phase are a panel. What is done to a
number here is done to the LANES numbers of a Lanes (kernels/lanes.py), which are neighbouring channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kernels.conv2d.winograd import Letter
from kernels.lanes import LANES, PANEL, ROWS, both_axes, load, multiply_tile, prefetch, splat, store, transpose_tile
from kernels.threads import compiled

__all__ = [
    "SLAB",
    "Layout",
    "Part",
    "by_blocks",
    "by_panels",
    "by_slabs",
    "correlate",
    "from_points",
    "multiply",
    "to_points",
    "transpose",
    "whole",
]

AHEAD = 2  # panels: so far beyond the points that are written, others will be
SLAB = 128  # terms of a sum that are added up at a time: rounding grows more slowly, and a slab of filters stays near


class Part(NamedTuple):
    """A part of a picture's folded channels: some panels of some phases."""

    first_phase: int
    end_phase: int
    first_panel: int
    end_panel: int

    def size(self) -> int:
        """How many panels."""
        return (self.end_phase - self.first_phase) * (self.end_panel - self.first_panel)

    def one_by_one(self, first: int, last: int) -> Iterator[Part]:
        """Its panels, numbers first to last, each as a part by itself."""
        for number in range(first, last):
            phase, panel = divmod(number, self.end_panel - self.first_panel)
            phase, panel = self.first_phase + phase, self.first_panel + panel
            yield Part(phase, phase + 1, panel, panel + 1)


def whole(letter: Letter, pictures) -> Part:
    """All channels of these pictures."""
    return Part(0, letter.fold**2, 0, pictures.shape[3] // PANEL)


# ---- where the transformed tiles are ---------------------------------------------------------------------------------


class Layout(NamedTuple):
    """How many floats it is from one point, phase, panel of channels, block of ROWS tiles to the next.

    In a block one tile's PANEL channels follow the other's. All points take `point` times their number.
    """

    point: int
    phase: int
    panel: int
    block: int


def by_panels(part: Part, tiles: int) -> Layout:
    """(points, phases, panels, tiles, PANEL): a right factor, of which a product reads all tiles of a panel."""
    panel = tiles * PANEL
    return Layout(apart(part.size() * panel), (part.end_panel - part.first_panel) * panel, panel, ROWS * PANEL)


def by_slabs(part: Part, tiles: int) -> Layout:
    """(points, blocks, panels, phases, ROWS, PANEL): a left factor; a product reads all channels of a block."""
    phase = ROWS * PANEL
    block = part.size() * phase
    return Layout(apart(-(-tiles // ROWS) * block), phase, (part.end_phase - part.first_phase) * phase, block)


def by_blocks(part: Part, tiles: int) -> Layout:
    """(points, blocks, phases, panels, ROWS, PANEL): a product."""
    panel = ROWS * PANEL
    block = part.size() * panel
    return Layout(apart(-(-tiles // ROWS) * block), (part.end_panel - part.first_panel) * panel, panel, block)


def apart(size: int) -> int:
    """A distance of at least `size` floats that is no power of two: the points of a tile, all written at once, would
    compete for few places of the cache."""
    return size + LANES


# ---- the transforms --------------------------------------------------------------------------------------------------


@compiled
def transpose(first, w, result):
    """Channels from `first` on of w (K,R,S,C) as result (channels,R,S,K)."""
    k, r_size, s_size, channels = w.shape
    taps = r_size * s_size
    source, target = w.reshape(-1), result.reshape(-1)
    for i in range(0, k, LANES):
        for tap in range(taps):
            for c in range(0, len(result), LANES):
                at = (i * taps + tap) * channels + first + c
                transpose_tile(source, at, taps * channels, target, (c * taps + tap) * k + i, taps * k)


@compiled
def place_of(tile, phase, c, part, layout):
    """Where channel c of a phase of that tile is, at the first point."""
    within = (phase - part.first_phase) * layout.phase + (c // PANEL - part.first_panel) * layout.panel + c % PANEL
    return tile // ROWS * layout.block + tile % ROWS * PANEL + within


@compiled
def to_points(first, last, pictures, letter, part, base, points, layout):
    """A part of the channels of pictures first to last; the tiles of picture `base` come first in `points`."""
    _, height, width, channels = pictures.shape
    pixels = pictures.reshape(-1)
    fold, side = letter.fold, len(letter.to[0])
    tile = np.empty(side * side * LANES, np.float32)
    zero = splat(np.float32(0))
    tile_number = (first - base) * letter.rows * letter.columns
    next_tile = (letter.step * fold if letter.columns > 1 else height * width) * channels
    for b in range(first, last):
        for row in range(letter.rows):
            for column in range(letter.columns):
                for phase in range(part.first_phase, part.end_phase):
                    top = row * letter.step * fold + phase // fold - letter.padding
                    left = column * letter.step * fold + phase % fold - letter.padding
                    for c in range(part.first_panel * PANEL, part.end_panel * PANEL, LANES):
                        at = 0
                        for h in range(top, top + side * fold, fold):
                            for w in range(left, left + side * fold, fold):
                                if 0 <= h < height and 0 <= w < width:
                                    pixel = ((b * height + h) * width + w) * channels + c
                                    prefetch(pixels, pixel + next_tile)
                                    store(tile, at, load(pixels, pixel))
                                else:
                                    store(tile, at, zero)
                                at += LANES
                        place = place_of(tile_number, phase, c, part, layout)
                        for e in range(len(letter.to) ** 2):  # they are far apart: no cache foresees them
                            prefetch(points, place + AHEAD * layout.panel + e * layout.point)
                        both_axes(letter.to, tile, 0, LANES, points, place, layout.point)
                tile_number += 1


@compiled
def from_points(first, last, points, layout, letter, part, base, pictures):
    """The adjoint of `to_points`: that part of pictures first to last becomes the sum of its tiles."""
    _, height, width, channels = pictures.shape
    pixels = pictures.reshape(-1)
    fold, side = letter.fold, len(letter.back)
    overlap = side - letter.step
    bottom = (letter.rows * letter.step + overlap) * fold - letter.padding  # where the last tiles end
    right = (letter.columns * letter.step + overlap) * fold - letter.padding
    tile = np.empty(side * side * LANES, np.float32)
    zero = splat(np.float32(0))
    tile_number = (first - base) * letter.rows * letter.columns
    for b in range(first, last):
        for h in range(height):
            for w in range(width):
                phase = (h + letter.padding) % fold * fold + (w + letter.padding) % fold
                if (h >= bottom or w >= right) and part.first_phase <= phase < part.end_phase:
                    for c in range(part.first_panel * PANEL, part.end_panel * PANEL, LANES):
                        store(pixels, ((b * height + h) * width + w) * channels + c, zero)
        for row in range(letter.rows):
            for column in range(letter.columns):
                for phase in range(part.first_phase, part.end_phase):
                    top = row * letter.step * fold + phase // fold - letter.padding
                    left = column * letter.step * fold + phase % fold - letter.padding
                    for c in range(part.first_panel * PANEL, part.end_panel * PANEL, LANES):
                        place = place_of(tile_number, phase, c, part, layout)
                        both_axes(letter.back, points, place, layout.point, tile, 0, LANES)
                        for i in range(side):
                            for j in range(side):
                                h, w = top + i * fold, left + j * fold
                                if 0 <= h < height and 0 <= w < width:
                                    pixel = ((b * height + h) * width + w) * channels + c
                                    value = load(tile, (i * side + j) * LANES)
                                    if (i < overlap and row > 0) or (j < overlap and column > 0):
                                        value = value + load(pixels, pixel)  # of the tiles above and on the left
                                    store(pixels, pixel, value)
                tile_number += 1


# ---- the products ----------------------------------------------------------------------------------------------------


@compiled
def multiply(points, rows, panels, terms, left, start, left_layout, right, right_point, product, layout, more):
    """At every point (rows, panels PANEL) = left (rows, terms) right (terms, panels PANEL), for the slab of the left
    factor that begins at `start`; with `more`, added to what is there."""
    blocks = terms // PANEL
    for e in range(points):
        for panel in range(panels):
            b = e * right_point + panel * terms * PANEL
            for row in range(0, rows, ROWS):
                a = start + e * left_layout.point + row // ROWS * left_layout.block
                if panels == 1:  # then each block of the left factor is met once, and comes from afar
                    for line in range(0, terms * ROWS, LANES):
                        prefetch(left, a + left_layout.block + line)
                c = e * layout.point + row // ROWS * layout.block + panel * layout.panel
                multiply_tile(left, a, PANEL, 1, ROWS * PANEL, blocks, PANEL, right, b, PANEL, product, c, PANEL, more)


@compiled
def correlate(first, last, depth, row, rows, panels, left, left_layout, right, right_layout, product, layout, more):
    """At point e and panel p, for numbers e panels + p from first to last: (rows, PANEL) = leftᵀ right, a sum over
    `depth` tiles, for channels `row` to row + rows of left; with `more`, added to what is there."""
    for number in range(first, last):
        e, panel = number // panels, number % panels
        for d in range(0, depth, SLAB):
            terms = min(depth, d + SLAB) - d
            b = e * right_layout.point + panel * right_layout.panel + d * PANEL
            for i in range(row, row + rows, ROWS):
                a = e * left_layout.point + i // PANEL * left_layout.panel + d * PANEL + i % PANEL
                c = e * layout.point + panel * layout.panel + (i - row) * PANEL
                multiply_tile(left, a, 1, PANEL, 0, 1, terms, right, b, PANEL, product, c, PANEL, more or d > 0)
