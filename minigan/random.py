"""Random numbers by seed, stream and position: the same on every device, today and after a resume.

Philox turns a counter into random words (kernels/philox), so a stream has no hidden state: its position is a number
that a checkpoint can hold. The seed is the cipher's key; the counter's highest word is the stream, so that the streams
of one seed never meet; the other three are the position, in blocks of four words. Key and counter live on the device,
and a kernel moves the counter past what was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import kernels
from minigan.autograd import Tensor

__all__ = ["Random", "coins", "permutation"]

# Each use of chance has a stream of its own, so that drawing more from one changes nothing in another.
STREAMS = ("generator weights", "discriminator weights", "z", "fixed z", "order", "mirror", "generate")


class Random:
    """A stream of random Tensors.

    seed: 0 <= seed < 2^64. stream: one of STREAMS. state: uint32 (6,) on the device: two words of key, four of counter.
    Raises ValueError for another seed.
    """

    def __init__(self, seed: int, stream: str, device: kernels.Device, position: int = 0):
        if not 0 <= seed < 2**64:
            raise ValueError(f"Random: seed is {seed}; it must be at least 0 and less than 2^64")
        self.device = device
        words = [*_words(seed, 2), *_words(position, 3), STREAMS.index(stream)]
        self.state = device.array(np.array(words, np.uint32))

    @property
    def position(self) -> int:
        """How many blocks of four words were drawn. Reading it waits for the device."""
        return sum(int(word) << 32 * i for i, word in enumerate(self.device.numpy(self.state)[2:5]))

    @position.setter
    def position(self, blocks: int) -> None:
        words = self.device.numpy(self.state).copy()
        words[2:5] = _words(blocks, 3)
        self.device.copy(self.state, self.device.array(words))

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 of `shape`, uniform between low and high."""
        return self._drawn(self.device.uniform, shape, low, high)

    def normal(self, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> Tensor:
        """float32 of `shape`, normal."""
        return self._drawn(self.device.normal, shape, mean, std)

    def truncated_normal(self, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> Tensor:
        """float32 of `shape`, normal within two standard deviations of the mean."""
        return self._drawn(self.device.truncated_normal, shape, mean, std)

    def words(self, count: int) -> np.ndarray:
        """uint32 (count,), on the host."""
        blocks = -(-count // 4)
        words = self.device.philox(self.state, blocks)
        self.device.philox_advance(self.state, blocks)
        return self.device.numpy(words).reshape(-1)[:count]

    def _drawn(self, distribution: Callable, shape: tuple[int, ...], *parameters: float) -> Tensor:
        """Numbers of that distribution; the counter moves past them."""
        numbers = distribution(self.state, shape, *parameters)
        self.device.philox_advance(self.state, -(-math.prod(shape) // 4))
        return Tensor(numbers, self.device)


def _words(number: int, count: int) -> list[int]:
    """A number as so many words of 32 bits, the lowest first."""
    return [number >> 32 * i & 0xFFFFFFFF for i in range(count)]


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """int32 (count,): the order of the pictures in an epoch, a function of seed and epoch alone."""
    words = Random(seed, "order", kernels.device("reference"), position=epoch << 32).words(count)
    return np.argsort(words, kind="stable").astype(np.int32)


def coins(seed: int, step: int, count: int) -> np.ndarray:
    """uint8 (count,) of 0 and 1: which pictures of a step are mirrored, a function of seed and step alone."""
    words = Random(seed, "mirror", kernels.device("reference"), position=step << 32).words(count)
    return (words >> 31).astype(np.uint8)
