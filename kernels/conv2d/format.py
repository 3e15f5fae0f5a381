"""`Format`: what of its operands a pipeline multiplies, and how they lie in memory."""

from __future__ import annotations

import functools

import numpy as np

from kernels.launch import Source

__all__ = ["Format", "number_cuh"]


class Format:
    """float32 that is multiplied as it is, float32 of which TF32 is, or bf16.

    Attributes
    ----------
    bits: of a number that are multiplied: 32, 19 or 16.
    rate: multiplications of a multiprocessor in a clock.
    dtype: of an operand. NumPy has no bf16: its bits are held in a uint16.
    copy: numbers in the 16 bytes of a copy.
    sources: "pipeline.cu" and "operand.cu" for it.
    """

    def __init__(self, bits: int, rate: int):
        self.bits, self.rate = bits, rate
        self.dtype = np.dtype(np.uint16 if bits == 16 else np.float32)
        self.copy = 16 // self.dtype.itemsize
        self.sources = sources("unsigned short" if bits == 16 else "float")

    def in_copies(self, channels: int) -> int:
        """As many, rounded up to whole copies."""
        return -(-channels // self.copy) * self.copy


def number_cuh(number: str) -> str:
    """The text of number.cuh: what tiles are made of, a C++ type, and how many of them a copy of 16 bytes has."""
    return f"typedef {number} Number;\nconstexpr int COPY = 16 / sizeof(Number);\n"


@functools.cache
def sources(number: str) -> dict[str, Source]:
    """By their names, of Numbers of this C++ type."""
    written = {"number.cuh": number_cuh(number)}
    return {file: Source(__package__, file, written=written) for file in ("pipeline.cu", "operand.cu")}
