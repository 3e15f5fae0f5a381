"""Convolution on the CPU: which algorithm takes which layer."""

from __future__ import annotations

from kernels.conv2d import direct, winograd
from kernels.lanes import PANEL

__all__ = ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]

FEW_TILES = 128  # with fewer, the filters' transform is the most of the work
OUTPUTS = {  # by the taps of a filter after folding, r: the outputs of a tile, on each axis
    2: 4,
    3: 4,
    5: 2,
}


def winograd_for(n, size, w_shape, stride, padding):
    """The Winograd algorithm for n pictures of P, Q = size under filters (K,R,S,C), or None: then it is `direct`."""
    k, r, s, c = w_shape
    taps = -(-r // stride)
    if r != s or taps not in OUTPUTS or c % PANEL or k % PANEL:
        return None
    m = OUTPUTS[taps]
    if n * -(-size[0] // m) * -(-size[1] // m) < FEW_TILES:
        m = 2
    return winograd.Algorithm(m, taps, stride, padding)


def conv2d(x, w, stride, padding):
    """dT/dy (N,P,Q,K)."""
    size = tuple((side + 2 * padding - window) // stride + 1 for side, window in zip(x.shape[1:3], w.shape[1:3]))
    algorithm = winograd_for(len(x), size, w.shape, stride, padding)
    return winograd.conv2d(x, w, algorithm, size) if algorithm else direct.conv2d(x, w, stride, padding)


def conv2d_transpose(y, w, stride, padding, size):
    """dT/dx (N,H,W,C) with (H, W) = size."""
    algorithm = winograd_for(len(y), y.shape[1:3], w.shape, stride, padding)
    if algorithm:
        return winograd.conv2d_transpose(y, w, algorithm, size)
    return direct.conv2d_transpose(y, w, stride, padding, size)


def conv2d_weight_grad(x, y, stride, padding, size):
    """dT/dw (K,R,S,C) with (R, S) = size."""
    algorithm = winograd_for(len(x), y.shape[1:3], (y.shape[3], *size, x.shape[3]), stride, padding)
    if algorithm:
        return winograd.conv2d_weight_grad(x, y, algorithm, size)
    return direct.conv2d_weight_grad(x, y, stride, padding, size)
