"""Launches batch_norm.cu: a block for every 32 channels where columns are summed, else a thread an element."""

from __future__ import annotations

from kernels.launch import Source, empty

__all__ = ["batch_norm", "batch_norm_grad", "batch_norm_inference"]

SOURCE = Source(__package__, "batch_norm.cu")
COLUMNS = (32, 32)  # a block that sums down the rows: 32 channels by 32 rows
ELEMENTS = (256,)


def batch_norm(x, scale, shift, eps):
    """(y, mean, variance): y of the shape of x (..., C), the batch's statistics (C,)."""
    mean, variance = statistics(x)
    return batch_norm_inference(x, scale, shift, mean, variance, eps), mean, variance


def statistics(x):
    """The batch's mean and variance, (C,)."""
    c = x.shape[-1]
    mean, variance = empty(x, (c,)), empty(x, (c,))
    SOURCE.launch("batch_norm_statistics", ((c + 31) // 32,), COLUMNS, x, mean, variance, x.size // c, c)
    return mean, variance


def batch_norm_grad(gy, x, scale, mean, variance, eps):
    """(gx, gscale, gshift): gx of the shape of x (..., C), the other two (C,)."""
    c = x.shape[-1]
    m = x.size // c
    gx, gscale, gshift = empty(x, x.shape), empty(x, (c,)), empty(x, (c,))
    grid = ((c + 31) // 32,)
    SOURCE.launch("batch_norm_grad_sums", grid, COLUMNS, gy, x, mean, variance, gscale, gshift, m, c, eps)
    grid = ((x.size + 255) // 256,)
    columns = scale, mean, variance, gscale, gshift
    SOURCE.launch("batch_norm_grad", grid, ELEMENTS, gy, x, *columns, gx, x.size, m, c, eps)
    return gx, gscale, gshift


def batch_norm_inference(x, scale, shift, mean, variance, eps):
    """y of the shape of x (..., C), with the statistics given."""
    y = empty(x, x.shape)
    grid = ((x.size + 255) // 256,)
    SOURCE.launch("batch_norm_inference", grid, ELEMENTS, x, scale, shift, mean, variance, y, x.size, x.shape[-1], eps)
    return y
