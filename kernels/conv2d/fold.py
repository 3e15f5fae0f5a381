"""conv2d_transpose for pictures of few channels: each tap by itself, and then fold.cu adds up where windows overlap."""

from __future__ import annotations

from kernels.launch import Source, elements, empty

__all__ = ["conv2d_transpose", "in_a_row", "suits"]

SOURCE = Source(__package__, "fold.cu")
MOST = 4  # channels: a tile is 16 times as wide, or more


def suits(filters):
    """Whether, with filters of shape (K,R,S,C), that is less work than all taps at once."""
    _, r, s, c = filters
    return c <= MOST and r * s > 1


def conv2d_transpose(y, w, stride, padding, size, product):
    """x (N,H,W,C) = dT/dx of y (N,P,Q,K) and w (K,R,S,C), with (H, W) = size.

    product: the conv2d_transpose with which each tap is made, its filters' windows of one pixel.
    """
    n, p, q, _ = y.shape
    _, r, s, c = w.shape
    h, width = size
    products = product(y, in_a_row(w), 1, 0, (p, q))
    x = empty(w, (n, h, width, c))
    numbers = x.size, h, width, c, p, q, r, s, stride, padding
    SOURCE.launch("fold", *elements(x.size), products, x, *numbers)
    return x


def in_a_row(w):
    """The filters (K,R,S,C) as those of one pixel of R S C channels."""
    return w.reshape(len(w), 1, 1, -1)
