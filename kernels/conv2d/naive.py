"""Launches naive.cu: a thread an element of the output. `--conv naive` trains with it."""

from __future__ import annotations

from kernels.batch_norm.cuda import statistics
from kernels.conv2d.sizes import output_size
from kernels.conv2d.with_statistics import with_statistics
from kernels.launch import Source, empty

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]

SOURCE = Source(__package__, "naive.cu")
THREADS = 256  # of a block


def conv2d(x, w, stride, padding):
    """y (N,P,Q,K) = dT/dy of x (N,H,W,C) and w (K,R,S,C)."""
    n, h, width, c = x.shape
    k, r, s, _ = w.shape
    p, q = output_size(x.shape, w.shape, stride, padding)
    y = empty(x, (n, p, q, k))
    numbers = n, h, width, c, p, q, k, r, s, stride, padding
    SOURCE.launch("conv2d", (n * p * q, blocks(k)), (THREADS,), x, w, y, *numbers)
    return y


def conv2d_transpose(y, w, stride, padding, size):
    """x (N,H,W,C) = dT/dx of y (N,P,Q,K) and w (K,R,S,C), with (H, W) = size."""
    n, p, q, k = y.shape
    _, r, s, c = w.shape
    h, width = size
    x = empty(y, (n, h, width, c))
    numbers = n, h, width, c, p, q, k, r, s, stride, padding
    SOURCE.launch("conv2d_transpose", (n * h * width, blocks(c)), (THREADS,), y, w, x, *numbers)
    return x


def conv2d_weight_grad(x, y, stride, padding, size):
    """w (K,R,S,C) = dT/dw of x (N,H,W,C) and y (N,P,Q,K), with (R, S) = size."""
    n, h, width, c = x.shape
    _, p, q, k = y.shape
    r, s = size
    w = empty(x, (k, r, s, c))
    numbers = n, h, width, c, p, q, k, r, s, stride, padding
    SOURCE.launch("conv2d_weight_grad", (k * r * s, blocks(c)), (THREADS,), x, y, w, *numbers)
    return w


def blocks(channels):
    """How many blocks cover that many channels."""
    return -(-channels // THREADS)


conv2d_with_statistics = with_statistics(conv2d, statistics)
conv2d_transpose_with_statistics = with_statistics(conv2d_transpose, statistics)
