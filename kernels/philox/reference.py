"""Random numbers by their definition: the cipher Philox 4x32-10, and distributions made of its words.

Philox turns a 128-bit counter into 128 random bits with ten rounds of multiplication and exclusive or (Salmon, Moraes,
Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011). There is no state to advance from one number
to the next, so each element of an array is computed alone, in any order, by any thread.

The same bits on every device: floating point is done in double with only + - * / and sqrt, which IEEE 754 rounds
exactly; there is no libm function, and no device may fuse a product with a sum or change the order written here. The
one rounding to float32 comes at the very end.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["normal", "philox", "philox_advance", "truncated_normal", "uniform"]

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85  # added to the two key words after each round: golden ratio, sqrt(3) - 1
MASK = 0xFFFFFFFF

# Wichura, "Algorithm AS 241: the percentage points of the normal distribution" (1988), PPND16: numerator and
# denominator in the middle, |p - 1/2| <= 0.425, and outside of it; highest power first.
MIDDLE_NUMERATOR = (
    2.5090809287301226727e3,
    3.3430575583588128105e4,
    6.7265770927008700853e4,
    4.5921953931549871457e4,
    1.3731693765509461125e4,
    1.9715909503065514427e3,
    1.3314166789178437745e2,
    3.3871328727963666080e0,
)
MIDDLE_DENOMINATOR = (
    5.2264952788528545610e3,
    2.8729085735721942674e4,
    3.9307895800092710610e4,
    2.1213794301586595867e4,
    5.3941960214247511077e3,
    6.8718700749205790830e2,
    4.2313330701600911252e1,
    1.0,
)
TAIL_NUMERATOR = (
    7.74545014278341407640e-4,
    2.27238449892691845833e-2,
    2.41780725177450611770e-1,
    1.27045825245236838258e0,
    3.64784832476320460504e0,
    5.76949722146069140550e0,
    4.63033784615654529590e0,
    1.42343711074968357734e0,
)
TAIL_DENOMINATOR = (
    1.05075007164441684324e-9,
    5.47593808499534494600e-4,
    1.51986665636164571966e-2,
    1.48103976427480074590e-1,
    6.89767334985100004550e-1,
    1.67638483018380384940e0,
    2.05319162663775882187e0,
    1.0,
)
LOG_2 = 0.6931471805599453
SQRT_HALF = 0.7071067811865476
ATANH_SERIES = tuple(1.0 / k for k in range(21, 0, -2))  # 1/21 ... 1/3, 1: the coefficients of atanh(s)/s in s²
BELOW_MINUS_2 = 0.022750131948179195  # Phi(-2): how much of a normal distribution lies below mean - 2 std
WITHIN_2 = 0.9544997361036416  # 1 - 2 Phi(-2): how much lies between mean - 2 std and mean + 2 std


def philox(state, blocks):
    """uint32 (blocks, 4): block b is the cipher of counter + b.

    `state` is uint32 (6,): two words of key, then four of a 128-bit counter, the lowest first.
    """
    words = [int(word) for word in state]
    key, counter = words[:2], []
    carry = np.arange(blocks, dtype=np.uint64)  # counter + b, a word at a time, the lowest first
    for word in words[2:]:
        total = carry + np.uint64(word)
        counter.append(total & np.uint64(MASK))
        carry = total >> np.uint64(32)
    c0, c1, c2, c3 = counter  # each uint64 (blocks,) that holds 32 bits
    for i in range(ROUNDS):
        k0, k1 = (np.uint64((k + i * weyl) & MASK) for k, weyl in zip(key, WEYL, strict=True))
        product0, product1 = np.uint64(MULTIPLIERS[0]) * c0, np.uint64(MULTIPLIERS[1]) * c2
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ k0,
            product1 & np.uint64(MASK),
            (product0 >> np.uint64(32)) ^ c3 ^ k1,
            product0 & np.uint64(MASK),
        )
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def philox_advance(state, blocks):
    """counter += blocks, in place: what is drawn next begins where `blocks` blocks have been drawn."""
    counter = sum(int(word) << 32 * i for i, word in enumerate(state[2:])) + blocks
    state[2:] = [counter >> 32 * i & MASK for i in range(4)]


def uniform(state, shape, low, high):
    """float32 of `shape`, uniform between low and high (either may be reached by the last rounding)."""
    return (low + (high - low) * unit(state, shape)).astype(np.float32)


def normal(state, shape, mean, std):
    """float32 of `shape`, normal."""
    return (mean + std * quantile(unit(state, shape))).astype(np.float32)


def truncated_normal(state, shape, mean, std):
    """float32 of `shape`, normal given that it lies within two standard deviations of the mean."""
    return (mean + std * quantile(BELOW_MINUS_2 + WITHIN_2 * unit(state, shape))).astype(np.float32)


def unit(state, shape):
    """float64 of `shape` in (0, 1): element e is (word + 1/2) / 2³² of word e % 4 of block e // 4. Exact."""
    elements = math.prod(shape)
    words = philox(state, -(-elements // 4)).reshape(-1)[:elements]
    return ((words.astype(np.float64) + 0.5) * 2.0**-32).reshape(shape)


def quantile(p):
    """The normal distribution's quantile: z with Phi(z) = p, for 2⁻³³ <= p <= 1 - 2⁻³³, to 16 digits.

    Wichura's third pair of polynomials is for p < e⁻²⁵ and never needed here.
    """
    q = p - 0.5
    r = 0.180625 - q * q
    middle = q * horner(MIDDLE_NUMERATOR, r) / horner(MIDDLE_DENOMINATOR, r)  # (q * numerator) / denominator
    r = np.sqrt(-log(np.minimum(p, 1.0 - p))) - 1.6
    tail = horner(TAIL_NUMERATOR, r) / horner(TAIL_DENOMINATOR, r)
    return np.where(np.abs(q) <= 0.425, middle, np.where(q < 0.0, -tail, tail))


def log(x):
    """The natural logarithm of x = m 2ᵉ with sqrt(1/2) <= m < sqrt(2): e log(2) + 2 atanh(s), s = (m - 1) / (m + 1)."""
    m, e = np.frexp(x)  # 1/2 <= m < 1, exact
    small = m < SQRT_HALF
    m, e = np.where(small, 2.0 * m, m), np.where(small, e - 1, e)
    s = (m - 1.0) / (m + 1.0)  # |s| < 0.172: the first term left out of the series is below 1e-18 of its sum
    return e * LOG_2 + 2.0 * s * horner(ATANH_SERIES, s * s)  # (e * LOG_2) + ((2 * s) * series)


def horner(coefficients, x):
    """((c0 * x + c1) * x + c2) * x ...: the polynomial, highest power first, each product and sum rounded."""
    total = coefficients[0]
    for c in coefficients[1:]:
        total = total * x + c
    return total
