"""Launches batch_norm_leaky_relu.cu in the blocks of batch_norm.cu, and batch_norm.cu for statistics and totals."""

from __future__ import annotations

from kernels.batch_norm.cuda import COLUMNS, ELEMENTS, in_chunks, statistics, tiles, totals
from kernels.launch import Source, empty

__all__ = ["batch_norm_leaky_relu", "batch_norm_leaky_relu_grad"]

SOURCE = Source(__package__, "batch_norm_leaky_relu.cu")


def batch_norm_leaky_relu(x, scale, shift, eps, slope):
    """(y, mean, variance): y of the shape of x (..., C), the batch's statistics (C,)."""
    mean, variance = statistics(x)
    y = empty(x, x.shape)
    columns, sizes = (scale, shift, mean, variance), (x.size, x.shape[-1])
    SOURCE.launch("batch_norm_leaky_relu", ((x.size + 255) // 256,), ELEMENTS, x, *columns, y, *sizes, eps, slope)
    return y, mean, variance


def batch_norm_leaky_relu_grad(gy, x, scale, shift, mean, variance, eps, slope):
    """(gx, gscale, gshift): gx of the shape of x (..., C), the other two (C,)."""
    c = x.shape[-1]
    m = x.size // c
    step, chunks = in_chunks(x)
    gx, products, sums = empty(x, x.shape), empty(x, (chunks, c)), empty(x, (chunks, c))
    inputs = gy, x, scale, shift, mean, variance
    numbers = m, c, step, eps, slope
    SOURCE.launch("batch_norm_leaky_relu_grad_sums", (tiles(c), chunks), COLUMNS, *inputs, products, sums, *numbers)
    gscale, gshift = totals(products, sums, variance, eps)
    grid = ((x.size + 255) // 256,)
    numbers = x.size, m, c, eps, slope
    SOURCE.launch("batch_norm_leaky_relu_grad", grid, ELEMENTS, *inputs, gscale, gshift, gx, *numbers)
    return gx, gscale, gshift
