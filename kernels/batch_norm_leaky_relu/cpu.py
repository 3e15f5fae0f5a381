"""Batch normalisation and the leaky rectifier on the CPU: two passes over memory forward, two backward.

The passes are those of kernels/batch_norm/cpu.py, and so are the sums; all that is done besides is done in registers.
"""

from __future__ import annotations

import numpy as np

from kernels.batch_norm.cpu import factor_of, in_two_passes, normalised, statistics
from kernels.memory import empty
from kernels.threads import compiled, share

__all__ = ["batch_norm_leaky_relu", "batch_norm_leaky_relu_grad", "batch_norm_leaky_relu_inference"]


def batch_norm_leaky_relu(x, scale, shift, eps, slope):
    """(y, mean, variance)."""
    mean, variance = statistics(x)
    return batch_norm_leaky_relu_inference(x, scale, shift, mean, variance, eps, slope), mean, variance


def batch_norm_leaky_relu_inference(x, scale, shift, mean, variance, eps, slope):
    """y with a given mean and variance."""
    y = empty(x.shape)
    rows, line = x.reshape(-1, x.shape[-1]), (factor_of(scale, variance, eps), shift, np.float32(slope))
    share(activate, len(rows), rows, mean, *line, y.reshape(rows.shape))
    return y


def batch_norm_leaky_relu_grad(gy, x, scale, shift, mean, variance, eps, slope):
    """(gx, gscale, gshift)."""
    return in_two_passes(correlations, combine, gy, x, scale, mean, variance, eps, shift, np.float32(slope))


@compiled
def activate(first, last, x, mean, factor, shift, slope, y):
    """y (M,C) = n where n > 0, slope n elsewhere; mean, factor, shift (C,)."""
    c = x.shape[1]
    for row in range(first, last):
        for k in range(c):
            n = normalised(x[row, k], mean[k], factor[k], shift[k])
            y[row, k] = n if n > 0 else slope * n


@compiled
def correlations(first, last, gy, x, mean, factor, shift, slope, step, sums, products):
    """As in kernels/batch_norm/cpu.py, of the gradient at n: gy where n > 0, slope gy elsewhere."""
    m, c = x.shape
    for i in range(first, last):
        for row in range(i * step, min(m, (i + 1) * step)):
            for k in range(c):
                n = normalised(x[row, k], mean[k], factor[k], shift[k])
                gn = gy[row, k] if n > 0 else slope * gy[row, k]
                sums[i, k] += gn
                products[i, k] += np.float64(gn) * (x[row, k] - mean[k])


@compiled
def combine(first, last, gy, x, mean, factor, a, b, shift, slope, gx):
    """As in kernels/batch_norm/cpu.py: gx (M,C) = factor gn - a - b (x - mean), with factor, a, b (C,)."""
    c = x.shape[1]
    for row in range(first, last):
        for k in range(c):
            n = normalised(x[row, k], mean[k], factor[k], shift[k])
            gn = gy[row, k] if n > 0 else slope * gy[row, k]
            gx[row, k] = factor[k] * gn - a[k] - b[k] * (x[row, k] - mean[k])
