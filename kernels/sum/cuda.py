"""Launches sum.cu: for every run of neighbouring axes that are summed once, or if it is long twice."""

from __future__ import annotations

from itertools import groupby
from math import prod

from kernels.elementwise.cuda import walk
from kernels.launch import Source, elements, empty, multiprocessors
from kernels.launch.elements import BLOCK

__all__ = ["broadcast_to", "mean", "sum"]

SOURCE = Source(__package__, "sum.cu")
AHEAD = 16  # numbers that a thread loads before it adds them: enough under way (sum.cu)
RESIDENT = 2  # blocks with which a multiprocessor has enough under way
WAITS = 4  # times at least that a thread of a part loads so many


def sum(x, axes):
    """x summed over `axes` (a tuple of axes, each >= 0), which stay with length 1."""
    return added_up(x, axes, mean=False)


def mean(x, axes):
    """The mean of x over `axes`; otherwise as `sum`."""
    return added_up(x, axes, mean=True)


def added_up(x, axes, mean):
    """x summed over one run of neighbouring axes after the other, or its mean."""
    if not axes:
        return broadcast_to(x, x.shape)  # a copy by a kernel, so that it is in a graph
    for summed, run in groupby(range(x.ndim), key=lambda axis: axis in axes):
        if summed:
            x = sum_run(x, list(run), mean)
    return x


def sum_run(x, run, mean=False):
    """x summed over a run of neighbouring axes, or its mean: x is seen as (A,B,C), where B is all of them."""
    first, last = run[0], run[-1]
    a, b, c = prod(x.shape[:first]), prod(x.shape[first : last + 1]), prod(x.shape[last + 1 :])
    y = empty(x, (*x.shape[:first], *[1] * len(run), *x.shape[last + 1 :]))
    divisor = b if mean else 1
    parts = parts_of(a, b, c, multiprocessors(x))
    if parts == 1:
        launch(x, y, a, b, c, 1, divisor)
    else:
        partial = empty(x, (parts, a, c))
        launch(x, partial, a, b, c, parts, 1)
        launch(partial, y, 1, parts, a * c, 1, divisor)
    return y


def launch(x, y, a, b, c, parts, divisor):
    """y (parts,A,C), of x (A,B,C)."""
    columns = columns_of(b, c)
    grid = (a * -(-c // columns), parts)
    SOURCE.launch("sum", grid, (columns, BLOCK // columns), x, y, a, b, c, -(-b // parts), divisor, AHEAD=AHEAD)


def columns_of(b, c):
    """How many columns a block has. Eight threads, or fewer, share one, unless there are not so many columns."""
    threads = min(8, power_of_two(-(-b // AHEAD)))
    return min(BLOCK // threads, power_of_two(c))


def parts_of(a, b, c, multiprocessors):
    """In how many parts sums of b are made: blocks for all multiprocessors, unless their threads would have little."""
    columns = columns_of(b, c)
    blocks = a * -(-c // columns)
    return max(1, min(-(-RESIDENT * multiprocessors // blocks), b // (WAITS * AHEAD * (BLOCK // columns))))


def power_of_two(n):
    """The least that is n or more."""
    return 1 << (n - 1).bit_length()


def broadcast_to(x, shape):
    """x repeated to `shape` by NumPy's broadcasting, in memory of its own."""
    y = empty(x, shape)
    SOURCE.launch("broadcast_to", *elements(y.size), x, y, y.size, *walk(x.shape, y.shape), AHEAD=AHEAD)
    return y
