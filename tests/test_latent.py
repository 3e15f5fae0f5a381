"""z: a seed's is its own, truncation keeps a distribution's shape, slerp an even pace, and a loop closes."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from minigan.latent import loop, of_seed, of_seeds, slerp, truncate
from minigan.models import PRESETS

NORMAL, UNIFORM = PRESETS["radford64"], PRESETS["article128"]
EPS, EPS32 = np.finfo(float).eps, np.finfo(np.float32).eps


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """By Kahan's formula, which is exact to a few eps for small angles too."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return 2 * math.atan2(np.linalg.norm(a - b), np.linalg.norm(a + b))


@pytest.mark.parametrize("preset", [NORMAL, UNIFORM])
def test_a_seed_has_its_own_z(preset):
    """The first z of a seed is the same alone, among others in any order, and for every count; seeds differ."""
    z = of_seeds(preset, 7, [5, 2**64 - 1, 0])
    assert z.shape == (3, 7)
    assert z.dtype == np.float32
    assert (of_seeds(preset, 7, [0, 5]) == z[[2, 0]]).all()
    for count in (1, 2, 33):
        assert (of_seed(preset, 7, 5, count)[0] == z[0]).all()
    assert (of_seed(preset, 7, 5, 40)[:33] == of_seed(preset, 7, 5, 33)).all()
    assert len(set(z.ravel().tolist())) == 21


@pytest.mark.parametrize("preset", [NORMAL, UNIFORM])
@pytest.mark.parametrize("limit", [0.01, 0.5, 1.0, 2.0, 100.0])
def test_truncated_z_lies_within_the_limit(preset, limit, seed):
    """No number is beyond it, order and sign stay, and nothing moves away from 0."""
    z = np.sort(of_seed(preset, 100, seed, 20).ravel())
    moved = truncate(z, preset.z, limit)
    assert moved.dtype == np.float32
    assert np.abs(moved).max() <= np.float32(limit)
    assert (np.diff(moved) >= 0).all()
    assert (np.abs(moved) <= np.abs(z) * (1 + 4 * EPS32) + 4 * EPS).all()
    assert (moved * z >= 0).all()


def test_truncated_normal_z_has_the_distribution_of_resampling(seed):
    """Drawing again what is beyond the limit gives (Phi(z) - Phi(-T)) / (Phi(T) - Phi(-T)): so does truncation.

    By Kolmogorov and Smirnov's bound, which a right one exceeds once in 10^6: sup |F_n - F| < sqrt(log(2/p) / 2n).
    """
    phi, limit, n = NormalDist(), 0.8, 5000
    moved = np.sort(truncate(of_seed(NORMAL, 100, seed, n // 100), "normal", limit).ravel())
    within = [(phi.cdf(z) - phi.cdf(-limit)) / (phi.cdf(limit) - phi.cdf(-limit)) for z in moved.tolist()]
    furthest = np.abs(np.array(within) - (np.arange(n) + 0.5) / n).max()
    assert furthest < math.sqrt(math.log(2e6) / (2 * n))


def test_a_wide_limit_changes_nothing(seed):
    """As T grows truncation becomes the identity: for uniform z from 1 on, for normal z where Phi(-T) vanishes."""
    z = of_seed(UNIFORM, 100, seed, 5)
    assert (truncate(z, "uniform", 1.0) == z).all()
    assert (truncate(z, "uniform", 0.25) == z / 4).all()
    z = of_seed(NORMAL, 100, seed, 5)
    slack = 4 * EPS / np.exp(-(z.astype(float) ** 2) / 2) * math.sqrt(2 * math.pi)  # of Phi, over its derivative
    assert (np.abs(truncate(z, "normal", 100.0) - z) <= slack + EPS32 * np.abs(z)).all()


@pytest.mark.parametrize("d", [2, 3, 100])
def test_slerp_keeps_its_pace_and_meets_its_ends(d, seed):
    """At t it has turned by t of the whole angle, and come t of the way from one length to the other."""
    a, b = np.random.default_rng(seed).normal(size=(2, d)) * [[1], [3]]
    whole = angle(a, b)
    slack = 8 * EPS / math.sin(whole) ** 2  # acos loses 1 / sin of its angle, and slerp divides by another
    for t in np.linspace(0, 1, 9):
        between = slerp(a, b, t)
        assert abs(angle(a, between) - t * whole) <= d * slack
        assert abs(angle(between, b) - (1 - t) * whole) <= d * slack
        length = (1 - t) * np.linalg.norm(a) + t * np.linalg.norm(b)
        assert abs(np.linalg.norm(between) - length) <= d * slack * length
    np.testing.assert_allclose(slerp(a, b, 0.0), a, rtol=0, atol=d * slack * np.abs(a).max())
    np.testing.assert_allclose(slerp(a, b, 1.0), b, rtol=0, atol=d * slack * np.abs(b).max())


def test_slerp_is_shoemakes_formula():
    """A right angle's middle is its bisector, and a third of it is 30 degrees."""
    x, y = np.eye(2)
    np.testing.assert_allclose(slerp(x, y, 0.5), [math.sqrt(0.5)] * 2, rtol=4 * EPS)
    np.testing.assert_allclose(slerp(x, y, 1 / 3), [math.cos(math.pi / 6), math.sin(math.pi / 6)], rtol=4 * EPS)


@pytest.mark.parametrize("scale", [1.0, 2.0, -1.0, -0.5])
def test_on_one_line_the_way_is_straight(scale, seed):
    """Vectors that are parallel, as all are that have one number, span no plane: no NaN, and the ends are met."""
    for d in (1, 5):
        a = np.random.default_rng(seed).normal(size=d)
        for t in (0, 0.25, 1):
            np.testing.assert_allclose(slerp(a, scale * a, t), (1 - t + t * scale) * a, atol=4 * EPS)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_loop_meets_every_z_and_closes(n, seed):
    """Row i * frames is z[i] to float32's rounding, and every step turns evenly, the one from the last row as well."""
    z, frames = of_seed(NORMAL, 50, seed, n), 6
    way = loop(z, frames)
    assert way.shape == (n * frames, 50)
    assert way.dtype == np.float32
    np.testing.assert_allclose(way[::frames], z, rtol=4 * EPS32)
    following = np.roll(way, -1, axis=0)  # after the last row comes the first
    for i, (row, after) in enumerate(zip(way.astype(float), following.astype(float), strict=True)):
        leg = i // frames
        even = angle(z[leg].astype(float), z[(leg + 1) % n].astype(float)) / frames
        assert abs(angle(row, after) - even) <= 4 * EPS32
