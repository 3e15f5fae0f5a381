"""What is measured of a training at each sampling interval, for `minigan.doctor` to judge.

scores       how D takes real and drawn pictures, from the rows of the log
pictures     whether those drawn differ from one another, and how far they are from the real ones
networks     dead units, gradient norms

Nothing here moves the game. Pictures go through the networks in inference, where batch norm leaves its running averages
alone; no random number is drawn; gradients are read where Adam keeps them.

Sources
    [karras]   Karras, Aila, Laine & Lehtinen, "Progressive growing of GANs for improved quality, stability, and
               variation" (2018), section 5: the sliced Wasserstein distance between small patches, scale by scale.
    [burt]     Burt & Adelson, "The Laplacian pyramid as a compact image code" (1983).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from minigan import ops
from minigan.autograd import Tensor, no_grad
from minigan.nn import LeakyRelu, Sequential
from minigan.optim import Adam

if TYPE_CHECKING:
    from minigan.train import Game

__all__ = ["Seen", "distance", "least_d_loss", "look", "measure", "saturation", "scores", "spread", "watched"]

NEWEST = 20  # rows of the log: 400 steps, since a row is logged every 20
FEWEST = 10  # rows that say anything
COARSE = 16  # pixels on a side: where pictures are compared as wholes, and where the pyramid ends
PATCH = 7  # [karras] pixels on a side
PATCHES = 64  # of each picture and scale ([karras] 128, of 16,384 pictures)
DIRECTIONS = 64  # that the patches are seen from ([karras] 512)
PINNED = 0.99  # beyond it tanh has a slope below 1 - 0.99^2 = 0.02, and passes on almost no gradient


class Seen(NamedTuple):
    """What only the device can tell. fakes: what G draws from its fixed z (N,H,W,C). networks: measures of both."""

    fakes: np.ndarray
    networks: dict[str, float]


def look(game: Game, real: np.ndarray) -> Seen:
    """At the game as it is now. real: pictures (N,H,W,C) in [-1, 1], which D is shown beside those that G draws."""
    fakes, dead_g = watched(game.generator, game.fixed_z)
    everything = np.concatenate([real, fakes])
    _, dead_d = watched(game.discriminator, Tensor(game.device.array(everything), game.device))
    networks = {
        "dead.generator": dead_g,
        "dead.discriminator": dead_d,
        **_gradient_norms("generator", game.generator, game.adam_g),
        **_gradient_norms("discriminator", game.discriminator, game.adam_d),
    }
    return Seen(fakes, networks)


@np.errstate(over="ignore", invalid="ignore")  # what overflows is left out
def measure(
    seen: Seen, real: np.ndarray, log: Sequence[Mapping[str, float]], label_smoothing: float
) -> dict[str, float]:
    """Every measure by name; one that is not a finite number is left out.

    real: pictures (N,H,W,C) in [-1, 1], the same ones each time. log: the run's rows until then.
    """
    found = {
        **scores(log, label_smoothing),
        "diversity": spread(seen.fakes) / (spread(real) + 1e-12),
        "distance": distance(seen.fakes, real),
        "saturation": saturation(seen.fakes),
        "saturation.real": saturation(real),
        **seen.networks,
    }
    return {name: float(f"{value:.6g}") for name, value in found.items() if math.isfinite(value)}


# ---- scores ------------------------------------------------------------------


def least_d_loss(label_smoothing: float) -> float:
    """The least that d_loss can be: D gives real pictures exactly 1 - s, and drawn ones 0.

    There BCE(1 - s, 1 - s) is the entropy of the label, -(1 - s) log(1 - s) - s log s, and BCE(0, 0) is 0.
    """
    return -sum(p * math.log(p) for p in (1 - label_smoothing, label_smoothing) if p > 0)


def scores(log: Sequence[Mapping[str, float]], label_smoothing: float) -> dict[str, float]:
    """The medians of the newest rows, and two numbers made of them; nothing while there are too few rows.

    lead: how much d_loss is above its least. 0 is a perfect D; log 4 less that least is one that cannot tell at all.
    swing: the interquartile range of (D(x) + D(G(z))) / 2 over the rows. Where D learns to tell, D(x) rises as D(G(z))
        falls and that mean stays; where D changes its mind about all pictures at once, it does not.
    """
    if len(log) < FEWEST:
        return {}
    rows = {name: np.array([row[name] for row in log[-NEWEST:]]) for name in ("d_loss", "g_loss", "d_real", "d_fake")}
    medians = {name: float(np.median(values)) for name, values in rows.items()}
    low, high = np.quantile((rows["d_real"] + rows["d_fake"]) / 2, [0.25, 0.75])
    return {**medians, "lead": medians["d_loss"] - least_d_loss(label_smoothing), "swing": float(high - low)}


# ---- pictures ----------------------------------------------------------------


def spread(images: np.ndarray) -> float:
    """The mean distance of two of the pictures (N,H,W,C), N > 1: the root of the mean square of their difference.

    At 16x16 pixels, so that noise that is too fine to be seen does not count.
    """
    while images.shape[1] > COARSE:
        images = _halved(images)
    x = images.reshape(len(images), -1).astype(np.float64)
    squares = (x**2).sum(1)
    between = squares[:, None] + squares - 2 * x @ x.T  # (N,N), of squared distances; 0, or rounded, on the diagonal
    np.fill_diagonal(between, 0)
    pairs = len(x) * (len(x) - 1)
    return float(np.sqrt(np.maximum(between, 0) / x.shape[1]).sum() / pairs)


def distance(fakes: np.ndarray, real: np.ndarray) -> float:
    """How far the pictures of one set (N,H,W,C) are from another's as a whole: 0 where their patches are alike.

    As in [karras]. At each scale, patches of 7x7 pixels, brought to mean 0 and variance 1 by the real ones' channels,
    are projected on a direction; the Wasserstein distance of two rows of numbers is the mean difference of the sorted
    rows. Here, its mean over many directions, and over the scales. Places and directions are the same in every call.
    """
    random = np.random.default_rng(0)
    found = []
    n = min(len(fakes), len(real))
    for fake, true in zip(_scales(fakes[:n]), _scales(real[:n]), strict=True):
        side, channels = true.shape[1], true.shape[3]
        std = np.array([true[..., c].std() for c in range(channels)]) + 1e-8
        places = random.integers(0, side - PATCH + 1, (PATCHES, 2))
        directions = random.standard_normal((PATCH * PATCH * channels, DIRECTIONS)).astype(np.float32)
        directions /= np.linalg.norm(directions, axis=0)
        # (patch - mean) / std @ direction is patch @ (direction / std) but for a number that is the same in both rows
        directions /= np.tile(std, PATCH * PATCH)[:, None]
        seen = [np.sort(_patches(x, places) @ directions, axis=0) for x in (fake, true)]
        found.append(np.abs(seen[0] - seen[1]).mean())
    return float(np.mean(found))


def saturation(images: np.ndarray) -> float:
    """The share of values that are pinned to -1 or 1, the ends of tanh."""
    return float((np.abs(images) > PINNED).mean())


def _halved(images: np.ndarray) -> np.ndarray:
    """(N,H,W,C) -> (N,H/2,W/2,C): the mean of every 2x2 pixels."""
    rows = images[:, ::2] + images[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / 4


def _scales(images: np.ndarray) -> Iterator[np.ndarray]:
    """The Laplacian pyramid [burt], finest first: what each halving takes away, and at 16x16 what is left."""
    while images.shape[1] > COARSE:
        coarse = _halved(images)
        yield images - coarse.repeat(2, 1).repeat(2, 2)
        images = coarse
    yield images


def _patches(images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The patches at these places (P,2) of every picture (N,H,W,C), each a row: (P N, 7*7*C)."""
    n = len(images)
    return np.concatenate([images[:, i : i + PATCH, j : j + PATCH].reshape(n, -1) for i, j in places])


