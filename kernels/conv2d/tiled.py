"""Launches tiled.cu: a thread an element of the output, a block a tile. `--conv tiled` trains with it."""

from __future__ import annotations

from kernels.batch_norm.cuda import statistics
from kernels.conv2d.sizes import largest_phase, output_size
from kernels.conv2d.with_statistics import with_statistics
from kernels.launch import Source, empty

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]

SOURCE = Source(__package__, "tiled.cu")
TILE = 16  # rows and columns of the output that a block makes, a thread an element: 256 threads
BLOCK = (TILE, TILE)


def conv2d(x, w, stride, padding):
    """y (N,P,Q,K) = dT/dy of x (N,H,W,C) and w (K,R,S,C)."""
    n, h, width, c = x.shape
    k, r, s, _ = w.shape
    p, q = output_size(x.shape, w.shape, stride, padding)
    y = empty(x, (n, p, q, k))
    grid = (tiles(n * p * q), tiles(k))
    numbers = n, h, width, c, p, q, k, r, s, stride, padding
    SOURCE.launch("conv2d", grid, BLOCK, x, w, y, *numbers, TILE=TILE)
    return y


def conv2d_transpose(y, w, stride, padding, size):
    """x (N,H,W,C) = dT/dx of y (N,P,Q,K) and w (K,R,S,C), with (H, W) = size."""
    n, p, q, k = y.shape
    _, r, s, c = w.shape
    h, width = size
    x = empty(y, (n, h, width, c))
    grid = (tiles(largest_phase(n, size, stride)), tiles(c), stride * stride)
    numbers = n, h, width, c, p, q, k, r, s, stride, padding
    SOURCE.launch("conv2d_transpose", grid, BLOCK, y, w, x, *numbers, TILE=TILE)
    return x


def conv2d_weight_grad(x, y, stride, padding, size):
    """w (K,R,S,C) = dT/dw of x (N,H,W,C) and y (N,P,Q,K), with (R, S) = size."""
    n, h, width, c = x.shape
    _, p, q, k = y.shape
    r, s = size
    w = empty(x, (k, r, s, c))
    grid = (tiles(r * s * c), tiles(k))
    numbers = n, h, width, c, p, q, k, r, s, stride, padding
    SOURCE.launch("conv2d_weight_grad", grid, BLOCK, x, y, w, *numbers, TILE=TILE)
    return w


def tiles(length):
    """How many tiles cover that many rows or columns."""
    return -(-length // TILE)


conv2d_with_statistics = with_statistics(conv2d, statistics)
conv2d_transpose_with_statistics = with_statistics(conv2d_transpose, statistics)
