"""One call of a kernel on a device on which anything may go wrong: checked and timed, or said why not.

A kernel that does not compile, that fails or whose result is wrong costs its own row and no other. On a GPU a kernel
that reads where nothing is spoils the process it runs in, and one that never ends holds it: so ours and the peer's live
in processes of their own, which are replaced when they are spoilt, and have so many seconds for a call.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import kernels
from benchmarks import race
from benchmarks.calls import Call, arrays, computation, on_host, recorder, to
from benchmarks.clocks import CLOCKS
from benchmarks.contest import Contestant, Ended
from benchmarks.part import Part, part
from kernels.launch import recording

__all__ = ["Entrant", "Task", "Trials", "Variant", "minigan_player", "torch_player"]

WARM_UP = 2  # calls that are not timed, after the one whose result is checked
AWAKE = 0.03  # seconds that they take at least: a GPU that had nothing to do meanwhile raises its clock again
LONG = 1.0  # seconds: a call that takes longer for all rounds is timed in fewer of them, but in FEWEST at least
FEWEST = 3
LIMIT = 40.0  # seconds for everything that is done with a call: compile, compute, check, time
LEAST = 5.0  # seconds that a call has, however late it is
MESSAGE = 500  # letters of an error
STRIKES = 2  # processes that a kernel may spoil before it is not tried any more

TABLED = recorder()  # knows the shapes of results


class Variant(NamedTuple):
    """How a kernel is computed, where it can be in more than one way: see `kernels.device`."""

    precision: str = "fp32"
    conv: str = "auto"


class Task(NamedTuple):
    """A call, the part of it that is checked, and that part's results in float64."""

    call: Call
    checked: Part
    right: list


# ---- in the process of its own ---------------------------------------------------------------------------------------


class Player:
    """Checks and times a call in every way it has.

    ways: (call, variant) -> functions without arguments, by name. results: (call, what such a function returned) -> a
    list of arrays of the host. clock: one of `benchmarks.clocks`.
    """

    def __init__(self, ways: Callable, results: Callable, clock):
        self.ways, self.results, self.clock = ways, results, clock
        self.task: Task | None = None

    def __call__(self, task: Task | None, variant: Variant, rounds: int) -> tuple[dict, bool]:
        """By way: the seconds of its calls, and its error relative to its bound; or why there are none.

        And whether the process is fit for another call. task: None is the one before, in another variant. (Half a
        gigabyte of arrays takes a second or two to come here.)
        """
        self.task = task or self.task
        call, checked, right = self.task
        outcomes = {}
        for way, compute in self.ways(call, variant).items():
            try:
                found = checked.of(self.results(call, compute()))
                error = race.check(checked.call, {way: found}, right, variant.precision)[way]
                outcomes[way] = {"seconds": self._seconds(compute, rounds), "error": error}
            except Exception as error:  # whatever it is: it is written down, and the others go on
                outcomes[way] = {"failed": in_short(error)}
        return outcomes, self._fit()

    def _seconds(self, compute: Callable, rounds: int) -> list[float]:
        calls, begun = 0, time.perf_counter()
        while calls < WARM_UP or time.perf_counter() - begun < AWAKE:
            self.clock.seconds(compute)
            calls += 1
        seconds, begun = [], time.perf_counter()
        while len(seconds) < rounds and (len(seconds) < FEWEST or time.perf_counter() - begun < LONG):
            seconds.append(self.clock.seconds(compute))
        return seconds

    def _fit(self) -> bool:
        """A GPU that has met a forbidden address answers everything with that error until its process ends."""
        try:
            self.clock.wait()
        except Exception:
            return False
        return True


def in_short(error: Exception) -> str:
    """The error in a few lines: a compiler may have said more than anyone reads in a table."""
    return f"{type(error).__name__}: {error}"[:MESSAGE]


def minigan_player(device: str) -> Player:
    """Ours, on the device of that name."""

    def ways(call: Call, variant: Variant) -> dict[str, Callable]:
        chosen = kernels.device(device, variant.conv, variant.precision)
        return {"minigan": computation(chosen, call)}

    def results(_, returned) -> list[np.ndarray]:
        return on_host(kernels.device(device), returned)

    return Player(ways, results, CLOCKS["minigan", device]())


