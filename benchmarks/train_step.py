"""One whole training step, timed:  python -m benchmarks.train_step --peer torch

A step is `minigan.train.Game.step`: z drawn, G forward, D on real and on generated pictures, Adam, D again, Adam. The
real pictures are one fixed batch of the drawn faces, float32 and on the device already; reading the losses waits for
the device. With `--peer torch` PyTorch plays the same game with the same weights and z, in each of its two layouts, and
the faster of the two is the peer. Nothing is timed before the losses of the first step agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import trange

if not __package__:  # run as a file: Python looks for packages in this folder, and they are in the one above
    sys.path[0] = str(Path(__file__).parents[1])

import kernels
from benchmarks import contest, machine
from benchmarks.contest import Contestant
from benchmarks.kernel_times import timed
from benchmarks.results import check_folders, write_json
from kernels.threads import cpus, use_threads
from minigan import faces, options
from minigan.autograd import Tensor
from minigan.command import choose_device, run_command
from minigan.data import CHANNELS
from minigan.errors import UserError
from minigan.models import PRESETS, Networks, networks, sample_z
from minigan.options import Settings
from minigan.random import Random
from minigan.table import step_multiply_adds
from minigan.train import Game

WARM_UP = 2  # turns that are not timed: the first compiles, the second finds the memory that the first has left


def minigan_player(settings: Settings, threads: int) -> Callable[[], dict[str, float]]:
    """Plays a step at each call; returns the scores."""
    device, _ = choose_device(settings.device, settings.conv, threads, settings.precision)
    game, real = Game(settings, device), Tensor(device.array(real_batch(settings)), device)
    return lambda: {name: score.item() for name, score in game.step(real).items()}


def profiled_player(settings: Settings, threads: int) -> Callable[[], dict[str, tuple[int, float]]]:
    """Plays a step at each call; returns each kernel's calls and seconds in it."""
    times = {}
    device = timed(choose_device(settings.device, settings.conv, threads, settings.precision)[0], times)
    game, real = Game(settings, device), Tensor(device.array(real_batch(settings)), device)

    def play():
        times.clear()
        game.step(real)
        return dict(times)

    return play


def torch_player(settings: Settings, threads: int, channels_last: bool) -> Callable[[], dict[str, float]]:
    """As `minigan_player`, in PyTorch: the first weights and every z are the same, drawn by our kernels."""
    import torch  # here and nowhere above: PyTorch is only a peer

    from benchmarks.torch_peer import TorchGame, torch_layout

    use_threads(threads)  # of our kernels, which draw z; it holds a BLAS to one, which may be PyTorch's too:
    torch.set_num_threads(threads)  # that gives it back
    game = TorchGame(first_networks(settings), settings, channels_last)
    real = torch_layout(real_batch(settings)).contiguous(memory_format=game.memory_format)
    noise = Random(settings.seed, "z", kernels.device("cpu"))

    def play():
        z = sample_z(PRESETS[settings.preset], noise, settings.batch_size, settings.z_dim)
        return game.step(torch_layout(z.numpy()), real)

    return play


PEERS = {
    "torch": {
        "torch": functools.partial(torch_player, channels_last=False),
        "torch channels_last": functools.partial(torch_player, channels_last=True),
    }
}


def real_batch(settings: Settings) -> np.ndarray:
    """float32 (N,H,W,C) in [-1, 1]."""
    return faces.draw(settings.batch_size, settings.size, settings.mode, settings.seed) / np.float32(127.5) - 1


def first_networks(settings: Settings) -> Networks:
    """What a training with these settings begins with."""
    s = settings
    device = kernels.device("cpu")
    return networks(PRESETS[s.preset], device, s.size, CHANNELS[s.mode], s.z_dim, s.slope, s.seed)


