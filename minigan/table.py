"""The layer table: what a network is made of and what it costs."""

from __future__ import annotations

import math

from minigan.nn import Sequential

__all__ = ["layer_table"]

HEADER = ("layer", "gives", "parameters", "multiply-adds", "memory")


def layer_table(title: str, network: Sequential, shape: tuple[int, ...], batch: int) -> str:
    """A line for each layer of `network`, whose input has `shape` without the batch axis.

    multiply-adds: of one picture, forward. memory: of the layer's result for `batch` pictures, float32.
    """
    rows = []
    for layer in network:
        work = layer.multiply_adds(shape)
        shape = layer.output_shape(shape)
        parameters = sum(t.size for t in layer.parameters().values())
        rows.append((type(layer).__name__, shape, parameters, work, 4 * batch * math.prod(shape)))
    total = tuple(sum(row[column] for row in rows) for column in (2, 3, 4))
    lines = [HEADER, *map(_row, rows), _row(("total", (), *total))]
    return "\n".join([title, *("  {:<18}{:>16}{:>14}{:>18}{:>12}".format(*line) for line in lines), ""])


def _row(row: tuple) -> tuple[str, ...]:
    name, shape, parameters, work, memory = row
    return name, " x ".join(map(str, shape)), f"{parameters:,}", f"{work:,}", f"{memory / 2**20:,.1f} MiB"
