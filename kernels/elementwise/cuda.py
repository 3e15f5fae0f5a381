"""Launches elementwise.cu: a thread makes a few elements; what broadcasting stretches is read with steps of 0."""

from __future__ import annotations

from itertools import zip_longest

from numpy import broadcast_shapes

from kernels.launch import Source, elements, empty

__all__ = ["add", "divide", "multiply", "power", "subtract"]

SOURCE = Source(__package__, "elementwise.cu")


def add(a, b):
    """a + b, of the shape that a and b broadcast to."""
    return binary("add", a, b)


def subtract(a, b):
    """a - b, of the shape that a and b broadcast to."""
    return binary("subtract", a, b)


def multiply(a, b):
    """a b, of the shape that a and b broadcast to."""
    return binary("multiply", a, b)


def divide(a, b):
    """a / b, of the shape that a and b broadcast to."""
    return binary("divide", a, b)


def power(x, exponent):
    """x to the power of one number, of the shape of x."""
    y = empty(x, x.shape)
    SOURCE.launch("power", *elements(x.size), x, y, x.size, exponent)
    return y


def binary(kernel, a, b):
    """One of the four kernels with two operands."""
    y = empty(a, broadcast_shapes(a.shape, b.shape))
    walks = *walk(a.shape, y.shape), *walk(b.shape, y.shape)
    SOURCE.launch(kernel, *elements(y.size), a, b, y, y.size, *walks)
    return y


def walk(operand, shape):
    """(lengths, steps) by which an operand of that shape is read as if it had `shape`: see broadcast.cuh."""
    lengths, steps, step = [], [], 1
    for own, length in zip_longest(reversed(operand), reversed(shape), fillvalue=1):
        moved = step if own > 1 else 0
        if lengths and moved == lengths[-1] * steps[-1]:  # as if the axis after it went on
            lengths[-1] *= length
        elif length > 1:
            lengths.append(length)
            steps.append(moved)
        step *= own
    return [*lengths[:-1], 0], steps or [0]
