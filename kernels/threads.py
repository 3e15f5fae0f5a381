"""How the CPU's kernels share the cores.

A kernel of `cpu.py` is compiled for one thread and told which part of the work is its own, `kernel(first, last, ...)`.
It holds no lock of Python's while it computes, so a few ordinary threads run it side by side:

    share(kernel, count, *arguments)        the parts of range(count), by whichever thread is free

Every index is computed in the same way whoever has it, so the result does not depend on the number of threads. Threads
that wait are asleep, and the BLAS is held to the thread that calls it, if threadpoolctl knows it: pools of threads
that spin while they wait, one of Numba's beside one of the BLAS's, take the cores from each other.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import hashlib
import itertools
import os
import queue
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numba
import platformdirs
from threadpoolctl import threadpool_limits

from kernels import DeviceError

__all__ = ["compiled", "cpus", "share", "thread_count", "use_threads"]

NAME = "minigan kernel"  # of the threads
PARTS = 4  # for each thread: whoever is held up leaves the rest of its share to the others


def _cache() -> Path:
    """Where machine code is kept: a folder for each state of the sources in here.

    Numba looks whether a kernel's own file has changed, but not at what it takes from others: an instruction of
    lanes.py, a constant. So whoever edits any of them gets all kernels compiled anew.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return platformdirs.user_cache_path("minigan") / "numba" / digest.hexdigest()[:16]


def _use_cache() -> None:
    """Numba keeps machine code there, unless NUMBA_CACHE_DIR says otherwise.

    Raises
    ------
    DeviceError: no file can be written there.
    """
    if numba.config.CACHE_DIR:
        return
    folder = _cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        remedy = "set XDG_CACHE_HOME to a folder that can be written"
        raise DeviceError(f"cpu: {folder}: cannot hold compiled kernels ({error.strerror}): {remedy}") from error
    numba.config.CACHE_DIR = str(folder)


_use_cache()

# Compiled at the first call for its argument types, then kept on disk. Divisions are not checked, as in NumPy, so that
# several can be done side by side. `fastmath` stays off: no sum is reordered.
compiled = functools.partial(numba.njit, cache=True, nogil=True, error_model="numpy")


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Team:
    """The thread that calls, and its helpers.

    count: threads, the caller's with them.
    """

    def __init__(self, count: int):
        self.count = count
        self.helpers = count - 1
        self.calls = queue.SimpleQueue()  # (work, where to put the answer), or None: it is time to leave
        self.turn = threading.Lock()  # one call of `share` at a time
        for _ in range(self.helpers):
            threading.Thread(target=self._help, name=NAME, daemon=True).start()

    def _help(self) -> None:
        while (call := self.calls.get()) is not None:
            work, answers = call
            answer = _attempt(work)
            del call, work  # the arrays it has worked on: they would stay until the next call
            answers.put(answer)
            del answer, answers

    def work(self, work: Callable[[], None]) -> None:
        """`work()` in every thread; raises what one of them raises."""
        answers = queue.SimpleQueue()  # of this call alone: Ctrl-C may end it before the last one has come
        with self.turn:
            for _ in range(self.helpers):
                self.calls.put((functools.partial(contextvars.copy_context().run, work), answers))  # with its errstate
            failures = [_attempt(work), *(answers.get() for _ in range(self.helpers))]
        for failure in filter(None, failures):
            raise failure

    def leave(self) -> None:
        """The helpers end, when they have done what they are at; whoever still calls this team works alone."""
        with self.turn:
            for _ in range(self.helpers):
                self.calls.put(None)
            self.helpers = 0


def _attempt(work: Callable[[], None]) -> BaseException | None:
    try:
        work()
    except BaseException as failure:
        return failure
    return None


_team: Team | None = None
_choosing = threading.RLock()  # one team
_part = threading.local()  # `running` in a thread that is in a part


def use_threads(count: int) -> None:
    """From now on the kernels of the CPU run on `count` threads; at first, on as many as the process may use CPUs."""
    global _team
    with _choosing:
        before, _team = _team, Team(count)
        threadpool_limits(1, "blas")
    if before:
        before.leave()


def thread_count() -> int:
    """On how many threads they run."""
    return _the_team().count


def _the_team() -> Team:
    with _choosing:
        if _team is None:
            use_threads(cpus())
        return _team


def _start_again() -> None:
    """In a forked child, which has none of its parent's threads."""
    global _team, _choosing
    _choosing = threading.RLock()
    if _team:
        _team = Team(_team.count)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_again)


def share(kernel: Callable, count: int, *arguments, grain: int = 1) -> None:
    """kernel(first, last, *arguments) for parts [first, last) that cover range(count).

    grain: indices that are too little work for two threads. What a kernel shares in its turn, its own thread does.
    """
    team = _the_team()
    if team.count == 1 or count <= grain or getattr(_part, "running", False):
        kernel(0, count, *arguments)
        return
    parts = min(-(-count // grain), PARTS * team.count)
    bounds = [count * part // parts for part in range(parts + 1)]
    waiting = collections.deque(itertools.pairwise(bounds))

    def work() -> None:
        _part.running = True
        try:
            while True:
                try:
                    first, last = waiting.popleft()
                except IndexError:
                    return
                kernel(first, last, *arguments)
        finally:
            _part.running = False

    team.work(work)
