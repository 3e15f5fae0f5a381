"""sum, mean and broadcast_to: fewer axes, and back.

sum and broadcast_to are each other's gradient. Let y = sum of x over some axes. Every x enters one y with weight 1, so
gx repeats gy along those axes: broadcast_to. Let y repeat x. Every x enters several y with weight 1, so gx adds up gy
over the repeated axes: sum. The mean of n elements is their sum divided by n; its gradient is broadcast_to(gy / n).
"""

from __future__ import annotations

from numbers import Integral

from minigan.autograd import Op, Tensor
from minigan.ops.reshape import reshape

__all__ = ["broadcast_to", "mean", "sum", "sum_to"]


class Sum(Op):
    """Over `axes`, each of which stays with length 1."""

    def __init__(self, axes: tuple[int, ...]):
        self.axes = axes

    def forward(self, device, x):
        return device.sum(x, self.axes)

    def backward(self, g):
        (x,) = self.inputs
        return (broadcast_to(g, x.shape),)


class Mean(Op):
    """Over `axes`, likewise."""

    def __init__(self, axes: tuple[int, ...]):
        self.axes = axes

    def forward(self, device, x):
        return device.mean(x, self.axes)

    def backward(self, g):
        (x,) = self.inputs
        return (broadcast_to(g * (g.size / max(1, x.size)), x.shape),)


class BroadcastTo(Op):
    """By NumPy's rule: align the shapes at the right, repeat along axes of length 1."""

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def forward(self, device, x):
        return device.broadcast_to(x, self.shape)

    def backward(self, g):
        (x,) = self.inputs
        return (sum_to(g, x.shape),)


def sum(x: Tensor, axes: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """The sum over `axes` (all of them by default); they vanish, or stay with length 1 if `keepdims`.

    Raises ValueError for an axis that x does not have, or has twice.
    """
    return _reduced(Sum, x, axes, keepdims)


def mean(x: Tensor, axes: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """The mean over `axes`; otherwise as `sum`."""
    return _reduced(Mean, x, axes, keepdims)


def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x repeated to `shape` by NumPy's rule. Raises ValueError where an axis is neither 1 nor the wanted length."""
    shape = tuple(shape)
    if x.shape == shape:
        return x
    aligned = (1,) * (len(shape) - x.ndim) + x.shape
    if len(aligned) != len(shape) or any(n not in (1, wanted) for n, wanted in zip(aligned, shape, strict=True)):
        raise ValueError(f"broadcast_to: x has shape {x.shape}, which does not broadcast to {shape}")
    return BroadcastTo(shape)(x)


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient of x, of shape `shape`, if g is the gradient of x broadcast to g's shape."""
    if g.shape == shape:
        return g
    aligned = (1,) * (g.ndim - len(shape)) + shape
    axes = tuple(axis for axis in range(g.ndim) if aligned[axis] == 1 and g.shape[axis] != 1)
    return reshape(sum(g, axes, keepdims=True), shape)


def _reduced(op: type[Op], x: Tensor, axes: int | tuple[int, ...] | None, keepdims: bool) -> Tensor:
    """Sum or Mean of x; without axes it is x itself."""
    axes = _axes(op.__name__.lower(), x, axes)
    y = op(axes)(x) if axes else x
    return y if keepdims else reshape(y, tuple(n for axis, n in enumerate(x.shape) if axis not in axes))


def _axes(name: str, x: Tensor, axes: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The axes as sorted non-negative numbers."""
    given = range(x.ndim) if axes is None else (axes,) if isinstance(axes, Integral) else axes
    found = sorted({axis + x.ndim * (axis < 0) for axis in given})
    if len(found) != len(given) or not all(0 <= axis < x.ndim for axis in found):
        raise ValueError(f"{name}: x has shape {x.shape}; axes {axes} are not different axes of it")
    return tuple(found)
