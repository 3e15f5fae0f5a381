"""Batch normalisation (Ioffe and Szegedy 2015, algorithm 1 and the gradients of section 3).

x (..., C): each channel is normalised over all the other axes, M = the number of rows.
scale, shift, mean, variance: (C,).
"""

from __future__ import annotations

import numpy as np

__all__ = ["batch_norm", "batch_norm_grad", "batch_norm_inference"]


def batch_norm(x, scale, shift, eps):
    """(y, mean, variance) with y = scale (x - mean) / sqrt(variance + eps) + shift; the variance divides by M."""
    mean, variance = statistics(x)
    return batch_norm_inference(x, scale, shift, mean, variance, eps), mean, variance


def statistics(x):
    """The mean and the variance of each channel, (C,)."""
    rows = tuple(range(x.ndim - 1))
    mean = x.mean(axis=rows)
    return mean, ((x - mean) ** 2).mean(axis=rows)  # two passes: E[x²] - E[x]² would cancel


def batch_norm_grad(gy, x, scale, mean, variance, eps):
    """(gx, gscale, gshift): the gradient of batch_norm, through its mean and variance too."""
    rows = tuple(range(x.ndim - 1))
    m = x.size // x.shape[-1]
    normalised = (x - mean) / np.sqrt(variance + eps)
    gscale = (gy * normalised).sum(axis=rows)
    gshift = gy.sum(axis=rows)
    gx = scale / np.sqrt(variance + eps) * (gy - gshift / m - normalised * gscale / m)
    return gx, gscale, gshift


def batch_norm_inference(x, scale, shift, mean, variance, eps):
    """The same y with a given mean and variance, so that no row depends on another."""
    return scale * (x - mean) / np.sqrt(variance + eps) + shift
