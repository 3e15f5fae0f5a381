"""Who plays: the generator, which draws a picture from z, and the discriminator, which tells drawn from real.

A preset is a published network together with the settings it was trained with; every number cites its line, or is said
to be ours. Two architectures carry them all, and follow the size of the picture:

    article   dense to 8x8, 5x5 kernels; biases in the convolutions
    radford   4x4 kernels and nothing else

Sources
    [article]  "How AI can learn to generate pictures of cats" (2017): the text, where text and published code differ.
               The code scales real pictures to [-0.5, 0.5] though tanh spans [-1, 1], never shuffles, and does not
               smooth labels; its text does otherwise, and so do we.
    [radford]  Radford, Metz & Chintala, "Unsupervised representation learning with deep convolutional generative
               adversarial networks" (2016): section 3 (architecture guidelines), section 4 (training), figure 1.
    [torch]    The DCGAN example of PyTorch, which fixed the discriminator that the paper leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import kernels
from minigan import nn
from minigan.autograd import Tensor
from minigan.random import Random

__all__ = ["PRESETS", "SIZES", "Networks", "Preset", "networks", "sample_z"]

SIZES = (16, 32, 64, 128, 256)  # pixels on a side
MOST_CHANNELS = 1024  # wider layers than the article's do not follow the size any further


@dataclass(frozen=True)
class Preset:
    """A network and how it is trained; what the command line can set too is a default here."""

    name: str
    architecture: Callable[..., tuple[nn.Sequential, nn.Sequential]]
    width: int  # channels of the layer next to the picture; each layer further in has twice as many
    size: int  # pixels on a side
    z_dim: int
    z: str  # a method of Random: "normal", or "uniform" on (-1, 1)
    weights: str  # a method of Random: "normal" or "truncated_normal", standard deviation 0.02
    scale_std: float  # batch norm's scale starts normal(1, scale_std)
    slope: float  # of leaky ReLU
    label_smoothing: float
    lr_g: float
    lr_d: float
    beta1: float
    batch_size: int
    epochs: int


@dataclass
class Networks:
    """The two players.

    z_shape, picture: the shapes of what the generator takes and gives, without the batch axis.
    """

    generator: nn.Sequential
    discriminator: nn.Sequential
    z_shape: tuple[int, ...]
    picture: tuple[int, int, int]


def networks(
    preset: Preset, device: kernels.Device, size: int, channels: int, z_dim: int, slope: float, seed: int
) -> Networks:
    """Both networks with fresh parameters, drawn from `seed`.

    size: one of SIZES. channels: 3 (RGB) or 1 (L).
    """
    init_g = _initializer(preset, Random(seed, "generator weights", device))
    init_d = _initializer(preset, Random(seed, "discriminator weights", device))
    generator, discriminator = preset.architecture(init_g, init_d, preset.width, size, channels, z_dim, slope)
    return Networks(generator, discriminator, (z_dim,), (size, size, channels))


def _initializer(preset: Preset, random: Random) -> nn.Initializer:
    weights = getattr(random, preset.weights)
    return nn.Initializer(
        random.device,
        weights=lambda shape: weights(shape, 0.0, 0.02),
        scale=lambda shape: random.normal(shape, 1.0, preset.scale_std),
    )


def sample_z(preset: Preset, random: Random, count: int, z_dim: int) -> Tensor:
    """z (count, z_dim), what a picture is drawn from: normal(0, 1), or uniform(-1, 1)."""
    if preset.z == "uniform":
        return random.uniform((count, z_dim), -1.0, 1.0)
    return random.normal((count, z_dim))


def article(
    init_g: nn.Initializer, init_d: nn.Initializer, width: int, size: int, channels: int, z_dim: int, slope: float
) -> tuple[nn.Sequential, nn.Sequential]:
    """The article's networks; at size 128 and width 64 they are layer by layer those of its figures.

    "SAME" padding of a 5x5 kernel is padding 2, and the transposed convolutions' result is twice their input.
    A bias before batch norm, which takes every channel's mean away again, changes nothing; the article has it all the
    same, and `nn.BatchNorm.between` does not add it.
    """
    kernel = {"kernel": 5, "padding": 2, "bias": True}
    doublings = int(math.log2(size // 8))  # 4 at size 128
    inwards = [min(width * 2**i, MOST_CHANNELS) for i in range(doublings + 1)]  # 64 128 256 512 1024

    widest = inwards[-1]
    g = [
        nn.Linear(z_dim, 8 * 8 * widest, init_g),  # [article] dense 100 to 8x8x1024, no batch norm
        nn.Reshape(8, 8, widest),
        nn.LeakyRelu(slope),
    ]
    k, side = widest, 8
    for c in reversed(inwards[:-1]):  # [article] 512, 256, 128, 64: transposed, 5x5, stride 2
        side *= 2
        g += [nn.Conv2dTranspose(k, c, init_g, stride=2, size=(side, side), **kernel), nn.BatchNorm(c, init_g)]
        g += [nn.LeakyRelu(slope)]
        k = c
    # [article] the picture: transposed, 5x5, stride 1, tanh
    g += [nn.Conv2dTranspose(k, channels, init_g, stride=1, size=(side, side), **kernel), nn.Tanh()]

    d, c = [], channels
    strides = [2] * (doublings - 1) + [1, 2]  # [article] 64, 128, 256 (stride 2), 512 (stride 1), 1024 (stride 2)
    for k, stride in zip(inwards, strides, strict=True):
        d += [nn.Conv2d(c, k, init_d, stride=stride, **kernel)]
        if c != channels:  # [article] batch norm on all but the first
            d += [nn.BatchNorm(k, init_d)]
        d += [nn.LeakyRelu(slope)]
        c = k
    d += [nn.Reshape(8 * 8 * c), nn.Linear(8 * 8 * c, 1, init_d)]  # [article] dense to one logit
    return nn.Sequential(*g), nn.Sequential(*d)


def radford(
    init_g: nn.Initializer, init_d: nn.Initializer, width: int, size: int, channels: int, z_dim: int, slope: float
) -> tuple[nn.Sequential, nn.Sequential]:
    """Convolutions only, no dense layer, no pooling ([radford] section 3); at size 64 and width 64 those of [torch]."""
    kernel = {"kernel": 4, "stride": 2, "padding": 1, "bias": False}  # [torch] halves or doubles a side exactly
    corner = {"kernel": 4, "stride": 1, "padding": 0, "bias": False}  # [torch] between 1x1 and 4x4
    doublings = int(math.log2(size // 4))  # 4 at size 64
    inwards = [min(width * 2**i, MOST_CHANNELS) for i in range(doublings)]  # 64 128 256 512

    k, side = inwards[-1], 4
    g = [
        nn.Reshape(1, 1, z_dim),
        nn.Conv2dTranspose(z_dim, k, init_g, size=(4, 4), **corner),
        nn.BatchNorm(k, init_g),
        nn.LeakyRelu(0.0),  # [radford] ReLU in the generator
    ]
    for c in reversed(inwards[:-1]):
        side *= 2
        g += [nn.Conv2dTranspose(k, c, init_g, size=(side, side), **kernel), nn.BatchNorm(c, init_g), nn.LeakyRelu(0.0)]
        k = c
    g += [nn.Conv2dTranspose(k, channels, init_g, size=(size, size), **kernel), nn.Tanh()]  # [radford] no batch norm

    d, c = [], channels
    for k in inwards:
        d += [nn.Conv2d(c, k, init_d, **kernel)]
        if c != channels:  # [radford] no batch norm on the discriminator's input layer
            d += [nn.BatchNorm(k, init_d)]
        d += [nn.LeakyRelu(slope)]  # [radford] leaky ReLU in the discriminator
        c = k
    d += [nn.Conv2d(c, 1, init_d, **corner), nn.Reshape(1)]
    return nn.Sequential(*g), nn.Sequential(*d)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="article128",
            architecture=article,
            width=64,
            size=128,  # [article] 128x128
            z_dim=100,  # [article] z has 100 numbers
            z="uniform",  # [article] uniform(-1, 1)
            weights="truncated_normal",  # [article] truncated normal, 0.02
            scale_std=0.0,  # TensorFlow's default: ones
            slope=0.2,  # [article] leaky ReLU 0.2
            label_smoothing=0.1,  # [article] real labels 0.9
            lr_g=2e-4,  # [article]
            lr_d=5e-5,  # [article]
            beta1=0.5,  # [article]
            batch_size=64,  # [article]
            epochs=215,  # [article]
        ),
        Preset(
            name="radford64",
            architecture=radford,
            width=64,  # [torch] ngf = ndf = 64
            size=64,  # [radford] figure 1
            z_dim=100,  # [radford] figure 1
            z="normal",  # [torch]; [radford] has uniform
            weights="normal",  # [radford] section 4: zero-centred normal, 0.02
            scale_std=0.02,  # [torch] normal(1, 0.02)
            slope=0.2,  # [radford] section 4
            label_smoothing=0.0,  # [torch] real labels 1; [radford] speaks of none
            lr_g=2e-4,  # [radford] section 4: 0.0002
            lr_d=2e-4,  # [radford] section 4: the same
            beta1=0.5,  # [radford] section 4
            batch_size=64,  # [torch]; [radford] has 128
            epochs=25,  # [torch]
        ),
        # Ours: radford64 for a CPU and a few minutes; width, size, z_dim, label_smoothing and epochs are chosen for it.
        Preset(
            name="tiny32",
            architecture=radford,
            width=32,
            size=32,
            z_dim=64,
            z="normal",
            weights="normal",
            scale_std=0.02,
            slope=0.2,
            label_smoothing=0.1,
            lr_g=2e-4,
            lr_d=2e-4,
            beta1=0.5,
            batch_size=64,
            epochs=100,
        ),
    )
}
