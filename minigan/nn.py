"""Layers: they own parameters and call ops.

A layer is a function of one Tensor. Its parameters are the Tensors among its attributes that require a gradient, under
their attributes' names (`w`, `b`, `scale`, `shift`); Tensors that do not are buffers, kept but not trained. Every layer
knows the shape it gives and the multiplications it takes, so that a network can be laid out before it is run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

import kernels
from minigan import ops
from minigan.autograd import Tensor

__all__ = [
    "BatchNorm",
    "Conv2d",
    "Conv2dTranspose",
    "Initializer",
    "Layer",
    "LeakyRelu",
    "Linear",
    "Reshape",
    "Sequential",
    "Tanh",
]


class Initializer:
    """Where new parameters come from.

    weights, scale: functions from a shape to a Tensor, for filters and for batch norm's scale.
    """

    def __init__(self, device: kernels.Device, weights: Callable, scale: Callable | None = None):
        self.device = device
        self.weights = weights
        self.scale = scale or self.ones

    def zeros(self, shape: tuple[int, ...]) -> Tensor:
        """Biases, shifts."""
        return Tensor(self.device.array(np.zeros(shape, np.float32)), self.device)

    def ones(self, shape: tuple[int, ...]) -> Tensor:
        """Variances before any was seen."""
        return Tensor(self.device.array(np.ones(shape, np.float32)), self.device)


def _parameter(t: Tensor) -> Tensor:
    t.requires_grad = True
    return t


class Layer:
    """A function of a Tensor, with parameters. `training` is False in inference."""

    training = True

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the result for an input of `shape`, both without the batch axis."""
        return shape

    def multiply_adds(self, shape: tuple[int, ...]) -> int:
        """Multiplications that are added up, for one picture of `shape`; only convolution and linear count."""
        return 0

    def state(self) -> dict[str, Tensor]:
        """Every Tensor the layer owns, by name."""
        return {name: t for name, t in vars(self).items() if isinstance(t, Tensor)}

    def parameters(self) -> dict[str, Tensor]:
        """Those that are trained."""
        return {name: t for name, t in self.state().items() if t.requires_grad}

    def train(self, training: bool = True) -> None:
        """Switch between training and inference."""
        self.training = training


class Linear(Layer):
    """(C,) -> (K,), with bias."""

    def __init__(self, c: int, k: int, init: Initializer):
        self.w = _parameter(init.weights((k, c)))
        self.b = _parameter(init.zeros((k,)))

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.w, self.b)

    def output_shape(self, shape):
        return self.b.shape

    def multiply_adds(self, shape):
        return self.w.size


class Conv2d(Layer):
    """(H,W,C) -> (P,Q,K), each side shrunk by `stride`."""

    def __init__(self, c: int, k: int, init: Initializer, kernel: int, stride: int, padding: int, bias: bool):
        self.stride, self.padding = stride, padding
        self.w = _parameter(init.weights((k, kernel, kernel, c)))
        self.b = _parameter(init.zeros((k,))) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        y = ops.conv2d(x, self.w, self.stride, self.padding)
        return y if self.b is None else y + self.b

    def with_statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Its result before the bias, and each channel's mean and variance."""
        return ops.conv2d_with_statistics(x, self.w, self.stride, self.padding)

    def output_shape(self, shape):
        k, kernel = self.w.shape[:2]
        return *(ops.conv2d_output_size(side, kernel, self.stride, self.padding) for side in shape[:2]), k

    def multiply_adds(self, shape):
        return math.prod(self.output_shape(shape)[:2]) * self.w.size


