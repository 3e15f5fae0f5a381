"""How long a call takes, on the host and on a GPU: before every call the caches are filled with something else.

A clock measures one call (`seconds`) and waits for the work that was started (`wait`). On a GPU a call returns when its
kernels are queued, so the GPU itself notes the time before and after them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np

from benchmarks.machine import caches
from kernels.memory import peak_memory

__all__ = ["CLOCKS", "CupyClock", "HostClock", "TorchClock"]

FLUSHED = 1 << 30  # bytes: many times any GPU's cache, and written in about 0.3 ms where memory takes 4 TB/s
FILLS = 1, 2, 4, 8, 16  # how often; not for ever, since a call that itself waits for the GPU is never queued in time


class HostClock:
    """The host's clock, and a buffer twice the size of the cache that the cores share, read from end to end."""

    @functools.cached_property
    def cold(self) -> np.ndarray:
        """What fills the caches; only who times single calls has it."""
        return np.ones(2 * caches() // 4, np.float32)

    def seconds(self, compute: Callable) -> float:
        """Of one call."""
        self.cold.max()
        start = time.perf_counter()
        result = compute()
        seconds = time.perf_counter() - start
        del result  # not before: to take memory back is no part of the call
        return seconds

    def wait(self) -> None:
        """Nothing: a call on the host is over when it returns."""

    def memory(self) -> int:
        """The most bytes that this process has held."""
        return peak_memory()

    def forget(self) -> None:
        """Nothing: what a process has held stays counted."""


class EventClock:
    """The GPU's: an event in its stream before the call's kernels and one after them.

    All of it is queued while the GPU still fills its cache: so its kernels stand in line when their turn comes, and
    Python's own time is no part of theirs. How long Python takes depends on the call and on the host. If the first
    event is over when the second one is queued, Python was too slow: the call is timed again, with twice the filling.
    """

    def seconds(self, compute: Callable) -> float:
        """Of one call."""
        for times in FILLS:
            start, end = self.event(), self.event()
            for _ in range(times):
                self.fill()
            start.record()
            result = compute()
            end.record()
            in_line = not self.is_over(start)
            end.synchronize()
            del result
            if in_line:
                break
        return self.milliseconds(start, end) / 1e3


class CupyClock(EventClock):
    """CuPy's events, for our kernels."""

    def __init__(self):
        import cupy  # here and not above: not every machine has it

        self.cupy, self.event, self.milliseconds = cupy, cupy.cuda.Event, cupy.cuda.get_elapsed_time

    @functools.cached_property
    def cold(self):
        """What fills the cache; only who times single calls has it."""
        return self.cupy.empty(FLUSHED, self.cupy.uint8)

    def fill(self) -> None:
        self.cold.data.memset_async(0, self.cold.nbytes)

    def is_over(self, event) -> bool:
        return event.done

    def wait(self) -> None:
        """Until the GPU has done all. Raises what one of its kernels has done wrong."""
        self.cupy.cuda.runtime.deviceSynchronize()


class TorchClock(EventClock):
    """PyTorch's events, for PyTorch's kernels."""

    def __init__(self):
        import torch  # here and not above: PyTorch is only a peer

        self.torch, self.cuda = torch, torch.cuda
        self.event = functools.partial(torch.cuda.Event, enable_timing=True)
        self.milliseconds = torch.cuda.Event.elapsed_time

    @functools.cached_property
    def cold(self):
        """What fills the cache; only who times single calls has it."""
        return self.torch.empty(FLUSHED, dtype=self.torch.uint8, device="cuda")

    def fill(self) -> None:
        self.cold.zero_()

    def is_over(self, event) -> bool:
        return event.query()

    def wait(self) -> None:
        self.cuda.synchronize()

    def memory(self) -> int:
        """The most bytes that its allocator has held of the driver's, since `forget`."""
        return self.cuda.max_memory_reserved()

    def forget(self) -> None:
        """Give back what is not in use, and count anew: trying algorithms takes memory that later steps do not."""
        self.cuda.empty_cache()
        self.cuda.reset_peak_memory_stats()


# By who computes, and where.
CLOCKS = {
    ("minigan", "cuda"): CupyClock,
    ("minigan", "emulated"): HostClock,
    ("minigan", "cpu"): HostClock,
    ("torch", "cuda"): TorchClock,
    ("torch", "cpu"): HostClock,
}
