"""How a kernel is launched that makes every element of its result by itself: see elements.cuh."""

from __future__ import annotations

BLOCK, EACH = 256, 4  # threads of a block, elements of a thread


def elements(size: int) -> tuple[tuple[int], tuple[int]]:
    """The grid and the block for so many."""
    return (-(-size // (EACH * BLOCK)),), (BLOCK,)
