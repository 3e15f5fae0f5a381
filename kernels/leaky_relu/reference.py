"""The leaky rectifier: x where x > 0, slope x elsewhere; slope 0 is ReLU. x has any shape."""

from __future__ import annotations

import numpy as np

__all__ = ["leaky_relu", "leaky_relu_grad"]


def leaky_relu(x, slope):
    """y of the shape of x."""
    return np.where(x > 0, x, slope * x)


def leaky_relu_grad(gy, x, slope):
    """gx = gy where x > 0, slope gy elsewhere (at x = 0 too)."""
    return np.where(x > 0, gy, slope * gy)
