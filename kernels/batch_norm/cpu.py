"""Batch normalisation on the CPU: two passes over memory forward, two backward. x (..., C) is seen as rows (M,C).

A sum over the M rows is made of sums over chunks of rows, each small enough to stay in a core's cache. How the rows are
cut depends on their shape alone, and the chunks are put together in their order, so any number of threads gives the
same bits. All sums are in double: the loops wait for the memory anyway.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels.threads import parallel

__all__ = ["batch_norm", "batch_norm_grad", "batch_norm_inference"]

CHUNK = 1 << 16  # numbers of x in a chunk: 256 KiB


def batch_norm(x, scale, shift, eps):
    """(y, mean, variance)."""
    m = x.size // x.shape[-1]
    counts, means, squares = moments(x.reshape(m, -1), CHUNK)
    mean = counts @ means / m
    variance = (squares.sum(axis=0) + counts @ (means - mean) ** 2) / m  # within the chunks, and between them
    mean, variance = mean.astype(np.float32), variance.astype(np.float32)
    return batch_norm_inference(x, scale, shift, mean, variance, eps), mean, variance


def batch_norm_grad(gy, x, scale, mean, variance, eps):
    """(gx, gscale, gshift) with gx = factor (gy - gshift / M - (x - mean) inverse gscale / M)."""
    m = x.size // x.shape[-1]
    sums, products = correlations(gy.reshape(m, -1), x.reshape(m, -1), mean, CHUNK)
    inverse = 1 / np.sqrt(variance.astype(np.float64) + eps)
    factor, gscale, gshift = scale * inverse, products.sum(axis=0) * inverse, sums.sum(axis=0)
    columns = factor, factor * gshift / m, factor * inverse * gscale / m
    gx = np.empty(x.shape, np.float32)
    combine(gy.reshape(m, -1), x.reshape(m, -1), mean, *np.array(columns, np.float32), gx.reshape(m, -1))
    return gx, gscale.astype(np.float32), gshift.astype(np.float32)


def batch_norm_inference(x, scale, shift, mean, variance, eps):
    """y with a given mean and variance."""
    factor = (scale / np.sqrt(variance.astype(np.float64) + eps)).astype(np.float32)
    y = np.empty(x.shape, np.float32)
    normalise(x.reshape(-1, x.shape[-1]), mean, factor, shift, y.reshape(-1, x.shape[-1]))
    return y


@parallel
def moments(x, chunk):
    """Of each chunk of rows of x (M,C): their number (chunks,), their mean and sum of (x - mean)², each (chunks,C).

    Reads x twice, the second time from the cache. How the chunks combine: Chan, Golub and LeVeque (1979).
    """
    m, c = x.shape
    step = max(1, chunk // c)
    chunks = (m + step - 1) // step
    counts, means, squares = np.empty(chunks), np.zeros((chunks, c)), np.zeros((chunks, c))
    for i in numba.prange(chunks):
        first, last = i * step, min(m, (i + 1) * step)
        counts[i] = last - first
        for row in range(first, last):
            for k in range(c):
                means[i, k] += x[row, k]
        for k in range(c):
            means[i, k] /= counts[i]
        for row in range(first, last):
            for k in range(c):
                squares[i, k] += (x[row, k] - means[i, k]) ** 2
    return counts, means, squares


@parallel
def correlations(gy, x, mean, chunk):
    """Of each chunk of rows: the sums of gy and of gy (x - mean), each (chunks,C)."""
    m, c = x.shape
    step = max(1, chunk // c)
    chunks = (m + step - 1) // step
    sums, products = np.zeros((chunks, c)), np.zeros((chunks, c))
    for i in numba.prange(chunks):
        for row in range(i * step, min(m, (i + 1) * step)):
            for k in range(c):
                sums[i, k] += gy[row, k]
                products[i, k] += np.float64(gy[row, k]) * (x[row, k] - mean[k])
    return sums, products


@parallel
def normalise(x, mean, factor, shift, y):
    """y (M,C) = (x - mean) factor + shift, with mean, factor, shift (C,)."""
    m, c = x.shape
    for row in numba.prange(m):
        for k in range(c):
            y[row, k] = (x[row, k] - mean[k]) * factor[k] + shift[k]


@parallel
def combine(gy, x, mean, factor, a, b, gx):
    """gx (M,C) = factor gy - a - b (x - mean), with mean, factor, a, b (C,)."""
    m, c = x.shape
    for row in numba.prange(m):
        for k in range(c):
            gx[row, k] = factor[k] * gy[row, k] - a[k] - b[k] * (x[row, k] - mean[k])
