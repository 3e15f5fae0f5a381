"""Adam (Kingma and Ba 2015, algorithm 1) on all parameters of a network at once."""

from __future__ import annotations

import numpy as np

__all__ = ["adam"]


def adam(step, lr, beta1, beta2, eps, *arrays):
    """One update in place.

    step: int32 (), the number of updates before this one; it is counted up. arrays: the parameters, as many gradients,
    m (their moving means) and v (of their squares), each flat; the first of each belong together, and so on.
    The bias corrections 1 - beta**step are Python numbers, that is, computed in double.
    """
    step += 1
    correction1, correction2 = (1 - beta ** int(step) for beta in (beta1, beta2))
    for parameters, gradients, m, v in in_fours(arrays):
        m[:] = beta1 * m + (1 - beta1) * gradients
        v[:] = beta2 * v + (1 - beta2) * gradients**2
        m_hat = m / correction1
        v_hat = v / correction2
        parameters -= lr * m_hat / (np.sqrt(v_hat) + eps)


def in_fours(arrays):
    """A parameter, its gradient, its m and its v, one after the other."""
    count = len(arrays) // 4
    return zip(*(arrays[kind * count : (kind + 1) * count] for kind in range(4)), strict=True)
