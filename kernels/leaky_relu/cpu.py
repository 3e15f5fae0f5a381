"""The leaky rectifier on the CPU: one pass over memory each."""

from __future__ import annotations

import numba
import numpy as np

from kernels.threads import parallel

__all__ = ["leaky_relu", "leaky_relu_grad"]


def leaky_relu(x, slope):
    """y of the shape of x."""
    return scaled(x.reshape(-1), x.reshape(-1), np.float32(slope)).reshape(x.shape)


def leaky_relu_grad(gy, x, slope):
    """gx of the shape of x."""
    return scaled(gy.reshape(-1), x.reshape(-1), np.float32(slope)).reshape(x.shape)


@parallel
def scaled(a, x, slope):
    """a where x > 0, slope a elsewhere; all (n,). With a = x it is the function, with a = gy its gradient."""
    y = np.empty_like(x)
    for i in numba.prange(x.size):
        y[i] = a[i] if x[i] > 0 else slope * a[i]
    return y
