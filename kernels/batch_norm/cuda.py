"""Launches batch_norm.cu, a block for 32 channels of a chunk of rows."""

from __future__ import annotations

from typing import NamedTuple

from kernels.launch import Source, empty, multiprocessors

__all__ = ["batch_norm", "batch_norm_grad", "batch_norm_inference"]

SOURCE = Source(__package__, "batch_norm.cu")
CHANNELS, ROWS = COLUMNS = (32, 32)  # a block: channels by rows
EACH, HELD = 4, 16  # rows of a thread: that makes each element by itself, and at most of one that sums
SHORTEST = 4 * ROWS  # rows of a chunk, if there are so many
RESIDENT = 2  # blocks that a multiprocessor gets in all; of those with over 32 registers a thread one after the other
DOWN = (8, 128)  # a block that adds up what chunks have summed: channels by chunks


def batch_norm(x, scale, shift, eps):
    """(y, mean, variance): y of the shape of x (..., C), the batch's statistics (C,)."""
    mean, variance = statistics(x)
    return batch_norm_inference(x, scale, shift, mean, variance, eps), mean, variance


class Moments(NamedTuple):
    """Of chunks of rows (M,C): sum x, and sum (x - the chunk's mean)²."""

    sums: object  # (chunks,C)
    squares: object  # (chunks,C)
    rows: int  # M
    step: int  # rows of a chunk
    runs: int = 1  # the rows are in so many runs of one length, each cut into chunks by itself

    def statistics(self):
        """The mean and the variance of all rows, (C,)."""
        chunks, c = self.sums.shape
        mean, variance = empty(self.sums, (c,)), empty(self.sums, (c,))
        arrays, numbers = (self.sums, self.squares, mean, variance), (self.rows, c, self.step, chunks, self.runs)
        SOURCE.launch("batch_norm_statistics", down(c), DOWN, *arrays, *numbers)
        return mean, variance


def statistics(x):
    """The batch's mean and variance, (C,)."""
    m, c = rows_and_columns(x)
    step, chunks = in_chunks(x, HELD * ROWS)
    moments = Moments(empty(x, (chunks, c)), empty(x, (chunks, c)), m, step)
    SOURCE.launch("batch_norm_moments", (chunks, tiles(c)), COLUMNS, x, moments.sums, moments.squares, m, c, step)
    return moments.statistics()


def whole_with_statistics(parts):
    """(y, mean, variance): y (..., C), the sum of the parts (parts, ..., C), each element's in the same order."""
    y = empty(parts, parts.shape[1:])
    m, c = rows_and_columns(y)
    step, chunks = in_chunks(y, HELD * ROWS)
    moments = Moments(empty(y, (chunks, c)), empty(y, (chunks, c)), m, step)
    arrays, numbers = (parts, y, moments.sums, moments.squares), (m, c, step, len(parts))
    SOURCE.launch("batch_norm_moments_of_parts", (chunks, tiles(c)), COLUMNS, *arrays, *numbers)
    return y, *moments.statistics()


def rows_and_columns(x):
    """(M, C) of x (..., C)."""
    return x.size // x.shape[-1], x.shape[-1]


def tiles(c):
    """How many tiles cover that many channels."""
    return -(-c // CHANNELS)


def down(c):
    """The grid for a block DOWN, which goes down the chunks of a few channels."""
    return (-(-c // DOWN[0]),)


def each(x):
    """The grid for a thread that makes EACH elements of a channel of x (..., C)."""
    m, c = rows_and_columns(x)
    return -(-m // (EACH * ROWS)), tiles(c)


def in_chunks(x, longest):
    """(rows of a chunk, chunks) of x (..., C): blocks for all multiprocessors, unless they would have few rows each.

    longest: rows that a chunk may have.
    """
    m, c = rows_and_columns(x)
    wanted = -(-RESIDENT * multiprocessors(x) // tiles(c))
    step = min(longest, -(-m // max(1, min(wanted, m // SHORTEST))))
    return step, -(-m // step)


def totals(products, sums, variance, eps):
    """(gscale, gshift), each (C,), of what was summed in chunks, (chunks,C)."""
    chunks, c = sums.shape
    gscale, gshift = empty(sums, (c,)), empty(sums, (c,))
    arrays = products, sums, variance, gscale, gshift
    SOURCE.launch("batch_norm_grad_totals", down(c), DOWN, *arrays, c, chunks, eps)
    return gscale, gshift


def batch_norm_grad(gy, x, scale, mean, variance, eps):
    """(gx, gscale, gshift): gx of the shape of x (..., C), the other two (C,)."""
    m, c = rows_and_columns(x)
    step, chunks = in_chunks(x, m)
    gx, products, sums = empty(x, x.shape), empty(x, (chunks, c)), empty(x, (chunks, c))
    SOURCE.launch("batch_norm_grad_sums", (chunks, tiles(c)), COLUMNS, gy, x, mean, products, sums, m, c, step)
    gscale, gshift = totals(products, sums, variance, eps)
    columns = scale, mean, variance, gscale, gshift
    SOURCE.launch("batch_norm_grad", each(x), COLUMNS, gy, x, *columns, gx, m, c, eps)
    return gx, gscale, gshift


def batch_norm_inference(x, scale, shift, mean, variance, eps):
    """y of the shape of x (..., C), with the statistics given."""
    y = empty(x, x.shape)
    arrays = x, scale, shift, mean, variance, y
    SOURCE.launch("batch_norm_inference", each(x), COLUMNS, *arrays, *rows_and_columns(x), eps)
    return y
