"""Launches adam.cu: a thread counts the step, then one launch moves all the parameters."""

from __future__ import annotations

from kernels.adam.reference import in_fours
from kernels.launch import TABLE, Source, empty
from kernels.launch.elements import BLOCK, EACH

__all__ = ["adam"]

SOURCE = Source(__package__, "adam.cu")
ELEMENTS = EACH * BLOCK  # of one parameter, that a block moves


def adam(step, lr, beta1, beta2, eps, *arrays):
    """One update in place; `step` is counted up."""
    corrections = empty(step, (2,))
    SOURCE.launch("adam_corrections", (1,), (1,), step, corrections, beta1, beta2)
    numbers = lr, beta1, beta2, 1 - beta1, 1 - beta2, eps
    fours = list(in_fours(arrays))
    for first in range(0, len(fours), TABLE):
        group = fours[first : first + TABLE]
        sizes = [parameters.size for parameters, *_ in group]
        blocks = sum(-(-size // ELEMENTS) for size in sizes)
        SOURCE.launch("adam", (blocks,), (BLOCK,), *zip(*group, strict=True), sizes, corrections, *numbers)
