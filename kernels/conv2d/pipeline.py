"""Launches pipeline.cu, for channels that come in fours and windows of up to 15 pixels; the others go to conv2d.cu.

Those of x need not, but for conv2d_transpose, whose result they are: three colours are convolved as four, or as eight.
What is read is first brought into the format and into whole copies (operand.cu), where it is not. A picture may be
`Pending`.
"""

from __future__ import annotations

from kernels.batch_norm.cuda import Moments, whole_with_statistics
from kernels.conv2d import cuda, fold
from kernels.conv2d.fold import in_a_row
from kernels.conv2d.format import Format
from kernels.conv2d.operand import in_format
from kernels.conv2d.parts import whole
from kernels.conv2d.plan import plan
from kernels.conv2d.sizes import largest_phase, output_size
from kernels.launch import empty, multiprocessors
from kernels.pending import as_array

__all__ = ["Pipeline"]

X, Y = 1, 2  # which picture of conv2d_weight_grad is pending, as pipeline.cu has it


class Pipeline:
    """The three derivatives with operands of one format."""

    def __init__(self, format: Format):
        self.format = format

    def conv2d(self, x, w, stride, padding):
        """y (N,P,Q,K) = dT/dy of x (N,H,W,C) and w (K,R,S,C)."""
        if not suits(w.shape):
            return cuda.conv2d(as_array(x), w, stride, padding)
        return whole(self.convolved(x, w, stride, padding, in_tiles=False)[0])

    def conv2d_with_statistics(self, x, w, stride, padding):
        """(y, mean, variance): conv2d, and each channel's mean and variance, (K,)."""
        if not suits(w.shape):
            return cuda.conv2d_with_statistics(as_array(x), w, stride, padding)
        return measured(*self.convolved(x, w, stride, padding, in_tiles=True))

    def convolved(self, x, w, stride, padding, in_tiles):
        """(parts of y, Moments of y), these from its tiles; or None, if that is not asked for or sums are in parts."""
        n, h, width, c = x.shape
        k, r, s, _ = w.shape
        p, q = output_size(x.shape, w.shape, stride, padding)
        read, filters = in_format(x, self.format), in_format(w, self.format).pixels
        sizes = n * p * q, k, r * s * self.format.in_copies(c), 1
        tile, parts = plan(*sizes, multiprocessors(filters), self.format, read.table(c))
        y = empty(w, (parts, n, p, q, k))
        grid = (-(-n * p * q // tile.rows), -(-k // tile.columns), parts)
        stage = tile.depth_tile(tile.rows) + tile.depth_tile(tile.columns)
        moments = None
        if in_tiles and parts == 1:
            moments = Moments(empty(w, (grid[0], k)), empty(w, (grid[0], k)), n * p * q, tile.rows)
        arrays = read.pixels, filters, y, *places(moments, y), *read.columns
        numbers = n, h, width, c, p, q, k, r, s, stride, padding, parts, int(moments is not None), read.pending
        self.launch("conv2d", tile, grid, tile.stages * stage + read.table(c), *arrays, *numbers, *read.equation)
        return y, moments

    def conv2d_transpose(self, y, w, stride, padding, size):
        """x (N,H,W,C) = dT/dx of y (N,P,Q,K) and w (K,R,S,C), with (H, W) = size."""
        if spreads_a_pixel(y, w, padding, size):
            return self.conv2d_transpose(y, in_a_row(w), 1, 0, (1, 1)).reshape(len(y), *w.shape[1:])
        if fold.suits(w.shape):
            return fold.conv2d_transpose(y, w, stride, padding, size, self.conv2d_transpose)
        if w.shape[3] % 4 or not suits(w.shape):
            return cuda.conv2d_transpose(as_array(y), w, stride, padding, size)
        return whole(self.spread(y, w, stride, padding, size, in_tiles=False)[0])

    def conv2d_transpose_with_statistics(self, y, w, stride, padding, size):
        """(x, mean, variance): conv2d_transpose, and each channel's mean and variance, (C,)."""
        if spreads_a_pixel(y, w, padding, size) and suits(w.shape) and in_a_row(w).shape[3] % 4 == 0:
            x, moments = self.spread(y, in_a_row(w), 1, 0, (1, 1), in_tiles=True)
            return measured(x.reshape(len(x), len(y), *w.shape[1:]), of_every_pixel(moments, w))
        if w.shape[3] % 4 or not suits(w.shape):
            return cuda.conv2d_transpose_with_statistics(as_array(y), w, stride, padding, size)
        return measured(*self.spread(y, w, stride, padding, size, in_tiles=True))

    def spread(self, y, w, stride, padding, size, in_tiles):
        """(parts of x, Moments of x), as above; nor are there any if the phases are not of one size."""
        n, p, q, k = y.shape
        _, r, s, c = w.shape
        h, width = size
        phases, pixels = stride * stride, largest_phase(n, size, stride)
        read, filters = in_format(y, self.format), in_format(w, self.format).pixels
        depth = -(-r * s * self.format.in_copies(k) // phases)  # of 5 x 5 taps a phase has 9, 6, 6 or 4: their mean
        sizes = pixels, c, depth, phases
        tile, parts = plan(*sizes, multiprocessors(filters), self.format, read.table(k))
        x = empty(w, (parts, n, h, width, c))
        grid = (-(-pixels // tile.rows), -(-c // tile.columns), phases * parts)
        stage = tile.depth_tile(tile.rows) + tile.line_tile(tile.columns)
        moments = None
        if in_tiles and parts == 1 and h % stride == width % stride == 0:
            chunks = phases * grid[0]
            moments = Moments(empty(w, (chunks, c)), empty(w, (chunks, c)), n * h * width, tile.rows, runs=phases)
        arrays = read.pixels, filters, x, *places(moments, x), *read.columns
        numbers = n, h, width, c, p, q, k, r, s, stride, padding, parts, int(moments is not None), read.pending
        shared = tile.stages * stage + read.table(k)
        self.launch("conv2d_transpose", tile, grid, shared, *arrays, *numbers, *read.equation)
        return x, moments

    def conv2d_weight_grad(self, x, y, stride, padding, size):
        """w (K,R,S,C) = dT/dw of x (N,H,W,C) and y (N,P,Q,K), with (R, S) = size."""
        n, h, width, c = x.shape
        _, p, q, k = y.shape
        r, s = size
        if not suits((k, r, s, c)):
            return cuda.conv2d_weight_grad(as_array(x), as_array(y), stride, padding, size)
        read_x = in_format(x, self.format)
        read_y = in_format(as_array(y) if read_x.pending else y, self.format)  # a block has one table
        columns = r * s * self.format.in_copies(c)
        tile, parts = plan(k, columns, n * p * q, 1, multiprocessors(read_x.pixels), self.format)
        w = empty(read_x.pixels, (parts, k, r, s, c))
        grid = (-(-k // tile.rows), -(-columns // tile.columns), parts)
        stage = tile.line_tile(tile.rows) + tile.line_tile(tile.columns)
        which, lines, read = (Y, tile.rows, read_y) if read_y.pending else (X, tile.columns, read_x)
        arrays = read_x.pixels, read_y.pixels, w, *read.columns
        numbers = n, h, width, c, p, q, k, r, s, stride, padding, parts, read.pending, which, *read.equation
        self.launch("conv2d_weight_grad", tile, grid, tile.stages * stage + read.table(lines), *arrays, *numbers)
        return whole(w)

    def launch(self, kernel, tile, grid, shared, *arguments):
        """One of the kernels, with so many bytes of shared memory."""
        block, source = (32 * tile.warps,), self.format.sources["pipeline.cu"]
        source.launch(kernel, grid, block, *arguments, shared=shared, aligned=16, **tile.constants(self.format))


def places(moments, result):
    """Where a kernel puts the moments; if it does not, arrays all the same, since it has to be handed some."""
    return (result, result) if moments is None else (moments.sums, moments.squares)


def measured(parts, moments):
    """(the sum of the parts, mean, variance)."""
    return whole_with_statistics(parts) if moments is None else (whole(parts), *moments.statistics())


def spreads_a_pixel(y, w, padding, size):
    """Whether the pictures y have one pixel, which w spreads over all of x: x (N,R S C) = y (N,K) w (K,R S C).

    No window overlaps another then, and of the R S taps that a pixel of x might have only one meets y.
    """
    one, window = (1, 1), w.shape[1:3]
    return y.shape[1:3] == one and window == tuple(size) and window != one and padding == 0


def of_every_pixel(moments, w):
    """From the moments of R S C channels, N rows each, those of C channels; None if they are of more than a tile."""
    if moments is None or len(moments.sums) > 1:
        return None
    _, r, s, c = w.shape
    sums, squares = moments.sums.reshape(r * s, c), moments.squares.reshape(r * s, c)
    return Moments(sums, squares, moments.rows * r * s, moments.step, runs=r * s)


def suits(filters):
    """Whether, with filters of shape (K,R,S,C), K comes in fours, as y is stored, and a window's taps fit in a word."""
    k, r, s, _ = filters
    return k % 4 == 0 and max(r, s) <= 15
