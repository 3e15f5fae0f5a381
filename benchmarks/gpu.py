"""Everything about a GPU in one run:  python -m benchmarks --device cuda

The card's ceilings; the ladder of convolutions at one layer's shapes; every kernel at every layer's shapes, in every
precision; whole training steps, ours and PyTorch's. Each figure is printed, and written to the JSON, as soon as it is
known: a run that is stopped, or whose time is over, keeps what it has measured.

On `emulated` it is the same run, of the host: for small shapes, to see that everything is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import kernels
from benchmarks import card, gpu_ceilings, gpu_steps, gpu_table
from benchmarks.calls import Call, Place, Training, names, recorder, to
from benchmarks.part import LETTERS
from benchmarks.results import write_json
from benchmarks.trial import Entrant, Trials, Variant, minigan_player, torch_player
from kernels.launch import Launch, recording
from kernels.threads import use_threads
from minigan.errors import UserError
from minigan.options import Settings

__all__ = ["GAMES", "Plan", "measure", "precisions_of"]

GAMES = (("radford64", 64), ("radford64", 128), ("article128", 64))  # preset and batch, where nothing else is asked for
FOR_KERNELS = 0.4  # of the time that is left when they begin; the rest is for the steps
LADDER = {  # the ways of convolution, from the plainest on, in each precision that they have
    ("naive", "fp32"): "naive",
    ("tiled", "fp32"): "tiled",
    ("registers", "fp32"): "register-tiled",
    ("direct", "fp32"): "pipelined",
    ("auto", "fp32"): "Winograd",
    ("tensor", "tf32"): "tensor cores",
    ("tensor", "bf16"): "tensor cores",
}
DERIVATIVES = ("conv2d", "conv2d_transpose", "conv2d_weight_grad")  # whose rungs they are
STEPS, KERNELS = "steps", "kernels"  # what may be asked for by itself


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured.

    games: the settings of each training. peer: torch or none. rounds: of each call and of each contestant's turns.
    only: a name as in `python -m benchmarks --only`, "steps", "kernels", or None for everything.
    """

    games: list[Settings]
    peer: str
    rounds: int
    threads: int
    minutes: float
    only: str | None

    @property
    def device(self) -> str:
        """The one that all games are played on."""
        return self.games[0].device

    @property
    def precisions(self) -> tuple[str, ...]:
        """Of the convolutions of all games."""
        return precisions_of(self.games[0])


def precisions_of(settings: Settings) -> tuple[str, ...]:
    """In which convolutions are measured: the one that is asked for, or else all that the device has in that way."""
    if settings.precision == "auto":
        return kernels.precisions(settings.device, settings.conv)
    kernels.convolution(settings.device, settings.conv, settings.precision)  # raises where there is none
    return (settings.precision,)


class Report(dict):
    """What is known so far. `save` writes it."""

    def __init__(self, file: Path | None):
        super().__init__(rows=[], ladder=[], steps=[], left_out=[])
        self.file = file

    def save(self) -> None:
        """If there is a file."""
        write_json(self, self.file)


def measure(plan: Plan, file: Path | None) -> Report:
    """Everything that `--json` writes, and has written to `file` meanwhile.

    Raises kernels.DeviceError where there is no such device, and UserError where nothing has the name asked for.
    """
    end = time.perf_counter() + 60 * plan.minutes
    use_threads(plan.threads)
    report = Report(file)
    report |= {"device": plan.device, "precisions": list(plan.precisions)}
    report |= {"machine": card.describe(plan.device), "peer": plan.peer, "threads": plan.threads}
    print(gpu_table.head(report))
    rates = tuple(dict.fromkeys(("fp32", *plan.precisions)))  # whatever convolutions multiply, all else is float32
    report["ceilings"], report["ceilings_by"] = gpu_ceilings.of_device(plan.device, plan.peer, plan.threads, rates)
    print(gpu_table.ceilings(report))
    report.save()
    try:
        if plan.only != STEPS:
            until = time.perf_counter() + (end - time.perf_counter()) * (1.0 if plan.only else FOR_KERNELS)
            with trials(plan, report["ceilings"], until) as tried:
                time_kernels(plan, tried, report)
    except Exception:  # whatever it is, the steps do not depend on it: they are measured before it is raised
        time_steps(plan, report, end)
        raise
    time_steps(plan, report, end)
    return report


