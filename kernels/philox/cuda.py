"""Launches philox.cu: a thread an element. Compiled without contraction, for the same bits as on every other device."""

from __future__ import annotations

import numpy as np

from kernels.launch import Source, empty

__all__ = ["normal", "philox", "philox_advance", "truncated_normal", "uniform"]

SOURCE = Source(__package__, "philox.cu", contract=False)


def philox(state, blocks):
    """uint32 (blocks, 4): block b is the cipher of counter + b. `state` is uint32 (6,): key, then counter."""
    words = empty(state, (blocks, 4), np.uint32)
    SOURCE.launch("philox", ((words.size + 255) // 256,), (256,), state, words, words.size)
    return words


def philox_advance(state, blocks):
    """counter += blocks, in place: what is drawn next begins where `blocks` blocks have been drawn."""
    SOURCE.launch("philox_advance", (1,), (1,), state, blocks)


def uniform(state, shape, low, high):
    """float32 of `shape`, uniform between low and high."""
    return draw("uniform", state, shape, low, high)


def normal(state, shape, mean, std):
    """float32 of `shape`, normal."""
    return draw("normal", state, shape, mean, std)


def truncated_normal(state, shape, mean, std):
    """float32 of `shape`, normal given that it lies within two standard deviations of the mean."""
    return draw("truncated_normal", state, shape, mean, std)


def draw(kernel, state, shape, first, second):
    """A distribution of that kernel, with its two parameters."""
    out = empty(state, shape)
    SOURCE.launch(kernel, ((out.size + 255) // 256,), (256,), state, out, out.size, first, second)
    return out
