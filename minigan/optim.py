"""Adam (Kingma & Ba 2015): each parameter moves by its own measure.

m is a running mean of the gradient, v of its square. m / sqrt(v) is about 1 where gradients agree in sign and about 0
where they cancel, so `lr` is roughly the largest step. Both means start at 0 and are divided by what they have seen of
their weights so far, 1 - beta^t (Algorithm 1).

An update reads each gradient where the backward pass has left it and goes once over the memory of the parameter and of
its two means. How many there were, t, is counted on the device, by the kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from minigan import ops
from minigan.autograd import Tensor

__all__ = ["Adam"]

ALIGNMENT = 64  # elements: the means of every parameter start at a multiple of 256 bytes, where a GPU reads them best


class Adam:
    """Moves `parameters` (Tensors of one device), in place.

    lr: the learning rate, alpha in the paper. beta1, beta2: how much of m and of v stays at each step.
    eps: is added to sqrt(v), so that nothing is divided by 0. beta2 and eps are the paper's (section 2) unless given.
    m, v: the running means of all parameters, flat, one after the other. steps: how many updates were made, int32 ().
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, beta1: float, beta2: float = 0.999, eps: float = 1e-8):
        self.device = parameters[0].device
        self.parameters = parameters
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.steps = self.device.array(np.zeros((), np.int32))

        lengths = [-(-p.size // ALIGNMENT) * ALIGNMENT for p in parameters]
        *starts, length = itertools.accumulate(lengths, initial=0)
        self.m, self.v = (self.device.array(np.zeros(length, np.float32)) for _ in range(2))  # (length,) each
        places = [slice(start, start + p.size) for start, p in zip(starts, parameters, strict=True)]
        self.means = [flat[place] for flat in (self.m, self.v) for place in places]  # each parameter's m, then its v

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """One update. gradients: one for each parameter, in their order and of their shapes.

        None stands for a gradient of 0 at every step, where the loss does not depend on the parameter: it stays.
        """
        count = len(self.parameters)
        moved = [i for i, gradient in enumerate(gradients) if gradient is not None]
        flat = [t[i].data.reshape(-1) for t in (self.parameters, gradients) for i in moved]
        means = [self.means[first + i] for first in (0, count) for i in moved]
        self.device.adam(self.steps, self.lr, self.beta1, self.beta2, self.eps, *flat, *means)

    @property
    def step_count(self) -> int:
        """How many updates were made. Reading it waits for the device."""
        return int(self.device.numpy(self.steps))

    @step_count.setter
    def step_count(self, count: int) -> None:
        self.device.copy(self.steps, self.device.array(np.array(count, np.int32)))

    def squared_norms(self) -> list[float]:
        """Of each parameter's gradient as Adam sees it, m_hat of Algorithm 1. After at least one step.

        With beta1 = 0.5, half of m_hat is the last step's gradient, a quarter that of the step before, and so on.
        """
        weight = 1 - self.beta1**self.step_count
        means = [Tensor(m, self.device) for m in self.means[: len(self.parameters)]]
        return [ops.sum(m * m).item() / weight**2 for m in means]

    def state(self) -> dict[str, Tensor]:
        """The running means, for a checkpoint."""
        return {"m": Tensor(self.m, self.device), "v": Tensor(self.v, self.device)}
