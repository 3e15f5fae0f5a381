"""Convolution on the CPU: Winograd's algorithm for the layers that it suits, the direct sum for the others.

The direct sum of a few channels reads windows where they lie, that of many has the BLAS multiply copies of them.
"""

from __future__ import annotations

import math

import numpy as np

from kernels.conv2d import direct, implicit, winograd
from kernels.lanes import PANEL

__all__ = ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]

OUTPUTS = {
    2: (2, 4),
    3: (2, 4),
    5: (2,),
}  # by the taps r of a folded filter: outputs m of a tile that there are points for
WORTH = 0.7  # of the direct sum's multiplications; the rest goes into the transforms


def algorithm(size, w_shape, stride, padding):
    """For y of (P, Q) = size under filters (K,R,S,C): the Winograd algorithm with the fewest multiplications.

    None where there is none, or it is not worth it: then the direct sum is better.
    """
    k, r, s, c = w_shape
    taps = -(-r // stride)
    if r != s or c % PANEL or k % PANEL or taps not in OUTPUTS:
        return None

    def multiplications(m):  # for a picture, an input and an output channel
        return (stride * (m + taps - 1)) ** 2 * math.prod(-(-length // m) for length in size)

    m = min(OUTPUTS[taps], key=multiplications)
    worth = multiplications(m) <= WORTH * r * s * math.prod(size)
    return winograd.Algorithm(m, taps, stride, padding) if worth else None


def rows(*arrays):
    """The arrays C-contiguous, as the lanes read them: they are, unless somebody gives a view."""
    return map(np.ascontiguousarray, arrays)


def conv2d(x, w, stride, padding):
    """dT/dy (N,P,Q,K)."""
    x, w = rows(x, w)
    size = tuple((x.shape[axis] + 2 * padding - w.shape[axis]) // stride + 1 for axis in (1, 2))
    if chosen := algorithm(size, w.shape, stride, padding):
        return winograd.conv2d(x, w, chosen, size)
    summed = implicit if implicit.suits(size, w.shape) else direct
    return summed.conv2d(x, w, stride, padding)


def conv2d_transpose(y, w, stride, padding, size):
    """dT/dx (N,H,W,C) with (H, W) = size."""
    y, w = rows(y, w)
    if chosen := algorithm(y.shape[1:3], w.shape, stride, padding):
        return winograd.conv2d_transpose(y, w, chosen, size)
    return direct.conv2d_transpose(y, w, stride, padding, size)


def conv2d_weight_grad(x, y, stride, padding, size):
    """dT/dw (K,R,S,C) with (R, S) = size."""
    x, y = rows(x, y)
    w_shape = y.shape[3], *size, x.shape[3]
    if chosen := algorithm(y.shape[1:3], w_shape, stride, padding):
        return winograd.conv2d_weight_grad(x, y, chosen, size)
    summed = implicit if implicit.suits(y.shape[1:3], w_shape) else direct
    return summed.conv2d_weight_grad(x, y, stride, padding, size)
