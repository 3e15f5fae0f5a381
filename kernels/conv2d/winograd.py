"""Convolution with fewer multiplications (Winograd 1980; Lavin and Gray 2016).

A sum of r products at each of m neighbouring places takes m r multiplications. Polynomials do it with n = m + r - 1: the
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

A stride is folded away first: with stride s, pixel (s i + a, s j + b) of channel c is pixel (i, j) of channel (a, b, c),
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
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from kernels.lanes import LANES, PANEL, ROWS, both_axes, load, multiply_tile, splat, store
from kernels.memory import empty
from kernels.threads import compiled, share

__all__ = ["Algorithm", "conv2d", "conv2d_transpose", "conv2d_weight_grad"]

POINTS = {  # by n; infinity is one more
    3: (0, 1),
    4: (0, 1, -1),
    5: (0, 1, Fraction(-1, 2), -2),
    6: (0, Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
}
CACHE = 2 << 20  # bytes of transformed tiles that a thread works on at a time


class Matrices(NamedTuple):
    """What one letter is multiplied with on each axis, and its transpose: tuples of rows of float32."""

    to: tuple
    back: tuple


@functools.cache
def matrices(m: int, r: int) -> dict[str, Matrices]:
    """B of x, G of w and A of y."""
    points = [Fraction(p) for p in POINTS[m + r - 1]]
    others = [[q for q in points if q != p] for p in points]
    infinity = [0] * (m + r - 2) + [1]
    exact = {
        "x": [[*_product(roots), 0] for roots in others] + [_product(points)],
        "w": [[p**j / np.prod([p - q for q in roots]) for j in range(r)] for p, roots in zip(points, others)]
        + [infinity[-r:]],
        "y": [[p**i for i in range(m)] for p in points] + [infinity[-m:]],
    }

    def rounded(rows):
        return tuple(tuple(np.float32(float(value)) for value in row) for row in rows)

    return {letter: Matrices(rounded(rows), rounded(zip(*rows, strict=True))) for letter, rows in exact.items()}


def _product(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of the product of all (t - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [0, *coefficients], [*(root * c for c in coefficients), 0]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


class Tiling(NamedTuple):
    """How pictures (N,H,W,C) are cut into tiles: folded, then a tile at every `step` pixels, from -padding on."""

    fold: int
    padding: int
    step: int
    rows: int  # of tiles
    columns: int


class Layout(NamedTuple):
    """Where a transformed tile's channels are in memory: at e point + phase phase_ + panel panel_ + tile PANEL."""

    point: int
    phase: int
    panel: int


def layout(phases: int, channels: int, tiles: int) -> Layout:
    """(points, phases, channels / PANEL, tiles, PANEL)."""
    panel = tiles * PANEL
    return Layout(apart(phases * channels * tiles), channels * tiles, panel)


def apart(size: int) -> int:
    """A distance of at least `size` that is no power of two, or the n² points of a tile would compete for few places
    of the cache."""
    return size + LANES


