"""Random numbers on the CPU: the definition, a block or an element at a time, in its order of operations."""

from __future__ import annotations

import math

import numpy as np

from kernels.philox import reference
from kernels.philox.reference import philox_advance
from kernels.threads import compiled, share

__all__ = ["normal", "philox", "philox_advance", "truncated_normal", "uniform"]

horner = compiled(reference.horner)


def philox(state, blocks):
    """uint32 (blocks, 4): block b is the cipher of counter + b."""
    words = np.empty((blocks, 4), np.uint32)
    share(encipher, blocks, state, words)
    return words


def uniform(state, shape, low, high):
    """float32 of `shape`, uniform between low and high: a product and a sum, which NumPy does as well."""
    unit = (one_word_each(state, shape) + 0.5) * 2.0**-32
    return (low + (high - low) * unit).astype(np.float32)


def normal(state, shape, mean, std):
    """float32 of `shape`, normal."""
    numbers = np.empty(shape, np.float32)
    words = one_word_each(state, shape).reshape(-1)
    share(quantiles, words.size, words, 0.0, 1.0, float(mean), float(std), numbers.reshape(-1))
    return numbers


def truncated_normal(state, shape, mean, std):
    """float32 of `shape`, normal given that it lies within two standard deviations of the mean."""
    numbers = np.empty(shape, np.float32)
    words = one_word_each(state, shape).reshape(-1)
    below, within = reference.BELOW_MINUS_2, reference.WITHIN_2
    share(quantiles, words.size, words, below, within, float(mean), float(std), numbers.reshape(-1))
    return numbers


def one_word_each(state, shape):
    """The words of the cipher that the elements of `shape` take: uint32 of that shape."""
    elements = math.prod(shape)
    return philox(state, -(-elements // 4)).reshape(-1)[:elements].reshape(shape)


@compiled
def encipher(first, last, state, words):
    """words (blocks, 4) of the key and counter in state (6,), all uint32; computed with 64 bits."""
    mask, half = np.uint64(reference.MASK), np.uint64(32)
    for b in range(first, last):
        k0, k1 = np.uint64(state[0]), np.uint64(state[1])
        c0 = np.uint64(b) + state[2]  # 128-bit sum, 32 bits at a time
        c1 = (c0 >> half) + state[3]
        c2 = (c1 >> half) + state[4]
        c3 = ((c2 >> half) + state[5]) & mask
        c0, c1, c2 = c0 & mask, c1 & mask, c2 & mask
        for _ in range(reference.ROUNDS):
            product0, product1 = np.uint64(reference.MULTIPLIERS[0]) * c0, np.uint64(reference.MULTIPLIERS[1]) * c2
            c0, c1 = (product1 >> half) ^ c1 ^ k0, product1 & mask
            c2, c3 = (product0 >> half) ^ c3 ^ k1, product0 & mask
            k0, k1 = (k0 + np.uint64(reference.WEYL[0])) & mask, (k1 + np.uint64(reference.WEYL[1])) & mask
        words[b, 0], words[b, 1], words[b, 2], words[b, 3] = c0, c1, c2, c3


@compiled
def quantiles(first, last, words, below, within, mean, std, numbers):
    """numbers (n,) = mean + std z, where z is the normal quantile of below + within u, and u is made of words (n,)."""
    for i in range(first, last):
        u = (words[i] + 0.5) * 2.0**-32
        numbers[i] = mean + std * quantile(below + within * u)  # 0 + 1 u is u to the last bit


@compiled
def quantile(p):
    """The z with Phi(z) = p."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return q * horner(reference.MIDDLE_NUMERATOR, r) / horner(reference.MIDDLE_DENOMINATOR, r)
    r = math.sqrt(-log(min(p, 1.0 - p))) - 1.6
    tail = horner(reference.TAIL_NUMERATOR, r) / horner(reference.TAIL_DENOMINATOR, r)
    return -tail if q < 0.0 else tail


@compiled
def log(x):
    """The natural logarithm."""
    m, e = math.frexp(x)
    if m < reference.SQRT_HALF:
        m, e = 2.0 * m, e - 1
    s = (m - 1.0) / (m + 1.0)
    return e * reference.LOG_2 + 2.0 * s * horner(reference.ATANH_SERIES, s * s)
