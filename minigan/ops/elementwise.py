"""add, subtract, multiply, divide and power: one element at a time, with NumPy's broadcasting.

With g the gradient of the result, from d(a+b) = da + db, d(ab) = b da + a db, d(a/b) = da/b - (a/b²) db and
d(x^p) = p x^(p-1) dx:

    add       ga = g        gb = g
    subtract  ga = g        gb = -g
    multiply  ga = g b      gb = g a
    divide    ga = g / b    gb = -g a / b²
    power     gx = g p x^(p-1)

An operand that was broadcast entered several results, so its gradient is summed back to its shape (`sum_to`).
"""

from __future__ import annotations

from numbers import Real

import numpy as np

from minigan.autograd import Op, Tensor
from minigan.ops.sum import sum_to

__all__ = ["add", "divide", "multiply", "power", "subtract"]


class _Binary(Op):
    """Two operands; `partials(g, a, b)` gives their gradients as functions, and only the needed ones are called."""

    def forward(self, device, a, b):
        return device.kernels[self.name](a, b)

    def backward(self, g):
        a, b = self.inputs
        return [
            sum_to(partial(), t.shape) if needed else None
            for partial, t, needed in zip(self.partials(g, a, b), (a, b), self.needs, strict=True)
        ]


class Add(_Binary):
    """a + b."""

    def partials(self, g, a, b):
        return lambda: g, lambda: g


class Subtract(_Binary):
    """a - b."""

    def partials(self, g, a, b):
        return lambda: g, lambda: -g


class Multiply(_Binary):
    """a * b."""

    def partials(self, g, a, b):
        return lambda: g * b, lambda: g * a


class Divide(_Binary):
    """a / b."""

    def partials(self, g, a, b):
        return lambda: g / b, lambda: -g * a / (b * b)


class Power(Op):
    """x to a constant exponent."""

    def __init__(self, exponent: float):
        self.exponent = exponent

    def forward(self, device, x):
        return device.power(x, self.exponent)

    def backward(self, g):
        (x,) = self.inputs
        if self.exponent == 0:
            return (None,)  # x^0 is the constant 1
        return (g * (self.exponent * power(x, self.exponent - 1)),)


def _apply(op: Op, a: Tensor | float, b: Tensor | float) -> Tensor:
    """`op` on two operands, of which one may be a number; their shapes must broadcast."""
    like = a if isinstance(a, Tensor) else b
    if isinstance(like, Tensor):
        a, b = (_constant(t, like) if isinstance(t, Real) else t for t in (a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise ValueError(f"{op.name}: shapes {a.shape} and {b.shape} do not broadcast") from None
    return op(a, b)


def _constant(number: float, like: Tensor) -> Tensor:
    return Tensor(like.device.full(like.data, (), float(number)), like.device)


def add(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a + b, of the broadcast shape. Raises ValueError if the shapes do not broadcast."""
    return _apply(Add(), a, b)


def subtract(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a - b, of the broadcast shape. Raises as add."""
    return _apply(Subtract(), a, b)


def multiply(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a b, of the broadcast shape. Raises as add."""
    return _apply(Multiply(), a, b)


def divide(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a / b, of the broadcast shape; division by zero gives IEEE's infinities and NaN. Raises as add."""
    return _apply(Divide(), a, b)


def power(x: Tensor, exponent: float) -> Tensor:
    """x ** exponent, the exponent a number. Raises TypeError if it is a Tensor."""
    if not isinstance(exponent, Real):
        raise TypeError(f"power: the exponent is a {type(exponent).__name__}; it must be a number")
    return Power(float(exponent))(x)  # a NumPy number would make float64 of float32


Tensor.__add__ = Tensor.__radd__ = add
Tensor.__mul__ = Tensor.__rmul__ = multiply
Tensor.__sub__ = subtract
Tensor.__truediv__ = divide
Tensor.__rsub__ = lambda b, a: subtract(a, b)
Tensor.__rtruediv__ = lambda b, a: divide(a, b)
Tensor.__pow__ = power
Tensor.__neg__ = lambda x: multiply(x, -1.0)
