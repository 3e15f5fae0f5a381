"""z, the random numbers that a picture is drawn from: which ones a seed has, how to tame them, and ways between them.

    z = of_seeds(preset, 100, [3, 17, 40])      # (3, 100): one for each seed
    z = truncate(z, preset.z, 1.5)              # no number beyond 1.5: nearer to the average picture
    z = loop(z, 24)                             # (72, 100): from 3 to 17 to 40 and back to 3 in small steps

All is NumPy on the host; the numbers of a seed are the same on every device.

Sources
    [shoemake]  Shoemake, "Animating rotation with quaternion curves" (SIGGRAPH 1985), section 3.3: slerp.
    [white]     White, "Sampling generative networks" (2016), section 2.1: slerp between the z of a GAN.
    [brock]     Brock, Donahue & Simonyan, "Large scale GAN training for high fidelity natural image synthesis" (2019),
                section 3.1: the truncation trick.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

import kernels
from minigan.models import Preset, sample_z
from minigan.random import Random

__all__ = ["loop", "of_seed", "of_seeds", "slerp", "truncate"]

PARALLEL = 1e-6  # below this sine of their angle two z lie on one line through 0; acos is good to 1e-8 there


def of_seed(preset: Preset, z_dim: int, seed: int, count: int) -> np.ndarray:
    """The first z of a seed, float32 (count, z_dim): each the same for every count."""
    return sample_z(preset, Random(seed, "generate", kernels.device("reference")), count, z_dim).numpy()


def of_seeds(preset: Preset, z_dim: int, seeds: Sequence[int]) -> np.ndarray:
    """The first z of each seed, float32 (len(seeds), z_dim)."""
    return np.concatenate([of_seed(preset, z_dim, seed, 1) for seed in seeds])


def truncate(z: np.ndarray, distribution: str, limit: float) -> np.ndarray:
    """z of any shape, moved to where none of its numbers is beyond -limit .. limit; float32.

    [brock] draws a number that is beyond the limit again, and again, until it is within. What comes of that has the
    distribution function (F(z) - F(-limit)) / (F(limit) - F(-limit)), F being that of z. The same distribution is had
    without a second draw from

        z' = F^-1(F(-limit) + (F(limit) - F(-limit)) F(z)),

    which moves every number towards 0 a little: a seed keeps its picture, which changes smoothly with the limit.
    For "normal" z, F is Phi. For "uniform" z on (-1, 1) the formula is z' = min(limit, 1) z: scaling, and a limit
    from 1 on changes nothing.
    """
    if distribution == "uniform":
        return z * np.float32(min(limit, 1))
    phi = NormalDist()
    low, high = phi.cdf(-limit), phi.cdf(limit)
    moved = [phi.inv_cdf(low + (high - low) * phi.cdf(number)) for number in z.ravel().tolist()]
    return np.array(moved, np.float32).reshape(z.shape)


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Spherical interpolation from a (t = 0) to b (t = 1), vectors (d,).

    The direction turns from a's to b's in their plane at an even pace, theta being the angle between them [shoemake]:

        sin((1 - t) theta) / sin(theta) a/|a| + sin(t theta) / sin(theta) b/|b|,

    and the length goes from |a| to |b| evenly. Normal z of d numbers have lengths near sqrt(d), and the straight line
    between two of them comes nearer to 0 than any z that the generator was trained with; the arc does not [white].
    On the way a single number may exceed both ends'. Where a and b lie on one line through 0, no plane is theirs, and
    the way is straight.
    """
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    theta = math.acos(np.clip(a @ b / (length_a * length_b), -1, 1))
    if math.sin(theta) < PARALLEL:
        return (1 - t) * a + t * b
    direction = (math.sin((1 - t) * theta) * a / length_a + math.sin(t * theta) * b / length_b) / math.sin(theta)
    return ((1 - t) * length_a + t * length_b) * direction


def loop(z: np.ndarray, frames: int) -> np.ndarray:
    """A closed way through z (n, d) by slerp, float32 (n * frames, d).

    Row i * frames is z[i]; from each z to the next, and from the last to the first, it takes `frames` equal steps.
    """
    z = z.astype(np.float64)
    return np.array(
        [slerp(a, b, step / frames) for a, b in zip(z, np.roll(z, -1, axis=0), strict=True) for step in range(frames)],
        np.float32,
    )
