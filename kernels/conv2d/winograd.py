"""Convolution with fewer multiplications (Winograd 1980; Lavin and Gray 2016).

A sum of r products at each of m neighbouring places takes m r multiplications. Polynomials do with n = m + r - 1: the
product of y (m coefficients) and w (r coefficients) has n, and n values at as many points p determine it. So evaluate
both, multiply value by value, and interpolate. As the trilinear form of one axis:

    sum over i, j of x[i + j] w[j] y[i]  =  sum over e of (B x)[e] (G w)[e] (A y)[e]

    A[e,i] = p_e^i                          y's values; the last point is infinity, whose value is the first coefficient
    G[e,j] = p_e^j / prod over q != p_e of (p_e - q)                                                      w's, scaled
    B[e,l] = coefficient l of prod over q != p_e of (t - q)               the interpolation, turned over: it acts on x

On both axes x becomes B x Bᵀ (n,n), and so on: n² multiplications where there were m² r². What the derivatives need is
the same once more, because T is linear in each letter: the derivative by x has Bᵀ where T has B.

    conv2d              y  =  Aᵀ ((B x) (G w))      a sum over channels for each of the n² points:
    conv2d_transpose    x  =  Bᵀ ((A y) (G w))      n² matrix products
    conv2d_weight_grad  w  =  Gᵀ ((B x) (A y))

A stride is folded away first: with stride s pixel (s i + a, s j + b) of channel c is pixel (i, j) of channel (a, b, c),
and filters of R taps become filters of r = ceil(R / s) with stride 1, the missing taps being 0.

    R  stride     r   m    n    multiplications
    4    2        2   4    5    25/64  of the direct sum's
    5    2        3   4    6    36/100
    5    1        5   2    6    36/100

The price is rounding: the transforms' sums cancel in part. The points are chosen to keep that low: few, near 1 in size,
and with p also -p or -1/p.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from kernels.lanes import LANES, PANEL, ROWS, both_axes, load, multiply_tile, prefetch, splat, store, transpose_tile
from kernels.memory import empty
from kernels.threads import compiled, share, thread_count

__all__ = ["Algorithm", "conv2d", "conv2d_transpose", "conv2d_weight_grad"]

POINTS = {  # by n; infinity is one more
    3: (0, 1),
    4: (0, 1, -1),
    5: (0, 1, Fraction(-1, 2), -2),
    6: (0, Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
}
SLAB = 128  # terms of a sum that are added up at a time: rounding grows more slowly, and a slab of filters stays near
CACHE = 2 << 20  # bytes of transformed tiles that a thread works on at a time


# ---- the matrices ----------------------------------------------------------------------------------------------------


@functools.cache
def matrices(m: int, r: int) -> dict[str, list[list[Fraction]]]:
    """B of x, G of w and A of y, exactly: lists of n rows."""
    points = [Fraction(p) for p in POINTS[m + r - 1]]
    others = [[q for q in points if q != p] for p in points]
    scales = [math.prod(p - q for q in rest) for p, rest in zip(points, others, strict=True)]
    infinity = [Fraction(0)] * (m + r - 2) + [Fraction(1)]
    return {
        "x": [[*_product(rest), Fraction(0)] for rest in others] + [_product(points)],
        "w": [[p**j / scale for j in range(r)] for p, scale in zip(points, scales, strict=True)] + [infinity[-r:]],
        "y": [[p**i for i in range(m)] for p in points] + [infinity[-m:]],
    }


def _product(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of the product of all (t - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


# ---- what the kernels are told ---------------------------------------------------------------------------------------


class Letter(NamedTuple):
    """How the pictures (N,H,W,C) of one letter are cut into tiles, and what is done to each.

    to: the letter's matrix (n,side), a tuple of rows of float32; back: its transpose.
    fold: the stride that is folded away. A tile is `side` by `side` folded pixels; one begins at every `step` of them,
    the first at pixel -padding. rows, columns: of tiles in a picture.
    """

    to: tuple
    back: tuple
    fold: int
    padding: int
    step: int
    rows: int
    columns: int


class Layout(NamedTuple):
    """Where the transformed tiles are: how many floats it is from one to the next of these.

    Point, phase, panel of channels, block of ROWS tiles; in a block a tile's PANEL channels follow the other's.
    """

    point: int
    phase: int
    panel: int
    block: int


class Part(NamedTuple):
    """A part of a picture's folded channels: whole phases, and panels of each."""

    phase: int
    phases: int  # where it ends
    panel: int
    panels: int  # where it ends


