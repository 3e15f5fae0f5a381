"""batch_norm: every channel with mean 0 and variance 1 over the batch, then scaled and shifted (Ioffe & Szegedy 2015).

A channel's M values x (every axis but the last, flattened) give, as in the paper's Algorithm 1,

    mean = Σ x / M      variance = Σ (x - mean)² / M      σ = sqrt(variance + eps)
    x̂ = (x - mean) / σ                      y = scale x̂ + shift

Let gy arrive. y is linear in scale and shift, so

    gshift = Σ gy                           gscale = Σ gy x̂

For x, write h = scale gy, the gradient at x̂. Moving one x by dx moves x̂ three ways: directly by dx/σ; all of them by
-dx/(Mσ) through the mean; and through σ, since dσ = x̂ dx/M, all of them by -x̂ dσ/σ = -x̂ x̂_moved dx/(Mσ). Collecting,

    gx = (h - Σh/M - x̂ Σ(h x̂)/M) / σ = scale/σ (gy - gshift/M - x̂ gscale/M)                    (batch_norm_grad)

One kernel computes the three gradients in two passes over the picture. Its own gradient is the gradient of its
definition in plain ops, `definition` below, so that gradients of gradients are exact.

In inference the statistics are constants (running averages of the batches'), and a picture's result does not depend on
its neighbours: an affine function, differentiated as one.
"""

from __future__ import annotations

import math

from minigan.autograd import Op, Tensor
from minigan.ops.pullback import pullback
from minigan.ops.sum import mean, sum

__all__ = ["batch_norm", "batch_norm_inference", "batch_norm_with_statistics"]


class BatchNorm(Op):
    """y, mean and variance from x, scale and shift."""

    def __init__(self, eps: float):
        self.eps = eps

    def forward(self, device, x, scale, shift):
        y, self.mean, self.variance = device.batch_norm(x, scale, shift, self.eps)
        return y, self.mean, self.variance

    def backward(self, gy, gmean, gvariance):
        x, scale, _ = self.inputs
        gx = gscale = gshift = None
        if gy is not None:
            gx, gscale, gshift = BatchNormGrad(self.mean, self.variance, self.eps)(gy, x, scale)
        if gmean is not None or gvariance is not None:  # the statistics are differentiable results too
            (from_statistics,) = pullback(statistics, [x], [gmean, gvariance])
            gx = from_statistics if gx is None else gx + from_statistics
        return gx, gscale, gshift


class BatchNormGrad(Op):
    """gx, gscale and gshift from gy, x and scale; the statistics are those of x."""

    def __init__(self, mean, variance, eps: float):
        self.mean = mean
        self.variance = variance
        self.eps = eps

    def forward(self, device, gy, x, scale):
        return device.batch_norm_grad(gy, x, scale, self.mean, self.variance, self.eps)

    def backward(self, ggx, ggscale, ggshift):
        return pullback(self.definition, self.inputs, [ggx, ggscale, ggshift])

    def definition(self, gy: Tensor, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three formulas at the head of this file, in plain ops."""
        rows, m = _rows(x)
        mean_x, variance_x = statistics(x)
        inverse = (variance_x + self.eps) ** -0.5
        normalised = (x - mean_x) * inverse
        gscale, gshift = sum(gy * normalised, rows), sum(gy, rows)
        gx = scale * inverse * (gy - gshift / m - normalised * (gscale / m))
        return gx, gscale, gshift


class BatchNormInference(Op):
    """y from x and constants."""

    def __init__(self, eps: float):
        self.eps = eps

    def forward(self, device, x, scale, shift, mean, variance):
        return device.batch_norm_inference(x, scale, shift, mean, variance, self.eps)

    def backward(self, gy):
        return pullback(self.definition, self.inputs, [gy])

    def definition(self, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor]:
        """The same function in plain ops."""
        return (scale * ((x - mean) * (variance + self.eps) ** -0.5) + shift,)


def _rows(x: Tensor) -> tuple[tuple[int, ...], int]:
    """The axes that are averaged over, and M, the number of values a channel has."""
    return tuple(range(x.ndim - 1)), math.prod(x.shape[:-1])


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """mean and variance (C,) of x (..., C) in plain ops."""
    rows, _ = _rows(x)
    mean_x = mean(x, rows)
    return mean_x, mean((x - mean_x) ** 2, rows)


def batch_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """x (..., C), scale (C,), shift (C,) -> y of x's shape, normalised over every axis but the last.

    Raises ValueError, naming the shapes, where they do not fit together, and for an eps that is not positive.
    """
    return batch_norm_with_statistics(x, scale, shift, eps)[0]


def batch_norm_with_statistics(
    x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """As batch_norm, and the batch's mean and (biased) variance, each (C,), beside y. Raises as it does."""
    check_channels("batch_norm", x, eps, scale=scale, shift=shift)
    return BatchNorm(float(eps))(x, scale, shift)  # a NumPy number would make float64 of float32


def batch_norm_inference(
    x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, eps: float = 1e-5
) -> Tensor:
    """As batch_norm, with the statistics given: mean (C,) and variance (C,). Raises as it does."""
    check_channels("batch_norm_inference", x, eps, scale=scale, shift=shift, mean=mean, variance=variance)
    return BatchNormInference(float(eps))(x, scale, shift, mean, variance)


def check_channels(name: str, x: Tensor, eps: float, **vectors: Tensor) -> None:
    """Raise ValueError unless every vector has an element for each channel of x."""
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"{name}: x has shape {x.shape}; it must be (..., C) with at least one value a channel")
    if eps <= 0:
        raise ValueError(f"{name}: eps is {eps!r}; it must be positive")
    for letter, t in vectors.items():
        if t.shape != x.shape[-1:]:
            raise ValueError(f"{name}: {letter} has shape {t.shape}; x of shape {x.shape} wants {x.shape[-1:]}")