def loss_bound(game: Networks) -> float:
    """By how much the losses of two right float32 implementations may differ after the first step, relative to them.

    A sum of n terms, in any order, is wrong by about sqrt(n) roundings of 2^-24 each (Higham, *Accuracy and Stability
    of Numerical Algorithms*, section 2.6). There are two such sums one after the other, a layer's and its batch norm's,
    for each layer that has weights, in both networks. That is `rounding`, for results and for gradients.
    g_loss comes after D's first move, which is +-lr for each of its weights, the gradient's sign. A share of `rounding`
    of the signs may be lost in rounding, and what goes the other way takes twice its share of the move back.
    """
    weights = [p for part in (game.generator, game.discriminator) for p in part.parameters().values() if p.ndim > 1]
    longest = max(p.size // p.shape[0] for p in weights)
    rounding = 2 * len(weights) * math.sqrt(longest) * 2**-24
    return 3 * rounding


def agreement(scores: dict[str, dict[str, float]], bound: float) -> dict[str, float]:
    """How far the peers' first losses are from ours at most, relatively. Raises UserError if further than `bound`."""
    ours, furthest = scores["minigan"], {}
    for loss in ("d_loss", "g_loss"):
        furthest[loss] = float(np.max([abs(theirs[loss] / ours[loss] - 1) for theirs in scores.values()]))
        if not furthest[loss] <= bound:  # nor is NaN
            found = ", ".join(f"{name} {theirs[loss]:.7f}" for name, theirs in scores.items())
            raise UserError(f"{loss} of the first step differs by {furthest[loss]:.1e}, bound {bound:.1e}: {found}")
    return furthest


def measure(settings: Settings, peer: str | None, steps: int, threads: int, profile: bool) -> dict:
    """Play, check, time: all that is known in the end, as `--json` writes it."""
    contest.use_threads(threads)
    players = {"minigan": minigan_player, **(PEERS[peer] if peer else {})}
    game = first_networks(settings)
    report = {
        "settings": dataclasses.asdict(settings),
        "precision": choose_device(settings.device, settings.conv, threads, settings.precision)[0].precision,
        "threads": threads,
        "machine": machine.describe(("numpy", "numba", *([peer] if peer else []))),
        "gflop": 2e-9 * settings.batch_size * step_multiply_adds(game),
    }
    with contextlib.ExitStack() as stack:
        contestants = [stack.enter_context(Contestant(name, make, settings, threads)) for name, make in players.items()]
        scores = {contestant.name: contestant.turn() for contestant in contestants}
        report["bound"] = loss_bound(game)
        report["agreement"] = agreement(scores, report["bound"])
        for _ in trange(WARM_UP - 1 + steps, desc="rounds", leave=False):
            for contestant in contestants:
                contestant.turn()
        report["players"] = {
            c.name: {
                "seconds": c.seconds[WARM_UP:],
                "median": statistics.median(c.seconds[WARM_UP:]),
                "memory": c.memory,
            }
            for c in contestants
        }
    medians = {name: player["median"] for name, player in report["players"].items()}
    ours = medians.pop("minigan")
    if peer:
        report["peer"] = min(medians, key=medians.get)
        report["ratio"] = medians[report["peer"]] / ours
    if profile:
        report["kernels"] = kernel_times(settings, steps, threads)
    return report


def kernel_times(settings: Settings, steps: int, threads: int) -> dict[str, dict]:
    """By kernel, and for what lies between them: calls in a step, and the median of the seconds they take."""
    with Contestant("minigan", profiled_player, settings, threads) as contestant:
        turns = [contestant.turn() for _ in range(WARM_UP + steps)]
    for turn, whole in zip(turns, contestant.seconds, strict=True):
        turn["between kernels"] = 0, whole - sum(seconds for _, seconds in turn.values())
    return {
        name: {"calls": calls, "seconds": statistics.median(turn[name][1] for turn in turns[WARM_UP:])}
        for name, (calls, _) in turns[-1].items()
    }


def table(report: dict) -> str:
    """The report for a reader."""
    s, m = report["settings"], report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    steps = len(report["players"]["minigan"]["seconds"])
    lines = [
        f"one training step of {s['preset']}: {s['batch_size']} pictures of {s['size']}x{s['size']} {s['mode']}, "
        f"{report['gflop']:.1f} GFLOP, {report['precision']}",
        f"{m['cpu']}, {report['threads']} threads, load {m['load']} before; {versions}; {m['date']}",
        f"medians of {steps} steps, in turn" if len(report["players"]) > 1 else f"medians of {steps} steps",
        "",
        f"  {'':<22}{'ms':>8}{'quartiles':>18}{'pictures/s':>12}{'GFLOP/s':>10}{'peak MiB':>10}",
    ]
    for name, player in report["players"].items():
        low, _, high = (1e3 * q for q in quartiles(player["seconds"]))
        lines.append(
            f"  {name:<22}{1e3 * player['median']:>8.1f}{f'{low:.1f} - {high:.1f}':>18}"
            f"{s['batch_size'] / player['median']:>12.1f}{report['gflop'] / player['median']:>10.1f}"
            f"{player['memory'] / 2**20:>10.0f}"
        )
    if "peer" in report:
        said = ", ".join(f"{loss} differs by {found:.1e}" for loss, found in report["agreement"].items())
        lines += [
            "",
            f"minigan has {report['ratio']:.2f} times the speed of {report['peer']}",
            f"the first step: {said} (bound {report['bound']:.1e})",
        ]
    if "kernels" in report:
        whole = sum(kernel["seconds"] for kernel in report["kernels"].values())
        lines += ["", f"  {'kernel':<22}{'calls':>8}{'ms':>10}{'share':>8}"]
        for name, kernel in sorted(report["kernels"].items(), key=lambda item: -item[1]["seconds"]):
            seconds = kernel["seconds"]
            lines.append(f"  {name:<22}{kernel['calls'] or '':>8}{1e3 * seconds:>10.1f}{seconds / whole:>8.1%}")
    return "\n".join(lines)


def quartiles(values: list[float]) -> list[float]:
    """The three values that cut the sorted ones into quarters."""
    return [float(q) for q in np.quantile(values, (0.25, 0.5, 0.75))]


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = options.Parser(
        prog="python -m benchmarks.train_step",
        description="Time one training step. Every option of minigan.train that shapes it may be given too: "
        "--preset (here radford64), --size, --batch-size, --device (here cpu) and so on.",
    )
    parser.add_argument("--peer", choices=PEERS, help="play against it, in turn, on as many threads")
    parser.add_argument("--steps", type=options.whole(1), default=11, metavar="N", help="that are timed (default 11)")
    parser.add_argument(
        "--threads",
        type=options.whole(1, cpus()),
        default=cpus(),
        metavar="N",
        help="default: all CPUs",
    )
    parser.add_argument("--profile", action="store_true", help="show where our time goes, kernel by kernel")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given, rest = parser.parse_known_args(arguments)
    settings = options.new_settings(options.parse(["--preset", "radford64", "--device", "cpu", *rest]))
    if given.peer and importlib.util.find_spec(given.peer) is None:
        raise UserError(f"--peer {given.peer}: {given.peer} is not installed: pip install 'minigan[peers]'")
    device, _ = choose_device(settings.device, settings.conv, precision=settings.precision)
    if device.name == "cuda":
        raise UserError("--device cuda: whole steps are timed by python -m benchmarks --device cuda --only steps")
    check_folders(given, "json")

    report = measure(settings, given.peer, given.steps, given.threads, given.profile)
    print(table(report))
    write_json(report, given.json)


if __name__ == "__main__":
    run_command(main)
