"""Convolution as it is defined: the windows of x become the rows of a matrix ("im2col"), and the BLAS multiplies.

    conv2d              y  = windows(x) wᵀ          (N P Q, R S C) times (R S C, K)
    conv2d_transpose    x  = scatter(y w)           (N P Q, K) times (K, R S C), each row added back where it came from
    conv2d_weight_grad  w  = yᵀ windows(x)          (K, N P Q) times (N P Q, R S C)

The matrix of windows is R S / stride² times as large as x, so it never exists as a whole: the pictures go through in
groups whose windows fit in the cache.
"""

from __future__ import annotations

import numpy as np

from kernels.batch_norm.cpu import statistics
from kernels.conv2d.sizes import output_size
from kernels.conv2d.with_statistics import with_statistics
from kernels.memory import empty
from kernels.threads import compiled, share

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]

CACHE = 1 << 20  # bytes that the windows of one group of pictures may take: a core's own cache
FILTERS = 32  # whose gradients are one part of the work


def conv2d(x, w, stride, padding):
    """dT/dy (N,P,Q,K)."""
    n, h, width, c = x.shape
    k, r, s, _ = w.shape
    p, q = output_size(x.shape, w.shape, stride, padding)
    x, filters = x.reshape(n, h, width * c), w.reshape(k, -1).T
    y = empty((n, p, q, k))
    step = group_size(p, q, r, s * c)

    def convolve(first, last):
        for group, windows in groups(first, last, step, n, p, q, r, s * c):
            gather(0, len(windows), x[group], windows, c, stride, padding)
            np.matmul(windows.reshape(-1, r * s * c), filters, out=y[group].reshape(-1, k))

    share(convolve, -(-n // step))
    return y


def conv2d_transpose(y, w, stride, padding, size):
    """dT/dx (N,H,W,C) with (H, W) = size."""
    n, p, q, k = y.shape
    _, r, s, c = w.shape
    h, width = size
    filters = w.reshape(k, -1)
    x = empty((n, h, width * c))
    step = group_size(p, q, r, s * c)

    def spread(first, last):
        for group, windows in groups(first, last, step, n, p, q, r, s * c):
            np.matmul(y[group].reshape(-1, k), filters, out=windows.reshape(-1, r * s * c))
            scatter(windows, x[group], c, stride, padding)

    share(spread, -(-n // step))
    return x.reshape(n, h, width, c)


def conv2d_weight_grad(x, y, stride, padding, size):
    """dT/dw (K,R,S,C) with (R, S) = size: the products of the groups are added in their order."""
    n, h, width, c = x.shape
    _, p, q, k = y.shape
    r, s = size
    x = x.reshape(n, h, width * c)
    w = np.zeros((k, r * s * c), np.float32)
    step = 8 * group_size(p, q, r, s * c)  # in the cache that the cores share: both take part in every group

    def correlate(first, last, rows, windows):
        for number in range(first, last):  # one by one: the BLAS may round otherwise for other sizes
            filters = slice(number * FILTERS, (number + 1) * FILTERS)
            w[filters] += rows[:, filters].T @ windows

    for group, windows in groups(0, -(-n // step), step, n, p, q, r, s * c):
        share(gather, len(windows), x[group], windows, c, stride, padding)
        share(correlate, -(-k // FILTERS), y[group].reshape(-1, k), windows.reshape(-1, r * s * c))
    return w.reshape(k, r, s, c)


def group_size(p, q, r, sc):
    """How many pictures have their windows in the cache."""
    return max(1, CACHE // (4 * p * q * r * sc))


def groups(first, last, step, n, p, q, r, sc):
    """Groups first to last, of `step` of the n pictures each, as slices, each with a buffer (pictures, P, Q, R, S C)
    for its windows, always the same memory."""
    windows = empty((min(n, step), p, q, r, sc))
    for number in range(first, last):
        group = slice(number * step, min(n, (number + 1) * step))
        yield group, windows[: group.stop - group.start]


@compiled
def gather(first, last, x, windows, c, stride, padding):
    """windows (N,P,Q,R,S C) of x (N,H,W C): S pixels of C numbers stand side by side in both; 0 where x ends."""
    _, p_size, q_size, r_size, sc = windows.shape
    _, h, wc = x.shape
    for b in range(first, last):
        for p in range(p_size):
            for q in range(q_size):
                start = (q * stride - padding) * c  # where the window begins in a row of x
                for r in range(r_size):
                    i = p * stride + r - padding
                    window = windows[b, p, q, r]
                    if 0 <= i < h and start >= 0 and start + sc <= wc:
                        pixels = x[b, i, start : start + sc]
                        for e in range(sc):
                            window[e] = pixels[e]
                    else:
                        for e in range(sc):
                            inside = 0 <= i < h and 0 <= start + e < wc
                            window[e] = x[b, i, start + e] if inside else 0


@compiled
def scatter(windows, x, c, stride, padding):
    """The adjoint of `gather`: x (N,H,W C) becomes the sum of all that windows (N,P,Q,R,S C) hold for its pixels."""
    _, p_size, q_size, r_size, sc = windows.shape
    n, h, wc = x.shape
    for b in range(n):
        for i in range(h):
            total = x[b, i]
            total[:] = 0
            for r in range(r_size):
                p = (i + padding - r) // stride
                if p * stride == i + padding - r and 0 <= p < p_size:
                    for q in range(q_size):
                        start = (q * stride - padding) * c
                        lo, hi = max(0, -start), min(sc, wc - start)
                        if lo < hi:
                            pixels, window = total[start + lo : start + hi], windows[b, p, q, r, lo:hi]
                            for e in range(hi - lo):
                                pixels[e] += window[e]


conv2d_with_statistics = with_statistics(conv2d, statistics)
conv2d_transpose_with_statistics = with_statistics(conv2d_transpose, statistics)
