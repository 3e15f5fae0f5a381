"""Memory for the CPU's arrays: what an array leaves, the next one of its size takes. And how much a process took.

A training step makes the same arrays again and again. Fresh memory has to be cleared by the operating system, page by
page, at the first touch: that took a tenth of a step. Vectors are also read faster from the boundaries of cache lines,
where the arrays from here begin.

What is kept for the next arrays is never more than there was room for once: all that is held, lent and free, stays
within the most that was ever lent at a time.
"""

from __future__ import annotations

import collections
import math
import sys
import threading

import numpy as np

try:
    import resource
except ModuleNotFoundError:  # Windows has none
    resource = None

__all__ = ["empty", "peak_memory"]

LINE = 64  # bytes of a cache line
SMALL = 1 << 16  # bytes, below which an array is left to NumPy


class Store:
    """The blocks that nobody uses, and how much is out."""

    def __init__(self):
        self.lock = threading.RLock()  # an array may be collected, and give its block back, wherever Python pleases
        self.free = collections.OrderedDict()  # id -> block, the one that has waited longest first
        self.lent = self.most_lent = self.kept = 0  # bytes

    def lend(self, size: int) -> np.ndarray:
        """A block of that many bytes."""
        with self.lock:
            block = next((b for b in reversed(list(self.free.values())) if b.size == size), None)  # it may be warm
            if block is not None:
                self.kept -= self.free.pop(id(block)).size
            while block is None and self.free and self.lent + size + self.kept > self.most_lent:
                self.kept -= self.free.popitem(last=False)[1].size
        if block is None:
            memory = np.empty(size + LINE, np.uint8)
            start = -memory.ctypes.data % LINE
            block = memory[start : start + size]
        with self.lock:
            self.lent += size
            self.most_lent = max(self.most_lent, self.lent)
        return block

    def take_back(self, block: np.ndarray) -> None:
        """It is free again."""
        with self.lock:
            self.lent -= block.size
            self.kept += block.size
            self.free[id(block)] = block


_store = Store()


class _Loan:
    """An array's base: with the last view of the array its block goes back."""

    block = None  # there is none if the memory is at its end

    def __init__(self, size: int):
        self.store = _store
        self.block = self.store.lend(size)
        self.__array_interface__ = self.block.__array_interface__

    def __del__(self):
        if self.block is not None:
            self.store.take_back(self.block)


def empty(shape: tuple[int, ...] | int) -> np.ndarray:
    """An array of float32 that holds anything."""
    size = 4 * (math.prod(shape) if isinstance(shape, tuple) else shape)
    if size < SMALL:
        return np.empty(shape, np.float32)
    return np.asarray(_Loan(size)).view(np.float32).reshape(shape)


def peak_memory() -> int | None:
    """The most memory that this process ever held, in bytes; None where the system does not say."""
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
