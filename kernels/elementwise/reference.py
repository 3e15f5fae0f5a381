"""Arithmetic between arrays of at most four axes, with NumPy's broadcasting (right-aligned, 1 stretches)."""

from __future__ import annotations

import numpy as np

__all__ = ["add", "divide", "multiply", "power", "subtract"]


def add(a, b):
    """a + b, of the shape that a and b broadcast to."""
    return np.asarray(a + b)


def subtract(a, b):
    """a - b, of the shape that a and b broadcast to."""
    return np.asarray(a - b)


def multiply(a, b):
    """a b, of the shape that a and b broadcast to."""
    return np.asarray(a * b)


def divide(a, b):
    """a / b, of the shape that a and b broadcast to."""
    return np.asarray(a / b)


def power(x, exponent):
    """x to the power of one number, of the shape of x."""
    return np.asarray(x**exponent)
