"""Launches moving_average.cu: all averages at once."""

from __future__ import annotations

from kernels.launch import Source, elements

__all__ = ["moving_average"]

SOURCE = Source(__package__, "moving_average.cu")


def moving_average(momentum, factors, *arrays):
    """averages, in place, go the share `momentum` of the way to factors times values; arrays: averages, then values."""
    averages, values = arrays[: len(factors)], arrays[len(factors) :]
    sizes = [average.size for average in averages]
    (blocks,), block = elements(max(sizes))
    SOURCE.launch("moving_average", (blocks, len(sizes)), block, averages, values, factors, sizes, momentum)
