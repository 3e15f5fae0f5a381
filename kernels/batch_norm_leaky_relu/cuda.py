"""Launches batch_norm_leaky_relu.cu in the blocks of batch_norm.cu, and batch_norm.cu for statistics and totals."""

from __future__ import annotations

from kernels.batch_norm.cuda import COLUMNS, each, in_chunks, rows_and_columns, statistics, tiles, totals
from kernels.launch import Source, empty

__all__ = ["batch_norm_leaky_relu", "batch_norm_leaky_relu_grad", "batch_norm_leaky_relu_inference"]

SOURCE = Source(__package__, "batch_norm_leaky_relu.cu")


def batch_norm_leaky_relu(x, scale, shift, eps, slope):
    """(y, mean, variance): y of the shape of x (..., C), the batch's statistics (C,)."""
    mean, variance = statistics(x)
    return batch_norm_leaky_relu_inference(x, scale, shift, mean, variance, eps, slope), mean, variance


def batch_norm_leaky_relu_inference(x, scale, shift, mean, variance, eps, slope):
    """y of the shape of x (..., C), with the statistics given."""
    y = empty(x, x.shape)
    arrays = x, scale, shift, mean, variance, y
    SOURCE.launch("batch_norm_leaky_relu_inference", each(x), COLUMNS, *arrays, *rows_and_columns(x), eps, slope)
    return y


def batch_norm_leaky_relu_grad(gy, x, scale, shift, mean, variance, eps, slope):
    """(gx, gscale, gshift): gx of the shape of x (..., C), the other two (C,)."""
    m, c = rows_and_columns(x)
    step, chunks = in_chunks(x, m)
    gx, products, sums = empty(x, x.shape), empty(x, (chunks, c)), empty(x, (chunks, c))
    inputs = gy, x, scale, shift, mean, variance
    grid, numbers = (chunks, tiles(c)), (m, c, step, eps, slope)
    SOURCE.launch("batch_norm_leaky_relu_grad_sums", grid, COLUMNS, *inputs, products, sums, *numbers)
    gscale, gshift = totals(products, sums, variance, eps)
    SOURCE.launch("batch_norm_leaky_relu_grad", each(x), COLUMNS, *inputs, gscale, gshift, gx, m, c, eps, slope)
    return gx, gscale, gshift
