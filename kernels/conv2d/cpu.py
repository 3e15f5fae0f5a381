"""Convolution on the CPU: Winograd's algorithm for the layers that it suits, the direct sum for the others.

The direct sum of a few channels reads windows where they lie, that of many has the BLAS multiply copies of them.
"""

from __future__ import annotations

import numpy as np

from kernels.batch_norm.cpu import statistics
from kernels.conv2d import direct, implicit, winograd_cpu
from kernels.conv2d.sizes import output_size
from kernels.conv2d.winograd import algorithm
from kernels.conv2d.with_statistics import with_statistics
from kernels.lanes import PANEL

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]


def rows(*arrays):
    """The arrays C-contiguous, as the lanes read them: they are, unless somebody gives a view."""
    return map(np.ascontiguousarray, arrays)


def conv2d(x, w, stride, padding):
    """dT/dy (N,P,Q,K)."""
    x, w = rows(x, w)
    size = output_size(x.shape, w.shape, stride, padding)
    if chosen := algorithm(size, w.shape, stride, padding, PANEL):
        return winograd_cpu.conv2d(x, w, chosen, size)
    summed = implicit if implicit.suits(size, w.shape) else direct
    return summed.conv2d(x, w, stride, padding)


def conv2d_transpose(y, w, stride, padding, size):
    """dT/dx (N,H,W,C) with (H, W) = size."""
    y, w = rows(y, w)
    if chosen := algorithm(y.shape[1:3], w.shape, stride, padding, PANEL):
        return winograd_cpu.conv2d_transpose(y, w, chosen, size)
    return direct.conv2d_transpose(y, w, stride, padding, size)


def conv2d_weight_grad(x, y, stride, padding, size):
    """dT/dw (K,R,S,C) with (R, S) = size."""
    x, y = rows(x, y)
    w_shape = y.shape[3], *size, x.shape[3]
    if chosen := algorithm(y.shape[1:3], w_shape, stride, padding, PANEL):
        return winograd_cpu.conv2d_weight_grad(x, y, chosen, size)
    summed = implicit if implicit.suits(y.shape[1:3], w_shape) else direct
    return summed.conv2d_weight_grad(x, y, stride, padding, size)


conv2d_with_statistics = with_statistics(conv2d, statistics)
conv2d_transpose_with_statistics = with_statistics(conv2d_transpose, statistics)
