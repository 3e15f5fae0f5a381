"""The same kernels in PyTorch, under the same names, with the same arguments.

Each takes tensors in the place of arrays and gives a function that computes the results: what is prepared before is not
timed. A result that PyTorch has in another form (1 / sqrt(variance + eps) for the variance) is None. Kernels that are
not here have no counterpart: random numbers that are the same everywhere, and pictures out of a data set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kernels.adam.reference import in_fours
from kernels.pending import Pending, as_array

__all__ = ["prepared", "results"]

aten = torch.ops.aten
PICTURES: dict[str, Callable[..., Callable]] = {}  # four axes are (N,C,H,W) here, in either memory layout
AS_THEY_LIE: dict[str, Callable[..., Callable]] = {}  # arrays keep their axes


def entered(kernels: dict[str, Callable]) -> Callable:
    """A decorator that puts a function there, under its name."""

    def enter(prepare: Callable) -> Callable:
        kernels[prepare.__name__] = prepare
        return prepare

    return enter


def prepared(
    kernel: str, arguments: tuple, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Callable]:
    """The ways PyTorch has to compute this, by the names of their rows: none, one, or one for each layout.

    dtype: of the pictures and filters, which are on `device`.
    """

    def tensor(a, layout: torch.memory_format | None):
        if not isinstance(a, np.ndarray):
            return a
        t = torch.from_numpy(a.copy()).to(device)
        return t.permute(0, 3, 1, 2).to(dtype).contiguous(memory_format=layout) if layout and t.ndim == 4 else t

    def in_layout(layout: torch.memory_format) -> Callable:
        """The call; of a picture that is pending with what makes it, but where PyTorch has done so before."""
        number = next((i for i, a in enumerate(arguments) if isinstance(a, Pending)), None)
        if number is None or kernel == "conv2d_weight_grad":
            return PICTURES[kernel](*(tensor(as_array(a), layout) for a in arguments))
        picture = arguments[number]
        given = [tensor(a, layout) for a in (picture.x, *picture.columns)]
        make = (AS_THEY_LIE | PICTURES)[picture.kernel](*given, *picture.numbers)
        others = [None if i == number else tensor(a, layout) for i, a in enumerate(arguments)]
        return lambda: PICTURES[kernel](*others[:number], make(), *others[number + 1 :])()

    if kernel in AS_THEY_LIE:
        return {"torch": AS_THEY_LIE[kernel](*(tensor(a, None) for a in arguments))}
    if kernel in PICTURES:
        layouts = {"torch": torch.contiguous_format, "torch channels_last": torch.channels_last}
        return {name: in_layout(layout) for name, layout in layouts.items()}
    return {}


def results(kernel: str, returned) -> list[np.ndarray | None]:
    """What such a call returned, in our layout."""

    def array(t: Tensor | None):
        if t is None:
            return None
        t = t.permute(0, 2, 3, 1) if kernel in PICTURES and t.ndim == 4 else t
        return t.float().contiguous().cpu().numpy()

    return [array(t) for t in (returned if isinstance(returned, (tuple, list)) else [returned])]


def is_linear(picture: Tensor, w: Tensor) -> bool:
    """Pictures of one pixel under filters of one: users of PyTorch would take matrices for that."""
    return picture.shape[2:] == w.shape[2:] == (1, 1)


# ---- convolution: x (N,C,H,W), w (K,C,R,S), y (N,K,P,Q) --------------------------------------------------------------


@entered(PICTURES)
def conv2d(x, w, stride, padding):
    if is_linear(x, w):
        return lambda: functional.linear(x.flatten(1), w.flatten(1))[..., None, None]
    return lambda: functional.conv2d(x, w, stride=stride, padding=padding)


@entered(PICTURES)
def conv2d_transpose(y, w, stride, padding, size):
    if is_linear(y, w):
        return lambda: (y.flatten(1) @ w.flatten(1))[..., None, None]
    rows, columns = (
        length - ((n - 1) * stride + window - 2 * padding)
        for length, n, window in zip(size, y.shape[2:], w.shape[2:], strict=True)
    )
    return lambda: functional.conv_transpose2d(y, w, stride=stride, padding=padding, output_padding=(rows, columns))


def with_statistics(convolve):
    def call():
        y = convolve()
        variance, mean = torch.var_mean(y, (0, 2, 3), correction=0)
        return y, mean, variance

    return call


@entered(PICTURES)
def conv2d_with_statistics(x, w, stride, padding):
    return with_statistics(conv2d(x, w, stride, padding))


@entered(PICTURES)
def conv2d_transpose_with_statistics(y, w, stride, padding, size):
    return with_statistics(conv2d_transpose(y, w, stride, padding, size))


@entered(PICTURES)
def conv2d_weight_grad(x, y, stride, padding, size):
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    w = y.new_empty(y.shape[1], x.shape[1], *size).contiguous(memory_format=layout)  # its shape and layout count
    if is_linear(x, w):
        return lambda: (y.flatten(1).T @ x.flatten(1))[..., None, None]
    options = [stride, stride], [padding, padding], [1, 1], False, [0, 0], 1, [False, True, False]
    return lambda: aten.convolution_backward(y, x, w, None, *options)[1]


# ---- batch norm ------------------------------------------------------------------------------------------------------


@entered(PICTURES)
def batch_norm(x, scale, shift, eps):
    def call():
        y, mean, _ = torch.native_batch_norm(x, scale, shift, None, None, True, 0.1, eps)
        return y, mean, None

    return call


@entered(PICTURES)
def batch_norm_grad(gy, x, scale, mean, variance, eps):
    inverse = (variance + eps).rsqrt()
    return lambda: aten.native_batch_norm_backward(
        gy, x, scale, None, None, mean, inverse, True, eps, [True, True, True]
    )


@entered(PICTURES)
def batch_norm_inference(x, scale, shift, mean, variance, eps):
    return lambda: functional.batch_norm(x, mean, variance, scale, shift, eps=eps)


@entered(PICTURES)
def batch_norm_leaky_relu(x, scale, shift, eps, slope):
    def call():
        y, mean, _ = torch.native_batch_norm(x, scale, shift, None, None, True, 0.1, eps)
        return functional.leaky_relu_(y, slope), mean, None

    return call


@entered(PICTURES)
def batch_norm_leaky_relu_inference(x, scale, shift, mean, variance, eps, slope):
    normalise = batch_norm_inference(x, scale, shift, mean, variance, eps)
    return lambda: functional.leaky_relu_(normalise(), slope)


@entered(PICTURES)
def batch_norm_leaky_relu_grad(gy, x, scale, shift, mean, variance, eps, slope):
    inverse = (variance + eps).rsqrt()
    y = functional.leaky_relu(functional.batch_norm(x, mean, variance, scale, shift, eps=eps), slope)

    def call():  # the rectifier was in place: its result, which has the sign of its input, is what PyTorch kept
        g = aten.leaky_relu_backward(gy, y, slope, slope > 0)
        return aten.native_batch_norm_backward(g, x, scale, None, None, mean, inverse, True, eps, [True, True, True])

    return call


# ---- an element at a time --------------------------------------------------------------------------------------------


@entered(AS_THEY_LIE)
def leaky_relu(x, slope):
    return lambda: functional.leaky_relu(x, slope)


@entered(AS_THEY_LIE)
def leaky_relu_grad(gy, x, slope):
    return lambda: aten.leaky_relu_backward(gy, x, slope, False)


@entered(AS_THEY_LIE)
def tanh(x):
    return lambda: torch.tanh(x)


@entered(AS_THEY_LIE)
def tanh_grad(gy, x):
    y = torch.tanh(x)  # PyTorch keeps it
    return lambda: aten.tanh_backward(gy, y)


@entered(AS_THEY_LIE)
def sigmoid(x):
    return lambda: torch.sigmoid(x)


@entered(AS_THEY_LIE)
def bce_with_logits(logits, target):
    targets = torch.full_like(logits, target)
    return lambda: functional.binary_cross_entropy_with_logits(logits, targets)


@entered(AS_THEY_LIE)
def bce_with_logits_grad(g, logits, target):
    return lambda: g * (torch.sigmoid(logits) - target) / logits.numel()


@entered(AS_THEY_LIE)
def power(x, exponent):
    return lambda: torch.pow(x, exponent)


@entered(AS_THEY_LIE)
def add(a, b):
    return lambda: a + b


@entered(AS_THEY_LIE)
def subtract(a, b):
    return lambda: a - b


@entered(AS_THEY_LIE)
def multiply(a, b):
    return lambda: a * b


@entered(AS_THEY_LIE)
def divide(a, b):
    return lambda: a / b


@entered(AS_THEY_LIE)
def sum(x, axes):
    return lambda: torch.sum(x, axes, keepdim=True)


@entered(AS_THEY_LIE)
def mean(x, axes):
    return lambda: torch.mean(x, axes, keepdim=True)


@entered(AS_THEY_LIE)
def broadcast_to(x, shape):
    return lambda: x.expand(shape).contiguous()


@entered(AS_THEY_LIE)
def full(like, shape, value):
    return lambda: like.new_full(shape, value)


@entered(AS_THEY_LIE)
def moving_average(momentum, factors, *arrays):
    averages, values = list(arrays[: len(factors)]), list(arrays[len(factors) :])

    def call():
        torch._foreach_lerp_(averages, torch._foreach_mul(values, list(factors)), momentum)
        return *averages, *values

    return call


@entered(AS_THEY_LIE)
def adam(step, lr, beta1, beta2, eps, *arrays):
    fours = list(in_fours(arrays))
    parameters, gradients, m, v = map(list, zip(*fours, strict=True))
    steps = [torch.tensor(float(step), device=p.device) for p in parameters]  # one for each; those that went before
    options = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "weight_decay": 0, "amsgrad": False}

    def call():
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(parameters, gradients, m, v, [], steps, **options, maximize=False)
        return steps[0], *arrays

    return call
