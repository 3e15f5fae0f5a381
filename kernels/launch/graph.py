"""A step of kernels that is captured once and then repeated: a CUDA graph, and on the host what one does.

A graph is all launches of a step as they were made once, with their grids, their numbers and the addresses of their
arrays. It is started as a whole, and Python, which would take longer to start a small kernel than the kernel takes, has
no part in it any more. So a step that is repeated decides nothing and brings nothing. What differs from step to step,
a count, a random counter, which pictures, is in arrays that stay where they are, and that kernels change or that are
filled between the steps.

Kernels that need not wait for one another need not keep the order in which they were written (`order`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

from kernels.launch import host
from kernels.launch.order import Order, touched
from kernels.launch.source import intercepted

__all__ = ["Graph", "HostGraph", "between_steps"]

_capturing = False


@contextlib.contextmanager
def _capture() -> Iterator[None]:
    global _capturing
    _capturing = True
    try:
        yield
    finally:
        _capturing = False


def between_steps(move: Callable) -> Callable:
    """A function that moves arrays between host and device, refused while a step is captured: who would repeat it?"""

    @functools.wraps(move)
    def checked(*arguments):
        if _capturing:
            raise RuntimeError(
                f"{move.__name__}: a captured step launches kernels and nothing else: move arrays between steps"
            )
        return move(*arguments)

    return checked


class Graph:
    """Called as `step` is, and with the same results: the arrays of the capture, with new values at each call.

    The first call runs the step as it is written: that compiles and loads its kernels, and brings its memory together.
    The second captures it, and is the first that repeats it.
    """

    def __init__(self, step: Callable):
        self.step = step
        self.warm = False
        self.result, self.repeat = None, None  # of the capture: what `step` returned, and what runs its kernels

    def __call__(self):
        if not self.warm:
            with self.arena():
                result = self.step()
            self.warm = True
            return result
        if self.repeat is None:
            with self.arena(), _capture():
                self.result, self.repeat = self.capture()
        self.repeat()
        return self.result

    def arena(self) -> contextlib.AbstractContextManager:
        """Where the step's arrays are made. What is free in there stays its own: a repeated step writes it again."""
        raise NotImplementedError

    def capture(self) -> tuple[object, Callable[[], None]]:
        """What the step returns, none of its kernels having run, and a function that runs them all."""
        raise NotImplementedError


class HostGraph(Graph):
    """On the host: a list of launches, each of which holds its arrays. Shuffled as the emulation's `order` says."""

    def arena(self):
        return contextlib.nullcontext()

    def capture(self):
        order, launches = Order(), []

        def take(launch, arguments, run):
            order.add(*touched(launch, arguments))
            launches.append(run)

        with intercepted(take):
            result = self.step()

        def repeat() -> None:
            for number in order.shuffled(host.order()):
                launches[number]()

        return result, repeat
