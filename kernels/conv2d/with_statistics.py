"""A convolution whose result's statistics are wanted, by one pass more over the result."""

from __future__ import annotations

import functools
from collections.abc import Callable

__all__ = ["with_statistics"]


def with_statistics(convolution: Callable, statistics: Callable) -> Callable:
    """The function with `convolution`'s parameters that gives (its result, mean, variance), each channel's.

    statistics: pictures (..., C) -> mean and variance, (C,).
    """

    @functools.wraps(convolution)
    def convolve(*arguments, **options):
        result = convolution(*arguments, **options)
        return result, *statistics(result)

    return convolve
