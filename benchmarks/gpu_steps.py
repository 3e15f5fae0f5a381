"""Whole training steps on a GPU: ours and PyTorch's in every way it has, in every precision.

Each contestant has a process of its own. As many as the card has memory for compile and warm up at the same time; then
they play in turn, several steps at a time without waiting for any but the last, as a training does. The first step's
losses must be those of the CPU, whose kernels are tested against the definition: who plays another game is not timed.
All draw z anew for each step, on the device, and meet one batch of real pictures that is there already.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

import kernels
from benchmarks import work
from benchmarks.contest import Contestant
from benchmarks.train_step import agreement, first_networks, loss_bound, real_batch
from minigan.autograd import Tensor
from minigan.errors import UserError
from minigan.models import PRESETS, sample_z
from minigan.options import Settings
from minigan.random import Random
from minigan.table import step_multiply_adds
from minigan.train import Game

__all__ = ["PEERS", "Entry", "entries", "measure"]

CAPTURED = ("graph", "graph, channels_last")  # by CUDA
COMPILED = "compile"
PEERS = ("eager", "channels_last", COMPILED, *CAPTURED)
WARM_UP = 5  # steps after the first: memory is found, and graphs are captured
TURN = 0.1  # seconds that a turn should take
FEW, MANY = 3, 200  # steps in a turn
CONTEXT, PIXEL = 2 << 30, 10 << 10  # bytes of the card, reckoned for a contestant and for each pixel of its batch
WARMING = 0.6  # of a heat's time, until all must have warmed up
LEAST = 2.0  # seconds that an answer is waited for, however late it is


class Entry(NamedTuple):
    """Who plays: `way` is how its kernels are started."""

    player: str  # minigan or torch
    way: str
    precision: str


def entries(device: str, precisions: tuple[str, ...], peer: str) -> list[Entry]:
    """All who play on a device, precision after precision. peer: torch or none."""
    ours = ("graph", "no graph") if kernels.device(device).graph else ("no graph",)
    theirs = [way for way in PEERS if device == "cuda" or way not in CAPTURED] if peer == "torch" else []
    ways = [("minigan", way) for way in ours] + [("torch", way) for way in theirs]
    return [Entry(*way, precision) for precision in precisions for way in ways]


# ---- in the process of its own ---------------------------------------------------------------------------------------


class MiniganSteps:
    """Plays on one of our devices."""

    def __init__(self, settings: Settings, way: str, precision: str):
        self.device = kernels.device(settings.device, settings.conv, precision)
        game = Game(settings, self.device)
        step = functools.partial(game.step, Tensor(self.device.array(real_batch(settings)), self.device))
        self.step = self.device.graph(step) if way == "graph" else step

    def __call__(self, order: str, *arguments):
        return getattr(self, order)(*arguments)

    def first(self, z: np.ndarray, warm_up: int) -> dict[str, float]:
        """The scores of the first step, whose z is drawn here and is the same. Then so many steps to warm up."""
        scores = {name: score.item() for name, score in self.step().items()}
        self.time(warm_up)
        return scores

    def time(self, count: int) -> None:
        """So many steps, one after the other. A score is read from the last: that waits for all."""
        for _ in range(count):
            scores = self.step()
        scores["g_loss"].item()

    def memory(self) -> int:
        """The bytes that were held at most."""
        return self.device.memory()


def torch_steps(settings: Settings, way: str, precision: str) -> Callable:
    """PyTorch's player, who takes the same orders."""
    from benchmarks.torch_steps import TorchSteps  # here and nowhere above: PyTorch is only a peer

    return TorchSteps(settings, way, precision)


# ---- in the command's process ----------------------------------------------------------------------------------------