class Conv2dTranspose(Layer):
    """(P,Q,K) -> (H,W,C) with (H, W) = `size`."""

    def __init__(
        self,
        k: int,
        c: int,
        init: Initializer,
        kernel: int,
        stride: int,
        padding: int,
        size: tuple[int, int],
        bias: bool,
    ):
        self.stride, self.padding, self.size = stride, padding, size
        self.w = _parameter(init.weights((k, kernel, kernel, c)))
        self.b = _parameter(init.zeros((c,))) if bias else None

    def __call__(self, y: Tensor) -> Tensor:
        x = ops.conv2d_transpose(y, self.w, self.stride, self.padding, self.size)
        return x if self.b is None else x + self.b

    def with_statistics(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Its result before the bias, and each channel's mean and variance."""
        return ops.conv2d_transpose_with_statistics(y, self.w, self.stride, self.padding, self.size)

    def output_shape(self, shape):
        return *self.size, self.w.shape[3]

    def multiply_adds(self, shape):
        return math.prod(shape[:2]) * self.w.size


class BatchNorm(Layer):
    """(..., C) -> the same shape; in inference with running averages of the batches' statistics.

    After each batch, running += momentum (batch - running); the variance enters with M - 1 in the denominator, as an
    estimate for pictures that are not in the batch (Ioffe & Szegedy 2015, Algorithm 2). eps and momentum are PyTorch's
    defaults.
    """

    def __init__(self, c: int, init: Initializer, eps: float = 1e-5, momentum: float = 0.1):
        self.eps, self.momentum = eps, momentum
        self.scale = _parameter(init.scale((c,)))
        self.shift = _parameter(init.zeros((c,)))
        self.running_mean = init.zeros((c,))
        self.running_variance = init.ones((c,))

    def __call__(self, x: Tensor) -> Tensor:
        if not self.training:
            return ops.batch_norm_inference(
                x, self.scale, self.shift, self.running_mean, self.running_variance, self.eps
            )
        return self._averaged(*ops.batch_norm_with_statistics(x, self.scale, self.shift, self.eps))

    def and_leaky_relu(self, x: Tensor, slope: float) -> Tensor:
        """This layer and a LeakyRelu after it, in training as one operation."""
        if not self.training:
            return ops.leaky_relu(self(x), slope)
        return self._averaged(*ops.batch_norm_leaky_relu(x, self.scale, self.shift, self.eps, slope))

    def between(self, convolution: Conv2d | Conv2dTranspose, x: Tensor, slope: float) -> Tensor:
        """A convolution, this layer and a LeakyRelu after it, in training as two operations.

        The first knows the statistics of what it gives. A bias is not added: it would move every value of a channel and
        their mean alike, and the mean is taken away. So no gradient comes to it either; the running average moves to
        where the mean would be.
        """
        if not self.training:
            return self.and_leaky_relu(convolution(x), slope)
        x, mean, variance = convolution.with_statistics(x)
        y, *_ = ops.batch_norm_leaky_relu(x, self.scale, self.shift, self.eps, slope, (mean, variance))
        return self._averaged(y, mean if convolution.b is None else mean + convolution.b, variance)

    def _averaged(self, y: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """y, when the batch's statistics have gone into the running averages, in place as an optimizer's are."""
        m = y.size // y.shape[-1]
        averages, values = (self.running_mean, self.running_variance), (mean, variance)
        factors = (1.0, m / max(m - 1, 1))
        y.device.moving_average(self.momentum, factors, *(t.data for t in (*averages, *values)))
        return y


class LeakyRelu(Layer):
    """Any shape; slope 0 is ReLU."""

    def __init__(self, slope: float):
        self.slope = slope

    def __call__(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.slope)


class Tanh(Layer):
    """Any shape, into (-1, 1)."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Reshape(Layer):
    """Each picture under another shape."""

    def __init__(self, *shape: int):
        self.shape = shape

    def __call__(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (x.shape[0], *self.shape))

    def output_shape(self, shape):
        return self.shape


class Sequential(Layer):
    """Layers one after another; a Tensor of layer 3 called `w` is `3.w`.

    fusion: a BatchNorm and the LeakyRelu after it are computed as one operation; of a convolution before them they take
        the statistics, too.
    """

    fusion = True

    def __init__(self, *layers: Layer):
        self.layers = layers

    def __call__(self, x: Tensor) -> Tensor:
        for unit in self.units():
            match unit:
                case convolution, BatchNorm() as batch_norm, LeakyRelu(slope=slope):
                    x = batch_norm.between(convolution, x, slope)
                case BatchNorm() as batch_norm, LeakyRelu(slope=slope):
                    x = batch_norm.and_leaky_relu(x, slope)
                case (layer,):
                    x = layer(x)
        return x

    def units(self) -> Iterator[tuple[Layer, ...]]:
        """The layers in their order, each by itself or with those that it is fused with."""
        position = 0
        while position < len(self.layers):
            kinds = [type(layer) for layer in self.layers[position : position + 3]]
            if self.fusion and kinds[1:] == [BatchNorm, LeakyRelu] and kinds[0] in (Conv2d, Conv2dTranspose):
                length = 3
            elif self.fusion and kinds[:2] == [BatchNorm, LeakyRelu]:
                length = 2
            else:
                length = 1
            yield self.layers[position : position + length]
            position += length

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def output_shape(self, shape):
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def multiply_adds(self, shape):
        total = 0
        for layer in self.layers:
            total += layer.multiply_adds(shape)
            shape = layer.output_shape(shape)
        return total

    def state(self):
        return {f"{i}.{name}": t for i, layer in enumerate(self.layers) for name, t in layer.state().items()}

    def train(self, training=True):
        for layer in self.layers:
            layer.train(training)
