"""Moving averages, several at once. An average and its value have one shape."""

from __future__ import annotations

__all__ = ["moving_average"]


def moving_average(momentum, factors, *arrays):
    """Each average, in place, goes the share `momentum` of the way to its factor times its value.

    arrays: the averages, then as many values; factors: as many numbers. The first of each belong together, and so on.
    """
    count = len(factors)
    for average, value, factor in zip(arrays[:count], arrays[count:], factors, strict=True):
        average += average.dtype.type(momentum) * (value * average.dtype.type(factor) - average)
