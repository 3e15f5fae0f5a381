"""Which tile each convolution should take, and in how many parts:  python -m benchmarks.tiles --device cuda

kernels/conv2d/plan.py chooses by an estimate whose constants were assumed. Here every convolution of a training is
timed with every tile, in one part and in several, each result checked first. Printed is what the plan takes, what was
fastest, and with which constants the plan would have lost least. On `emulated` it can be tried out: its times say
nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

import kernels
from benchmarks import card, gpu_ceilings, gpu_table
from benchmarks.calls import Call, Place, Training, names, recorder, to
from benchmarks.part import LETTERS
from benchmarks.results import check_folders, write_json
from benchmarks.trial import Entrant, Player, Trials, Variant, minigan_player
from kernels.conv2d import pipeline, winograd_cuda
from kernels.conv2d.format import Format
from kernels.conv2d.plan import CARD, Card, Tile, choices, clocks, plan
from kernels.launch import host, multiprocessors, recording
from kernels.threads import cpus
from minigan import options
from minigan.command import run_command
from minigan.errors import UserError
from minigan.models import PRESETS

__all__ = ["Timed", "fitted", "lost", "measure", "sizes_of"]

PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # that are timed, and what the plan takes
LINE = "  {:<18}{:<34}{:<32}{:>15}{:>10}{:>15}{:>10}{:>7}"
# Constants that are tried, each with every other; a rate is that of the format times so much.
FETCHED, HIDDEN, LAUNCH = (16, 20, 24, 28, 34, 40, 48, 56, 64), (0.25, 0.5, 0.75, 0.9, 1.0), (1000, 2000, 4000, 8000)
RATE = (0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0)

Choice = tuple[Tile, int]  # of a tile, and of parts


class Timed(NamedTuple):
    """A convolution. sizes: what its plan is asked with. seconds: of each choice that was timed."""

    sizes: tuple
    seconds: dict[Choice, float]


# ---- in the process of its own ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def instead(choose: Callable[..., Choice]) -> Iterator[None]:
    """While active, `choose` is asked in the place of the plan."""
    with mock.patch.object(pipeline, "plan", choose), mock.patch.object(winograd_cuda, "plan", choose):
        yield


def sizes_of(call: Call, variant: Variant, multiprocessors: int) -> tuple | None:
    """What the plan is asked with, on a device with so many multiprocessors; None if it is not."""
    asked = []

    def note(*sizes):
        asked.append(sizes)
        return plan(*sizes)

    device = recorder(kernels.convolution("emulated", variant.conv, variant.precision))
    with recording(), host.emulation(multiprocessors=multiprocessors), instead(note):
        getattr(device, call.kernel)(*(to(device, a) for a in call.arguments))
    return asked[0] if asked else None


def tried(sizes: tuple) -> list[Choice]:
    """Of all choices those that are timed."""
    return [choice for choice in choices(*sizes) if choice[1] in PARTS or choice == plan(*sizes)]


def said(choice: Choice) -> str:
    """128x64 in 3."""
    tile, parts = choice
    return f"{tile.rows}x{tile.columns} in {parts}"


def tiles_player(device: str, multiprocessors: int) -> Player:
    """Ours, on the device of that name, in as many ways as there are choices."""
    player = minigan_player(device)

    def ways(call: Call, variant: Variant) -> dict[str, Callable]:
        (compute,) = player.ways(call, variant).values()

        def taking(choice: Choice) -> Callable:
            def compute_so():
                with instead(lambda *_: choice):
                    return compute()

            return compute_so

        return {said(choice): taking(choice) for choice in tried(sizes_of(call, variant, multiprocessors))}

    return Player(ways, player.results, player.clock)


# ---- in the command's process ----------------------------------------------------------------------------------------


def convolutions(training: Training, variant: Variant, count: int) -> Iterator[tuple[Place, Call, tuple]]:
    """Those of a training that a plan is asked for, and with which sizes on so many multiprocessors."""
    for place in training.places:
        for call in training.calls(place):
            if call.kernel in LETTERS and (sizes := sizes_of(call, variant, count)):
                yield place, call, sizes


def measure(given: argparse.Namespace, settings: options.Settings) -> list[Timed]:
    """Every convolution of a training, a line for each. Writes the JSON, if one is wanted.

    Raises kernels.DeviceError where there is no such device, and UserError where nothing has the name asked for.
    """
    end = time.perf_counter() + 60 * given.minutes
    variant = Variant(given.precision)
    device = kernels.device(given.device, variant.conv, variant.precision)
    count = multiprocessors(device.array(np.zeros(1, np.float32)))
    about = card.describe(given.device)
    print(f"{about['card']}, {count} multiprocessors; {about['date']}\n{given.precision}, {CARD}\n")
    heads = "kernel", "arrays", "the plan", "us", "fastest", "us", "lost"
    print(LINE.format(f"{settings.preset}, {settings.batch_size}", *heads))
    peer = "torch" if importlib.util.find_spec("torch") else "none"
    limits, _ = gpu_ceilings.of_device(given.device, peer, cpus(), (given.precision,))
    training = Training(settings, kernels.device("cpu"), device.reads_pending)
    entrant = Entrant("minigan", tiles_player, given.device, count)
    trials = Trials([entrant], limits, given.rounds, lambda: end - time.perf_counter())
    rows, timed, left_out, seen = [], {}, [], set()
    with contextlib.closing(entrant):
        for place, call, sizes in convolutions(training, variant, count):
            seen |= names(place, call)
            if given.only not in (None, *names(place, call)):
                continue
            if trials.over:
                left_out.append(f"{call.kernel} of {place.name}")
                continue
            row = trials.row(call, variant) | {"place": place.name, "layer": place.layer, "plan": said(plan(*sizes))}
            outcomes = {choice: row["ways"].get(said(choice), {}) for choice in tried(sizes)}
            seconds = {choice: outcome["median"] for choice, outcome in outcomes.items() if "median" in outcome}
            rows.append(row)
            timed[call.key()] = Timed(sizes, seconds)
            print(line(row, timed[call.key()]))
    if not rows and not left_out:
        raise UserError(f"--only {given.only}: no such convolution: choose one of {', '.join(sorted(seen))}")
    if left_out:
        print(f"\nnot measured, because the time was over: {'; '.join(left_out)}")
    write_json({"machine": about, "precision": given.precision, "rows": rows, "left_out": left_out}, given.json)
    return list(timed.values())


def line(row: dict, timed: Timed) -> str:
    """One convolution in one place; what has failed after it."""
    start, chosen = (row["place"], row["kernel"], gpu_table.arrays(row)), plan(*timed.sizes)
    failed = "".join(
        f"\n    {way}: {gpu_table.in_a_line(outcome['failed'])}"
        for way, outcome in row["ways"].items()
        if "failed" in outcome
    )
    if chosen not in timed.seconds:
        return LINE.format(*start, said(chosen), "failed", "", "", "").rstrip() + failed
    fastest = min(timed.seconds, key=timed.seconds.get)
    us = [f"{1e6 * timed.seconds[choice]:.1f}" for choice in (chosen, fastest)]
    share = f"{1 - timed.seconds[fastest] / timed.seconds[chosen]:.0%}"
    return LINE.format(*start, said(chosen), us[0], said(fastest), us[1], share) + failed


def lost(timed: list[Timed], constants: Card, rate: float = 1.0) -> float:
    """The share of the time that is lost by a plan with these constants, and the format's rate times `rate`."""
    taken = fastest = 0.0
    for sizes, seconds in timed:
        *before, format = sizes[:6]
        format = Format(format.bits, rate * format.rate)
        chosen = min(seconds, key=lambda choice: clocks(*choice, *before, format, constants))
        taken += seconds[chosen]
        fastest += min(seconds.values())
    return 1 - fastest / taken