class Seat:
    """A contestant, and what becomes of it: who does something wrong is out, and it is written down.

    outcome: for the JSON.
    """

    def __init__(self, entry: Entry, settings: Settings):
        self.entry, self.outcome = entry, {}
        self.steps, self.seconds = FEW, []
        make = {"minigan": MiniganSteps, "torch": torch_steps}[entry.player]
        self.contestant = Contestant(" ".join(entry), make, settings, entry.way, entry.precision)

    @property
    def out(self) -> bool:
        """Whether it plays no more."""
        return "failed" in self.outcome

    def ask(self, *order) -> None:
        """Begin a turn."""
        self._try(self.contestant.ask, *order)

    def answer(self, until: float):
        """The end of the turn. until: by the clock of `time.perf_counter`."""
        return self._try(self.contestant.answer, max(LEAST, until - time.perf_counter()))

    def play(self, until: float) -> None:
        """A turn of `steps` steps, timed; after the first one they are as many as take a while."""
        self.ask("time", self.steps)
        self.answer(until)
        if not self.out:
            self.seconds.append(self.contestant.seconds[-1] / self.steps)
            self.steps = self.steps if self.seconds[1:] else round(min(max(TURN / self.seconds[0], FEW), MANY))

    def check(self, scores: dict[str, float] | None, right: dict[str, float], allowed: float) -> None:
        """Who plays another game is out."""
        both = {"minigan": right, self.contestant.name: scores}
        self.outcome["agreement"] = self._try(agreement, both, allowed)

    def _try(self, action: Callable, *arguments):
        """What it returns; None from one that is out, or goes out now."""
        if not self.out:
            try:
                return action(*arguments)
            except UserError as error:
                self.outcome["failed"] = str(error)
        return None


def measure(settings: Settings, everyone: list[Entry], rounds: int, seconds: float, memory: int) -> Iterator[dict]:
    """A row for each entry, as soon as it is known.

    seconds: that are left for all. memory: the card's, in bytes.
    """
    end = time.perf_counter() + seconds
    z, right = first_step(settings)
    game = {
        "preset": settings.preset,
        "batch_size": settings.batch_size,
        "gflop": 2e-9 * settings.batch_size * step_multiply_adds(first_networks(settings)),
    }
    pixels = settings.batch_size * settings.size**2
    together = max(1, memory // (CONTEXT + PIXEL * pixels))
    heats = [everyone[start : start + together] for start in range(0, len(everyone), together)]
    for number, heat in enumerate(heats):
        now = time.perf_counter()
        until = now + (end - now) / (len(heats) - number)
        for seat in heat_of(settings, heat, z, right, rounds, until):
            yield {**game, **seat.entry._asdict(), **seat.outcome}


def heat_of(
    settings: Settings, heat: list[Entry], z: np.ndarray, right: dict[str, float], rounds: int, until: float
) -> list[Seat]:
    """Each warms up in turn, and then all play, round after round.

    PyTorch tries out its library's algorithms as it warms up: it would choose wrongly while others play. But compilers
    are slow and need the GPU only at the end: they begin before all others, and are waited for at last.
    """
    with contextlib.ExitStack() as stack:
        seats = [Seat(entry, settings) for entry in heat]
        for seat in seats:
            stack.enter_context(seat.contestant)  # all processes start at once
        warm = time.perf_counter() + WARMING * (until - time.perf_counter())
        compilers = [seat for seat in seats if seat.entry.way == COMPILED]
        for seat in compilers:
            seat.ask("first", z, WARM_UP)
        for seat in (seat for seat in seats if seat.entry.way != COMPILED):
            seat.ask("first", z, WARM_UP)
            seat.check(seat.answer(warm), right, loss_bounds(settings)[seat.entry.precision])
        for seat in compilers:
            seat.check(seat.answer(warm), right, loss_bounds(settings)[seat.entry.precision])

        for _ in range(1 + rounds):
            for seat in seats:
                seat.play(until)
        for seat in seats:
            seat.ask("memory")
            memory = seat.answer(until)
            if not seat.out:
                timed = seat.seconds[1:]  # the first turn has found out how many steps one takes
                seat.outcome |= {
                    "steps": seat.steps,
                    "seconds": timed,
                    "median": statistics.median(timed),
                    "memory": memory,
                }
        for seat in seats:
            seat.contestant.dismiss()
    return seats


def first_step(settings: Settings) -> tuple[np.ndarray, dict[str, float]]:
    """z (N, z_dim) and the scores of the first step, on the CPU."""
    device = kernels.device("cpu")
    s = settings
    z = sample_z(PRESETS[s.preset], Random(s.seed, "z", device), s.batch_size, s.z_dim).numpy()
    scores = Game(s, device).step(Tensor(device.array(real_batch(s)), device))
    return z, {name: score.item() for name, score in scores.items()}


@functools.cache
def loss_bounds(settings: Settings) -> dict[str, float]:
    """By precision, as `train_step.loss_bound`; in less than float32 every layer rounds its factors, there and back."""
    game = first_networks(settings)
    layers = sum(p.ndim > 1 for part in (game.generator, game.discriminator) for p in part.parameters().values())
    return {precision: loss_bound(game) + 3 * 2 * layers * rounded for precision, rounded in work.ROUNDED.items()}
