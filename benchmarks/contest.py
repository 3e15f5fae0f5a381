"""A fair race: each contestant in a process of its own, and only one at work at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable

from kernels.memory import peak_memory
from minigan.errors import UserError

__all__ = ["Contestant", "Ended", "use_threads"]

PAUSE = 0.1  # seconds before a turn: a pool of threads may spin a while after its work before it sleeps
GRACE = 10.0  # seconds that a process has to end by itself


class Ended(UserError):
    """A contestant's process is no more: it failed, or was too slow."""


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

    def turn(self, *arguments, pause: float = PAUSE, limit: float | None = None):
        """One call, timed where it happens; returns what it returns. limit: seconds that it may take; None: any.

        Raises Ended where the process has ended instead, or is ended because the limit is over.
        """
        time.sleep(pause)
        self.ask(*arguments)
        return self.answer(limit)

    def ask(self, *arguments) -> None:
        """Begin a turn and do not wait for it: others may be asked before the first one answers."""
        with contextlib.suppress(OSError):  # a process that has ended has said why, which is the answer
            self._pipe.send(arguments)

    def answer(self, limit: float | None = None):
        """The end of the turn that was asked for, as `turn` has it."""
        try:
            if not self._pipe.poll(limit):
                self._process.kill()
                raise Ended(f"{self.name}: no answer in {limit:.0f} seconds: its process was ended")
            seconds, self.memory, result = self._pipe.recv()
        except (EOFError, OSError):  # the other end of the pipe is gone, and nothing was said
            self._process.join(GRACE)
            raise Ended(f"{self.name}: its process has ended, with status {self._process.exitcode}") from None
        if seconds is None:
            raise Ended(f"{self.name}: its process has ended: {result}")
        self.seconds.append(seconds)
        return result

    def dismiss(self) -> None:
        """It may go: its process ends by itself, and nobody waits for it yet."""
        self._pipe.close()

    def close(self) -> None:
        """Wait for the end of its process, and end one that does not listen."""
        self.dismiss()
        self._process.join(GRACE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _serve(pipe, make: Callable[..., Callable], arguments: tuple) -> None:
    """The life of a contestant's process: a turn for each message, until the pipe is closed.

    Where it fails, why in one line and then its traceback are its last answer.
    """
    try:
        play = make(*arguments)
        while True:
            try:
                arguments = pipe.recv()
            except EOFError:
                return
            start = time.perf_counter()
            result = play(*arguments)
            pipe.send((time.perf_counter() - start, peak_memory(), result))
    except Exception as error:
        pipe.send((None, 0, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
        sys.exit(1)
