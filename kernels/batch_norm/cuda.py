"""Launches batch_norm.cu: to sum columns, a block for 32 channels of a chunk of rows; else a thread an element."""

from __future__ import annotations

from kernels.launch import Source, empty, multiprocessors

__all__ = ["batch_norm", "batch_norm_grad", "batch_norm_inference"]

SOURCE = Source(__package__, "batch_norm.cu")
COLUMNS = (32, 32)  # a block that sums down the rows: 32 channels by 32 rows
SHORTEST = 256  # rows of a chunk: eight for each thread
RESIDENT = 2  # such blocks that a multiprocessor has at a time
ELEMENTS = (256,)


def batch_norm(x, scale, shift, eps):
    """(y, mean, variance): y of the shape of x (..., C), the batch's statistics (C,)."""
    mean, variance = statistics(x)
    return batch_norm_inference(x, scale, shift, mean, variance, eps), mean, variance


def statistics(x):
    """The batch's mean and variance, (C,)."""
    c = x.shape[-1]
    m = x.size // c
    step, chunks = in_chunks(x)
    mean, variance, sums, squares = empty(x, (c,)), empty(x, (c,)), empty(x, (chunks, c)), empty(x, (chunks, c))
    SOURCE.launch("batch_norm_sums", (tiles(c), chunks), COLUMNS, x, sums, m, c, step)
    SOURCE.launch("batch_norm_squares", (tiles(c), chunks), COLUMNS, x, sums, mean, squares, m, c, step)
    SOURCE.launch("batch_norm_variance", (tiles(c),), COLUMNS, squares, variance, m, c, chunks)
    return mean, variance


def tiles(c):
    """How many tiles of 32 cover that many channels."""
    return -(-c // 32)


def in_chunks(x):
    """(rows of a chunk, chunks) of x (..., C): blocks for all multiprocessors, unless they would have few rows each."""
    c = x.shape[-1]
    m = x.size // c
    wanted = -(-RESIDENT * multiprocessors(x) // tiles(c))
    step = -(-m // max(1, min(wanted, m // SHORTEST)))
    return step, -(-m // step)


def totals(products, sums, variance, eps):
    """(gscale, gshift), each (C,), of what was summed in chunks, (chunks,C)."""
    chunks, c = sums.shape
    gscale, gshift = empty(sums, (c,)), empty(sums, (c,))
    arrays = products, sums, variance, gscale, gshift
    SOURCE.launch("batch_norm_grad_totals", (tiles(c),), COLUMNS, *arrays, c, chunks, eps)
    return gscale, gshift


def batch_norm_grad(gy, x, scale, mean, variance, eps):
    """(gx, gscale, gshift): gx of the shape of x (..., C), the other two (C,)."""
    c = x.shape[-1]
    m = x.size // c
    step, chunks = in_chunks(x)
    gx, products, sums = empty(x, x.shape), empty(x, (chunks, c)), empty(x, (chunks, c))
    SOURCE.launch("batch_norm_grad_sums", (tiles(c), chunks), COLUMNS, gy, x, mean, products, sums, m, c, step)
    gscale, gshift = totals(products, sums, variance, eps)
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
