"""How fast this machine can multiply matrices and copy memory: no kernel can be expected to do better.

Each is the best of a few tries, in a process of its own whose BLAS has all the threads. Convolution may beat the first
all the same: it is measured in the operations of the direct sum, of which Winograd's algorithm does fewer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.contest import Contestant

__all__ = ["attainable", "measure"]

SIDE = 2048  # of the matrices: 17 GFLOP
COPIED = 1 << 28  # bytes, more than any cache holds
TRIES = 5


def matmul_player(side: int) -> Callable[[], object]:
    """Multiplies two float32 matrices (side,side) at each call."""
    a, b = np.random.default_rng(0).standard_normal((2, side, side), np.float32)
    return functools.partial(np.matmul, a, b, out=np.zeros_like(a))


def copy_player(size: int, threads: int) -> Callable[[], object]:
    """Copies so many bytes at each call, each thread its part."""
    sources, targets = (np.array_split(np.ones(size, np.uint8), threads) for _ in range(2))
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.copyto, targets, sources))


def measure(threads: int) -> dict[str, float]:
    """sgemm: float32 operations a second. copy: bytes a second, those read and those written together.

    `contest.use_threads` says how many threads the BLAS has.
    """
    return {
        "sgemm": 2 * SIDE**3 / _best("sgemm", matmul_player, SIDE),
        "copy": 2 * COPIED / _best("copy", copy_player, COPIED, threads),
    }


def _best(name: str, make: Callable, *arguments) -> float:
    """The seconds of the fastest turn; the first one wakes threads and touches memory, and does not count."""
    with Contestant(name, _quiet, make, *arguments) as contestant:
        for _ in range(1 + TRIES):
            contestant.turn()
    return min(contestant.seconds[1:])


def _quiet(make: Callable, *arguments) -> Callable[[], None]:
    """The player, whose results are not sent anywhere."""
    play = make(*arguments)

    def turn() -> None:
        play()

    return turn


def attainable(flop: int, bytes_moved: int, ceilings: dict[str, float], rate: str = "sgemm") -> tuple[float, str]:
    """The fewest seconds that so many operations and bytes can take, and which ceiling says so: the roofline.

    rate: the ceiling of the operations.
    """
    return max((flop / ceilings[rate], rate), (bytes_moved / ceilings["copy"], "copy"))
