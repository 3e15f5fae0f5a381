"""conv2d, conv2d_transpose and conv2d_weight_grad: the three derivatives of one trilinear form.

    T(x, w, y) = Σ  x[n,i,j,c]  w[k,r,s,c]  y[n,p,q,k]        i = p stride + r - padding
               n,p,q,k,r,s,c                                  j = q stride + s - padding

with x (N,H,W,C) the larger picture, w (K,R,S,C) the filters, y (N,P,Q,K) the smaller picture; where i or j falls
outside x, the padding, x counts as 0. T is linear in each letter, so it equals its derivative by a letter times that
letter:

    conv2d             = dT/dy        T(x,w,y) = <conv2d(x,w), y>
    conv2d_transpose   = dT/dx                 = <x, conv2d_transpose(y,w)>
    conv2d_weight_grad = dT/dw                 = <w, conv2d_weight_grad(x,y)>

The gradients follow without another sum. Let y = conv2d(x, w) and let gy arrive. A small change of x and w changes the
loss by <gy, conv2d(dx,w)> + <gy, conv2d(x,dw)> = T(dx,w,gy) + T(x,dw,gy), so

    gx = dT/dx at (w, gy) = conv2d_transpose(gy, w)
    gw = dT/dw at (x, gy) = conv2d_weight_grad(x, gy)

and likewise for the other two: put the arriving gradient in the place of the result's letter, and differentiate T by
the letter that is wanted. The three ops are closed under differentiation, to any order.
"""

from __future__ import annotations

from collections.abc import Sequence

import kernels
from minigan.autograd import Op, Tensor

__all__ = ["conv2d", "conv2d_output_size", "conv2d_transpose", "conv2d_weight_grad"]


class _Derivative(Op):
    """One derivative of T. Each constant is what the two given letters leave open."""

    def __init__(self, stride: int, padding: int, size: tuple[int, int] | None = None):
        self.stride = stride
        self.padding = padding
        self.size = size

    def dx(self, y, w, x):
        """dT/dx, as large as x."""
        return conv2d_transpose(y, w, self.stride, self.padding, x.shape[1:3])

    def dw(self, x, y, w):
        """dT/dw, as large as w."""
        return conv2d_weight_grad(x, y, self.stride, self.padding, w.shape[1:3])

    def dy(self, x, w):
        """dT/dy; its size follows from the others."""
        return conv2d(x, w, self.stride, self.padding)


class Conv2d(_Derivative):
    """y = dT/dy."""

    reads_pending = (0,)

    def forward(self, device, x, w):
        return device.conv2d(x, w, self.stride, self.padding)

    def backward(self, gy):
        x, w = self.inputs
        need_x, need_w = self.needs
        gy = read_twice(gy)
        return self.dx(gy, w, x) if need_x else None, self.dw(x, gy, w) if need_w else None


class Conv2dTranspose(_Derivative):
    """x = dT/dx."""

    reads_pending = (0,)

    def forward(self, device, y, w):
        return device.conv2d_transpose(y, w, self.stride, self.padding, self.size)

    def backward(self, gx):
        y, w = self.inputs
        need_y, need_w = self.needs
        gx = read_twice(gx)
        return self.dy(gx, w) if need_y else None, self.dw(gx, y, w) if need_w else None


class Conv2dWeightGrad(_Derivative):
    """w = dT/dw."""

    reads_pending = (0, 1)

    def forward(self, device, x, y):
        return device.conv2d_weight_grad(x, y, self.stride, self.padding, self.size)

    def backward(self, gw):
        x, y = self.inputs
        need_x, need_y = self.needs
        return self.dx(y, gw, x) if need_x else None, self.dy(x, gw) if need_y else None


def read_twice(g: Tensor) -> Tensor:
    """A picture's gradient, for two kernels that are about to read it; where they copy it first, one copy is enough."""
    return Tensor(kernels.RoundedOnce(g.data), g.device) if g.device.rounds_first and not g.requires_grad else g