# ---- networks ----------------------------------------------------------------


def watched(network: Sequential, x: Tensor) -> tuple[np.ndarray, float]:
    """What the network makes of x, in inference, and the share of its units that are dead.

    A unit is a channel before a (leaky) ReLU. It is dead if it is above 0 for no picture of x and at no place: a ReLU
    then passes nothing on and never learns again, a leaky one is a line. The sum of what passes is above 0 if any is.
    """
    alive = []
    network.train(False)
    with no_grad():
        for layer in network:
            if isinstance(layer, LeakyRelu):
                passed = ops.sum(ops.leaky_relu(x, 0.0), axes=tuple(range(x.ndim - 1)))
                alive.append(passed.numpy() > 0)
            x = layer(x)
    network.train()
    return x.numpy(), 1 - float(np.concatenate(alive).mean())


def _gradient_norms(name: str, network: Sequential, adam: Adam) -> dict[str, float]:
    """The norm of each layer's gradient: gradient.generator.1, over all parameters of the layer."""
    squares = {}
    for parameter, square in zip(network.parameters(), adam.squared_norms(), strict=True):
        layer = f"gradient.{name}.{parameter.partition('.')[0]}"
        squares[layer] = squares.get(layer, 0.0) + square
    return {layer: math.sqrt(square) for layer, square in squares.items()}