class Algorithm(NamedTuple):
    """Outputs a tile and taps a filter, on each axis after folding, and the stride that is folded away."""

    m: int
    r: int
    stride: int
    padding: int

    def tiling(self, size: tuple[int, int]) -> dict[str, Tiling]:
        """For y of (P,Q) = size."""
        rows, columns = (-(-length // self.m) for length in size)
        return {
            "x": Tiling(self.stride, self.padding, self.m, rows, columns),
            "w": Tiling(self.stride, 0, 1, 1, 1),
            "y": Tiling(1, 0, self.m, rows, columns),
        }


def conv2d(x, w, algorithm, size):
    """dT/dy (N,P,Q,K) with (P, Q) = size."""
    y = empty((len(x), *size, len(w)))
    _pictures(x, "x", y, "y", transposed(w), algorithm, size)
    return y


def conv2d_transpose(y, w, algorithm, size):
    """dT/dx (N,H,W,C) with (H, W) = size."""
    x = empty((len(y), *size, w.shape[3]))
    _pictures(y, "y", x, "x", w, algorithm, y.shape[1:3])
    return x


def _pictures(source, a, target, b, w, algorithm, size):
    """`target`, of letter b, from `source`, of letter a, and filters w (I,R,S,J), I being the channels of a..."""
    s2 = algorithm.stride**2
    matrix, tiling = matrices(algorithm.m, algorithm.r), algorithm.tiling(size)
    n2 = len(matrix["x"].to) ** 2
    depth, columns = w.shape[0], w.shape[3]
    # filters as the right factor: (points, column panels, depth, PANEL)
    if a == "y":  # depth K, columns (phase, C)
        place = layout(s2, columns, depth)
    else:  # depth (phase, C), columns K
        place = Layout(apart(s2 * depth * columns), depth * PANEL, s2 * depth * PANEL)
    filters = empty(n2 * place.point)
    share(to_points, depth, w, matrix["w"].to, tiling["w"], 0, filters, place)
    phases_a, phases_b = (s2, 1) if a == "x" else (1, s2)
    tiles = tiling["x"].rows * tiling["x"].columns
    channels = phases_a * source.shape[3] + phases_b * target.shape[3]
    group = max(1, CACHE // (4 * n2 * tiles * channels))
    groups = -(-len(source) // group)
    share(
        multiply_pictures,
        groups,
        group,
        source,
        matrix[a].to,
        tiling[a],
        filters,
        place.point,
        target,
        matrix[b].back,
        tiling[b],
    )


def conv2d_weight_grad(x, y, algorithm, size):
    """dT/dw (K,R,S,C) with (R, S) = size."""
    n, _, _, c = x.shape
    k = y.shape[3]
    s2 = algorithm.stride**2
    matrix, tiling = matrices(algorithm.m, algorithm.r), algorithm.tiling(y.shape[1:3])
    n2 = len(matrix["x"].to) ** 2
    tiles = tiling["x"].rows * tiling["x"].columns
    group = max(1, min(n, 4 * CACHE // (4 * n2 * tiles * (s2 * c + k))))
    xl, yl, wl = layout(s2, c, group * tiles), layout(1, k, group * tiles), layout(s2, c, k)
    xs, ys, ws = (empty(n2 * place.point) for place in (xl, yl, wl))
    for first in range(0, n, group):
        count = min(group, n - first)
        share(to_points, count, x[first : first + count], matrix["x"].to, tiling["x"], 0, xs, xl)
        share(to_points, count, y[first : first + count], matrix["y"].to, tiling["y"], 0, ys, yl)
        share(
            multiply_letters, n2 * s2 * c // PANEL, ys, yl, k, xs, xl, s2 * c // PANEL, count * tiles, ws, wl, first > 0
        )
    w = empty((k, *size, c))
    share(from_points, k, ws, wl, matrix["w"].back, tiling["w"], 0, w)
    return w


def transposed(w):
    """(K,R,S,C) -> (C,R,S,K)."""
    k, r, s, c = w.shape
    result = empty((c, r, s, k))
    share(transpose, c // LANES, w.reshape(k, r * s, c), result.reshape(c, r * s, k))
    return result


@compiled
def transpose(first, last, w, result):
    """(K,RS,C) -> (C,RS,K), in squares that fit in the innermost cache."""
    k, rs, _ = w.shape
    for block in range(first, last):
        for e in range(rs):
            for i0 in range(0, k, LANES):
                for c in range(block * LANES, block * LANES + LANES):
                    for i in range(i0, i0 + LANES):
                        result[c, e, i] = w[i, e, c]


@compiled
def to_points(first, last, pictures, matrix, tiling, base, points, layout):
    """Tiles of pictures first to last; the tiles of picture `base` come first in `points`."""
    _, height, width, channels = pictures.shape
    pixels = pictures.reshape(-1)
    l = len(matrix[0])
    tile = np.empty(l * l * LANES, np.float32)
    zero = splat(np.float32(0))
    fold = tiling.fold
    to = (first - base) * tiling.rows * tiling.columns * PANEL
    for b in range(first, last):
        for row in range(tiling.rows):
            for column in range(tiling.columns):
                for phase in range(fold * fold):
                    top = row * tiling.step * fold + phase // fold - tiling.padding
                    left = column * tiling.step * fold + phase % fold - tiling.padding
                    for c in range(0, channels, LANES):
                        at = 0
                        for h in range(top, top + l * fold, fold):
                            for w in range(left, left + l * fold, fold):
                                if 0 <= h < height and 0 <= w < width:
                                    store(tile, at, load(pixels, ((b * height + h) * width + w) * channels + c))
                                else:
                                    store(tile, at, zero)
                                at += LANES
                        place = to + phase * layout.phase + c // PANEL * layout.panel + c % PANEL
                        both_axes(matrix, tile, 0, LANES, points, place, layout.point)
                to += PANEL


@compiled
def from_points(first, last, points, layout, matrix, tiling, base, pictures):
    """The adjoint of `to_points`: pictures first to last become the sums of their tiles."""
    _, height, width, channels = pictures.shape
    pixels = pictures.reshape(-1)
    l = len(matrix)
    tile = np.empty(l * l * LANES, np.float32)
    fold = tiling.fold
    to = (first - base) * tiling.rows * tiling.columns * PANEL
    for b in range(first, last):
        pictures[b] = 0
        for row in range(tiling.rows):
            for column in range(tiling.columns):
                for phase in range(fold * fold):
                    top = row * tiling.step * fold + phase // fold - tiling.padding
                    left = column * tiling.step * fold + phase % fold - tiling.padding
                    for c in range(0, channels, LANES):
                        place = to + phase * layout.phase + c // PANEL * layout.panel + c % PANEL
                        both_axes(matrix, points, place, layout.point, tile, 0, LANES)
                        at = 0
                        for h in range(top, top + l * fold, fold):
                            for w in range(left, left + l * fold, fold):
                                if 0 <= h < height and 0 <= w < width:
                                    pixel = ((b * height + h) * width + w) * channels + c
                                    store(pixels, pixel, load(pixels, pixel) + load(tile, at))
                                at += LANES
                to += PANEL


@compiled
def multiply_pictures(first, last, group, source, matrix, tiling, filters, filters_point, target, back, target_tiling):
    """Groups first to last of `group` pictures each: transformed, multiplied with the filters, transformed back."""
    n2 = len(matrix) * len(matrix)
    tiles = tiling.rows * tiling.columns
    blocks = source.shape[3] * tiling.fold**2 // PANEL
    panels = target.shape[3] * target_tiling.fold**2 // PANEL
    rows = -(-group * tiles // ROWS) * ROWS
    a = Layout(n2_apart(blocks * PANEL * rows), blocks * PANEL * rows // tiling.fold**2, rows * PANEL)
    c = Layout(n2_apart(panels * PANEL * rows), panels * PANEL * rows // target_tiling.fold**2, rows * PANEL)
    factor, product = np.empty(n2 * a.point, np.float32), np.empty(n2 * c.point, np.float32)
    depth = blocks * PANEL
    for number in range(first, last):
        b, end = number * group, min(len(source), (number + 1) * group)
        used = (end - b) * tiles
        to_points(b, end, source, matrix, tiling, b, factor, a)
        for e in range(n2):
            for panel in range(panels):
                right = e * filters_point + panel * depth * PANEL
                for row in range(0, used, ROWS):
                    left = e * a.point + row * PANEL
                    to = e * c.point + panel * c.panel + row * PANEL
                    multiply_tile(factor, left, PANEL, 1, a.panel, blocks, PANEL, filters, right, product, to, False)
        from_points(b, end, product, c, back, target_tiling, b, target)


@compiled
def n2_apart(size):
    return size + LANES


@compiled
def multiply_letters(first, last, left, left_layout, rows, right, right_layout, panels, depth, product, layout, more):
    """(rows, panels PANEL) = leftᵀ right at every point, a sum over `depth` tiles; with `more`, added."""
    for number in range(first, last):
        e, panel = number // panels, number % panels
        for row in range(0, rows, ROWS):
            at = e * left_layout.point + row // PANEL * left_layout.panel + row % PANEL
            b = e * right_layout.point + panel * right_layout.panel
            to = e * layout.point + panel * layout.panel + row * PANEL
            multiply_tile(left, at, 1, PANEL, 0, 1, depth, right, b, product, to, more)
