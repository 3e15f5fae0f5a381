"""Every kernel at every layer's shapes, timed:  python -m benchmarks

For each layer of both networks, and for the game around them: the kernels that a training calls there, each checked
against its definition in float64 and then timed beside PyTorch's, if that is installed; how far they are from what
this machine can do at best, measured in the same run; and, with --plot, the roofline.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
from pathlib import Path

from tqdm import tqdm

import kernels
from benchmarks import ceilings, contest, gpu, gpu_table, machine, race, roofline
from benchmarks.calls import Training, names
from benchmarks.contest import Contestant
from benchmarks.kernel_table import table
from benchmarks.results import check_folders, write_json
from kernels.threads import cpus, use_threads
from minigan import options
from minigan.command import run_command
from minigan.errors import UserError
from minigan.models import PRESETS
from minigan.options import Settings

BATCHES = {"radford64": 64, "article128": 16}  # what is measured where nothing else is asked for
INSTALL = "torch is not installed: pip install 'minigan[peers]'"


def measure(games: list[Settings], peer: str, rounds: int, threads: int, only: str | None) -> dict:
    """Everything that `--json` writes. only: a name of `names`, or None for all.

    Raises UserError for a kernel with a wrong result, and where nothing has that name.
    """
    use_threads(threads)
    contest.use_threads(threads)
    report = {
        "device": games[0].device,
        "threads": threads,
        "machine": machine.describe(("numpy", "numba", *([peer] if peer == "torch" else []))),
        "ceilings": ceilings.measure(threads),
        "peer": peer,
        "rows": [],
        "not_called": {},
    }
    rows = {}  # by the call's key: what equal calls take is measured once
    seen = set()
    with contextlib.ExitStack() as stack:
        players = [Contestant("minigan", race.minigan_player, games[0].device, games[0].conv, threads)]
        if peer == "torch":
            players.append(Contestant("torch", race.torch_player, threads))
        for player in players:
            stack.enter_context(player)
        for settings in games:
            training = Training(settings, kernels.device("cpu", settings.conv))
            for place in tqdm(training.places, desc=settings.preset, unit="layer", leave=False):
                for call in training.calls(place):
                    seen |= names(place, call)
                    if only and only not in names(place, call):
                        continue
                    if call.key() not in rows:
                        rows[call.key()] = race.measure(call, players, rounds, report["ceilings"])
                    where = {"preset": settings.preset, "batch_size": settings.batch_size, "place": place.name}
                    report["rows"].append({**where, "layer": place.layer, **rows[call.key()]})
            report["not_called"][settings.preset] = sorted(training.kernels - training.met)
    if not report["rows"]:
        raise UserError(f"--only {only}: nothing has that name: choose one of {', '.join(sorted(seen))}")
    return report


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = options.Parser(
        prog="python -m benchmarks",
        description="Check and time every kernel at the shapes of every layer. Every option of minigan.train that "
        "shapes them may be given too: --size, --conv, --precision, --no-fusion and so on.",
    )
    add = parser.add_argument
    add("--preset", choices=PRESETS, help="default: radford64 and article128, one after the other")
    add("--batch-size", type=options.whole(2), metavar="N", help="default: 64, on the CPU 16 for article128")
    add("--device", choices=["cpu", "cuda", "emulated"], default="cpu", help="default: cpu")
    add("--peer", choices=["torch", "none"], help="default: torch, if it is installed")
    add(
        "--only",
        metavar="NAME",
        help="of a kernel (conv2d), a layer (Conv2d, generator.4), a network (generator); of a GPU also kernels, steps",
    )
    add("--rounds", type=options.whole(1), metavar="N", help="in which each call is timed (default 7; of a GPU 15)")
    add("--threads", type=options.whole(1, cpus()), default=cpus(), metavar="N", help="default: all CPUs")
    add("--minutes", type=options.real(0.1, 600), default=8.0, metavar="M", help="for all of a GPU (default 8)")
    add("--json", type=Path, metavar="FILE", help="write what was measured (default of all cuda: benchmarks-cuda.json)")
    add("--plot", type=Path, metavar="FILE", help="draw the roofline, a PNG (default of all cuda: benchmarks-cuda.png)")
    add("--readme", type=Path, metavar="FILE", help="of a GPU: put the table of steps between that file's markers")
    given, rest = parser.parse_known_args(arguments)
    if given.readme and given.only:
        raise UserError("--readme: its table is of a whole run, and --only measures a part: leave out one of them")
    if given.device == "cuda" and not given.only:  # a part does not take the place of what a whole run has written
        given.json, given.plot = given.json or Path("benchmarks-cuda.json"), given.plot or Path("benchmarks-cuda.png")
    check_folders(given, "json", "plot", "readme")
    installed = importlib.util.find_spec("torch") is not None
    if given.peer == "torch" and not installed:
        raise UserError(f"--peer torch: {INSTALL}")
    peer = given.peer or ("torch" if installed else "none")
    PROGRAMS[given.device](given, rest, peer)
    if not installed and given.peer is None:
        print(f"no PyTorch to compare with: {INSTALL}")


def of_the_cpu(given: argparse.Namespace, rest: list[str], peer: str) -> None:
    """Every kernel; then the table, the JSON and the roofline."""
    if given.readme:
        raise UserError("--readme: that table is of a GPU: say --device cuda too, or leave it out")
    games = [game(given, rest, preset) for preset in ([given.preset] if given.preset else BATCHES)]
    report = measure(games, peer, given.rounds or 7, given.threads, given.only)
    print(table(report))
    write_json(report, given.json)
    if given.plot:
        roofline.draw(report, given.plot)


def of_a_gpu(given: argparse.Namespace, rest: list[str], peer: str) -> None:
    """Everything, printed and written as it is measured; then the roofline and the README's table."""
    if given.readme:
        gpu_table.place(given.readme)  # raises now what would be wrong in eight minutes
    chosen = [(given.preset, given.batch_size)] if given.preset else gpu.GAMES
    games = [game(given, rest, preset, batch) for preset, batch in chosen]
    plan = gpu.Plan(games, peer, given.rounds or 15, given.threads, given.minutes, given.only)
    report = gpu.measure(plan, given.json)
    print(gpu_table.legend(report))
    print("".join(f"\n{table}\n" for table in gpu_table.tables(report)))
    if given.json:
        print(f"written   {given.json}")
    if given.readme:
        gpu_table.write(report, given.readme)
        print(f"written   {given.readme}")
    if given.plot and report["rows"]:
        roofline.draw(report, given.plot)
        print(f"written   {given.plot}")


PROGRAMS = {"cpu": of_the_cpu, "cuda": of_a_gpu, "emulated": of_a_gpu}


def game(given: argparse.Namespace, rest: list[str], preset: str, batch: int | None = None) -> Settings:
    """The settings of a training with that preset. Raises kernels.DeviceError where it could not convolve so."""
    size = given.batch_size or batch or BATCHES.get(preset, PRESETS[preset].batch_size)
    chosen = ["--preset", preset, "--batch-size", str(size), "--device", given.device]
    settings = options.new_settings(options.parse([*chosen, *rest]))
    gpu.precisions_of(settings)
    return settings


if __name__ == "__main__":
    run_command(main)
