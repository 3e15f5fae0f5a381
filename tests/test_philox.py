"""Philox: the published words, NumPy's words where NumPy has the cipher, and numbers distributed as they should be."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from kernels.philox import reference
from minigan.random import STREAMS, Random, coins, permutation

ONES = 2**32 - 1
STATE = np.array([2**31 + 7, 3, ONES - 1, ONES, ONES, 9], np.uint32)  # the third block carries through three words
PHI = statistics.NormalDist()
MANY = 200_000


def literal(key, counter, width, multipliers, weyl):
    """Philox 4 x `width` with ten rounds as the paper has it (figure 3), on Python's own integers."""
    full = 1 << width
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        high0, low0 = divmod(multipliers[0] * c0, full)
        high1, low1 = divmod(multipliers[1] * c2, full)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + weyl[0]) % full, (k1 + weyl[1]) % full
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ([0, 0], [0, 0, 0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ONES, ONES], [ONES, ONES, ONES, ONES], [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0xA4093822, 0x299F31D0],
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(device, key, counter, words):
    """The words are those that the authors publish with their Random123 for philox4x32-10."""
    state = device.array(np.array(key + counter, np.uint32))
    assert device.numpy(device.philox(state, 1)).tolist() == [words]


def test_numpy_has_the_same_cipher():
    """One literal cipher gives NumPy's words with 64 bits (the width that NumPy has) and ours with 32."""
    key, counter = [5, 2**63 + 1], [2**64 - 2, 7, 0, 2**62]
    bits = np.random.Philox(counter=np.array(counter, np.uint64), key=np.array(key, np.uint64))
    multipliers, weyl = (0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
    counter[0] += 1  # NumPy counts on before it enciphers
    assert bits.random_raw(4).tolist() == literal(key, counter, 64, multipliers, weyl)
    ours = reference.philox(STATE, 1)[0].tolist()
    words = [int(word) for word in STATE]
    assert ours == literal(words[:2], words[2:], 32, reference.MULTIPLIERS, reference.WEYL)


def test_counter_carries(device):
    """Block b is the cipher of counter + b, a sum of 128 bits that goes around at its end."""
    for counter in (0, 2**32 - 2, 2**64 - 1, 2**96 - 2, 2**128 - 2):
        words = device.numpy(device.philox(device.array(state_of(counter)), 4))
        for b in range(4):
            alone = device.philox(device.array(state_of((counter + b) % 2**128)), 1)
            assert words[b].tolist() == device.numpy(alone)[0].tolist()


def state_of(counter):
    return np.array([1, 2, *(counter >> 32 * i & ONES for i in range(4))], np.uint32)


@pytest.mark.parametrize(
    ("kernel", "numbers"), [("uniform", (-1.0, 1.0)), ("normal", (0.3, 2.0)), ("truncated_normal", (0.0, 0.02))]
)
def test_same_bits_everywhere(device, kernel, numbers):
    """A seed means the same floats on every device; 30,001 of them reach into all parts of the quantile."""
    ours = getattr(device, kernel)(device.array(STATE), (30_001,), *numbers)
    theirs = getattr(reference, kernel)(STATE, (30_001,), *numbers)
    assert device.numpy(ours).tobytes() == theirs.tobytes()


def test_same_doubles_everywhere(device):
    """What float32 hides shows where it cancels: with minus the double that `reference` has as the mean, it is 0.

    So a device that rounds in another order, or less often, is found after a few numbers and not after 2²⁹.
    """
    for block in range(200):
        state = state_of(2**32 - 100 + block)
        z = float(reference.quantile(reference.unit(state, (4,)))[block % 4])
        assert device.numpy(device.normal(device.array(state), (4,), -z, 1.0))[block % 4] == 0
        p = reference.BELOW_MINUS_2 + reference.WITHIN_2 * reference.unit(state, (4,))
        z = float(reference.quantile(p)[block % 4])
        assert device.numpy(device.truncated_normal(device.array(state), (4,), -z, 1.0))[block % 4] == 0


def test_a_stream_is_a_position(device):
    """Numbers are drawn from where the last ones ended, whatever they were; a position can be read and gone back to.

    The counter carries from word to word, and never reaches the stream's.
    """
    for start in (0, 2**32 - 3, 2**64 - 2):
        stream = Random(7, "z", device, start)
        state = stream.state
        drawn = [stream.uniform((5,)), stream.normal((3, 2)), stream.uniform((1,))]
        assert stream.position == start + 2 + 2 + 1
        key = [7, 0, *(stream.position >> 32 * i & ONES for i in range(3)), STREAMS.index("z")]
        assert device.numpy(state).tolist() == key
        stream.position = start + 2
        assert stream.normal((3, 2)).numpy().tobytes() == drawn[1].numpy().tobytes()
        assert Random(7, "z", device, start + 4).uniform((1,)).numpy() == drawn[2].numpy()
        assert stream.state is state  # which kernels may go on reading


def test_streams_are_for_good():
    """Name by name at its number: a run that a later version goes on with draws what it would have drawn."""
    names = ("generator weights", "discriminator weights", "z", "fixed z", "order", "mirror", "generate")
    assert names == STREAMS
    assert permutation(3, 2, 12).tolist() == [7, 9, 2, 6, 10, 0, 1, 4, 5, 3, 11, 8]
    assert "".join(map(str, coins(3, 2, 24))) == "100011110111001011110101"


def test_element_is_a_word(device):
    """Element e comes of word e % 4 of block e // 4: a shape is only a shape, and a part can be drawn alone."""
    drawn = device.numpy(device.uniform(device.array(STATE), (5, 7, 3), 0.0, 1.0)).reshape(-1)
    words = device.numpy(device.philox(device.array(STATE), 27)).reshape(-1)[:105]
    assert drawn.tobytes() == ((words + 0.5) / 2.0**32).astype(np.float32).tobytes()


def test_log_is_the_logarithm():
    """Our logarithm is off by no more than its roundings, for all powers of 2 that occur and both sides of sqrt(1/2).

    2 atanh(s), which is below 0.35, takes 6: m + 1, the quotient, s², and a product, a sum and a product at the end of
    the series (m - 1 is exact, and what the series leaves out is below 1e-18). e log(2) takes 2, their sum 1, and
    `math.log` 1. A rounding is half of eps, and |e log(2)| is below |log(x)| + 0.35.
    """
    x = np.ldexp(np.random.default_rng(0).uniform(0.5, 1, (40, 500)), -np.arange(40)[:, None])
    exact = np.array([math.log(v) for v in x.reshape(-1)]).reshape(x.shape)
    half_eps = np.finfo(np.float64).eps / 2
    assert np.all(abs(reference.log(x) - exact) <= half_eps * (6 * 0.35 + 2 * (abs(exact) + 0.35) + 2 * abs(exact)))


def test_quantile_is_the_quantile():
    """The quantile agrees with the standard library's to AS 241's 16 digits and the roundings of its polynomials.

    Each is a quotient of two polynomials of degree 7 with positive terms in the tails (2 x 14 roundings and a few), and
    as good in the middle; the tails' argument comes of our logarithm.
    """
    words = reference.philox(STATE, 5_000).reshape(-1)
    ends = np.array([0, 1, 2, ONES - 1, ONES, 2**31 - 1, 2**31], np.uint32)  # the outermost and the middle
    u = (np.concatenate([words, ends]) + 0.5) / 2.0**32
    exact = np.array([PHI.inv_cdf(p) for p in u])
    assert np.all(abs(reference.quantile(u) - exact) <= 40 * np.finfo(np.float64).eps * abs(exact))


def test_moments():
    """Mean and variance of each distribution are those of its formula, within 5 standard errors.

    The variance of a normal cut at +-2 is 1 - 4 phi(2) / (1 - 2 Phi(-2)).
    """
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    for numbers, mean, variance in (
        (reference.uniform(STATE, (MANY,), -1.0, 1.0), 0.0, 1 / 3),
        (reference.normal(STATE, (MANY,), 0.5, 2.0), 0.5, 4.0),
        (reference.truncated_normal(STATE, (MANY,), 0.0, 1.0), 0.0, 1 - 4 * density / (1 - 2 * PHI.cdf(-2))),
    ):
        centred = numbers.astype(np.float64) - mean
        assert abs(centred.mean()) <= 5 * math.sqrt(variance / MANY)
        squares = centred**2
        assert abs(squares.mean() - variance) <= 5 * squares.std() / math.sqrt(MANY)


def test_distribution():
    """No part of a distribution is over- or underweight: Kolmogorov's distance stays below what 1 in 10^6 exceeds.

    P(D > d) <= 2 exp(-2 n d²) (Massart 1990). The numbers follow from STATE, so this holds for good once it holds.
    """
    inside = 1 - 2 * PHI.cdf(-2)
    for numbers, cdf in (
        (reference.uniform(STATE, (MANY,), 0.0, 1.0), lambda x: x),
        (reference.normal(STATE, (MANY,), 0.0, 1.0), PHI.cdf),
        (reference.truncated_normal(STATE, (MANY,), 0.0, 1.0), lambda x: (PHI.cdf(x) - PHI.cdf(-2)) / inside),
    ):
        expected = np.array([cdf(x) for x in np.sort(numbers.astype(np.float64))[::100]])
        distance = abs(expected - np.arange(MANY)[::100] / MANY).max()
        assert distance <= math.sqrt(math.log(2e6) / (2 * MANY)) + 1 / MANY


def test_truncated_normal_stays_inside(device):
    """No number lies farther than two standard deviations from the mean, and some come close."""
    numbers = device.numpy(device.truncated_normal(device.array(STATE), (30_000,), 0.0, 0.5))
    assert 0.99 < abs(numbers).max() <= 1.0
