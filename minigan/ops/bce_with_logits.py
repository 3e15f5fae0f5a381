"""bce_with_logits: how badly logits l predict a target t, a number for the whole batch.

The probability of "real" is s = sigmoid(l), and the binary cross-entropy is -t log s - (1-t) log(1-s). With
log s = -log(1 + e^-l) and log(1-s) = -l - log(1 + e^-l) it becomes

    L = mean of  l - l t + log(1 + e^-l)  =  mean of  max(l,0) - l t + log(1 + e^-|l|)

where the last form overflows for no l. t is a constant, the same for all: what a batch is, real or generated, all of
its pictures are. From d log(1+e^-l)/dl = s - 1, with n elements,

    gl = g (s - t) / n                                                             (bce_with_logits_grad)

and once more, for gradients of gradients: d gl/dg = (s - t) / n and d gl/dl = g s (1-s) / n.
(Goodfellow et al. 2014, equation 1, is the game that this loss scores.)
"""

from __future__ import annotations

from minigan.autograd import Op, Tensor
from minigan.ops.sigmoid import sigmoid
from minigan.ops.sum import sum

__all__ = ["bce_with_logits"]


class BceWithLogits(Op):
    """The mean loss from logits."""

    def __init__(self, target: float):
        self.target = target

    def forward(self, device, logits):
        return device.bce_with_logits(logits, self.target)

    def backward(self, g):
        (logits,) = self.inputs
        return (BceWithLogitsGrad(self.target)(g, logits),)


class BceWithLogitsGrad(Op):
    """gl from g and logits."""

    def __init__(self, target: float):
        self.target = target

    def forward(self, device, g, logits):
        return device.bce_with_logits_grad(g, logits, self.target)

    def backward(self, ggl):
        g, logits = self.inputs
        need_g, need_logits = self.needs
        s = sigmoid(logits)
        return (
            sum(ggl * (s - self.target)) * (1 / logits.size) if need_g else None,
            ggl * g * s * (1 - s) * (1 / logits.size) if need_logits else None,
        )


def bce_with_logits(logits: Tensor, target: float) -> Tensor:
    """The mean over all elements, shape (). target: one number; ValueError is raised if it is outside [0, 1]."""
    if not 0 <= target <= 1:
        raise ValueError(f"bce_with_logits: target is {target!r}; it must lie between 0 (generated) and 1 (real)")
    return BceWithLogits(float(target))(logits)  # a NumPy number would make float64 of float32
