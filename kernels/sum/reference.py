"""The sum over some axes, their mean, and the sum's adjoint, the broadcast along them. Arrays of at most four axes."""

from __future__ import annotations

import numpy as np

__all__ = ["broadcast_to", "mean", "sum"]


def sum(x, axes):
    """x summed over `axes` (a tuple of axes, each >= 0), which stay with length 1."""
    return np.asarray(np.sum(x, axis=axes, keepdims=True))


def mean(x, axes):
    """The mean of x over `axes`; otherwise as `sum`."""
    return np.asarray(np.mean(x, axis=axes, keepdims=True))


def broadcast_to(x, shape):
    """x repeated to `shape` by NumPy's broadcasting, in memory of its own."""
    return np.broadcast_to(x, shape).copy()
