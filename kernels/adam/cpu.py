"""Adam on the CPU: one pass over the memory of all parameters."""

from __future__ import annotations

import numpy as np

from kernels.threads import compiled, share

__all__ = ["adam"]


def adam(parameters, gradients, m, v, step, lr, beta1, beta2, eps):
    """One update in place of parameters, m and v, all (P,). The numbers are computed in double, then rounded."""
    numbers = lr, beta1, 1 - beta1, 1 - beta1**step, beta2, 1 - beta2, 1 - beta2**step, eps
    share(update, parameters.size, parameters, gradients, m, v, *np.array(numbers, np.float32))


@compiled
def update(first, last, parameters, gradients, m, v, lr, beta1, rest1, correction1, beta2, rest2, correction2, eps):
    """Algorithm 1 with rest = 1 - beta and correction = 1 - beta**step, all float32."""
    for i in range(first, last):
        m[i] = beta1 * m[i] + rest1 * gradients[i]
        v[i] = beta2 * v[i] + rest2 * (gradients[i] * gradients[i])
        m_hat = m[i] / correction1
        v_hat = v[i] / correction2
        parameters[i] -= lr * m_hat / (np.sqrt(v_hat) + eps)
