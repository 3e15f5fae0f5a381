"""batch_norm_leaky_relu: batch norm, and the leaky ReLU after it, as one operation.

With σ, x̂ and the statistics of minigan/ops/batch_norm.py and the slope of minigan/ops/leaky_relu.py,

    n = scale x̂ + shift                     y = n where n > 0, slope n elsewhere

Let gy arrive. The chain rule takes it through the two in turn, first to n, from there to x, scale and shift:

    gn = gy where n > 0, slope gy elsewhere
    gshift = Σ gn                           gscale = Σ gn x̂
    gx = scale/σ (gn - gshift/M - x̂ gscale/M)                                       (batch_norm_leaky_relu_grad)

Of n the gradient needs the sign alone, and x, scale and shift tell it again. So nothing of the size of a picture is
kept but x, which is there anyway, and neither n nor gn is ever in memory: the way forward reads one picture twice and
writes one, the way back reads two twice and writes one.

Where the statistics are known and the convolution after it can normalise what it reads, as on a GPU's tensor cores, y
is never in memory either (kernels/pending.py): the way forward is no kernel at all.
"""

from __future__ import annotations

import kernels
from minigan.autograd import Op, Tensor
from minigan.ops.batch_norm import BatchNorm, BatchNormGrad, check_channels, statistics
from minigan.ops.leaky_relu import LeakyReluGrad, check_slope
from minigan.ops.pullback import pullback

__all__ = ["batch_norm_leaky_relu"]


class BatchNormLeakyRelu(Op):
    """y, mean and variance from x, scale and shift."""

    def __init__(self, eps: float, slope: float, statistics: tuple | None):
        self.eps = eps
        self.slope = slope
        self.statistics = statistics  # arrays (C,): the mean and the variance of x, if they are known

    def forward(self, device, x, scale, shift):
        if self.statistics is None:
            y, self.mean, self.variance = device.batch_norm_leaky_relu(x, scale, shift, self.eps, self.slope)
        else:
            self.mean, self.variance = self.statistics
            given = x, scale, shift, self.mean, self.variance, self.eps, self.slope
            apply = device.batch_norm_leaky_relu_inference
            y = kernels.Normalised(*given, apply) if device.reads_pending else apply(*given)
        return y, self.mean, self.variance

    def backward(self, gy, gmean, gvariance):
        gx = gscale = gshift = None
        if gy is not None:
            op = BatchNormLeakyReluGrad(self.mean, self.variance, self.eps, self.slope)
            gx, gscale, gshift = op(gy, *self.inputs)
        if gmean is not None or gvariance is not None:  # as in batch_norm
            (from_statistics,) = pullback(statistics, self.inputs[:1], [gmean, gvariance])
            gx = from_statistics if gx is None else gx + from_statistics
        return gx, gscale, gshift


class BatchNormLeakyReluGrad(Op):
    """gx, gscale and gshift from gy, x, scale and shift; mean and variance are those of x."""

    def __init__(self, mean, variance, eps: float, slope: float):
        self.mean = mean
        self.variance = variance
        self.eps = eps
        self.slope = slope

    def forward(self, device, gy, x, scale, shift):
        known = self.mean, self.variance, self.eps, self.slope
        return device.batch_norm_leaky_relu_grad(gy, x, scale, shift, *known)

    def backward(self, ggx, ggscale, ggshift):
        return pullback(self.definition, self.inputs, [ggx, ggscale, ggshift])

    def definition(self, gy: Tensor, x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The plain ops' gradients, one after the other."""
        n, *_ = BatchNorm(self.eps)(x, scale, shift)
        gn = LeakyReluGrad(self.slope)(gy, n)
        return BatchNormGrad(self.mean, self.variance, self.eps)(gn, x, scale)


def batch_norm_leaky_relu(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float = 1e-5,
    slope: float = 0.2,
    statistics: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """leaky_relu(batch_norm(x, scale, shift, eps), slope) for x (..., C), and the batch's mean and variance, each (C,).

    statistics: the mean and the variance of x, if somebody has them already (minigan/ops/conv2d_with_statistics.py).
    They are not computed again; the gradient at x is that of batch norm all the same, through them too.
    Raises ValueError as the two ops do.
    """
    check_slope("batch_norm_leaky_relu", slope)
    eps, slope = float(eps), float(slope)  # NumPy numbers would make float64 of float32
    if statistics is None:
        check_channels("batch_norm_leaky_relu", x, eps, scale=scale, shift=shift)
        return BatchNormLeakyRelu(eps, slope, None)(x, scale, shift)
    mean, variance = statistics
    check_channels("batch_norm_leaky_relu", x, eps, scale=scale, shift=shift, mean=mean, variance=variance)
    return BatchNormLeakyRelu(eps, slope, (mean.data, variance.data))(x, scale, shift)
