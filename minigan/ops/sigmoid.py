"""sigmoid: a logit into a probability, 1 / (1 + e^-x).

    dsigmoid/dx = sigmoid (1 - sigmoid)        so        gx = gy sigmoid (1 - sigmoid)

As in tanh, the value is computed again in backward, on the tape.
"""

from __future__ import annotations

from minigan.autograd import Op, Tensor

__all__ = ["sigmoid"]


class Sigmoid(Op):
    """y from x."""

    def forward(self, device, x):
        return device.sigmoid(x)

    def backward(self, gy):
        y = sigmoid(*self.inputs)
        return (gy * (y * (1 - y)),)


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function of every element; any shape, no overflow at any logit."""
    return Sigmoid()(x)
