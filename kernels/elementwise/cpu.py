"""The definition in parts: NumPy's loops are vectorised, and two threads fetch more from memory than one."""

from __future__ import annotations

import numpy as np

from kernels.elementwise.reference import power
from kernels.memory import empty
from kernels.threads import share

__all__ = ["add", "divide", "multiply", "power", "subtract"]

GRAIN = 1 << 15  # numbers, below which the one thread is faster


def add(a, b):
    """a + b."""
    return _in_parts(np.add, a, b)


def subtract(a, b):
    """a - b."""
    return _in_parts(np.subtract, a, b)


def multiply(a, b):
    """a b."""
    return _in_parts(np.multiply, a, b)


def divide(a, b):
    """a / b."""
    return _in_parts(np.divide, a, b)


def _in_parts(function, a, b):
    """function(a, b), broadcast; a part is some of the first axis."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    if len(shape) == 0 or 0 in shape:
        return np.asarray(function(a, b), np.float32)
    result = empty(shape)
    a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)

    def part(first, last):
        function(a[first:last], b[first:last], out=result[first:last])

    share(part, shape[0], grain=max(1, GRAIN * shape[0] // result.size))
    return result
