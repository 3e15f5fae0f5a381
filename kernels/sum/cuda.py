"""Launches sum.cu: once for every run of neighbouring axes that are summed."""

from __future__ import annotations

from itertools import groupby
from math import prod

from kernels.elementwise.cuda import four_axes, strides
from kernels.launch import Source, empty

__all__ = ["broadcast_to", "sum"]

SOURCE = Source(__package__, "sum.cu")


def sum(x, axes):
    """x summed over `axes` (a tuple of axes, each >= 0), which stay with length 1."""
    if not axes:
        return x.copy()
    for summed, run in groupby(range(x.ndim), key=lambda axis: axis in axes):
        if summed:
            x = sum_run(x, list(run))
    return x


def sum_run(x, run):
    """x summed over a run of neighbouring axes: x is seen as (A,B,C), where B is all of them."""
    first, last = run[0], run[-1]
    b, c = prod(x.shape[first : last + 1]), prod(x.shape[last + 1 :])
    y = empty(x, (*x.shape[:first], *[1] * len(run), *x.shape[last + 1 :]))
    lanes = min(32, 1 << (c - 1).bit_length())  # the least power of two that covers C
    a = y.size // c
    SOURCE.launch("sum", (a * -(-c // lanes),), (lanes, 256 // lanes), x, y, b, c)
    return y


def broadcast_to(x, shape):
    """x repeated to `shape` by NumPy's broadcasting, in memory of its own."""
    y = empty(x, shape)
    grid = ((y.size + 255) // 256,)
    SOURCE.launch("broadcast_to", grid, (256,), x, y, y.size, *four_axes(shape)[1:], *strides(x.shape))
    return y
