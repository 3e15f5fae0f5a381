"""Launches few.cu, for pictures of few channels."""

from __future__ import annotations

from kernels.conv2d.operand import operand_in_fours
from kernels.conv2d.sizes import largest_phase
from kernels.launch import Source, empty

__all__ = ["conv2d_transpose", "suits"]

SOURCE = Source(__package__, "few.cu")
PIXELS, CHANNELS = 128, 4  # of x, that a block makes; of a pixel, at most


def suits(c, k):
    """Whether x has few channels, and those of y can be read four at a time."""
    return c <= CHANNELS and k % 4 == 0


def conv2d_transpose(y, w, stride, padding, size):
    """x (N,H,W,C) = dT/dx of y (N,P,Q,K) and w (K,R,S,C), with (H, W) = size."""
    n, p, q, k = y.shape
    _, r, s, c = w.shape
    h, width = size
    x = empty(w, (n, h, width, c))
    read = operand_in_fours(y)
    grid = (-(-largest_phase(n, size, stride) // PIXELS), stride * stride)
    arrays = read.pixels, w, x, *read.columns
    numbers = n, h, width, c, p, q, k, r, s, stride, padding, read.pending, *read.equation
    memory = {"shared": read.table(k), "aligned": 16}
    SOURCE.launch("conv2d_transpose", grid, (PIXELS,), *arrays, *numbers, **memory, PIXELS=PIXELS, CHANNELS=CHANNELS)
    return x
