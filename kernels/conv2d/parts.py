"""Long sums in parts: where an output is small, its blocks are too few for the GPU, unless several share each sum.

A part writes an output of its own, and the outputs are added up in an order that depends on their number alone: no
atomics, the same bits every time.
"""

from __future__ import annotations

from math import prod

from kernels.launch import Source, elements, empty
from kernels.sum.cuda import sum_run

__all__ = ["number_of_parts", "whole"]

SOURCE = Source(__package__, "parts.cu")
MOST = 16  # parts that one thread adds up: it waits for four times four of them


def number_of_parts(blocks: int, places: int, depth: int, least: int) -> int:
    """Of sums of `depth` terms, in an output of so many blocks, on a GPU with places for so many at the same time.

    least: terms of a part. With fewer it would cost more to write and to read it than to make it.
    """
    return max(1, min(places // blocks, depth // least))


def whole(parts):
    """The sum of the parts (parts, ...), each element's in the same order."""
    count, *shape = parts.shape
    if count == 1:
        return parts.reshape(shape)
    if count > MOST:
        return sum_run(parts, [0]).reshape(shape)
    y, size = empty(parts, tuple(shape)), prod(shape)
    SOURCE.launch("whole", *elements(size), parts, y, size, count)
    return y
