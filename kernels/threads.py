"""How the CPU's kernels share the cores.

A kernel of `cpu.py` is compiled for one thread and told which part of the work is its own, `kernel(first, last, ...)`.
It holds no lock of Python's while it computes, so a few ordinary threads run it side by side:

    share(kernel, count, *arguments)        the parts of range(count), by whichever thread is free

Every index is computed in the same way whoever has it, so the result does not depend on the number of threads. Threads
that wait are asleep, and the BLAS is held to the thread that calls it: pools of threads that spin while they wait, one
of Numba's beside one of the BLAS's, take the cores from each other.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import itertools
import os
import queue
import threading
from collections.abc import Callable

import numba
from threadpoolctl import threadpool_limits

__all__ = ["compiled", "cpus", "share", "thread_count", "use_threads"]

NAME = "minigan kernel"  # of the threads
PARTS = 4  # for each thread: whoever is held up leaves the rest of its share to the others

# Compiled at the first call for its argument types, then kept on disk. Divisions are not checked, as in NumPy, so that
# several can be done side by side. `fastmath` stays off: no reordered sums, so that a result does not depend on the
# machine.
compiled = functools.partial(numba.njit, cache=True, nogil=True, error_model="numpy")


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Team:
    """The thread that calls, and its helpers."""

    def __init__(self, count: int):
        self.count = count
        self.calls = queue.SimpleQueue()  # (work, where to put the answer), or None: it is time to leave
        self.turn = threading.Lock()  # one call of `share` at a time
        for _ in range(count - 1):
            threading.Thread(target=self._help, name=NAME, daemon=True).start()

    def _help(self) -> None:
        for work, answers in iter(self.calls.get, None):
            answers.put(_attempt(work))

    def work(self, work: Callable[[], None]) -> None:
        """`work()` in every thread; raises what one of them raises."""
        answers = queue.SimpleQueue()  # of this call alone: Ctrl-C may end it before the last one has come
        with self.turn:
            for _ in range(self.count - 1):
                self.calls.put((functools.partial(contextvars.copy_context().run, work), answers))  # with its errstate
            failures = [_attempt(work), *(answers.get() for _ in range(self.count - 1))]
        for failure in filter(None, failures):
            raise failure

    def leave(self) -> None:
        """The helpers end."""
        for _ in range(self.count - 1):
            self.calls.put(None)


def _attempt(work: Callable[[], None]) -> BaseException | None:
    try:
        work()
    except BaseException as failure:
        return failure
    return None


_team: Team | None = None


def use_threads(count: int) -> None:
    """From now on the kernels of the CPU run on `count` threads; at first, on as many as the process may use CPUs."""
    global _team
    if _team:
        _team.leave()
    threadpool_limits(1, "blas")
    _team = Team(count)


def thread_count() -> int:
    """On how many threads they run."""
    return _the_team().count


def _the_team() -> Team:
    if _team is None:
        use_threads(cpus())
    return _team


def _forget() -> None:
    global _team
    _team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # a child has none of its parent's threads


def share(kernel: Callable, count: int, *arguments, grain: int = 1) -> None:
    """kernel(first, last, *arguments) for parts [first, last) that cover range(count).

    grain: indices that are too little work for two threads.
    """
    team = _the_team()
    if team.count == 1 or count <= grain:
        kernel(0, count, *arguments)
        return
    parts = min(-(-count // grain), PARTS * team.count)
    bounds = [count * part // parts for part in range(parts + 1)]
    waiting = collections.deque(itertools.pairwise(bounds))

    def work() -> None:
        while True:
            try:
                first, last = waiting.popleft()
            except IndexError:
                return
            kernel(first, last, *arguments)

    team.work(work)
