"""Launches tiles.cu: pictures to points, and points to pictures."""

from __future__ import annotations

import math
from fractions import Fraction

from kernels.conv2d.operand import operand
from kernels.conv2d.winograd import OUTPUTS, Algorithm, matrices
from kernels.launch import Source, empty

__all__ = ["Tiles"]

BLOCK = (32, 8)  # channels and tiles


def matrices_cuh() -> str:
    """The text of the include that tiles.cu has its matrices from: of every algorithm, as macros B, G and A."""
    lines = []
    for m, r in ((m, r) for r, outputs in OUTPUTS.items() for m in outputs):
        lines.append(f"#if M == {m} && TAPS == {r}")
        for name, rows in zip("BGA", matrices(m, r).values(), strict=True):
            written = ", ".join(f"{{{', '.join(map(_fraction, row))}}}" for row in rows)
            lines.append(f"#define {name} {{{written}}}")
        lines.append("#endif")
    return "\n".join(lines)


def _fraction(value: Fraction) -> str:
    """In C++, where the compiler divides, and rounds once."""
    return f"{value.numerator}.f" if value.denominator == 1 else f"{value.numerator}.f / {value.denominator}"


SOURCE = Source(__package__, "tiles.cu", written={"matrices.cuh": matrices_cuh()})


class Tiles:
    """The tiles of an algorithm, for y of (P, Q) = size. A letter is "x", "w" or "y"."""

    def __init__(self, algorithm: Algorithm, size: tuple[int, int]):
        self.algorithm = algorithm
        self.letters = algorithm.letters(size)
        self.points = len(self.letters["x"].to) ** 2  # n²
        self.each = math.prod(algorithm.tiles(size))  # tiles of a picture

    def to_points(self, letter: str, pictures):
        """points (n²,tiles,fold² C) of pictures (N,H,W,C) of that letter, an array or Pending."""
        n, height, width, c = pictures.shape
        read = operand(pictures)
        cut = self.letters[letter]
        tiles, channels = n * cut.rows * cut.columns, cut.fold**2 * c
        points = empty(read.pixels, (self.points, tiles, channels))
        numbers = n, cut.rows, cut.columns, height, width, c, cut.fold, cut.padding, read.pending, *read.equation
        self.launch("to_points", letter, tiles, channels, read.pixels, points, *read.columns, *numbers)
        return points

    def from_points(self, letter: str, points, pictures) -> None:
        """The adjoint: pictures (N,H,W,C) of that letter become the sums of their tiles."""
        n, height, width, c = pictures.shape
        cut = self.letters[letter]
        down, across = (-(-(length + cut.padding) // (cut.fold * cut.step)) for length in (height, width))
        numbers = n, cut.rows, cut.columns, down, across, height, width, c, cut.fold, cut.padding
        self.launch("from_points", letter, n * down * across, cut.fold**2 * c, points, pictures, *numbers)

    def launch(self, kernel: str, letter: str, tiles: int, channels: int, *arguments) -> None:
        """A thread for each channel of each tile, in the letter's build."""
        grid = (-(-tiles // BLOCK[1]), -(-channels // BLOCK[0]))
        built = {"LETTER": ord(letter), "M": self.algorithm.m, "TAPS": self.algorithm.r}
        SOURCE.launch(kernel, grid, BLOCK, *arguments, **built)
