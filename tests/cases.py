"""Arguments for every kernel of the contract: NumPy arrays and numbers, for whatever has to call all of them.

    for arguments in cases.fixed("conv2d"): ...        the sizes where kernels break, the same ones every time
    @given(cases.drawn("conv2d"))                      sizes that Hypothesis draws

Sizes are awkward on purpose: primes that differ from one another, one more and one less than the 64 by 64 tiles and the
32 by 32 and 256-thread blocks of the CUDA kernels, strides that leave a remainder, one picture, one channel, no axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

import kernels
from kernels.batch_norm_leaky_relu import cuda as normalising
from kernels.leaky_relu import cuda as rectifying

FILTERS = [(1, 1, 1), (3, 2, 3), (4, 4, 1), (4, 4, 2), (5, 5, 1), (5, 5, 2)]  # (R, S, stride): each is compiled apart
PRIMES = st.sampled_from([1, 2, 3, 5, 7, 11, 13])
FOURS = st.sampled_from([1, 4])  # channels come in fours for tensor cores, or they do not
SHAPES = st.lists(PRIMES, max_size=4).map(tuple)
ROWS = [
    (1, 1),
    (2, 5),
    (31, 33),
    (257, 3),
    (3, 5, 7, 2),
    (2, 150, 101, 3),
]  # (..., C); the last: CPU chunks, CUDA blocks


class Case(NamedTuple):
    """One kernel's arguments, made from a random generator and some sizes."""

    arguments: Callable[..., tuple]
    fixed: list[tuple]
    drawn: st.SearchStrategy


CASES: dict[str, Case] = {}


def case(fixed, drawn):
    """Enters a function (rng, *sizes) -> arguments under the name of its kernel."""

    def enter(arguments):
        CASES[arguments.__name__] = Case(arguments, fixed, drawn)
        return arguments

    return enter


def fixed(kernel: str) -> list[tuple]:
    """The arguments of the sizes that are always tried."""
    return [CASES[kernel].arguments(np.random.default_rng(0), *sizes) for sizes in CASES[kernel].fixed]


def many_tiles(kernel: str) -> list[tuple]:
    """The arguments of a convolution that Winograd's algorithm takes on a GPU; of any other kernel, none."""
    if not kernel.startswith("conv2d"):
        return []
    return [CASES[kernel].arguments(np.random.default_rng(0), *MANY_TILES)]


def pending(kernel: str, *more: tuple) -> list[tuple]:
    """The arguments of a convolution one of whose pictures is `Pending`; of any other kernel, none.

    It is to be normalised, and at the first of the sizes once more to be rectified. more: sizes that are not always
    tried.
    """
    if not kernel.startswith("conv2d"):
        return []
    pictures = (0, 1) if kernel == "conv2d_weight_grad" else (0,)
    tried = [(to_rectify, TO_NORMALISE[0]), *((to_normalise, sizes) for sizes in [*TO_NORMALISE, *more])]
    return [
        (*arguments[:position], to_make(rng, arguments[position]), *arguments[position + 1 :])
        for to_make, sizes in tried
        for position in pictures
        for rng in [np.random.default_rng(0)]
        for arguments in [CASES[kernel].arguments(rng, *sizes)]
    ]


def to_normalise(rng, x):
    """x (..., C) as a Normalised, whose padding is not what x's 0 would become."""
    scale, shift, mean, deviation = (floats(rng, x.shape[-1]) for _ in range(4))
    apply = normalising.batch_norm_leaky_relu_inference
    return kernels.Normalised(x, scale, shift, mean, deviation**2, 1e-5, 0.2, apply)


def to_rectify(_, x):
    """x (..., C) as a Rectified."""
    return kernels.Rectified(x, 0.2, rectifying.leaky_relu)


def drawn(kernel: str) -> st.SearchStrategy[tuple]:
    """A strategy of arguments."""
    seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
    return st.builds(lambda rng, sizes: CASES[kernel].arguments(rng, *sizes), seeds, CASES[kernel].drawn)


def floats(rng, *shape):
    """Standard normal float32."""
    return np.asarray(rng.normal(size=shape), np.float32)


def away_from_zero(x):
    """x made larger by 0.1, whatever its sign."""
    return np.asarray(np.copysign(np.abs(x) + 0.1, x), np.float32)


# ---- convolution: (N, H, W, C, K), a filter, a padding ---------------------------------------------------------------


