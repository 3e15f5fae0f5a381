"""Which kernels of a step must wait for one another, as what they read and write tells.

A kernel comes after another if one of the two writes where the other reads or writes. All others may run at the same
time: the gradient at a layer's filters beside that at its input, D's look at real pictures beside its look at drawn
ones. A small network's kernels are too small for a GPU one by one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import NamedTuple

from kernels.launch.source import HOMES, Launch

__all__ = ["Order", "touched"]


def touched(launch: Launch, arguments: list) -> tuple[list[range], list[range]]:
    """The addresses that a launch reads, and those that it writes. What is `const` is read alone."""
    reads, writes = [], []
    for parameter, argument in zip(launch.source.kernels[launch.kernel], arguments, strict=True):
        for array in (argument if parameter.table else [argument]) if parameter.pointer else ():
            first = HOMES[type(array)].address(array)
            (reads if parameter.const else writes).append(range(first, first + array.nbytes))
    return reads, writes


class _Access(NamedTuple):
    place: range
    launch: int
    written: bool


class Order:
    """Launches, numbered from 0 as they are added, in an order in which they are right.

    before: of each launch, the launches that are over when it begins, as bits.
    """

    def __init__(self):
        self.before: list[int] = []
        self._accesses: list[_Access] = []  # that a launch to come may have to wait for

    def add(self, reads: Iterable[range], writes: Iterable[range]) -> list[int]:
        """The launches that the next one must wait for, the latest first; not those that these have waited for."""
        number, before, waits = len(self.before), 0, []
        accesses = [_Access(place, number, written=False) for place in reads]
        accesses += [_Access(place, number, written=True) for place in writes]
        met = {old.launch for new in accesses for old in self._accesses if _meet(old, new)}
        for earlier in sorted(met, reverse=True):
            if not before >> earlier & 1:
                waits.append(earlier)
                before |= self.before[earlier] | 1 << earlier
        self.before.append(before)
        # Whoever meets a place that is all written over meets who wrote it.
        self._accesses = [old for old in self._accesses if not any(_covers(new, old) for new in accesses)] + accesses
        return waits

    def shuffled(self, seed: int | None) -> list[int]:
        """All launches, each after those that it must wait for: drawn by the seed; without one, as they were added."""
        if seed is None:
            return list(range(len(self.before)))
        rng, done, drawn = random.Random(seed), 0, []
        while len(drawn) < len(self.before):
            ready = [n for n, before in enumerate(self.before) if not done >> n & 1 and before & ~done == 0]
            drawn.append(rng.choice(ready))
            done |= 1 << drawn[-1]
        return drawn


def _meet(a: _Access, b: _Access) -> bool:
    return (a.written or b.written) and a.place.start < b.place.stop and b.place.start < a.place.stop


def _covers(new: _Access, old: _Access) -> bool:
    return new.written and new.place.start <= old.place.start and old.place.stop <= new.place.stop
