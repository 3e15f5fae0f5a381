"""The tile that a block makes of an output, and the parts that long sums fall into.

A large tile multiplies each number that it reads more often, but its blocks are few, and some multiprocessors may have
none, or less than others; a sum in parts is more blocks, but the parts have to be written, read and added. `plan` takes
what would take the fewest clocks, by an estimate of each.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from kernels.conv2d.format import Format

__all__ = ["CARD", "TILES", "Card", "Tile", "choices", "clocks", "plan"]

WARPS = 8  # that a multiprocessor works on at the same time, each with most of its registers: in one block, or in two
SHARED = 99 << 10  # bytes of a block's shared memory: an sm_86 or an sm_120 has no more
BANKS = 128  # bytes that they take or give in a clock
SHORTEST = 4  # depths of a tile that a part has at least: else its copies have hardly begun when it ends


class Card(NamedTuple):
    """What the estimate has to know of one, beside the rate of a format."""

    fetched: float  # bytes that each multiprocessor gets from the L2 cache in a clock, when all do
    hidden: float  # of the shorter of the two, multiplying and fetching, what goes on beside the longer, with WARPS
    launch: float  # clocks until a kernel that adds up the parts is at work


# Assumed until it is measured on one (`python -m benchmarks.tiles`): on an H200 some 6.5 TB/s, and about 2 us.
CARD = Card(fetched=28, hidden=0.75, launch=4000)


class Tile(NamedTuple):
    """What a block makes of the output, and how the sum comes to it."""

    rows: int
    columns: int
    copies: int  # of 16 bytes: summed indices at a time
    stages: int  # times that, in shared memory
    warps: int  # of the block
    across: int  # of these, beside each other

    def line_tile(self, lines: int) -> int:
        """Bytes of a stage where neighbouring lines are neighbours in memory."""
        return 16 * self.copies * (lines + 8)

    def depth_tile(self, lines: int) -> int:
        """Bytes of a stage where neighbouring depths are."""
        return 16 * self.copies * lines

    def served(self) -> int:
        """Bytes that shared memory takes and gives for a copy of every line: each warp reads its own lines."""
        read = self.rows * self.across + self.columns * self.warps // self.across
        return 16 * (self.rows + self.columns + read)

    def shared(self, beside: int) -> int:
        """Bytes of a block at most: its stages, the moments of its columns (moments.cuh), and so many beside them."""
        stage = self.line_tile(self.rows) + self.line_tile(self.columns)
        return self.stages * stage + 8 * self.warps // self.across * self.columns + beside

    def constants(self, format: Format) -> dict[str, int]:
        """What the kernels have to know of it, and of the format."""
        sizes = {"TILE_ROWS": self.rows, "TILE_COLUMNS": self.columns, "DEPTH": self.copies * format.copy}
        warps = {"THREADS": 32 * self.warps, "ACROSS": self.across}
        return {**sizes, **warps, "STAGES": self.stages, "BITS": format.bits}


# The first takes 1.5 times the second's numbers from the L2 cache for twice its multiplications. Of the first three a
# warp makes 64 x 64, and of the others 64 x 32 and 32 x 32.
TILES = (
    Tile(256, 128, 4, 3, 8, across=2),
    Tile(128, 128, 4, 4, 4, across=2),
    Tile(256, 64, 4, 3, 4, across=1),
    Tile(128, 64, 8, 3, 4, across=2),
    Tile(64, 64, 8, 3, 4, across=2),
)


@functools.cache
def plan(
    rows: int, columns: int, depth: int, phases: int, multiprocessors: int, format: Format, beside: int = 0
) -> tuple[Tile, int]:
    """The tile for an output of rows x columns (in each phase), and how many parts its sums of `depth` terms fall into.

    beside: bytes of shared memory that the kernel takes itself.
    Of what takes equally long, the largest tile and the fewest parts.
    """
    sizes = rows, columns, depth, phases, multiprocessors, format
    return min(choices(*sizes, beside), key=lambda choice: clocks(*choice, *sizes))


def choices(
    rows: int, columns: int, depth: int, phases: int, multiprocessors: int, format: Format, beside: int = 0
) -> list[tuple[Tile, int]]:
    """What `plan` chooses from: each tile that fits, in as many parts as all wait for a multiprocessor, or fewer."""
    found = []
    for tile in TILES:
        if tile.shared(beside) <= SHARED:
            blocks = phases * -(-rows // tile.rows) * -(-columns // tile.columns)
            waiting = 2 * WARPS // tile.warps * multiprocessors  # blocks
            most = min(depth // (SHORTEST * tile.copies * format.copy), waiting // blocks)
            found += [(tile, parts) for parts in range(1, max(1, most) + 1)]
    return found


def clocks(
    tile: Tile,
    parts: int,
    rows: int,
    columns: int,
    depth: int,
    phases: int,
    multiprocessors: int,
    format: Format,
    card: Card = CARD,
) -> float:
    """About how many the whole output takes so."""
    blocks = phases * -(-rows // tile.rows) * -(-columns // tile.columns) * parts
    each = -(-blocks // multiprocessors)  # of a multiprocessor
    copies = each * tile.copies * -(-depth // (parts * tile.copies * format.copy))  # of a line
    multiplied = max(copies * format.copy * tile.rows * tile.columns / format.rate, copies * tile.served() / BANKS)
    fetched = copies * 16 * (tile.rows + tile.columns) / card.fetched
    written = 2 * 4 * parts * phases * rows * columns / (card.fetched * multiprocessors)  # and read again
    added = card.launch + written if parts > 1 else 0
    hidden = card.hidden * min(1, each * tile.warps / WARPS)
    return max(multiplied, fetched) + (1 - hidden) * min(multiplied, fetched) + added