def torch_player(device: str) -> Player:
    """PyTorch, in each of its layouts, with its libraries' fastest algorithms."""
    import torch  # here and nowhere above: PyTorch is only a peer

    from benchmarks import torch_kernels
    from benchmarks.torch_precision import use

    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True

    def ways(call: Call, variant: Variant) -> dict[str, Callable]:
        dtype = use(variant.precision)
        return torch_kernels.prepared(call.kernel, call.arguments, device, dtype)

    return Player(ways, lambda call, found: torch_kernels.results(call.kernel, found), CLOCKS["torch", device]())


# ---- in the command's process ----------------------------------------------------------------------------------------


class Entrant:
    """A contestant that has a new process when it has spoilt the last one.

    spoilt: how many processes each kernel has, in each of its variants.
    """

    def __init__(self, name: str, make: Callable[..., Callable], *arguments):
        self.name, self._make = name, (make, *arguments)
        self.spoilt = Counter()
        self._contestant = self._sent = None

    def outcomes(self, task: Task, variant: Variant, rounds: int, limit: float) -> dict[str, dict]:
        """What `Player` says of the task, in so many seconds."""
        kind = task.call.kernel, variant
        if self.spoilt[kind] == STRIKES:
            return {self.name: {"failed": f"not tried: {STRIKES} calls before it have spoilt their process"}}
        if self._contestant is None:
            self._contestant = Contestant(self.name, *self._make)
        sent, self._sent = self._sent, task
        try:
            order = None if task is sent else task, variant, rounds
            outcomes, fit = self._contestant.turn(*order, pause=0, limit=limit)
        except Ended as error:
            outcomes, fit = {self.name: {"failed": in_short(error)}}, False
        if not fit:
            self.spoilt[kind] += 1
            self.close()
        return outcomes

    def close(self) -> None:
        """The end of its process, if it has one."""
        if self._contestant:
            self._contestant.close()
            self._contestant = self._sent = None


class Trials:
    """Every call in every variant, once.

    entrants: ours, and the peer if there is one. limits: see `gpu_ceilings`. seconds: () -> those that are left.
    """

    def __init__(self, entrants: list[Entrant], limits: dict[str, float], rounds: int, seconds: Callable[[], float]):
        self.entrants, self.limits, self.rounds, self.seconds = entrants, limits, rounds, seconds
        self._rows: dict[tuple, dict] = {}  # by the call's key and the variant: what equal calls take is measured once
        self._right: tuple = ()

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return self.seconds() <= 0

    def row(self, call: Call, variant: Variant) -> dict:
        """All that is known of a call in the end, as the JSON has it."""
        key = call.key(), variant
        if key not in self._rows:
            self._rows[key] = self._measured(call, variant)
        return self._rows[key]

    def _measured(self, call: Call, variant: Variant) -> dict:
        results, task = self._definition(call)
        right, ways = task.right, {}
        for entrant in self.entrants:
            limit = min(LIMIT, max(LEAST, self.seconds()))
            ways |= entrant.outcomes(task, variant, self.rounds, limit=limit)
        return {
            **variant._asdict(),
            "pending": call.pending(),  # of the given, those that the kernel normalises or rectifies as it reads them
            "checked": sum(r.size for r in right if r is not None) / sum(r.size for r in results if r is not None),
            **race.row(call, results, ways, self.limits, variant.precision),
        }

    def _definition(self, call: Call) -> tuple[list, Task]:
        """Arrays of the shapes of the results, and the task.

        Those of the call before are kept: it comes again in another variant.
        """
        if not self._right or self._right[0] is not call:
            results = outline(call)
            checked = part(call, results)
            right = race.exact(checked.call)
            results = [r if b is not None else None for r, b in zip(results, right, strict=True)]
            self._right = call, (results, Task(call, checked, right))
        return self._right[1]


def outline(call: Call) -> list[np.ndarray]:
    """Arrays of the shapes of the call's results, which hold nothing; of a kernel in place those that it is given."""
    with recording():
        returned = getattr(TABLED, call.kernel)(*(to(TABLED, a) for a in call.arguments))
    return arrays(call.arguments if returned is None else returned)