def conv2d(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """x (N,H,W,C), w (K,R,S,C) -> y (N,P,Q,K), P = (H + 2 padding - R) // stride + 1, Q likewise.

    What deep learning calls convolution is correlation: w is not mirrored.
    Raises ValueError, naming the shapes, where they do not fit together.
    """
    check_conv2d("conv2d", x, w, stride, padding)
    return Conv2d(stride, padding)(x, w)


def conv2d_transpose(
    y: Tensor, w: Tensor, stride: int = 1, padding: int = 0, size: tuple[int, int] | None = None
) -> Tensor:
    """y (N,P,Q,K), w (K,R,S,C) -> x (N,H,W,C): conv2d's adjoint, not its inverse.

    size: (H, W). With a stride above 1 several H give the same P; the default is the smallest of them,
    (P-1) stride + R - 2 padding.
    Raises ValueError, naming the shapes, where they do not fit together.
    """
    size = check_conv2d_transpose("conv2d_transpose", y, w, stride, padding, size)
    return Conv2dTranspose(stride, padding, size)(y, w)


def conv2d_weight_grad(x: Tensor, y: Tensor, stride: int, padding: int, size: tuple[int, int]) -> Tensor:
    """x (N,H,W,C), y (N,P,Q,K) -> w (K,R,S,C), the filters' gradient if y is the gradient of conv2d's result.

    size: (R, S). Raises ValueError, naming the shapes, where they do not fit together.
    """
    n, h, width, _ = _four("conv2d_weight_grad", "x", x)
    yn, p, q, _ = _four("conv2d_weight_grad", "y", y)
    _options("conv2d_weight_grad", stride, padding, size)
    if n != yn:
        raise ValueError(f"conv2d_weight_grad: x has {n} pictures, shape {x.shape}, but y has {yn}, shape {y.shape}")
    _fits("conv2d_weight_grad", f"size {tuple(size)}", (h, width), size, (p, q), stride, padding)
    return Conv2dWeightGrad(stride, padding, tuple(size))(x, y)


def conv2d_output_size(length: int, kernel: int, stride: int, padding: int) -> int:
    """P from H (or Q from W): how many windows fit along one axis."""
    return (length + 2 * padding - kernel) // stride + 1


def check_conv2d(name: str, x: Tensor, w: Tensor, stride: int, padding: int) -> None:
    """Raise, naming the shapes, where they do not fit together."""
    _, h, width, c = _four(name, "x", x)
    _, r, s, wc = _four(name, "w", w)
    _options(name, stride, padding)
    if c != wc:
        raise ValueError(f"{name}: x has {c} channels, shape {x.shape}, but w has {wc}, shape {w.shape}")
    if h + 2 * padding < r or width + 2 * padding < s:
        raise ValueError(f"{name}: w of shape {w.shape} is larger than x of shape {x.shape} with padding {padding}")


def check_conv2d_transpose(
    name: str, y: Tensor, w: Tensor, stride: int, padding: int, size: tuple[int, int] | None
) -> tuple[int, int]:
    """(H, W) of the result. Raise, naming the shapes, where they do not fit together."""
    _, p, q, k = _four(name, "y", y)
    wk, r, s, _ = _four(name, "w", w)
    _options(name, stride, padding, size)
    if k != wk:
        raise ValueError(f"{name}: y has {k} channels, shape {y.shape}, but w takes {wk}, shape {w.shape}")
    if size is None:
        size = ((p - 1) * stride + r - 2 * padding, (q - 1) * stride + s - 2 * padding)
    _fits(name, f"size {tuple(size)}", size, (r, s), (p, q), stride, padding)
    return tuple(size)


def _four(name: str, letter: str, t: Tensor) -> tuple[int, ...]:
    wanted = {"x": "(N, H, W, C)", "w": "(K, R, S, C)", "y": "(N, P, Q, K)"}[letter]
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}: {letter} is a {type(t).__name__}; it must be a Tensor (minigan.tensor makes one)")
    if t.ndim != 4:
        raise ValueError(f"{name}: {letter} has shape {t.shape}; it must have four axes, {wanted}")
    if 0 in t.shape:
        raise ValueError(f"{name}: {letter} has shape {t.shape}; no axis may be empty")
    return t.shape


def _options(name: str, stride: int, padding: int, size: tuple[int, int] | None = None) -> None:
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f"{name}: stride is {stride!r}; it must be a whole number, at least 1")
    if not isinstance(padding, int) or padding < 0:
        raise ValueError(f"{name}: padding is {padding!r}; it must be a whole number, at least 0")
    if size is not None and not (isinstance(size, Sequence) and [type(length) for length in size] == [int, int]):
        raise ValueError(f"{name}: size is {size!r}; it must be two whole numbers, of rows and columns")


def _fits(name: str, what: str, larger, kernel, smaller, stride: int, padding: int) -> None:
    """A picture (H,W) under filters (R,S) gives (P,Q): raise ValueError where it does not."""
    if min(*larger, *kernel) < 1:
        raise ValueError(f"{name}: {what} is not positive")
    found = tuple(
        conv2d_output_size(length, window, stride, padding) for length, window in zip(larger, kernel, strict=True)
    )
    if found != tuple(smaller):
        raise ValueError(
            f"{name}: {what} does not fit: conv2d of {tuple(larger)} with a {kernel[0]}x{kernel[1]} kernel, "
            f"stride {stride}, padding {padding} gives {found}, but y is {tuple(smaller)}"
        )
