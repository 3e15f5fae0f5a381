"""The sum on the CPU: NumPy's, but added up in double, because NumPy adds long columns one row after the other."""

from __future__ import annotations

from math import prod

import numpy as np

from kernels.sum.reference import broadcast_to
from kernels.threads import share

__all__ = ["broadcast_to", "mean", "sum"]

GRAIN = 1 << 15  # numbers that one thread adds up before another is woken


def sum(x, axes):
    """x summed over `axes`, which stay with length 1: first within each x[i], then over these sums in their order."""
    if x.ndim == 0 or x.size == 0:
        return np.asarray(np.sum(x, axis=axes, keepdims=True), np.float32)
    inner = tuple(axis for axis in axes if axis)
    sums = np.empty([len(x)] + [1 if axis in axes else x.shape[axis] for axis in range(1, x.ndim)])

    def part(first, last):
        np.sum(x[first:last], axis=inner, keepdims=True, dtype=np.float64, out=sums[first:last])

    share(part, len(x), grain=max(1, GRAIN * len(x) // x.size))
    return np.asarray(sums.sum(axis=0, keepdims=True) if 0 in axes else sums, np.float32)


def mean(x, axes):
    """The mean of x over `axes`; otherwise as `sum`."""
    return np.asarray(sum(x, axes) / np.float32(prod(x.shape[axis] for axis in axes)))
