"""Adam (Kingma & Ba 2015): each parameter moves by its own measure.

m is a running mean of the gradient, v of its square. m / sqrt(v) is about 1 where gradients agree in sign and about 0
where they cancel, so `lr` is roughly the largest step. Both means start at 0 and are divided by what they have seen of
their weights so far, 1 - beta^t (Algorithm 1).

All parameters of a network live in one flat array, of which each parameter is a view, and so do m and v: an update is
one kernel launch, however many layers there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from minigan.autograd import Tensor

__all__ = ["Adam"]

ALIGNMENT = 64  # elements: every parameter starts on a 256-byte boundary of the flat array, as a fresh array would


class Adam:
    """Moves `parameters` (Tensors of one device), which become views of one flat array.

    step_count: how many updates were made. m, v: the flat running means.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, beta1: float, beta2: float = 0.999, eps: float = 1e-8):
        self.device = parameters[0].device
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.step_count = 0

        lengths = [-(-p.size // ALIGNMENT) * ALIGNMENT for p in parameters]
        *starts, length = itertools.accumulate(lengths, initial=0)
        self.flat, self.gradients, self.m, self.v = (
            self.device.array(np.zeros(length, np.float32)) for _ in range(4)
        )  # each (length,)
        self.gradient_views = []
        for p, start in zip(parameters, starts, strict=True):
            place = slice(start, start + p.size)
            view = self.flat[place].reshape(p.shape)
            self.device.copy(view, p.data)
            p.data = view
            self.gradient_views.append(self.gradients[place].reshape(p.shape))

    def step(self, gradients: Sequence[Tensor]) -> None:
        """One update. gradients: one for each parameter, in their order and of their shapes."""
        self.step_count += 1
        for view, g in zip(self.gradient_views, gradients, strict=True):
            self.device.copy(view, g.data)
        self.device.adam(
            self.flat,
            self.gradients,
            self.m,
            self.v,
            self.step_count,
            self.lr,
            self.beta1,
            self.beta2,
            self.eps,
        )

    def state(self) -> dict[str, Tensor]:
        """The running means, for a checkpoint."""
        return {"m": Tensor(self.m, self.device), "v": Tensor(self.v, self.device)}
