"""Convolution of pictures with few channels: the direct sum, whose windows are read where they lie.

What direct.py copies together, the R S C numbers of a window, lies in R rows of the picture, S C neighbours in each,
once the picture has its padding. `multiply_tile` takes that as it is: no matrix of windows is built ("implicit GEMM").

    conv2d              y  = windows(x) wᵀ          ROWS neighbouring windows of a row, PANEL filters at a time
    conv2d_weight_grad  w  = windows(x)ᵀ y          ROWS neighbouring places of the windows, PANEL filters at a time

Windows of three channels are short: to copy them would be most of the work.
"""

from __future__ import annotations

import numpy as np

from kernels.conv2d.sizes import output_size
from kernels.conv2d.tiles_cpu import SLAB
from kernels.lanes import PANEL, ROWS, multiply_tile
from kernels.memory import empty
from kernels.threads import compiled, share

__all__ = ["conv2d", "conv2d_weight_grad", "suits"]

MOST = 256  # places of a window: of longer ones the BLAS makes as much, and rounds less


def suits(size, w_shape):
    """Whether y of (P, Q) = size under filters (K,R,S,C) can be had here, and is better had here."""
    k, r, s, c = w_shape
    return k % PANEL == 0 and size[1] >= ROWS and s * c >= ROWS and r * s * c <= MOST


def conv2d(x, w, stride, padding):
    """dT/dy (N,P,Q,K)."""
    n, h, width, c = x.shape
    k, r, s, _ = w.shape
    y = empty((n, *output_size(x.shape, w.shape, stride, padding), k))
    filters = np.ascontiguousarray(w.reshape(k, r, s * c).transpose(1, 2, 0))  # (R, S C, K)
    share(convolve, n, x.reshape(n, h, width * c), filters, y, c, stride, padding)
    return y


def conv2d_weight_grad(x, y, stride, padding, size):
    """dT/dw (K,R,S,C) with (R, S) = size: the pictures' own are added in their order."""
    n, h, width, c = x.shape
    k, (r, s) = y.shape[3], size
    filters = empty((n, r, s * c, k))  # of each picture
    share(correlate, n, x.reshape(n, h, width * c), y, filters, c, stride, padding)
    return np.ascontiguousarray(filters.sum(axis=0).transpose(2, 0, 1)).reshape(k, r, s, c)


@compiled
def pad(x, padding, c, padded):
    """x (H, W C) into the middle of padded (H + 2 padding, (W + 2 padding) C), whose border stays as it is."""
    h, wc = x.shape
    for i in range(h):
        row = padded[padding + i, padding * c : padding * c + wc]
        row[:] = x[i]


@compiled
def convolve(first, last, x, filters, y, c, stride, padding):
    """y (N,P,Q,K) of pictures first to last of x (N,H,W C); filters (R,S C,K)."""
    _, h, wc = x.shape
    _, p_size, q_size, k = y.shape
    r_size, sc, _ = filters.shape
    padded = np.zeros((h + 2 * padding, wc + 2 * padding * c), np.float32)
    row = padded.shape[1]
    pixels, numbers, result = padded.reshape(-1), filters.reshape(-1), y.reshape(-1)
    for b in range(first, last):
        pad(x[b], padding, c, padded)
        for p in range(p_size):
            for start in range(0, q_size, ROWS):
                q = min(start, q_size - ROWS)  # the last tile may make again what the one before it has made
                at = (p * row + q * c) * stride
                for panel in range(0, k, PANEL):
                    to = ((b * p_size + p) * q_size + q) * k + panel
                    multiply_tile(pixels, at, stride * c, 1, row, r_size, sc, numbers, panel, k, result, to, k, False)


@compiled
def correlate(first, last, x, y, filters, c, stride, padding):
    """filters (N,R,S C,K) of pictures first to last of x (N,H,W C) and y (N,P,Q,K)."""
    _, h, wc = x.shape
    _, p_size, q_size, k = y.shape
    _, r_size, sc, _ = filters.shape
    padded = np.zeros((h + 2 * padding, wc + 2 * padding * c), np.float32)
    row = padded.shape[1]
    pixels, numbers, result = padded.reshape(-1), y.reshape(-1), filters.reshape(-1)
    step = max(1, SLAB // q_size)  # rows of y that are a slab
    for b in range(first, last):
        pad(x[b], padding, c, padded)
        for r in range(r_size):
            for start in range(0, sc, ROWS):
                place = min(start, sc - ROWS)  # as above
                for panel in range(0, k, PANEL):
                    to = ((b * r_size + r) * sc + place) * k + panel
                    for p in range(0, p_size, step):
                        at = (p * stride + r) * row + place
                        rows = min(step, p_size - p)
                        top = (b * p_size + p) * q_size * k + panel
                        multiply_tile(
                            pixels, at, 1, stride * c, stride * row, rows, q_size,
                            numbers, top, k, result, to, k, p > 0,
                        )  # fmt: skip
