"""Step after step of the game: each as `Game.step` is written, or captured once as a graph of kernels and repeated.

Both ways are the same kernels in the same order on the same arrays, and give the same bits. Without the graph each
kernel can be looked at as it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import kernels
from minigan.autograd import Tensor
from minigan.batches import Batches
from minigan.errors import UserError

if TYPE_CHECKING:
    from minigan.train import Game

__all__ = ["Steps", "use_graph"]


def use_graph(asked: bool | None, device: kernels.Device) -> bool:
    """Whether steps are captured: as asked; if nothing was, on a GPU. Raises UserError where it cannot be."""
    if asked and device.graph is None:
        raise UserError(
            f"--graph: device {device.name} launches no CUDA kernels: leave it out, or take another --device"
        )
    return device.name == "cuda" if asked is None else asked


class Steps:
    """Plays the game's next step at each call."""

    def __init__(self, game: Game, batches: Batches, graph: bool):
        self.game, self.batches = game, batches
        self.move = game.device.graph(self._step) if graph else self._step

    def __call__(self) -> dict[str, Tensor]:
        """The scores, as `Game.step` has them: on the device, and until the next call. Nothing waits for them.

        Raises UserError, which says what would fit, if the memory does not hold a step.
        """
        step = self.game.step_count
        self.batches.turn_to(step)
        try:
            scores = self.move()
        except MemoryError:
            scores = None
        if scores is None:  # not above: until the exception is forgotten, it holds the arrays of the step
            raise UserError(self._too_large())
        self.game.step_count = step + 1  # a repeated step runs nothing of Python
        return scores

    def _step(self) -> dict[str, Tensor]:
        return self.game.step(self.batches.pictures())

    def _too_large(self) -> str:
        """What is said when the memory is at its end; the game cannot go on. Smaller steps are tried for it."""
        self.move = None  # and with it the graph's memory
        device, size = self.game.device, self.game.settings.batch_size
        fitting = size // 2
        while fitting >= 2:
            try:
                self.game.step(
                    Tensor(device.array(np.zeros((fitting, *self.game.networks.picture), np.float32)), device)
                )
                return (
                    f"--batch-size {size}: the memory does not hold a step of so many pictures; one of {fitting} fits"
                )
            except MemoryError:
                fitting //= 2
        return (
            f"--size {self.game.settings.size}: the memory does not hold a step of even 2 pictures: take smaller ones"
        )
