"""Convolution with fewer multiplications (Winograd 1980; Lavin and Gray 2016).

A sum of r products at each of m neighbouring places takes m r multiplications. Polynomials do with n = m + r - 1: the
product of y (m coefficients) and w (r coefficients) has n, and n values at as many points p determine it. So evaluate
both, multiply value by value, and interpolate. As the trilinear form of one axis:

    sum over i, j of x[i + j] w[j] y[i]  =  sum over e of (B x)[e] (G w)[e] (A y)[e]

    A[e,i] = p_e^i          y's values; the last point is infinity, whose value is the highest power's coefficient
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
and with p also -p or 1/p. Another is that a number that is not finite spoils its whole tile: infinity less infinity.

Here is what the devices share: the matrices, how pictures are cut into tiles, and which layers are worth it. On the CPU
tiles_cpu.py transforms and winograd_cpu.py multiplies; on a GPU tiles.cu and winograd.cu do.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

__all__ = ["OUTPUTS", "Algorithm", "Letter", "algorithm", "matrices"]

POINTS = {  # by n; infinity is one more
    3: (0, 1),
    4: (0, 1, -1),
    5: (0, 1, Fraction(-1, 2), -2),
    6: (0, Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2)),
}
OUTPUTS = {
    2: (2, 4),
    3: (2, 4),
    5: (2,),
}  # by the taps r of a folded filter: outputs m of a tile that there are points for
WORTH = 0.7  # of the direct sum's multiplications; the rest goes into the transforms


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


# ---- an algorithm, and how it cuts pictures into tiles ---------------------------------------------------------------


class Letter(NamedTuple):
    """How the pictures (N,H,W,C) of one letter are cut into tiles, and what is done to each.

    to: the letter's matrix (n,side), a tuple of rows of float32, or None for 0; back: its transpose.
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


class Algorithm(NamedTuple):
    """m outputs a tile and r taps a filter on each axis, after folding a stride away."""

    m: int
    r: int
    stride: int
    padding: int

    def tiles(self, size: tuple[int, int]) -> tuple[int, int]:
        """How many rows and columns of tiles y of (P, Q) = size has."""
        return tuple(-(-length // self.m) for length in size)

    def letters(self, size: tuple[int, int]) -> dict[str, Letter]:
        """x, w and y, for y of (P, Q) = size."""
        cut = {
            "x": (self.stride, self.padding, self.m, *self.tiles(size)),
            "w": (self.stride, 0, self.r, 1, 1),  # a filter is one tile
            "y": (1, 0, self.m, *self.tiles(size)),
        }
        exact = matrices(self.m, self.r)
        return {a: Letter(_rounded(rows), _rounded(zip(*rows, strict=True)), *cut[a]) for a, rows in exact.items()}


def _rounded(rows) -> tuple[tuple[np.float32 | None, ...], ...]:
    """As `both_axes` takes a matrix: None is 0."""
    return tuple(tuple(np.float32(float(value)) if value else None for value in row) for row in rows)


def algorithm(
    size: tuple[int, int], w_shape: tuple[int, ...], stride: int, padding: int, multiple: int
) -> Algorithm | None:
    """For y of (P, Q) = size under filters (K,R,S,C): the one with the fewest multiplications.

    None where there is none, where it is not worth it, or where C or K is not a multiple of `multiple`, which is what
    the device takes at a time: then the direct sum is better.
    """
    k, r, s, c = w_shape
    taps = -(-r // stride)
    if r != s or c % multiple or k % multiple or taps not in OUTPUTS:
        return None

    def multiplications(m):  # for a picture, an input and an output channel
        return (stride * (m + taps - 1)) ** 2 * math.prod(-(-length // m) for length in size)

    m = min(OUTPUTS[taps], key=multiplications)
    worth = multiplications(m) <= WORTH * r * s * math.prod(size)
    return Algorithm(m, taps, stride, padding) if worth else None
