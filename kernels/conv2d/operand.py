"""What a kernel that can normalise what it reads is handed for a picture: an array, or what is `Pending`.

And launches operand.cu, for what pipeline.cu cannot read as it is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from kernels.conv2d.format import Format
from kernels.launch import empty
from kernels.pending import Normalised, Rectified, RoundedOnce, as_array

__all__ = ["Operand", "in_format", "operand"]

NORMALISE, RECTIFY = 1, 2  # as normalise.cuh has them
MOST = 1024  # channels of a table: with more of them it might not fit beside the tiles of a block
BLOCK, EACH = 256, 4  # threads of a block of operand.cu; rows of a thread, as in launch/elements.cuh


class Operand(NamedTuple):
    """The kernel's arguments, and what they take of shared memory."""

    pixels: object  # (N,H,W,C): the array that is read
    columns: tuple  # scale, shift, mean and variance, (C,) each; any arrays, if they are not looked at
    pending: int  # NORMALISE, RECTIFY, or 0
    equation: tuple  # eps and slope

    def table(self, channels: int) -> int:
        """Bytes of a table with so many channels (normalise.cuh)."""
        return 3 * 4 * channels if self.pending else 0


def operand(picture) -> Operand:
    """Of an array, or of what is pending."""
    if isinstance(picture, Normalised):
        return Operand(picture.x, picture.columns, NORMALISE, picture.numbers)
    if isinstance(picture, Rectified):
        return Operand(picture.x, (picture.x,) * 4, RECTIFY, (1.0, *picture.numbers))
    array = as_array(picture)
    return Operand(array, (array,) * 4, 0, (1.0, 1.0))


def in_format(picture, format: Format) -> Operand:
    """Of a picture, or of filters (..., C), as pipeline.cu reads them: numbers of the format, in whole copies."""
    if isinstance(picture, RoundedOnce):
        if format not in picture.operands:
            picture.operands[format] = in_format(picture.x, format)
        return picture.operands[format]
    *others, c = picture.shape
    if format.bits != 16 and c % format.copy == 0:
        return operand(as_array(picture) if c > MOST else picture)
    read, m, d = operand(picture), math.prod(others), format.in_copies(c)
    y = empty(read.pixels, (*others, d), format.dtype)
    grid = (-(-(d // format.copy) * -(-m // EACH) // BLOCK),)
    numbers = m, c, read.pending, *read.equation
    source = format.sources["operand.cu"]
    arrays = read.pixels, y, *read.columns
    source.launch("operand", grid, (BLOCK,), *arrays, *numbers, aligned=16, BLOCK=BLOCK, EACH=EACH)
    return Operand(y, (read.pixels,) * 4, 0, (1.0, 1.0))
