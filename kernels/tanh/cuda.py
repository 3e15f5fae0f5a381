"""Launches tanh.cu: a thread an element."""

from __future__ import annotations

from kernels.launch import Source, empty

__all__ = ["tanh"]

SOURCE = Source(__package__, "tanh.cu")


def tanh(x):
    """y of the shape of x, between -1 and 1."""
    y = empty(x, x.shape)
    SOURCE.launch("tanh_elements", ((x.size + 255) // 256,), (256,), x, y, x.size)
    return y
