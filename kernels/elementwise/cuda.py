"""Launches elementwise.cu: a thread an element; what broadcasting stretches has stride 0."""

from __future__ import annotations

from numpy import broadcast_shapes

from kernels.launch import Source, empty

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
    SOURCE.launch("power", ((x.size + 255) // 256,), (256,), x, y, x.size, exponent)
    return y


def binary(kernel, a, b):
    """One of the four kernels with two operands."""
    y = empty(a, broadcast_shapes(a.shape, b.shape))
    if a.shape == b.shape:  # nothing is stretched: all axes are one
        sizes, a_strides, b_strides = (1, 1, y.size), (0, 0, 0, 1), (0, 0, 0, 1)
    else:
        sizes, a_strides, b_strides = four_axes(y.shape)[1:], strides(a.shape), strides(b.shape)
    SOURCE.launch(kernel, ((y.size + 255) // 256,), (256,), a, b, y, y.size, *sizes, *a_strides, *b_strides)
    return y


def four_axes(shape):
    """The shape with axes of length 1 before it, so that there are four."""
    return (1,) * (4 - len(shape)) + tuple(shape)


def strides(shape):
    """Elements from one index to the next along each of four axes; 0 where the length is 1 and may be stretched."""
    steps, step = [], 1
    for length in reversed(four_axes(shape)):
        steps.append(step if length > 1 else 0)
        step *= length
    return steps[::-1]