@contextlib.contextmanager
def trials(plan: Plan, limits: dict[str, float], until: float) -> Iterator[Trials]:
    """Ours and the peer, who have until then."""
    entrants = [Entrant("minigan", minigan_player, plan.device)]
    if plan.peer == "torch":
        entrants.append(Entrant("torch", torch_player, "cuda" if plan.device == "cuda" else "cpu"))
    try:
        yield Trials(entrants, limits, plan.rounds, lambda: until - time.perf_counter())
    finally:
        for entrant in entrants:
            entrant.close()


def time_kernels(plan: Plan, tried: Trials, report: Report) -> None:
    """Every kernel in every place; and before them the ladder, at the shapes of a layer in the middle."""
    seen = set()
    for settings in plan.games:
        device = kernels.device(plan.device, settings.conv, plan.precisions[0])
        training = Training(settings, kernels.device("cpu"), device.reads_pending)
        game = {"preset": settings.preset, "batch_size": settings.batch_size}
        if settings is plan.games[0] and plan.only in (None, KERNELS):
            time_ladder(settings, tried, report, game)
        print(gpu_table.title(f"{settings.preset}, {settings.batch_size}"))
        for place in training.places:
            if tried.over:
                report["left_out"].append(f"{settings.preset}, {settings.batch_size}: {place.name}")
                continue
            for call in training.calls(place):
                seen |= names(place, call)
                if plan.only in (None, KERNELS, *names(place, call)):
                    for variant in variants(settings, call):
                        row = {**game, "place": place.name, "layer": place.layer, **tried.row(call, variant)}
                        report["rows"].append(row)
                        print(gpu_table.line(row, place.name))
            report.save()
    report.save()
    if not report["rows"] and not report["left_out"]:
        raise UserError(f"--only {plan.only}: nothing has that name: choose one of {', '.join(sorted(seen))}")


def time_ladder(settings: Settings, tried: Trials, report: Report, game: dict) -> None:
    """Each way of convolution, in one place. No picture is pending: not every rung could read it so."""
    training = Training(settings, kernels.device("cpu"))
    place = middle(training.places)
    calls = {call.kernel: call for call in training.calls(place)}
    print(gpu_table.ladder_title(place.name, settings.preset, settings.batch_size))
    for call in (calls[kernel] for kernel in DERIVATIVES):
        for variant, rung in rungs(call, settings.device, report["precisions"]):
            row = {**game, "place": place.name, "layer": place.layer, "rung": rung, **tried.row(call, variant)}
            report["ladder"].append(row)
            print(gpu_table.line(row, rung))
    report.save()


def rungs(call: Call, device: str, precisions: list[str]) -> Iterator[tuple[Variant, str]]:
    """The ladder's, but those that launch the same as one below: Winograd's, say, where it does not suit the call."""
    below = []
    for (conv, precision), rung in LADDER.items():
        if precision in precisions:
            launched = launches(call, kernels.convolution(device, conv, precision))
            if launched not in below:
                yield Variant(precision, conv), rung
            below.append(launched)


def launches(call: Call, conv2d: str) -> set[Launch]:
    """Those of the call by that module of kernels/conv2d."""
    device = recorder(conv2d)
    with recording() as launched:
        getattr(device, call.kernel)(*(to(device, a) for a in call.arguments))
    return launched


def variants(settings: Settings, call: Call) -> list[Variant]:
    """The precisions in which a call can be computed: a convolution's; everything else is float32."""
    if call.kernel not in LETTERS:
        return [Variant()]
    return [Variant(precision, settings.conv) for precision in precisions_of(settings)]


def middle(places: list[Place]) -> Place:
    """The convolution in the middle of the discriminator, by the order of its layers."""
    found = [place for place in places if place.name.startswith("discriminator") and "Conv2d" in place.layer]
    return found[len(found) // 2]


def time_steps(plan: Plan, report: Report, end: float) -> None:
    """Each game once, but for those that differ in their batch only: the first of them."""
    if plan.only not in (None, STEPS):
        return
    games = list({settings.preset: settings for settings in reversed(plan.games)}.values())[::-1]
    everyone = gpu_steps.entries(plan.device, tuple(report["precisions"]), plan.peer)
    for number, settings in enumerate(games):
        print(gpu_table.steps_title(settings.preset, settings.batch_size))
        now = time.perf_counter()
        seconds = (end - now) / (len(games) - number)
        memory = report["machine"].get("memory", 0)
        for row in gpu_steps.measure(settings, everyone, plan.rounds, seconds, memory):
            report["steps"].append(row)
            print(gpu_table.step_line(row))
            report.save()
