"""Memory for the CPU's arrays: what an array leaves, the next one of its size takes.

A training step makes the same arrays again and again. Fresh memory has to be cleared by the operating system, page by
page, at the first touch: that took a tenth of a step. Rows of vectors are also read faster from the boundaries of cache
lines, where the arrays from here begin.
"""

from __future__ import annotations

import collections
import math

import numpy as np

__all__ = ["empty"]

LINE = 64  # bytes of a cache line
SMALL = 1 << 16  # bytes, below which an array is left to NumPy

_free: dict[int, list[np.ndarray]] = collections.defaultdict(list)  # by their bytes


class _Block:
    """Memory on loan: an array's base, and with the last view of the array it goes back."""

    def __init__(self, size: int):
        self.home = _free[size]
        try:
            self.memory = self.home.pop()
        except IndexError:
            memory = np.empty(size + LINE, np.uint8)
            start = -memory.ctypes.data % LINE
            self.memory = memory[start : start + size]
        self.__array_interface__ = self.memory.__array_interface__

    def __del__(self):
        self.home.append(self.memory)


def empty(shape: tuple[int, ...] | int) -> np.ndarray:
    """An array of float32 that holds anything."""
    size = 4 * (math.prod(shape) if isinstance(shape, tuple) else shape)
    if size < SMALL:
        return np.empty(shape, np.float32)
    return np.asarray(_Block(size)).view(np.float32).reshape(shape)
