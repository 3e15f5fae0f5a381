"""tanh: any number into (-1, 1), the range of a picture's values.

    dtanh/dx = 1 - tanh²        so        gx = gy (1 - tanh²)                      (tanh_grad)

and once more, for gradients of gradients: gx is linear in gy with the same weights, and

    dgx/dx = -2 gy tanh (1 - tanh²)

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
        (x,) = self.inputs
        return (TanhGrad()(gy, x),)


class TanhGrad(Op):
    """gx from gy and x."""

    def forward(self, device, gy, x):
        return device.tanh_grad(gy, x)

    def backward(self, ggx):
        gy, x = self.inputs
        need_gy, need_x = self.needs
        return (
            TanhGrad()(ggx, x) if need_gy else None,
            TanhGrad()(ggx * gy, x) * tanh(x) * -2.0 if need_x else None,
        )


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent of every element; any shape."""
    return Tanh()(x)