@st.composite
def convolutions(draw):
    """Sizes with at least one window in the padded picture."""
    r, s, stride = draw(st.sampled_from(FILTERS))
    padding = draw(st.integers(0, min(2, r - 1)))
    h, width = (draw(PRIMES.filter(lambda length, f=f: length + 2 * padding >= f)) for f in (r, s))
    n, (c, k) = draw(st.sampled_from([1, 2, 3])), (draw(PRIMES) * draw(FOURS) for _ in range(2))
    return n, h, width, c, k, (r, s, stride), padding


CONVOLUTIONS = [
    (1, 1, 1, 1, 1, (1, 1, 1), 0),
    (1, 5, 13, 65, 63, (1, 1, 1), 0),  # 65 rows of y and 63 columns, where a tile has 64; 65 terms a sum
    (3, 11, 13, 3, 5, (3, 2, 3), 1),  # the last row and column of x are in no window
    (7, 4, 4, 3, 65, (4, 4, 1), 0),  # one window a picture
    (2, 13, 11, 17, 3, (4, 4, 2), 1),
    (1, 8, 8, 64, 65, (4, 4, 2), 1),
    (2, 7, 9, 12, 68, (3, 2, 3), 1),  # channels in fours, for tensor cores; 72 terms a sum, where a tile has 32
    (3, 6, 10, 68, 4, (4, 4, 2), 1),  # four phases of one size
    (1, 5, 7, 13, 8, (3, 2, 3), 1),  # pixels of x that do not begin at a multiple of 16 bytes
    (2, 7, 9, 2, 7, (5, 5, 1), 2),
    (3, 9, 7, 1, 64, (5, 5, 2), 2),
]
TO_NORMALISE = [
    (2, 7, 9, 12, 68, (3, 2, 3), 1),  # more channels of y than a tile of 64 columns
    (3, 9, 7, 1, 64, (5, 5, 2), 2),  # one colour
    (32, 12, 7, 4, 8, (4, 4, 2), 1),  # as MANY_TILES
]
# 64 tiles, two in a picture, of which the lower ends in its middle
MANY_TILES = (32, 12, 7, 4, 8, (4, 4, 2), 1)


def form(rng, n, h, width, c, k, window, padding):
    """x (N,H,W,C), w (K,R,S,C) and y (N,P,Q,K) of the trilinear form."""
    r, s, stride = window
    p, q = (h + 2 * padding - r) // stride + 1, (width + 2 * padding - s) // stride + 1
    return floats(rng, n, h, width, c), floats(rng, k, r, s, c), floats(rng, n, p, q, k)


@case(CONVOLUTIONS, convolutions())
def conv2d(rng, *sizes):
    x, w, _ = form(rng, *sizes)
    return x, w, sizes[-2][2], sizes[-1]


@case(CONVOLUTIONS, convolutions())
def conv2d_transpose(rng, *sizes):
    x, w, y = form(rng, *sizes)
    return y, w, sizes[-2][2], sizes[-1], x.shape[1:3]


@case(CONVOLUTIONS, convolutions())
def conv2d_weight_grad(rng, *sizes):
    x, w, y = form(rng, *sizes)
    return x, y, sizes[-2][2], sizes[-1], w.shape[1:3]


@case(CONVOLUTIONS, convolutions())
def conv2d_with_statistics(rng, *sizes):
    return conv2d(rng, *sizes)


@case(CONVOLUTIONS, convolutions())
def conv2d_transpose_with_statistics(rng, *sizes):
    return conv2d_transpose(rng, *sizes)


# ---- batch norm: one shape (..., C) ----------------------------------------------------------------------------------

CHANNELS = st.lists(PRIMES, min_size=2, max_size=4).map(lambda shape: (tuple(shape),))
FAR = np.float32(100)  # the channels' means are this far from 0, in standard deviations: a variance could cancel


@case([(shape,) for shape in ROWS], CHANNELS)
def batch_norm(rng, shape):
    m, c = math.prod(shape[:-1]), shape[-1]
    drift = np.linspace(-2, 2, m, dtype=np.float32).reshape(*shape[:-1], 1)  # the first rows are not as the last
    return floats(rng, *shape) + drift + FAR * floats(rng, c), floats(rng, c), floats(rng, c), 1e-5


