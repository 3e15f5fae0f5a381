"""The tile that a block makes of an output, and the parts that long sums fall into.

A tile is the larger the better, as long as there are blocks enough for all multiprocessors; where the output is small,
its long sums fall into parts, each of them a block's.
"""

from __future__ import annotations

from typing import NamedTuple

from kernels.conv2d.parts import number_of_parts

__all__ = ["TILES", "Tile", "plan"]

RESIDENT = 2  # blocks that a multiprocessor works on at the same time


class Tile(NamedTuple):
    """What a block makes of the output, and how the sum comes to it."""

    rows: int
    columns: int
    depth: int  # summed indices at a time
    stages: int  # times that, in shared memory

    def line_tile(self, lines: int) -> int:
        """Bytes of a stage where neighbouring lines are neighbours in memory."""
        return 4 * self.depth * (lines + 8)

    def depth_tile(self, lines: int) -> int:
        """Bytes of a stage where neighbouring depths are."""
        return 4 * lines * (self.depth + 4)


# Their stages take at most 99 KiB of shared memory: an sm_86 or an sm_120 has no more.
TILES = (Tile(128, 128, 16, 4), Tile(128, 64, 32, 3), Tile(64, 64, 32, 3))


def plan(rows: int, columns: int, depth: int, phases: int, multiprocessors: int, least: int) -> tuple[Tile, int]:
    """The tile for an output of rows x columns (in each phase), and how many parts its sums of `depth` terms fall into.

    least: terms of a part. The first tile that is more than half full, each way, and gives every multiprocessor a block;
    else the last, which is the smallest.
    """
    for tile in TILES:
        blocks = phases * -(-rows // tile.rows) * -(-columns // tile.columns)
        parts = number_of_parts(blocks, RESIDENT * multiprocessors, depth, least)
        used = rows > tile.rows // 2 and columns > tile.columns // 2
        if used and blocks * parts >= multiprocessors:
            break
    return tile, parts
