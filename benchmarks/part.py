"""A part of a call that gives a part of its results: what is checked where the whole takes float64 too long.

No picture knows of another one in a convolution, nor a filter of another: `conv2d` of three pictures with five filters
gives those numbers of the whole call, at every pixel. The gradient of filters falls apart by the channels of x and of
y; batch norm, and what is done to each number alone, by channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

import kernels
from benchmarks import work
from benchmarks.calls import Call, arrays

__all__ = ["Part", "part"]

OPERATIONS = 5e8  # of a convolution that is checked whole, and about those of a part
NUMBERS = 4e6  # of the largest array of any other call, likewise
FEWEST = 4  # places of an axis that is cut: the first, the last, and others drawn at random

# The axes of arguments and result. A letter of the result that an argument has too is free: nothing is summed over it.
LETTERS = {
    "conv2d": ("nhwc", "krsc", "npqk"),
    "conv2d_transpose": ("npqk", "krsc", "nhwc"),
    "conv2d_weight_grad": ("nhwc", "npqk", "krsc"),
    # and their channels' statistics, for which all pictures are summed over
    "conv2d_with_statistics": ("nhwc", "krsc", "k"),
    "conv2d_transpose_with_statistics": ("npqk", "krsc", "c"),
}
BY_CHANNEL = {  # all arrays with that last axis, in and out
    "add", "subtract", "multiply", "divide", "power", "leaky_relu", "leaky_relu_grad", "tanh", "tanh_grad", "sigmoid",
    "batch_norm", "batch_norm_grad", "batch_norm_inference", "batch_norm_leaky_relu", "batch_norm_leaky_relu_grad",
    "batch_norm_leaky_relu_inference", "sum", "mean",
}  # fmt: skip
RANDOM = {"normal", "uniform", "truncated_normal"}  # (state, shape, ..): the first numbers do not know how many follow


class Part(NamedTuple):
    """The smaller call, and where in the whole call's results its own are.

    places: axes (-1: the last), each with the places that are taken, ascending. first: how many numbers are taken, from
    the first on, or None. Without either the call is whole.
    """

    call: Call
    places: tuple[tuple[int, np.ndarray], ...] = ()
    first: int | None = None

    def of(self, results: list[np.ndarray | None]) -> list[np.ndarray | None]:
        """That part of the whole call's results."""
        return [None if result is None else self._of(result) for result in results]

    def _of(self, result: np.ndarray) -> np.ndarray:
        if self.first is not None:
            return result.reshape(-1)[: self.first]
        for axis, places in self.places:
            result = result.take(places, axis)
        return result


def part(call: Call, results: list[np.ndarray | None], seed: int = 0) -> Part:
    """What is checked of a call: all of it, or as much as float64 does in a part of a second.

    results: arrays of the shapes of the call's results.
    """
    rng = np.random.default_rng(seed)
    if call.kernel in RANDOM:
        state, shape, *numbers = call.arguments
        first = int(min(math.prod(shape), NUMBERS / 50))  # a number takes a cipher of ten rounds and a quantile
        return Part(Call(call.kernel, (state, (first,), *numbers)), first=first)
    if call.kernel in LETTERS:
        return _of_convolution(call, OPERATIONS / work.operations(call.kernel, call.arguments, results), rng)
    largest = max((a for a in [*arrays(call.arguments), *results] if a is not None), key=np.size)
    channels = largest.shape[-1:]
    apart = call.kernel in BY_CHANNEL and all(r is None or r.shape[-1:] == channels for r in results)
    if apart and largest.size > NUMBERS:
        places = _places(*channels, NUMBERS / largest.size, rng)
        cut = [
            _taken(a, places, -1) if isinstance(a, np.ndarray) and a.shape[-1:] == channels else a
            for a in call.arguments
        ]
        return Part(Call(call.kernel, tuple(cut)), ((-1, places),))
    return Part(call)


def _of_convolution(call: Call, share: float, rng: np.random.Generator) -> Part:
    """That share of the operations, by all of its free axes alike."""
    if share >= 1:
        return Part(call)
    *given, made = LETTERS[call.kernel]
    arguments, places = list(call.arguments), []
    free = [(index, letter) for index, letters in enumerate(given) for letter in letters if letter in made]
    for index, letter in free:
        axis = given[index].index(letter)
        taken = _places(arguments[index].shape[axis], share ** (1 / len(free)), rng)
        arguments[index] = _taken(arguments[index], taken, axis)
        places.append((made.index(letter) - len(made), taken))  # from the end: so a channel is in y and its statistics
    return Part(Call(call.kernel, tuple(arguments)), tuple(places))


def _taken(a, places: np.ndarray, axis: int):
    if isinstance(a, kernels.Pending):
        channels = axis == a.ndim - 1  # of which each has its columns
        return a.through(
            lambda array: _taken(array, places, -1 if channels else axis) if channels or array is a.x else array
        )
    return np.ascontiguousarray(a.take(places, axis))


def _places(length: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """About that share of the places 0 .. length - 1, ascending: a tile's first and last ones are among them."""
    count = max(FEWEST, math.ceil(length * share))
    if count >= length:
        return np.arange(length)
    return np.union1d([0, length - 1], rng.integers(length, size=count - 2))
