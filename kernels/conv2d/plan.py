"""The tile that a block makes of an output, and the parts that long sums fall into.

A tile is the larger the better, as long as there are blocks enough for all multiprocessors; where the output is small,
its long sums fall into parts, each of them a block's.
"""

from __future__ import annotations

from typing import NamedTuple

from kernels.conv2d.parts import number_of_parts

__all__ = ["TILES", "Tile", "plan"]

WARPS = 8  # that a multiprocessor works on at the same time, each with most of its registers: in one block, or in two
SHARED = 99 << 10  # bytes of a block's shared memory: an sm_86 or an sm_120 has no more


class Tile(NamedTuple):
    """What a block makes of the output, and how the sum comes to it."""

    rows: int
    columns: int
    depth: int  # summed indices at a time
    stages: int  # times that, in shared memory
    warps: int  # of the block

    def line_tile(self, lines: int) -> int:
        """Bytes of a stage where neighbouring lines are neighbours in memory."""
        return 4 * self.depth * (lines + 8)

    def depth_tile(self, lines: int) -> int:
        """Bytes of a stage where neighbouring depths are."""
        return 4 * lines * (self.depth + 4)

    def shared(self, beside: int) -> int:
        """Bytes of a block at most: its stages, the moments of its columns (moments.cuh), and so many beside them."""
        stage = self.depth_tile(self.rows) + self.depth_tile(self.columns)
        return self.stages * stage + 4 * self.warps * self.columns + beside

    def constants(self) -> dict[str, int]:
        """What product.cuh has to know of it."""
        sizes = {"TILE_ROWS": self.rows, "TILE_COLUMNS": self.columns, "DEPTH": self.depth}
        return {**sizes, "STAGES": self.stages, "THREADS": 32 * self.warps}


# The first takes 1.5 times the second's numbers from the L2 cache for twice its multiplications. What is the limit is
# to be measured: by data sheets, and by what others have found of an H100, a multiprocessor needs some 800 clocks to
# multiply 16 depths of 256 x 128 in TF32, and has some 28 bytes a clock from the L2 cache. Meanwhile two blocks of
# the second would take 32 KiB, and one of the first takes 24.
TILES = (Tile(256, 128, 16, 3, 8), Tile(128, 128, 16, 4, 4), Tile(128, 64, 32, 3, 4), Tile(64, 64, 32, 3, 4))


def plan(
    rows: int, columns: int, depth: int, phases: int, multiprocessors: int, least: int, beside: int = 0
) -> tuple[Tile, int]:
    """The tile for an output of rows x columns (in each phase), and how many parts its sums of `depth` terms fall into.

    least: terms of a part. beside: bytes of shared memory that the kernel takes itself. The first tile that fits there,
    is more than half full, each way, and gives every multiprocessor a block; else the last, which is the smallest.
    """
    for tile in TILES:
        blocks = phases * -(-rows // tile.rows) * -(-columns // tile.columns)
        parts = number_of_parts(blocks, WARPS // tile.warps * multiprocessors, depth, least)
        used = rows > tile.rows // 2 and columns > tile.columns // 2
        if used and tile.shared(beside) <= SHARED and blocks * parts >= multiprocessors:
            break
    return tile, parts
