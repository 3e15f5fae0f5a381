"""Launches adam.cu: a thread a parameter."""

from __future__ import annotations

from kernels.launch import Source

__all__ = ["adam"]

SOURCE = Source(__package__, "adam.cu")


def adam(parameters, gradients, m, v, step, lr, beta1, beta2, eps):
    """One update in place of parameters, m and v, all (P,); `step` counts from 1."""
    size = parameters.size
    arrays = parameters, gradients, m, v
    rests = 1 - beta1, 1 - beta2
    corrections = 1 - beta1**step, 1 - beta2**step
    grid = ((size + 255) // 256,)
    SOURCE.launch("adam", grid, (256,), *arrays, size, lr, beta1, beta2, *rests, *corrections, eps)