class Algorithm(NamedTuple):
    """m outputs a tile and r taps a filter on each axis, after folding a stride away."""

    m: int
    r: int
    stride: int
    padding: int

    def letters(self, size: tuple[int, int]) -> dict[str, Letter]:
        """x, w and y, for y of (P, Q) = size."""
        exact = matrices(self.m, self.r)
        cut = {
            "x": (self.stride, self.padding, self.m, *(-(-length // self.m) for length in size)),
            "w": (self.stride, 0, 1, 1, 1),
            "y": (1, 0, self.m, *(-(-length // self.m) for length in size)),
        }
        return {a: Letter(_rounded(rows), _rounded(zip(*rows, strict=True)), *cut[a]) for a, rows in exact.items()}


def _rounded(rows) -> tuple[tuple[np.float32, ...], ...]:
    return tuple(tuple(np.float32(float(value)) for value in row) for row in rows)


def whole(letter: Letter, pictures) -> Part:
    """All channels of these pictures."""
    return Part(0, letter.fold**2, 0, pictures.shape[3] // PANEL)


def by_panels(part: Part, tiles: int) -> Layout:
    """(points, phases, panels, tiles, PANEL)."""
    panel = tiles * PANEL
    phase = (part.panels - part.panel) * panel
    return Layout(apart((part.phases - part.phase) * phase), phase, panel, ROWS * PANEL)


def by_blocks(part: Part, tiles: int) -> Layout:
    """(points, blocks of tiles, phases, panels, ROWS, PANEL), with room for whole blocks."""
    panel = ROWS * PANEL
    phase = (part.panels - part.panel) * panel
    block = (part.phases - part.phase) * phase
    return Layout(apart(-(-tiles // ROWS) * block), phase, panel, block)


def by_slabs(part: Part, tiles: int) -> Layout:
    """(points, blocks of tiles, panels, phases, ROWS, PANEL): a left factor, in the order in which it is read."""
    phase = ROWS * PANEL
    panel = (part.phases - part.phase) * phase
    block = (part.panels - part.panel) * panel
    return Layout(apart(-(-tiles // ROWS) * block), phase, panel, block)


def apart(size: int) -> int:
    """A distance of at least `size` floats that is no power of two: the n² points of a tile, all written at once, would
    compete for few places of the cache."""
    return size + LANES


# ---- the three derivatives -------------------------------------------------------------------------------------------


def conv2d(x, w, algorithm, size):
    """dT/dy (N,P,Q,K) with (P, Q) = size."""
    y = empty((len(x), *size, len(w)))
    letters = algorithm.letters(size)
    _, r, s, c = w.shape
    channels = Part(0, algorithm.stride**2, 0, 0)
    width = slab_width(c, algorithm.stride**2)

    def place(part):  # (points, panels of K, phases, channels of the slab, PANEL)
        panel = algorithm.stride**2 * width * PANEL
        return Layout(apart((part.panels - part.panel) * panel), width * PANEL, panel, ROWS * PANEL)

    def filters_to_points(slab, part, points):
        filters = w[part.panel * PANEL : part.panels * PANEL]
        turned = empty((width, r, s, len(filters)))
        transpose(slab * width, filters, turned)
        every = channels._replace(panels=part.panels - part.panel)
        to_points(0, width, turned, letters["w"], every, 0, points, place(part))

    _multiply(x, letters["x"], filters_to_points, place, width, y, letters["y"])
    return y


def conv2d_transpose(y, w, algorithm, size):
    """dT/dx (N,H,W,C) with (H, W) = size."""
    x = empty((len(y), *size, w.shape[3]))
    letters = algorithm.letters(y.shape[1:3])
    width = slab_width(len(w), 1)

    def place(part):  # (points, phases, panels of C, filters of the slab, PANEL)
        return by_panels(part, width)

    def filters_to_points(slab, part, points):
        first = slab * width
        to_points(first, first + width, w, letters["w"], part, first, points, place(part))

    _multiply(y, letters["y"], filters_to_points, place, width, x, letters["x"])
    return x


def slab_width(channels: int, phases: int) -> int:
    """How many of the channels that are summed over are a slab: SLAB terms or fewer, and whole panels."""
    return PANEL * math.gcd(channels // PANEL, max(1, SLAB // phases // PANEL))


def _multiply(source, a, filters_to_points, place, width, target, b):
    """target = the points of source, times the filters', and back; a and b are the letters of source and target.

    filters_to_points(slab, part, points): the transformed filters, for `width` channels of the source and a part of the
    target's, to `points`, where they lie as place(part) says.

    The larger factor goes through in parts, the smaller one is transformed once and kept: groups of pictures, or panels
    of the target's channels.
    """
    n, tiles, points = len(source), a.rows * a.columns, len(a.to) ** 2
    inner, outer = whole(a, source), whole(b, target)
    slabs, terms = source.shape[3] // width, inner.phases * width

    def product(left, left_layout, rows, right, part, first, last):
        """A part of pictures first to last of the target; right(slab) are the filters."""
        layout = by_blocks(part, rows)
        result = empty(points * layout.point)
        panels = (part.phases - part.phase) * (part.panels - part.panel)
        for slab in range(slabs):
            start = slab * width // PANEL * left_layout.panel
            factor = right(slab)
            multiply(
                points,
                rows,
                panels,
                terms,
                left,
                start,
                left_layout,
                factor,
                place(part).point,
                result,
                layout,
                slab > 0,
            )
        from_points(first, last, result, layout, b, part, first, target)

    if n * tiles >= outer.phases * outer.panels * PANEL:
        filters = empty((slabs, points * place(outer).point))

        def transform(first, last):
            for slab in range(first, last):
                filters_to_points(slab, outer, filters[slab])

        share(transform, slabs)
        group = group_size(n, tiles, 4 * points * (a.fold**2 * source.shape[3] + b.fold**2 * target.shape[3]))

        def groups(first, last):
            layout = by_slabs(inner, group * tiles)
            left = empty(points * layout.point)
            for start in range(first * group, min(n, last * group), group):
                end = min(n, start + group)
                to_points(start, end, source, a, inner, start, left, layout)
                product(left, layout, (end - start) * tiles, filters.__getitem__, outer, start, end)

        share(groups, -(-n // group))
    else:
        layout = by_slabs(inner, n * tiles)
        left = empty(points * layout.point)
        share(to_points, n, source, a, inner, 0, left, layout)

        def panels(first, last):
            for part in parts(outer, first, last):
                filters = empty(points * place(part).point)

                def right(slab, part=part, filters=filters):
                    filters_to_points(slab, part, filters)
                    return filters

                product(left, layout, n * tiles, right, part, 0, n)

        share(panels, outer.phases * outer.panels)


def parts(whole: Part, first: int, last: int):
    """The panels of all phases, numbers first to last, one by one."""
    for number in range(first, last):
        phase, panel = divmod(number, whole.panels)
        yield Part(phase, phase + 1, panel, panel + 1)


def group_size(n: int, tiles: int, tile: int) -> int:
    """How many of n pictures, of so many tiles of so many bytes, go through at a time.

    Their tiles fit in the cache and fill the rows of `multiply_tile`, and every thread gets as many groups.
    """
    even = ROWS // math.gcd(ROWS, tiles)
    threads = thread_count()
    groups = -(-n * tiles * tile // (CACHE * threads)) * threads
    return min(n, -(-n // (groups * even)) * even)


def conv2d_weight_grad(x, y, algorithm, size):
    """dT/dw (K,R,S,C) with (R, S) = size.

    Many tiles go through in groups of pictures, whose products are added up in their order; few are kept, and the
    panels of x's channels go through.
    """
    n, k, c = len(x), y.shape[3], x.shape[3]
    letters = algorithm.letters(y.shape[1:3])
    a, b, filters = letters["x"], letters["y"], letters["w"]
    tiles, points = a.rows * a.columns, len(a.to) ** 2
    inner, outer = whole(a, x), whole(b, y)
    count = inner.phases * inner.panels
    w = empty((k, *size, c))
    if n * tiles >= k:
        group = min(n, max(1, 4 * CACHE // (4 * points * tiles * (count * PANEL + k))))
        xl, yl, wl = by_panels(inner, group * tiles), by_panels(outer, group * tiles), by_panels(inner, k)
        xs, ys, ws = (empty(points * layout.point) for layout in (xl, yl, wl))
        for start in range(0, n, group):
            end = min(n, start + group)
            share(to_points, end - start, x[start:end], a, inner, 0, xs, xl)
            share(to_points, end - start, y[start:end], b, outer, 0, ys, yl)
            depth = (end - start) * tiles
            share(correlate, points * count, depth, 0, k, count, ys, yl, xs, xl, ws, wl, start > 0)
        share(from_points, k, ws, wl, filters, inner, 0, w)
    else:
        yl = by_panels(outer, n * tiles)
        ys = empty(points * yl.point)
        share(to_points, n, y, b, outer, 0, ys, yl)

        def panels(first, last):
            for part in parts(inner, first, last):
                xl, wl = by_panels(part, n * tiles), by_panels(part, SLAB)
                xs, ws = empty(points * xl.point), empty(points * wl.point)
                to_points(0, n, x, a, part, 0, xs, xl)
                for row in range(0, k, SLAB):
                    rows = min(k, row + SLAB) - row
                    correlate(0, points, n * tiles, row, rows, 1, ys, yl, xs, xl, ws, wl, False)
                    from_points(row, row + rows, ws, wl, filters, part, row, w)

        share(panels, count)
    return w


# ---- the kernels -----------------------------------------------------------------------------------------------------


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
def to_points(first, last, pictures, letter, part, base, points, layout):
    """A part of the channels of pictures first to last; the tiles of picture `base` come first in `points`."""
    _, height, width, channels = pictures.shape
    pixels = pictures.reshape(-1)
    fold, side = letter.fold, len(letter.to[0])
    tile = np.empty(side * side * LANES, np.float32)
    zero = splat(np.float32(0))
    tile_number = (first - base) * letter.rows * letter.columns
    next_tile = letter.step * fold * channels
    for b in range(first, last):
        for row in range(letter.rows):
            for column in range(letter.columns):
                to = tile_number // ROWS * layout.block + tile_number % ROWS * PANEL
                for phase in range(part.phase, part.phases):
                    top = row * letter.step * fold + phase // fold - letter.padding
                    left = column * letter.step * fold + phase % fold - letter.padding
                    for c in range(part.panel * PANEL, part.panels * PANEL, LANES):
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
                        place = to + (phase - part.phase) * layout.phase
                        place += (c // PANEL - part.panel) * layout.panel + c % PANEL
                        both_axes(letter.to, tile, 0, LANES, points, place, layout.point)
                tile_number += 1


@compiled
def from_points(first, last, points, layout, letter, part, base, pictures):
    """The adjoint of `to_points`: that part of pictures first to last becomes the sum of its tiles."""
    _, height, width, channels = pictures.shape
    pixels = pictures.reshape(-1)
    fold, side = letter.fold, len(letter.back)
    tile = np.empty(side * side * LANES, np.float32)
    zero = splat(np.float32(0))
    tile_number = (first - base) * letter.rows * letter.columns
    for b in range(first, last):
        for h in range(height):
            for w in range(width):
                if part.phase <= (h + letter.padding) % fold * fold + (w + letter.padding) % fold < part.phases:
                    for c in range(part.panel * PANEL, part.panels * PANEL, LANES):
                        store(pixels, ((b * height + h) * width + w) * channels + c, zero)
        for row in range(letter.rows):
            for column in range(letter.columns):
                to = tile_number // ROWS * layout.block + tile_number % ROWS * PANEL
                for phase in range(part.phase, part.phases):
                    top = row * letter.step * fold + phase // fold - letter.padding
                    left = column * letter.step * fold + phase % fold - letter.padding
                    for c in range(part.panel * PANEL, part.panels * PANEL, LANES):
                        place = to + (phase - part.phase) * layout.phase
                        place += (c // PANEL - part.panel) * layout.panel + c % PANEL
                        both_axes(letter.back, points, place, layout.point, tile, 0, LANES)
                        at = 0
                        for h in range(top, top + side * fold, fold):
                            for w in range(left, left + side * fold, fold):
                                if 0 <= h < height and 0 <= w < width:
                                    pixel = ((b * height + h) * width + w) * channels + c
                                    store(pixels, pixel, load(pixels, pixel) + load(tile, at))
                                at += LANES
                tile_number += 1


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
                c = e * layout.point + row // ROWS * layout.block + panel * layout.panel
                multiply_tile(left, a, PANEL, 1, ROWS * PANEL, blocks, PANEL, right, b, product, c, more)


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
                multiply_tile(left, a, 1, PANEL, 0, 1, terms, right, b, product, c, more or d > 0)
