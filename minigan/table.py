"""The layer table: what a network is made of and what it costs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

import kernels
from minigan import nn
from minigan.autograd import Tensor
from minigan.data import CHANNELS
from minigan.models import PRESETS, Networks
from minigan.options import Settings

__all__ = ["Cost", "layer_costs", "layer_table", "outline", "step_multiply_adds"]

LINE = "  {:<16}{:>15}{:>13}{:>15}{:>13}"


class Cost(NamedTuple):
    """Of one layer.

    shape: of its result for one picture. multiply_adds: of one picture, forward. memory: bytes of its result for a
    batch, float32.
    """

    layer: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    memory: int


def layer_costs(network: nn.Sequential, shape: tuple[int, ...], batch: int) -> list[Cost]:
    """Of each layer of `network`, whose input has `shape` without the batch axis; and, at the end, "total"."""
    costs = []
    for layer in network:
        work = layer.multiply_adds(shape)
        shape = layer.output_shape(shape)
        parameters = sum(t.size for t in layer.parameters().values())
        costs.append(Cost(type(layer).__name__, shape, parameters, work, 4 * batch * math.prod(shape)))
    return [*costs, Cost("total", (), *(sum(column) for column in list(zip(*costs, strict=True))[2:]))]


def layer_table(title: str, network: nn.Sequential, shape: tuple[int, ...], batch: int) -> str:
    """The costs in lines, for a terminal."""
    lines = [LINE.format(title, "gives", "parameters", "multiply-adds", "memory")]
    for layer, gives, parameters, work, memory in layer_costs(network, shape, batch):
        form = " x ".join(map(str, gives))
        lines.append(LINE.format(layer, form, f"{parameters:,}", f"{work:,}", f"{memory / 2**20:,.2f} MiB"))
    return "\n".join([*lines, ""])


def outline(settings: Settings) -> Networks:
    """The networks of these settings, for their shapes alone: every weight is the same zero, and none is drawn."""
    preset, device = PRESETS[settings.preset], kernels.device("reference")
    init = nn.Initializer(device, weights=lambda shape: Tensor(np.broadcast_to(np.float32(0), shape), device))
    size, channels = settings.size, CHANNELS[settings.mode]
    players = preset.architecture(init, init, preset.width, size, channels, settings.z_dim, settings.slope)
    return Networks(*players, (settings.z_dim,), (size, size, channels))


def step_multiply_adds(networks: Networks) -> int:
    """Of one picture in `Game.step`.

    A layer's two gradients, for its filters and for its input, cost as much as the layer each. G runs once and is moved
    once: 3. D runs on real and on fake and is moved: 6; it runs on fake again, to move G, for its input's gradient
    alone: 2. Nobody asks for the gradient of z, nor, as D moves, for that of the pictures.
    """
    g, d = _work(networks.generator, networks.z_shape), _work(networks.discriminator, networks.picture)
    return 3 * sum(g) - g[0] + 8 * sum(d) - 2 * d[0]


def _work(network: nn.Sequential, shape: tuple[int, ...]) -> list[int]:
    """The multiply-adds of each layer that has any."""
    return [cost.multiply_adds for cost in layer_costs(network, shape, batch=1)[:-1] if cost.multiply_adds]
