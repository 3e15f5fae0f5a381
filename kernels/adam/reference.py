"""Adam (Kingma and Ba 2015, algorithm 1) on all of a network's parameters at once, as flat arrays (P,)."""

from __future__ import annotations

import numpy as np

__all__ = ["adam"]


def adam(parameters, gradients, m, v, step, lr, beta1, beta2, eps):
    """One update in place of parameters, of m (moving mean of gradients) and of v (of their squares).

    `step` counts from 1. The bias corrections 1 - beta**step are Python numbers, that is, computed in double.
    """
    m[:] = beta1 * m + (1 - beta1) * gradients
    v[:] = beta2 * v + (1 - beta2) * gradients**2
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    parameters -= lr * m_hat / (np.sqrt(v_hat) + eps)
