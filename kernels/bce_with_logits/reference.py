"""Binary cross-entropy between a target t in [0, 1] and sigmoid(l) of logits l, of any shape of n elements.

-t log(sigmoid(l)) - (1 - t) log(1 - sigmoid(l)) = max(l, 0) - l t + log(1 + exp(-|l|)): in the second form no logarithm
meets a zero and no exponential overflows, whatever the logit.
"""

from __future__ import annotations

import numpy as np

from kernels.sigmoid.reference import sigmoid

__all__ = ["bce_with_logits", "bce_with_logits_grad"]


def bce_with_logits(logits, target):
    """The mean over the n elements, of shape (). target: one number for all of them."""
    losses = np.maximum(logits, 0) - logits * target + np.log1p(np.exp(-np.abs(logits)))
    return np.asarray(losses.mean())


def bce_with_logits_grad(g, logits, target):
    """g (), times the gradient of the mean with respect to the logits, of their shape: g (sigmoid(l) - t) / n."""
    return np.asarray(g * (sigmoid(logits) - target) / logits.size)
