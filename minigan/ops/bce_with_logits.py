"""bce_with_logits: how badly logits l predict targets t, a number for the whole batch.

The probability of "real" is s = sigmoid(l), and the binary cross-entropy is -t log s - (1-t) log(1-s). With
log s = -log(1 + e^-l) and log(1-s) = -l - log(1 + e^-l) it becomes

    L = mean of  l - l t + log(1 + e^-l)  =  mean of  max(l,0) - l t + log(1 + e^-|l|)

where the last form overflows for no l. From d log(1+e^-l)/dl = s - 1, with n elements,

    gl = g (s - t) / n                                                             (bce_with_logits_grad)
    gt = -g l / n

and once more, for gradients of gradients: d gl/dl = g s (1-s) / n and d gl/dt = -g / n.
(Goodfellow et al. 2014, equation 1, is the game that this loss scores.)
"""

from __future__ import annotations

from minigan.autograd import Op, Tensor
from minigan.ops.sigmoid import sigmoid

__all__ = ["bce_with_logits"]


class BceWithLogits(Op):
    """The mean loss from logits and targets."""

    def forward(self, device, logits, targets):
        return device.bce_with_logits(logits, targets)

    def backward(self, g):
        logits, targets = self.inputs
        need_logits, need_targets = self.needs
        return (
            g * BceWithLogitsGrad()(logits, targets) if need_logits else None,
            g * logits * (-1 / logits.size) if need_targets else None,
        )


class BceWithLogitsGrad(Op):
    """(s - t) / n from logits and targets."""

    def forward(self, device, logits, targets):
        return device.bce_with_logits_grad(logits, targets)

    def backward(self, gg):
        logits, targets = self.inputs
        s = sigmoid(logits)
        return gg * s * (1 - s) * (1 / logits.size), gg * (-1 / targets.size)


def bce_with_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over all elements, shape (). `logits` and `targets` have one shape; targets lie in [0, 1]."""
    if logits.shape != targets.shape:
        raise ValueError(
            f"bce_with_logits: logits have shape {logits.shape} and targets {targets.shape}; make them equal"
        )
    return BceWithLogits()(logits, targets)
