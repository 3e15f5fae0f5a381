"""Convolution on the CPU: the windows of x become the rows of a matrix ("im2col"), and the BLAS multiplies.

    conv2d              y  = windows(x) wᵀ          (N P Q, R S C) times (R S C, K)
    conv2d_transpose    x  = scatter(y w)           (N P Q, K) times (K, R S C), each row added back where it came from
    conv2d_weight_grad  w  = yᵀ windows(x)          (K, N P Q) times (N P Q, R S C)

The matrix of windows is R S / stride² times as large as x, so it never exists as a whole: the pictures go through in
groups whose windows fit in the cache.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.threads import parallel

__all__ = ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]

CACHE = 8 << 20  # bytes that the windows of one group of pictures may take: a part of a common L3 cache


def conv2d(x, w, stride, padding):
    """dT/dy (N,P,Q,K)."""
    n, h, width, c = x.shape
    k, r, s, _ = w.shape
    p, q = (h + 2 * padding - r) // stride + 1, (width + 2 * padding - s) // stride + 1
    x = x.reshape(n, h, width * c)
    y = np.empty((n, p, q, k), np.float32)
    for group, windows in groups(n, p, q, r, s * c):
        gather(x[group], windows, c, stride, padding)
        np.matmul(windows.reshape(-1, r * s * c), w.reshape(k, -1).T, out=y[group].reshape(-1, k))
    return y


def conv2d_transpose(y, w, stride, padding, size):
    """dT/dx (N,H,W,C) with (H, W) = size."""
    n, p, q, k = y.shape
    _, r, s, c = w.shape
    h, width = size
    x = np.empty((n, h, width * c), np.float32)
    for group, windows in groups(n, p, q, r, s * c):
        np.matmul(y[group].reshape(-1, k), w.reshape(k, -1), out=windows.reshape(-1, r * s * c))
        scatter(windows, x[group], c, stride, padding)
    return x.reshape(n, h, width, c)


def conv2d_weight_grad(x, y, stride, padding, size):
    """dT/dw (K,R,S,C) with (R, S) = size: the products of the groups are added in their order."""
    n, h, width, c = x.shape
    _, p, q, k = y.shape
    r, s = size
    x = x.reshape(n, h, width * c)
    w = np.zeros((k, r * s * c), np.float32)
    for group, windows in groups(n, p, q, r, s * c):
        gather(x[group], windows, c, stride, padding)
        w += y[group].reshape(-1, k).T @ windows.reshape(-1, r * s * c)
    return w.reshape(k, r, s, c)


def groups(n, p, q, r, sc):
    """The n pictures as slices, each with a buffer (pictures, P, Q, R, S C) for its windows, always the same memory."""
    pictures = max(1, CACHE // (4 * p * q * r * sc))
    windows = np.empty((min(n, pictures), p, q, r, sc), np.float32)
    for first in range(0, n, pictures):
        group = slice(first, min(n, first + pictures))
        yield group, windows[: group.stop - group.start]


@parallel
def gather(x, windows, c, stride, padding):
    """windows (N,P,Q,R,S C) of x (N,H,W C): S pixels of C numbers stand side by side in both; 0 where x ends."""
    n, p_size, q_size, r_size, sc = windows.shape
    _, h, wc = x.shape
    for row in numba.prange(n * p_size):
        b, p = row // p_size, row % p_size
        for q in range(q_size):
            first = (q * stride - padding) * c  # where the window begins in a row of x
            for r in range(r_size):
                i = p * stride + r - padding
                if 0 <= i < h and first >= 0 and first + sc <= wc:
                    for e in range(sc):
                        windows[b, p, q, r, e] = x[b, i, first + e]
                else:
                    for e in range(sc):
                        inside = 0 <= i < h and 0 <= first + e < wc
                        windows[b, p, q, r, e] = x[b, i, first + e] if inside else 0


@parallel
def scatter(windows, x, c, stride, padding):
    """The adjoint of `gather`: x (N,H,W C) becomes the sum of all that windows (N,P,Q,R,S C) hold for its pixels.

    A thread owns whole rows of x and adds in a fixed order, so the result does not depend on the threads.
    """
    _, p_size, q_size, r_size, sc = windows.shape
    n, h, wc = x.shape
    for row in numba.prange(n * h):
        b, i = row // h, row % h
        total = x[b, i]
        total[:] = 0
        for r in range(r_size):
            p = (i + padding - r) // stride
            if p * stride == i + padding - r and 0 <= p < p_size:
                for q in range(q_size):
                    first = (q * stride - padding) * c
                    lo, hi = max(0, -first), min(sc, wc - first)
                    if lo < hi:
                        total[first + lo : first + hi] += windows[b, p, q, r, lo:hi]
