"""Launches moving_average.cu: a thread an element."""

from __future__ import annotations

from kernels.launch import Source

__all__ = ["moving_average"]

SOURCE = Source(__package__, "moving_average.cu")


def moving_average(average, value, factor, momentum):
    """average, in place, goes the share `momentum` of the way to factor value, which has its shape."""
    grid = ((average.size + 255) // 256,)
    SOURCE.launch("moving_average", grid, (256,), average, value, average.size, factor, momentum)
