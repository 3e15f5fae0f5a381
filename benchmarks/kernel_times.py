"""Where a step's time goes: a device whose kernels carry stopwatches."""

from __future__ import annotations

import time
from collections.abc import Callable

import kernels
from benchmarks.watch import watched

__all__ = ["timed"]


def timed(device: kernels.Device, times: dict[str, tuple[int, float]]) -> kernels.Device:
    """The same device, which keeps in `times` how often each kernel was called and how many seconds that took.

    For devices of the host: a GPU is still at work when a launch returns.
    """

    def stopwatch(name: str, kernel: Callable) -> Callable:
        def call(*arguments):
            start = time.perf_counter()
            result = kernel(*arguments)
            calls, seconds = times.get(name, (0, 0.0))
            times[name] = calls + 1, seconds + time.perf_counter() - start
            return result

        return call

    return watched(device, stopwatch)
