"""What the commands share: the device they run on, how they end, and what Ctrl-C means."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import kernels
from minigan.errors import UserError
from minigan.words import number_of, one_line

__all__ = ["Interrupt", "choose_device", "in_words", "run_command"]


def run_command(command: Callable[[], None]) -> None:
    """Run it. What cannot be done ends the program with one line on stderr and status 2.

    That is bad input, too much of it for the memory, and what the system refuses. Ctrl-C ends it with status 130. When
    nobody reads stdout any more, as behind `| head -1`, it ends with 141 and no word, as other programs do.
    """
    if sys.stdout is None:  # closed: who closed it wants to hear nothing
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    # In a log file too, a line is there when it is printed; and a name that stdout has no letters for can be told.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    try:
        command()
    except (UserError, kernels.DeviceError) as error:
        _fail(str(error))
    except MemoryError as error:
        asked = f" ({error})" if str(error) else ""
        _fail(f"the memory is at its end{asked}: take fewer pictures, or smaller ones")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to be flushed goes nowhere
        sys.exit(141)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{one_line(error)}")
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> None:
    print(f"minigan: error: {message}", file=sys.stderr)
    sys.exit(2)


def choose_device(
    name: str, conv: str = "auto", threads: int | None = None, precision: str = "auto"
) -> tuple[kernels.Device, str]:
    """The device of that name, and why it is this one. "auto" takes a GPU if this machine has one, else the CPU.

    conv, precision: how it convolves (see kernels.device); of precisions "auto" takes TF32 on a GPU that has it, else
    float32 where it can. threads: of the CPU; None leaves their number as it is.

    Raises kernels.DeviceError, which says what to install, if a device asked for by name cannot be had.
    """
    if threads is not None:
        from kernels.threads import use_threads  # not above: it brings Numba, which --help does not need

        use_threads(threads)
    why = "as asked"
    if name == "auto":
        try:
            kernels.device("cuda")
            name, why = "cuda", "a GPU was found"
        except kernels.DeviceError as error:
            missing = str(error).partition(" (")[0]  # "cuda: needs CuPy", without the remedy
            name, why = "cpu", f"{missing}; --device cuda says more"
    if precision == "auto":
        known = kernels.precisions(name, conv)
        precision = "tf32" if name == "cuda" and "tf32" in known else known[0]
    return kernels.device(name, conv, precision), why


def in_words(device: kernels.Device) -> str:
    """Its name, with the precision of its convolutions; for the CPU, with how many threads it has."""
    if device.name != "cpu":
        return f"{device.name}, {device.precision}"
    from kernels.threads import thread_count

    return f"cpu, {number_of(thread_count(), 'thread')}"


class Interrupt:
    """Inside `with Interrupt() as interrupt:` the first Ctrl-C, or SIGTERM, only sets `interrupt.asked`.

    What is under way can then be finished and saved. The second Ctrl-C stops at once.
    """

    asked = False

    def __enter__(self) -> Interrupt:
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for signal_number, handler in self._before.items():
            signal.signal(signal_number, handler)

    def _ask(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
