"""The sum on the CPU: NumPy's, but added up in double, because NumPy adds long columns one row after the other."""

from __future__ import annotations

import numpy as np

from kernels.sum.reference import broadcast_to

__all__ = ["broadcast_to", "sum"]


def sum(x, axes):
    """x summed over `axes`, which stay with length 1."""
    return np.asarray(np.sum(x, axis=axes, keepdims=True, dtype=np.float64), np.float32)
