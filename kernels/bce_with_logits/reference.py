"""Binary cross-entropy between targets t in [0, 1] and sigmoid(l) of logits l, both of any one shape of n elements.

-t log(sigmoid(l)) - (1 - t) log(1 - sigmoid(l)) = max(l, 0) - l t + log(1 + exp(-|l|)): in the second form no logarithm
meets a zero and no exponential overflows, whatever the logit.
"""

from __future__ import annotations

import numpy as np

from kernels.sigmoid.reference import sigmoid

__all__ = ["bce_with_logits", "bce_with_logits_grad"]


def bce_with_logits(logits, targets):
    """The mean over the n elements, of shape ()."""
    losses = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return np.asarray(losses.mean())


def bce_with_logits_grad(logits, targets):
    """The gradient of the mean with respect to the logits, of their shape: (sigmoid(l) - t) / n."""
    return np.asarray((sigmoid(logits) - targets) / logits.size)
