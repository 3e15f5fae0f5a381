"""Long sums in parts: where an output is small, its blocks are too few for the GPU, unless several share each sum.

A part writes an output of its own, and the outputs are added up in their order: no atomics, the same bits every time.
"""

from __future__ import annotations

from kernels.sum.cuda import sum_run

__all__ = ["number_of_parts", "whole"]


def number_of_parts(blocks: int, places: int, depth: int, least: int) -> int:
    """Of sums of `depth` terms, in an output of so many blocks, on a GPU with places for so many at the same time.

    least: terms of a part. With fewer it would cost more to write and to read it than to make it.
    """
    return max(1, min(places // blocks, depth // least))


def whole(parts):
    """The sum of the parts (parts, ...), each element's in the same order."""
    total = parts if len(parts) == 1 else sum_run(parts, [0])
    return total.reshape(parts.shape[1:])
