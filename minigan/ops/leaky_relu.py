"""leaky_relu: y = x where x > 0, slope x elsewhere (Maas, Hannun & Ng 2013, section 2). Slope 0 is ReLU.

The gradient passes or is scaled, by the sign of x alone:

    gx = gy where x > 0, slope gy elsewhere                                        (leaky_relu_grad)

which is linear in gy with the same weights, and constant in x but for the kink at 0, where the left derivative is
taken. So the gradient of leaky_relu_grad by gy is leaky_relu_grad itself, and by x it is none.

A convolution after it may be able to rectify what it reads, as on a GPU's tensor cores. For pictures the way forward is
no kernel then, and y is never in memory (kernels/pending.py).
"""

from __future__ import annotations

import kernels
from minigan.autograd import Op, Tensor

__all__ = ["leaky_relu"]


class LeakyRelu(Op):
    """y from x."""

    def __init__(self, slope: float):
        self.slope = slope

    def forward(self, device, x):
        if device.reads_pending and x.ndim == 4:
            return kernels.Rectified(x, self.slope, device.leaky_relu)
        return device.leaky_relu(x, self.slope)

    def backward(self, gy):
        (x,) = self.inputs
        return (LeakyReluGrad(self.slope)(gy, x),)


class LeakyReluGrad(Op):
    """gx from gy and x."""

    def __init__(self, slope: float):
        self.slope = slope

    def forward(self, device, gy, x):
        return device.leaky_relu_grad(gy, x, self.slope)

    def backward(self, ggx):
        _, x = self.inputs
        return LeakyReluGrad(self.slope)(ggx, x), None


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """x where it is positive, slope x elsewhere; any shape. Raises ValueError for a slope outside [0, 1]."""
    check_slope("leaky_relu", slope)
    return LeakyRelu(float(slope))(x)  # a NumPy number would make float64 of float32


def check_slope(name: str, slope: float) -> None:
    """Raise ValueError unless it lies in [0, 1]."""
    if not 0 <= slope <= 1:
        raise ValueError(f"{name}: slope is {slope!r}; it must lie between 0 (ReLU) and 1 (the identity)")
