"""What a training step launches on a GPU that need not be there, for commands that say what becomes of its kernels."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import kernels
from benchmarks.calls import recorder
from kernels.launch import Launch, host, recording
from kernels.launch.source import HOMES
from minigan import options
from minigan.autograd import Tensor
from minigan.errors import UserError
from minigan.models import PRESETS
from minigan.train import Game

__all__ = ["ARCHITECTURES", "chosen", "constants", "launches", "name", "of_step", "ordered", "parser", "training"]

OLDER = ("sm_75",)  # than sm_80
ARCHITECTURES = (*OLDER, "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


def parser(command: str, description: str) -> options.Parser:
    """The options that say which step it is, and of which GPU."""
    parser = options.Parser(prog=f"python -m benchmarks.{command}", description=f"{description} Needs no GPU.")
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="radford64", help="whose step (default radford64)")
    add("--conv", choices=kernels.CONVOLUTIONS, default="auto", help="how to convolve (default auto)")
    add("--precision", choices=kernels.PRECISIONS, help="of convolutions (default tf32 where --conv has it, else fp32)")
    add("--architecture", choices=ARCHITECTURES, default="sm_90", help="of the GPU (default sm_90)")
    add(
        "--multiprocessors", type=options.whole(1), default=132, metavar="N", help="of the GPU (default 132, an H200's)"
    )
    return parser


def chosen(given: argparse.Namespace) -> tuple[str, str]:
    """Which step was asked for, in a line, and the module of kernels/conv2d with which it convolves.

    Raises
    ------
    UserError: the GPU cannot convolve so.
    """
    ways = kernels.ways_of_gpu(given.architecture not in OLDER)
    if given.conv not in ways:
        raise UserError(f"--conv {given.conv}: {given.architecture} cannot: choose one of {', '.join(ways)}")
    precisions = ways[given.conv]
    precision = given.precision or ("tf32" if "tf32" in precisions else "fp32")
    if precision not in precisions:
        known = " or ".join(precisions)
        raise UserError(f"--precision {precision}: --conv {given.conv} is in {known} on {given.architecture}")
    step = f"{given.preset}, {precision}, {given.architecture}, {given.multiprocessors} multiprocessors"
    return step, precisions[precision]


def training(preset: str, conv2d: str) -> Callable[[], None]:
    """Prepares a training, and returns what makes a step of it, on arrays of any numbers."""
    device = recorder(conv2d)
    settings = options.new_settings(options.parse(["--preset", preset]))
    game = Game(settings, device)
    pictures = HOMES[np.ndarray].empty((settings.batch_size, *game.networks.picture), np.float32)
    return lambda: game.step(Tensor(pictures, device))


def of_step(given: argparse.Namespace) -> tuple[str, list[Launch]]:
    """Which step was asked for, in a line, and what it launches; raises what `chosen` does."""
    step, conv2d = chosen(given)
    return step, launches(given.preset, conv2d, given.multiprocessors)


def launches(preset: str, conv2d: str, multiprocessors: int) -> list[Launch]:
    """What a training and a step of it launch on a GPU with so many multiprocessors, as `ordered` has it."""
    with recording() as launched, host.emulation(multiprocessors=multiprocessors):
        training(preset, conv2d)()
    return ordered(launched)


def ordered(launched: set[Launch]) -> list[Launch]:
    """By name; of launches that differ in shared memory alone, the one with most."""
    most = {launch._replace(shared=0): launch for launch in sorted(launched, key=lambda launch: launch.shared)}
    return sorted(
        most.values(), key=lambda launch: (launch.source.name, launch.kernel, sorted(launch.defines), launch.threads)
    )


def name(launch: Launch) -> str:
    """The kernel's, behind its file's: "conv2d/pipeline.cu conv2d"."""
    return f"{launch.source.name.removeprefix('kernels/')} {launch.kernel}"


def constants(launch: Launch) -> str:
    """What it is compiled with: "N=2 TILE=64"."""
    return " ".join(f"{key}={chr(value) if key == 'LETTER' else value}" for key, value in sorted(launch.defines))
