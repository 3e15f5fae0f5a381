"""Launches full.cu: a thread makes a few elements."""

from __future__ import annotations

from kernels.launch import Source, elements, empty

__all__ = ["full"]

SOURCE = Source(__package__, "full.cu")


def full(like, shape, value):
    """y of `shape`, where `like` lives, every element `value`."""
    y = empty(like, shape)
    SOURCE.launch("full", *elements(y.size), y, y.size, value)
    return y