def fitted(timed: list[Timed]) -> tuple[Card, float]:
    """The constants, and how many times the format's rate, with which the plan would lose least."""
    everything = [(Card(*constants), rate) for *constants, rate in itertools.product(FETCHED, HIDDEN, LAUNCH, RATE)]
    return min([(CARD, 1.0), *everything], key=lambda found: lost(timed, *found))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = options.Parser(
        prog="python -m benchmarks.tiles",
        description="Time every convolution of a training with every tile, in one part and in several.",
    )
    add = parser.add_argument
    add("--device", choices=["cuda", "emulated"], default="cuda", help="default: cuda; emulated tries it out")
    add("--preset", choices=PRESETS, default="radford64", help="default: radford64")
    add("--size", type=int, metavar="S", help="pixels on a side (default: the preset's)")
    add("--batch-size", type=options.whole(2), default=64, metavar="N", help="default: 64")
    add("--precision", choices=kernels.PRECISIONS, default="tf32", help="default: tf32")
    add("--only", metavar="NAME", help="of a kernel (conv2d), a layer (Conv2d, generator.4) or a network (generator)")
    add("--rounds", type=options.whole(1), default=9, metavar="N", help="in which each choice is timed (default 9)")
    add("--minutes", type=options.real(0.1, 600), default=5.0, metavar="M", help="for all of them (default 5)")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    check_folders(given, "json")
    chosen = ["--preset", given.preset, "--batch-size", str(given.batch_size), "--device", given.device]
    size = [] if given.size is None else ["--size", str(given.size)]
    timed = [each for each in measure(given, options.new_settings(options.parse([*chosen, *size]))) if each.seconds]
    if timed:
        constants, rate = fitted(timed)
        print(f"\nthe plan has lost {lost(timed, CARD):.1%} of all this time; it would have lost")
        where = kernels.convolution("emulated", "direct", given.precision)  # of Winograd's product too
        print(f"{lost(timed, constants, rate):.1%} with {constants}, and {rate:g} times the rate of {where}.py")
        if given.device == "emulated":
            print("these are times of the host: they say nothing of a GPU, so write no such constants down")


if __name__ == "__main__":
    run_command(main)
