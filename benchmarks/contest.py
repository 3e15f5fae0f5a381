"""A fair race: each contestant in a process of its own, and only one at work at a time."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable

from kernels.memory import peak_memory
from minigan.errors import UserError

__all__ = ["Contestant", "use_threads"]

PAUSE = 0.1  # seconds before a turn: a pool of threads may spin a while after its work before it sleeps


def use_threads(count: int) -> None:
    """How many threads BLAS and OpenMP have in contestants that start from now on: they read it as they load.

    Kernels of ours do not ask them: whoever calls those says it to `kernels.threads` as well.
    """
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = str(count)


class Contestant:
    """Whoever `make(*arguments)` returns, a function, called in a process of its own.

    In one process the threads of one library would still spin, waiting for more work, when it is the other's turn, and
    the memory of the two could not be told apart. Here the others wait at the end of a pipe, asleep.

    name: for messages and tables. seconds: what each turn took. memory: the most its process has held, in bytes.
    """

    def __init__(self, name: str, make: Callable[..., Callable], *arguments):
        self.name, self.seconds, self.memory = name, [], 0
        context = multiprocessing.get_context("spawn")  # a fresh interpreter: a forked one has its parent's libraries
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def turn(self, *arguments, pause: float = PAUSE):
        """One call, timed where it happens; returns what it returns.

        Raises UserError where the process has ended instead.
        """
        time.sleep(pause)
        try:
            self._pipe.send(arguments)
            seconds, self.memory, result = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise UserError(f"{self.name}: its process has ended; the reason stands above") from None
        self.seconds.append(seconds)
        return result

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_) -> None:
        self._pipe.close()
        self._process.join()


def _serve(pipe, make: Callable[..., Callable], arguments: tuple) -> None:
    """The life of a contestant's process: a turn for each message, until the pipe is closed."""
    play = make(*arguments)
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        start = time.perf_counter()
        result = play(*arguments)
        pipe.send((time.perf_counter() - start, peak_memory(), result))
