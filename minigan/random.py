"""Random numbers by seed, stream and position: the same on every device, today and after a resume.

Philox turns a counter into random words (kernels/philox), so a stream has no hidden state: its position is a number
that a checkpoint can hold. The seed is the cipher's key; the counter's highest word is the stream, so that the streams
of one seed never meet; the other three are the position, in blocks of four words.
"""

from __future__ import annotations

import math

import numpy as np

import kernels
from minigan.autograd import Tensor

__all__ = ["Random", "coins", "permutation"]

# Each use of chance has a stream of its own, so that drawing more from one changes nothing in another.
STREAMS = ("generator weights", "discriminator weights", "z", "fixed z", "order", "mirror", "generate")


class Random:
    """A stream of random Tensors.

    seed: 0 <= seed < 2^64. stream: one of STREAMS. position: how many blocks of four words were drawn.
    """

    def __init__(self, seed: int, stream: str, device: kernels.Device, position: int = 0):
        self.seed = seed
        self.stream = STREAMS.index(stream)
        self.device = device
        self.position = position

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 of `shape`, uniform between low and high."""
        return Tensor(self.device.uniform(self._advance(shape), shape, low, high), self.device)

    def normal(self, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> Tensor:
        """float32 of `shape`, normal."""
        return Tensor(self.device.normal(self._advance(shape), shape, mean, std), self.device)

    def truncated_normal(self, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> Tensor:
        """float32 of `shape`, normal within two standard deviations of the mean."""
        return Tensor(self.device.truncated_normal(self._advance(shape), shape, mean, std), self.device)

    def words(self, count: int) -> np.ndarray:
        """uint32 (count,), on the host."""
        return self.device.numpy(self.device.philox(self._advance((count,)), -(-count // 4))).reshape(-1)[:count]

    def _advance(self, shape: tuple[int, ...]):
        """The generator's state for an array of `shape`, as the kernels take it; the position moves past it."""
        key = [self.seed & 0xFFFFFFFF, self.seed >> 32]
        position = [self.position >> shift & 0xFFFFFFFF for shift in (0, 32, 64)]
        self.position += -(-math.prod(shape) // 4)
        return self.device.array(np.array([*key, *position, self.stream], np.uint32))


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """int32 (count,): the order of the pictures in an epoch, a function of seed and epoch alone."""
    words = Random(seed, "order", kernels.device("reference"), position=epoch << 32).words(count)
    return np.argsort(words, kind="stable").astype(np.int32)


def coins(seed: int, step: int, count: int) -> np.ndarray:
    """uint8 (count,) of 0 and 1: which pictures of a step are mirrored, a function of seed and step alone."""
    words = Random(seed, "mirror", kernels.device("reference"), position=step << 32).words(count)
    return (words >> 31).astype(np.uint8)
