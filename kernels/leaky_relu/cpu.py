"""The leaky rectifier on the CPU: one pass over memory each."""

from __future__ import annotations

import numpy as np

from kernels.memory import empty
from kernels.threads import compiled, share

__all__ = ["leaky_relu", "leaky_relu_grad"]

GRAIN = 1 << 14  # numbers that one thread sees to before another is woken


def leaky_relu(x, slope):
    """y of the shape of x: the arithmetic of its gradient, with x in the place of gy."""
    return leaky_relu_grad(x, x, slope)


def leaky_relu_grad(gy, x, slope):
    """gx of the shape of x."""
    gx = empty(x.shape)
    share(scale, x.size, gy.reshape(-1), x.reshape(-1), np.float32(slope), gx.reshape(-1), grain=GRAIN)
    return gx


@compiled
def scale(first, last, gy, x, slope, gx):
    """gx = gy where x > 0, slope gy elsewhere; all (n,)."""
    gy, x, gx = gy[first:last], x[first:last], gx[first:last]
    for i in range(x.size):
        gx[i] = gy[i] if x[i] > 0 else slope * gy[i]
