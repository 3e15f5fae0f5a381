"""Launches conv2d.cu: one tile of the output a block, and long sums in parts.

Beside it fold.cu where x has few channels, and dot.cu where y has.
"""

from __future__ import annotations

from kernels.batch_norm.cuda import statistics
from kernels.conv2d import dot, fold
from kernels.conv2d.parts import number_of_parts, whole
from kernels.conv2d.sizes import largest_phase, output_size
from kernels.conv2d.with_statistics import with_statistics
from kernels.launch import Source, empty, multiprocessors

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]

SOURCE = Source(__package__, "conv2d.cu")
SIDE = 16  # of a block, SIDE x SIDE threads
MICRO = 4  # a thread makes MICRO x MICRO outputs: 8 numbers that it reads serve 16 multiply-adds
TILE = SIDE * MICRO  # rows and columns of the output that a block makes
RESIDENT = 4  # blocks that a multiprocessor works on at the same time
LEAST = 128  # terms in a part of a sum


def conv2d(x, w, stride, padding):
    """y (N,P,Q,K) = dT/dy of x (N,H,W,C) and w (K,R,S,C)."""
    if dot.suits(w.shape):
        return dot.conv2d(x, w, stride, padding)
    n, h, width, c = x.shape
    k, r, s, _ = w.shape
    p, q = output_size(x.shape, w.shape, stride, padding)
    rows, columns = tiles(n * p * q), tiles(k)
    parts = number_of_parts(rows * columns, RESIDENT * multiprocessors(x), r * s * c, LEAST)
    y = empty(x, (parts, n, p, q, k))
    numbers = n, h, width, c, p, q, k, padding, parts
    launch("conv2d", (rows, columns, parts), x, w, y, *numbers, STRIDE=stride, R=r, S=s)
    return whole(y)


def conv2d_transpose(y, w, stride, padding, size):
    """x (N,H,W,C) = dT/dx of y (N,P,Q,K) and w (K,R,S,C), with (H, W) = size."""
    n, p, q, k = y.shape
    _, r, s, c = w.shape
    if fold.suits(w.shape):
        return fold.conv2d_transpose(y, w, stride, padding, size, conv2d_transpose)
    h, width = size
    x = empty(y, (n, h, width, c))
    grid = (tiles(largest_phase(n, size, stride)), tiles(c), stride * stride)
    launch("conv2d_transpose", grid, y, w, x, n, h, width, c, p, q, k, padding, STRIDE=stride, R=r, S=s)
    return x


def conv2d_weight_grad(x, y, stride, padding, size):
    """w (K,R,S,C) = dT/dw of x (N,H,W,C) and y (N,P,Q,K), with (R, S) = size."""
    n, h, width, c = x.shape
    _, p, q, k = y.shape
    r, s = size
    rows, columns = tiles(k), tiles(r * s * c)
    parts = number_of_parts(rows * columns, RESIDENT * multiprocessors(x), n * p * q, LEAST)
    w = empty(x, (parts, k, r, s, c))
    numbers = n, h, width, c, p, q, k, padding, parts
    launch("conv2d_weight_grad", (columns, rows, parts), x, y, w, *numbers, STRIDE=stride, R=r, S=s)
    return whole(w)


def launch(kernel, grid, *arguments, **window):
    """One of the kernels, built for a window and for the block and the tile above."""
    SOURCE.launch(kernel, grid, (SIDE, SIDE), *arguments, SIDE=SIDE, MICRO=MICRO, **window)


def tiles(length):
    """How many tiles cover that many rows or columns."""
    return -(-length // TILE)


conv2d_with_statistics = with_statistics(conv2d, statistics)
conv2d_transpose_with_statistics = with_statistics(conv2d_transpose, statistics)
