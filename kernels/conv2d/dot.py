"""Launches dot.cu: conv2d with few filters, a block for each window."""

from __future__ import annotations

from kernels.conv2d.sizes import output_size
from kernels.launch import Source, empty

__all__ = ["conv2d", "suits"]

SOURCE = Source(__package__, "dot.cu")
BLOCK = 256  # threads
MOST = 4  # filters: a tile is 16 times as wide, or more


def suits(filters):
    """Whether filters of shape (K,R,S,C) are few, and long enough for a block's threads."""
    k, r, s, c = filters
    return k <= MOST and r * s * c >= BLOCK


def conv2d(x, w, stride, padding):
    """y (N,P,Q,K) = dT/dy of x (N,H,W,C) and w (K,R,S,C)."""
    n, h, width, c = x.shape
    k, r, s, _ = w.shape
    p, q = output_size(x.shape, w.shape, stride, padding)
    y = empty(x, (n, p, q, k))
    numbers = h, width, c, p, q, r, s, stride, padding
    SOURCE.launch("conv2d", (n * p * q,), (BLOCK,), x, w, y, *numbers, K=k, BLOCK=BLOCK)
    return y