@case([(shape,) for shape in ROWS], CHANNELS)
def batch_norm_grad(rng, shape):
    x, scale, shift, eps = batch_norm(rng, shape)
    return floats(rng, *shape), x, scale, FAR * shift, shift**2, eps


@case([(shape,) for shape in ROWS], CHANNELS)
def batch_norm_leaky_relu(rng, shape):
    return *batch_norm(rng, shape), 0.2


@case([(shape,) for shape in ROWS], CHANNELS)
def batch_norm_leaky_relu_grad(rng, shape):
    gy, x, scale, mean, variance, eps = batch_norm_grad(rng, shape)
    shift = floats(rng, shape[-1])
    first = scale * ((x.astype(np.float64) - mean) / np.sqrt(variance + eps))
    disputed = abs(first + shift) <= 1e-5 * (abs(first) + abs(shift))  # its sign may be lost in rounding
    return np.where(disputed, np.float32(0), gy), x, scale, shift, mean, variance, eps, 0.2


@case([(shape,) for shape in ROWS], CHANNELS)
def batch_norm_inference(rng, shape):
    x, scale, shift, eps = batch_norm(rng, shape)
    return x, scale, shift, FAR * shift, scale**2, eps


@case([(shape,) for shape in ROWS], CHANNELS)
def batch_norm_leaky_relu_inference(rng, shape):
    return *batch_norm_inference(rng, shape), 0.2


# ---- an element at a time: one shape ---------------------------------------------------------------------------------

ELEMENTS = [((),), ((1,),), ((255,),), ((1023,),), ((4, 256),), ((1025,),), ((3, 5, 7, 11),)]  # a block makes 1,024
ANY = SHAPES.map(lambda shape: (shape,))


def wide(rng, *shape):
    """float32 from 0 and the smallest normal numbers to beyond where exp overflows, of both signs."""
    exponents = np.floor(rng.uniform(-127, 10, size=shape))
    return np.asarray(np.where(exponents < -126, 0, floats(rng, *shape) * 2.0**exponents), np.float32)


@case(ELEMENTS, ANY)
def leaky_relu(rng, shape):
    return wide(rng, *shape), 0.2


@case(ELEMENTS, ANY)
def leaky_relu_grad(rng, shape):
    return floats(rng, *shape), wide(rng, *shape), 0.2


@case(ELEMENTS, ANY)
def tanh(rng, shape):
    return (wide(rng, *shape),)


@case(ELEMENTS, ANY)
def tanh_grad(rng, shape):
    return floats(rng, *shape), wide(rng, *shape)


@case(ELEMENTS, ANY)
def sigmoid(rng, shape):
    return (wide(rng, *shape),)


@case(ELEMENTS, ANY)
def bce_with_logits(rng, shape):
    return wide(rng, *shape), 0.875


@case(ELEMENTS, ANY)
def bce_with_logits_grad(rng, shape):
    return floats(rng), *bce_with_logits(rng, shape)


@case([((255,), 2.0), ((3, 5, 7, 11), 0.5), ((), -1.0)], st.tuples(SHAPES, st.sampled_from([-1.0, 0.5, 2.0, 3.0])))
def power(rng, shape, exponent):
    x = away_from_zero(floats(rng, *shape))
    return np.asarray(abs(x)) if exponent == 0.5 else x, exponent


@case(
    [((1,), 0), ((1023, 1, 1024, 1025), 1), ((257,) * 33, 999)],  # the last: more than a table has rows
    st.tuples(st.lists(PRIMES, min_size=1, max_size=4).map(tuple), st.integers(0, 10000)),
)
def adam(rng, sizes, step):
    parameters, gradients, m, v = ([floats(rng, size) for size in sizes] for _ in range(4))
    arrays = *parameters, *gradients, *m, *(v_i**2 for v_i in v)
    return np.array(step, np.int32), 2e-4, 0.5, 0.999, 1e-8, *arrays


@case([((1,),), ((1025, 7),)], st.tuples(st.lists(PRIMES, min_size=1, max_size=3).map(tuple)))
def moving_average(rng, sizes):
    factors = (1.0, 1.5, 2.0)[: len(sizes)]
    return 0.125, factors, *(floats(rng, size) for _ in range(2) for size in sizes)


@case(ELEMENTS, ANY)
def full(rng, shape):
    return floats(rng, 2), shape, 0.75


# ---- broadcasting: a shape and which of its axes are stretched -------------------------------------------------------

