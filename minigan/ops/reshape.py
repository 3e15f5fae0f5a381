"""reshape: the same elements in the same order, under another shape."""

from __future__ import annotations

from numbers import Integral

from minigan.autograd import Op, Tensor

__all__ = ["reshape"]


class Reshape(Op):
    """Its gradient is the way back: the elements of g, under the shape of x."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def forward(self, device, x):
        return x.reshape(self.shape)

    def backward(self, g):
        (x,) = self.inputs
        return (reshape(g, x.shape),)


def reshape(x: Tensor, shape: int | tuple[int, ...]) -> Tensor:
    """x under `shape`, C order; one entry may be -1, for what is left. Raises ValueError if the sizes differ."""
    try:
        return Reshape((shape,) if isinstance(shape, Integral) else tuple(shape))(x)
    except ValueError:
        raise ValueError(f"reshape: x has shape {x.shape}, {x.size} elements; they do not fill {shape}") from None
