"""Convolution in float32 on a GPU of sm_80 or later: Winograd's algorithm for the layers that it suits, else the direct
sum.
"""

from __future__ import annotations

from kernels.batch_norm.cuda import statistics
from kernels.conv2d import fp32_direct, winograd, winograd_cuda
from kernels.conv2d.sizes import output_size

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]
READS_PENDING = True  # a picture may be a kernels.Pending

MULTIPLE = 4  # channels: a copy's
TILES = 64  # as the smallest tile of a product has rows. With fewer, transforming the filters takes what is gained.


def algorithm(n, size, w_shape, stride, padding):
    """For y (N,P,Q,K) with (P, Q) = size under filters (K,R,S,C): Winograd's algorithm, or None: the direct sum."""
    chosen = winograd.algorithm(size, w_shape, stride, padding, MULTIPLE)
    if chosen is None:
        return None
    rows, columns = chosen.tiles(size)
    return chosen if n * rows * columns >= TILES else None


def conv2d(x, w, stride, padding):
    """y (N,P,Q,K) = dT/dy of x (N,H,W,C) and w (K,R,S,C)."""
    size = output_size(x.shape, w.shape, stride, padding)
    if chosen := algorithm(len(x), size, w.shape, stride, padding):
        return winograd_cuda.conv2d(x, w, chosen, size)
    return fp32_direct.conv2d(x, w, stride, padding)


def conv2d_with_statistics(x, w, stride, padding):
    """(y, mean, variance): conv2d, and each channel's mean and variance, (K,)."""
    size = output_size(x.shape, w.shape, stride, padding)
    if chosen := algorithm(len(x), size, w.shape, stride, padding):
        y = winograd_cuda.conv2d(x, w, chosen, size)
        return y, *statistics(y)
    return fp32_direct.conv2d_with_statistics(x, w, stride, padding)


def conv2d_transpose(y, w, stride, padding, size):
    """x (N,H,W,C) = dT/dx of y (N,P,Q,K) and w (K,R,S,C), with (H, W) = size."""
    if chosen := algorithm(len(y), y.shape[1:3], w.shape, stride, padding):
        return winograd_cuda.conv2d_transpose(y, w, chosen, size)
    return fp32_direct.conv2d_transpose(y, w, stride, padding, size)


def conv2d_transpose_with_statistics(y, w, stride, padding, size):
    """(x, mean, variance): conv2d_transpose, and each channel's mean and variance, (C,)."""
    if chosen := algorithm(len(y), y.shape[1:3], w.shape, stride, padding):
        x = winograd_cuda.conv2d_transpose(y, w, chosen, size)
        return x, *statistics(x)
    return fp32_direct.conv2d_transpose_with_statistics(y, w, stride, padding, size)


def conv2d_weight_grad(x, y, stride, padding, size):
    """w (K,R,S,C) = dT/dw of x (N,H,W,C) and y (N,P,Q,K), with (R, S) = size."""
    if chosen := algorithm(len(x), y.shape[1:3], (y.shape[3], *size, x.shape[3]), stride, padding):
        return winograd_cuda.conv2d_weight_grad(x, y, chosen, size)
    return fp32_direct.conv2d_weight_grad(x, y, stride, padding, size)