STRETCHES = st.tuples(SHAPES, st.integers(0, 15), st.integers(0, 15))
BROADCASTS = [
    ((1023,), 0, 0),
    ((4, 256), 0, 0),
    ((1025,), 0, 1),
    *(((3, 5, 7, 11), *bits) for bits in [(0, 7), (13, 2), (0, 15), (6, 0), (9, 6), (5, 10)]),
    ((), 0, 0),
]


def stretched(shape, bits):
    """The shape with length 1 on each axis whose bit is set; axes of length 1 at the front are left out."""
    lengths = [1 if bits >> axis & 1 else length for axis, length in enumerate(shape)]
    while lengths and lengths[0] == 1:
        del lengths[0]
    return tuple(lengths)


@case(BROADCASTS, STRETCHES)
def add(rng, shape, a_bits, b_bits):
    return floats(rng, *stretched(shape, a_bits)), floats(rng, *stretched(shape, b_bits))


@case(BROADCASTS, STRETCHES)
def subtract(rng, shape, a_bits, b_bits):
    return add(rng, shape, a_bits, b_bits)


@case(BROADCASTS, STRETCHES)
def multiply(rng, shape, a_bits, b_bits):
    return add(rng, shape, a_bits, b_bits)


@case(BROADCASTS, STRETCHES)
def divide(rng, shape, a_bits, b_bits):
    a, b = add(rng, shape, a_bits, b_bits)
    return a, away_from_zero(b)


SUMS = [(shape, bits) for shape in [(257,), (3, 5, 7, 11), (2, 65, 33)] for bits in (0, 1, 2, 7, 15)]
SUMS += [((7, 1025), 1), ((33, 300), 1)]  # short sums: a thread or four for each
SUMS += [((40000,), 1), ((9001, 3), 1), ((2, 1100, 33), 2)]  # long ones, which are made in parts
DRAWN_SUMS = STRETCHES.map(lambda s: s[:2])


@case(SUMS, DRAWN_SUMS)
def sum(rng, shape, bits):
    return floats(rng, *shape), tuple(axis for axis in range(len(shape)) if bits >> axis & 1)


@case(SUMS, DRAWN_SUMS)
def mean(rng, shape, bits):
    return sum(rng, shape, bits)


@case(BROADCASTS, STRETCHES)
def broadcast_to(rng, shape, bits, _):
    return floats(rng, *stretched(shape, bits)), shape


# ---- random numbers and pictures -------------------------------------------------------------------------------------

STATES = st.lists(st.sampled_from([0, 1, 0x9E3779B9, 2**32 - 2, 2**32 - 1]), min_size=6, max_size=6).map(tuple)
RANDOM = [((1, 2, 2**32 - 1, 2**32 - 1, 2**32 - 1, 5), shape) for shape in [(1,), (3, 5, 7), (1021,)]]  # carries


@case([(state, math.prod(shape)) for state, shape in RANDOM], st.tuples(STATES, PRIMES))
def philox(rng, state, blocks):
    return np.array(state, np.uint32), blocks


@case([(state, blocks) for state, _ in RANDOM for blocks in (1, 2**32 - 1, 2**64 - 1)], st.tuples(STATES, PRIMES))
def philox_advance(rng, state, blocks):
    return np.array(state, np.uint32), blocks


@case(RANDOM, st.tuples(STATES, SHAPES.filter(len)))
def uniform(rng, state, shape):
    return np.array(state, np.uint32), shape, -1.0, 1.0


@case(RANDOM, st.tuples(STATES, SHAPES.filter(len)))
def normal(rng, state, shape):
    return np.array(state, np.uint32), shape, 0.1, 0.02


@case(RANDOM, st.tuples(STATES, SHAPES.filter(len)))
def truncated_normal(rng, state, shape):
    return normal(rng, state, shape)


@case(
    [(1, 1, (1, 1, 1)), (5, 7, (11, 31, 3)), (5, 7, (25, 41, 1)), (3, 2, (16, 16, 4))],  # a block makes 1,024 numbers
    st.tuples(PRIMES, PRIMES, st.tuples(PRIMES, PRIMES, PRIMES)),
)
def image_batch(rng, m, n, picture):
    images = rng.integers(0, 256, (m, *picture), dtype=np.uint8)
    return images, rng.integers(0, m, n, dtype=np.int32), rng.integers(0, 2, n, dtype=np.uint8)
