"""An array of one number."""

from __future__ import annotations

import numpy as np

__all__ = ["full"]


def full(like, shape, value):
    """y of `shape` and of like's type, every element `value`."""
    return np.full(shape, value, like.dtype)
