"""Adam on the CPU: one pass over the memory of each parameter, its gradient and its two means."""

from __future__ import annotations

import numpy as np

from kernels.adam.reference import in_fours
from kernels.threads import compiled, share

__all__ = ["adam"]

GRAIN = 1 << 14  # elements that one thread sees to before another is woken


def adam(step, lr, beta1, beta2, eps, *arrays):
    """One update in place; `step` is counted up. The numbers are computed in double, then rounded."""
    step += 1
    t = int(step)
    numbers = np.array((lr, beta1, 1 - beta1, 1 - beta1**t, beta2, 1 - beta2, 1 - beta2**t, eps), np.float32)
    for four in in_fours(arrays):
        share(update, four[0].size, *four, *numbers, grain=GRAIN)


@compiled
def update(first, last, parameters, gradients, m, v, lr, beta1, rest1, correction1, beta2, rest2, correction2, eps):
    """Algorithm 1 with rest = 1 - beta and correction = 1 - beta**step, all float32."""
    parameters, gradients, m, v = parameters[first:last], gradients[first:last], m[first:last], v[first:last]
    for i in range(parameters.size):
        g = gradients[i]
        m_i, v_i = beta1 * m[i] + rest1 * g, beta2 * v[i] + rest2 * (g * g)
        m_hat, v_hat = m_i / correction1, v_i / correction2
        parameters[i] -= lr * m_hat / (np.sqrt(v_hat) + eps)
        m[i], v[i] = m_i, v_i
