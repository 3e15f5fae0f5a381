"""tanh: any number into (-1, 1), the range of a picture's values.

    dtanh/dx = 1 - tanh²        so        gx = gy (1 - tanh²)

tanh is computed again in backward rather than kept: it makes the gradient an ordinary function of x, on the tape.
"""

from __future__ import annotations

from minigan.autograd import Op, Tensor

__all__ = ["tanh"]


class Tanh(Op):
    """y from x."""

    def forward(self, device, x):
        return device.tanh(x)

    def backward(self, gy):
        y = tanh(*self.inputs)
        return (gy * (1 - y * y),)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent of every element; any shape."""
    return Tanh()(x)
