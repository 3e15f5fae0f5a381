"""The logistic function 1 / (1 + exp(-x)) of each element. x has any shape."""

from __future__ import annotations

import numpy as np

__all__ = ["sigmoid"]


def sigmoid(x):
    """y of the shape of x, between 0 and 1. Only exp(-|x|) is taken, which cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))
