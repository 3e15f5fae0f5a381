"""conv2d_with_statistics, conv2d_transpose_with_statistics: a convolution, and of its result what batch norm asks for.

    y = conv2d(x, w)          mean = Σ y / M          variance = Σ (y - mean)² / M

for each channel, over its M values. A GPU adds them up while it still has y in its registers, and batch norm need not
read y for them. They are differentiable results too; where only y is used, the gradients are those of conv2d.py.
"""

from __future__ import annotations

from minigan.autograd import Tensor
from minigan.ops.batch_norm import statistics
from minigan.ops.conv2d import Conv2d, Conv2dTranspose, check_conv2d, check_conv2d_transpose, conv2d, conv2d_transpose
from minigan.ops.pullback import pullback

__all__ = ["conv2d_transpose_with_statistics", "conv2d_with_statistics"]


class Conv2dWithStatistics(Conv2d):
    """y, mean and variance from x and w."""

    def forward(self, device, x, w):
        return device.conv2d_with_statistics(x, w, self.stride, self.padding)

    def backward(self, gy, gmean, gvariance):
        if gmean is None and gvariance is None:
            return super().backward(gy)
        return pullback(self.definition, self.inputs, [gy, gmean, gvariance])

    def definition(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three formulas at the head of this file, in plain ops."""
        y = conv2d(x, w, self.stride, self.padding)
        return y, *statistics(y)


class Conv2dTransposeWithStatistics(Conv2dTranspose):
    """x, mean and variance from y and w."""

    def forward(self, device, y, w):
        return device.conv2d_transpose_with_statistics(y, w, self.stride, self.padding, self.size)

    def backward(self, gx, gmean, gvariance):
        if gmean is None and gvariance is None:
            return super().backward(gx)
        return pullback(self.definition, self.inputs, [gx, gmean, gvariance])

    def definition(self, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, of x."""
        x = conv2d_transpose(y, w, self.stride, self.padding, self.size)
        return x, *statistics(x)


def conv2d_with_statistics(x: Tensor, w: Tensor, stride: int = 1, padding: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """As conv2d, and each channel's mean and (biased) variance, each (K,), beside y. Raises as it does."""
    check_conv2d("conv2d_with_statistics", x, w, stride, padding)
    return Conv2dWithStatistics(stride, padding)(x, w)


def conv2d_transpose_with_statistics(
    y: Tensor, w: Tensor, stride: int = 1, padding: int = 0, size: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """As conv2d_transpose, and each channel's mean and (biased) variance, each (C,), beside x. Raises as it does."""
    size = check_conv2d_transpose("conv2d_transpose_with_statistics", y, w, stride, padding, size)
    return Conv2dTransposeWithStatistics(stride, padding, size)(y, w)
