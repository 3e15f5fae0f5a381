"""How large the results of convolutions are."""

from __future__ import annotations

__all__ = ["largest_phase", "output_size"]


def output_size(x_shape, w_shape, stride, padding):
    """(P, Q) of y, for x of shape (N,H,W,C) and w of shape (K,R,S,C): how many places a window has, down and across."""
    lengths = zip(x_shape[1:3], w_shape[1:3], strict=True)
    return tuple((length + 2 * padding - window) // stride + 1 for length, window in lengths)


def largest_phase(n, size, stride):
    """The pixels of the largest phase of x (N,H,W,C) with (H, W) = size; what a phase is, phase.cuh says."""
    h, width = size
    return n * -(-h // stride) * -(-width // stride)
