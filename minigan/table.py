"""The layer table: what a network is made of and what it costs."""

from __future__ import annotations

import math

from minigan.models import Networks
from minigan.nn import Sequential

__all__ = ["layer_table", "step_multiply_adds"]

LINE = "  {:<16}{:>15}{:>13}{:>15}{:>13}"


def layer_table(title: str, network: Sequential, shape: tuple[int, ...], batch: int) -> str:
    """A line for each layer of `network`, whose input has `shape` without the batch axis.

    multiply-adds: of one picture, forward. memory: of the layer's result for `batch` pictures, float32.
    """
    lines = [LINE.format(title, "gives", "parameters", "multiply-adds", "memory")]
    totals = [0, 0, 0]
    for layer in network:
        work = layer.multiply_adds(shape)
        shape = layer.output_shape(shape)
        costs = [sum(t.size for t in layer.parameters().values()), work, 4 * batch * math.prod(shape)]
        totals = [total + cost for total, cost in zip(totals, costs, strict=True)]
        lines.append(_line(type(layer).__name__, " x ".join(map(str, shape)), *costs))
    return "\n".join([*lines, _line("total", "", *totals), ""])


def _line(name: str, shape: str, parameters: int, work: int, memory: int) -> str:
    return LINE.format(name, shape, f"{parameters:,}", f"{work:,}", f"{memory / 2**20:,.2f} MiB")


def step_multiply_adds(networks: Networks) -> int:
    """Of one picture in `Game.step`.

    A layer's two gradients, for its filters and for its input, cost as much as the layer each. G runs once and is moved
    once: 3. D runs on real and on fake and is moved: 6; it runs on fake again, to move G, for its input's gradient
    alone: 2. Nobody asks for the gradient of z, nor, as D moves, for that of the pictures.
    """
    g, d = _work(networks.generator, networks.z_shape), _work(networks.discriminator, networks.picture)
    return 3 * sum(g) - g[0] + 8 * sum(d) - 2 * d[0]


def _work(network: Sequential, shape: tuple[int, ...]) -> list[int]:
    """The multiply-adds of each layer that has any."""
    work = []
    for layer in network:
        work.append(layer.multiply_adds(shape))
        shape = layer.output_shape(shape)
    return list(filter(None, work))
