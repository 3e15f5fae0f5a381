"""Batch normalisation on the CPU: two passes over memory forward, two backward. x (..., C) is seen as rows (M,C).

A sum over the M rows is made of sums over chunks of rows, each small enough to stay in a core's cache. How the rows are
cut depends on their shape alone, and the chunks are put together in their order, so any number of threads gives the
same bits. All sums are in double: the loops wait for the memory anyway.
"""

from __future__ import annotations

import numpy as np

from kernels.memory import empty
from kernels.threads import compiled, share

__all__ = ["batch_norm", "batch_norm_grad", "batch_norm_inference"]

CHUNK = 1 << 16  # numbers of x in a chunk: 256 KiB


def batch_norm(x, scale, shift, eps):
    """(y, mean, variance)."""
    mean, variance = statistics(x)
    return batch_norm_inference(x, scale, shift, mean, variance, eps), mean, variance


def statistics(x):
    """The mean and the variance of each channel, (C,)."""
    m = x.size // x.shape[-1]
    step = rows_of_a_chunk(x)
    chunks = -(-m // step)
    counts, means, squares = np.empty(chunks), np.zeros((chunks, x.shape[-1])), np.zeros((chunks, x.shape[-1]))
    share(moments, chunks, x.reshape(m, -1), step, counts, means, squares)
    mean = counts @ means / m
    variance = (squares.sum(axis=0) + counts @ (means - mean) ** 2) / m  # within the chunks, and between them
    return mean.astype(np.float32), variance.astype(np.float32)


def batch_norm_grad(gy, x, scale, mean, variance, eps):
    """(gx, gscale, gshift)."""
    return in_two_passes(correlations, combine, gy, x, scale, mean, variance, eps)


def in_two_passes(correlations, combine, gy, x, scale, mean, variance, eps, *rectifier):
    """(gx, gscale, gshift) with gx = factor (gy - gshift / M - (x - mean) inverse gscale / M).

    correlations, combine: the kernels of that name below; or those of a room that has a rectifier after it, which take
    its shift and slope.
    """
    m = x.size // x.shape[-1]
    rows = gy.reshape(m, -1), x.reshape(m, -1)
    factor = factor_of(scale, variance, eps)
    sign = (factor, *rectifier) if rectifier else ()  # what tells it
    step = rows_of_a_chunk(x)
    sums, products = np.zeros((2, -(-m // step), x.shape[-1]))
    share(correlations, len(sums), *rows, mean, *sign, step, sums, products)
    inverse = 1 / np.sqrt(variance.astype(np.float64) + eps)
    gscale, gshift = products.sum(axis=0) * inverse, sums.sum(axis=0)
    a, b = np.array([factor * gshift / m, factor * inverse * gscale / m], np.float32)
    gx = empty(x.shape)
    share(combine, m, *rows, mean, factor, a, b, *rectifier, gx.reshape(m, -1))
    return gx, gscale.astype(np.float32), gshift.astype(np.float32)


def batch_norm_inference(x, scale, shift, mean, variance, eps):
    """y with a given mean and variance."""
    y = empty(x.shape)
    rows = x.reshape(-1, x.shape[-1])
    share(normalise, len(rows), rows, mean, factor_of(scale, variance, eps), shift, y.reshape(rows.shape))
    return y


def factor_of(scale, variance, eps):
    """scale / sqrt(variance + eps), (C,)."""
    return (scale / np.sqrt(variance.astype(np.float64) + eps)).astype(np.float32)


def rows_of_a_chunk(x):
    """How many rows of x (..., C) are summed in one go."""
    return max(1, CHUNK // x.shape[-1])


@compiled
def moments(first, last, x, step, counts, means, squares):
    """Of chunks of `step` rows of x (M,C): their number (chunks,), their mean and sum of (x - mean)², each (chunks,C).

    Reads x twice, the second time from the cache. How the chunks combine: Chan, Golub and LeVeque (1979).
    """
    m, c = x.shape
    for i in range(first, last):
        top, bottom = i * step, min(m, (i + 1) * step)
        counts[i] = bottom - top
        for row in range(top, bottom):
            for k in range(c):
                means[i, k] += x[row, k]
        for k in range(c):
            means[i, k] /= counts[i]
        for row in range(top, bottom):
            for k in range(c):
                squares[i, k] += (x[row, k] - means[i, k]) ** 2


@compiled
def correlations(first, last, gy, x, mean, step, sums, products):
    """Of chunks of `step` rows: the sums of gy and of gy (x - mean), each (chunks,C)."""
    m, c = x.shape
    for i in range(first, last):
        for row in range(i * step, min(m, (i + 1) * step)):
            for k in range(c):
                sums[i, k] += gy[row, k]
                products[i, k] += np.float64(gy[row, k]) * (x[row, k] - mean[k])


@compiled
def normalised(x, mean, factor, shift):
    """One number, the same wherever it is computed."""
    return (x - mean) * factor + shift


@compiled
def normalise(first, last, x, mean, factor, shift, y):
    """y (M,C) = (x - mean) factor + shift, with mean, factor, shift (C,)."""
    c = x.shape[1]
    for row in range(first, last):
        for k in range(c):
            y[row, k] = normalised(x[row, k], mean[k], factor[k], shift[k])


@compiled
def combine(first, last, gy, x, mean, factor, a, b, gx):
    """gx (M,C) = factor gy - a - b (x - mean), with mean, factor, a, b (C,)."""
    c = x.shape[1]
    for row in range(first, last):
        for k in range(c):
            gx[row, k] = factor[k] * gy[row, k] - a[k] - b[k] * (x[row, k] - mean[k])
