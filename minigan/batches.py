"""Batches of real pictures: in which order they come, and where they wait until their step.

Which pictures a step shows is a function of the seed and the step alone, so it is known before the step begins. A set
that is mapped from a file, and may be larger than the memory, is therefore read ahead: threads fetch the next steps'
pictures from the disk while this step is computed. Where a picture waits changes nothing in what the step sees.

The numbers of a step's pictures, and the pictures themselves where not all are on the device, are brought there between
the steps, into arrays that stay where they are: so a step can be captured once and repeated (kernels/launch/graph.py).
Python waits for a step only where it reads a result: else this step is still computed when Python turns to the next.
The pictures of the next, if they come from a file, are sent meanwhile: there is room for two steps', and they travel
into the half from which this step does not read.
"""

from __future__ import annotations

import functools
import mmap
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

import kernels
from minigan.autograd import Tensor
from minigan.options import Settings
from minigan.random import coins, permutation

__all__ = ["Ahead", "Batches", "read"]

SHARE = 0.5  # of the memory that is free on the device, which the pictures may take
AHEAD = 4  # steps whose pictures are fetched before it is their turn, each by a thread of its own


class Batches:
    """Real pictures, on the device: shuffled anew each epoch, each mirrored by a coin. A function of seed and step.

    images: uint8 (M,H,W,C). Mapped from a file, they are read ahead, and sent when it is their turn, unless the device
    has room for all of them; others are put on the device once and for all.
    Used as a context manager it ends the reading with the block.
    """

    def __init__(self, images: np.ndarray, settings: Settings, device: kernels.Device):
        self.settings, self.device = settings, device
        self.count = len(images)
        self.per_epoch = self.count // settings.batch_size  # what is left over sits this epoch out
        self.order = functools.lru_cache(2)(functools.partial(permutation, settings.seed, count=self.count))
        self.sorting = threading.Lock()  # of the threads that come to an epoch at once, one makes its order for all
        n = settings.batch_size
        if isinstance(images, np.memmap) and images.nbytes > SHARE * device.free_memory():
            self.ahead = Ahead(lambda step: read(images, self.indices(step)))
            self.images = device.array(np.zeros((2 * n, *images.shape[1:]), np.uint8))  # of two steps
            self.first = n  # where in `images` those begin that were sent last: at 0 and at n, in turn
            self.send = device.sender((n, *images.shape[1:]), np.uint8)
        else:
            self.ahead = None
            self.images = device.array(images)
        self.places = device.array(np.zeros(n, np.int32))  # in `images`, of the pictures of a step
        self.mirror = device.array(np.zeros(n, np.uint8))

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_) -> None:
        if self.ahead is not None:
            self.ahead.close()

    def indices(self, step: int) -> np.ndarray:
        """int32 (N,): the pictures of a step, counted from 0."""
        epoch, index = divmod(step, self.per_epoch)
        n = self.settings.batch_size
        with self.sorting:
            order = self.order(epoch)
        return order[index * n : (index + 1) * n]

    def turn_to(self, step: int) -> None:
        """From now on, `pictures` are those of that step, counted from 0.

        Raises
        ------
        Exception: whatever befell the thread that fetched them.
        """
        device = self.device
        if self.ahead is not None:
            n, pictures = self.settings.batch_size, self.ahead.fetched(step)
            self.first = n - self.first
            self.send(self.images[self.first : self.first + n], pictures)
            places = np.arange(self.first, self.first + n, dtype=np.int32)
        else:
            places = self.indices(step)
        device.copy(self.places, device.array(places))
        device.copy(self.mirror, device.array(coins(self.settings.seed, step, self.settings.batch_size)))

    def pictures(self) -> Tensor:
        """(batch_size,H,W,C) in [-1, 1]."""
        return Tensor(self.device.image_batch(self.images, self.places, self.mirror), self.device)

    def batch(self, step: int) -> Tensor:
        """The pictures of a step."""
        self.turn_to(step)
        return self.pictures()


def read(images: np.memmap, indices: np.ndarray) -> np.ndarray:
    """uint8 (N,H,W,C): the pictures (M,H,W,C) at indices (N,), out of a file that is mapped from its beginning.

    The system is told first which bytes will be needed. It fetches these at once; else it would wait for each in turn,
    and fetch the 128 KiB around it, which at random places of a set larger than memory are read for nothing.
    """
    size = images[0].nbytes
    if hasattr(mmap, "MADV_WILLNEED"):  # not on Windows
        for index in indices.tolist():
            start = images.offset + index * size
            page = start - start % mmap.PAGESIZE
            images.base.madvise(mmap.MADV_WILLNEED, page, start + size - page)
    return images[indices]


class Ahead:
    """What `fetch(step)` returns, called by threads before it is the step's turn. At most AHEAD + 1 are held."""

    def __init__(self, fetch: Callable[[int], np.ndarray]):
        self.fetch = fetch
        self.threads = ThreadPoolExecutor(AHEAD, thread_name_prefix="ahead")
        self.steps: dict[int, Future[np.ndarray]] = {}

    def fetched(self, step: int) -> np.ndarray:
        """The step's own; those of the steps after it are begun."""
        wanted = range(step, step + AHEAD + 1)
        for late in self.steps.keys() - wanted:
            self.steps.pop(late).cancel()
        for soon in wanted:
            if soon not in self.steps:
                self.steps[soon] = self.threads.submit(self.fetch, soon)
        return self.steps[step].result()

    def close(self) -> None:
        """Let the threads end; what nobody has begun to fetch is not fetched any more."""
        self.threads.shutdown(cancel_futures=True)
