"""A moving average. average and value have one shape."""

from __future__ import annotations

__all__ = ["moving_average"]


def moving_average(average, value, factor, momentum):
    """average, in place, goes the share `momentum` of the way to factor value."""
    average += average.dtype.type(momentum) * (value * average.dtype.type(factor) - average)
