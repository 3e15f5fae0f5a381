"""How many blocks of each kernel a multiprocessor can hold:  python -m benchmarks.occupancy --architecture sm_90

No GPU is needed: NVIDIA's compiler says how many registers and how much shared memory a kernel takes, a training step
says how it is launched, and the programming guide says what a multiprocessor has. While one block waits for memory
another one works, so there should be two or more; few threads are enough where each has many copies under way.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

import kernels
from benchmarks.calls import recorder
from kernels.launch import Launch, host, nvrtc, recording
from kernels.launch.nvrtc import Usage
from minigan import options
from minigan.autograd import Tensor
from minigan.command import run_command
from minigan.models import PRESETS
from minigan.train import Game

WARP, REGISTERS = 32, 65536  # threads of a warp; registers of a multiprocessor, of every architecture below
GRANULE = 256  # registers: a warp gets a multiple


class Multiprocessor(NamedTuple):
    """What blocks share: table "Technical Specifications per Compute Capability" of the CUDA C++ Programming Guide."""

    threads: int
    blocks: int
    shared: int  # bytes
    reserved: int  # bytes of shared memory that every block takes beside its own


MULTIPROCESSORS = {
    "sm_75": Multiprocessor(1024, 16, 64 << 10, 0),
    "sm_80": Multiprocessor(2048, 32, 164 << 10, 1 << 10),
    "sm_86": Multiprocessor(1536, 16, 100 << 10, 1 << 10),
    "sm_90": Multiprocessor(2048, 32, 228 << 10, 1 << 10),
    "sm_100": Multiprocessor(2048, 32, 228 << 10, 1 << 10),
    "sm_120": Multiprocessor(1536, 24, 100 << 10, 1 << 10),
}

OLDER = ("sm_75",)  # than sm_80, whose copies the upper rungs of convolution need


def resident(usage: Usage, launch: Launch, has: Multiprocessor) -> int:
    """How many blocks of a launch a multiprocessor holds at the same time."""
    warps = -(-launch.threads // WARP)
    registers = warps * -(-usage.registers * WARP // GRANULE) * GRANULE
    shared = usage.shared + launch.shared + has.reserved
    return min(has.blocks, has.threads // (warps * WARP), REGISTERS // registers, has.shared // max(1, shared))


def launches(preset: str, conv: str, precision: str, multiprocessors: int) -> list[Launch]:
    """All that a training step launches on a GPU with so many multiprocessors, by name."""
    device = recorder(kernels.convolution("emulated", conv, precision))
    settings = options.new_settings(options.parse(["--preset", preset]))
    with recording() as launched, host.emulation(multiprocessors=multiprocessors):
        game = Game(settings, device)
        game.step(Tensor(np.empty((settings.batch_size, *game.networks.picture), np.float32), device))
    return sorted(
        launched, key=lambda launch: (launch.source.name, launch.kernel, sorted(launch.defines), launch.threads)
    )


def table(launched: list[Launch], architecture: str) -> str:
    """A line of Markdown for each launch."""
    builds = {(launch.source, launch.defines) for launch in launched}
    major, has = nvrtc.newest(), MULTIPROCESSORS[architecture]
    with ThreadPoolExecutor() as pool:
        cubins = pool.map(lambda build: nvrtc.compile(*build, architecture, major), builds)
    usages = {build: cubin.usage for build, cubin in zip(builds, cubins, strict=True)}
    lines = [
        "| kernel | constants | threads | registers | shared, bytes | spilled, bytes | blocks | of the threads |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for launch in launched:
        usage = usages[launch.source, launch.defines][launch.kernel]
        blocks = resident(usage, launch, has)
        constants = " ".join(f"{name}={value}" for name, value in sorted(launch.defines))
        lines.append(
            f"| `{launch.source.name.removeprefix('kernels/')}` {launch.kernel} | {constants} | {launch.threads} "
            f"| {usage.registers} | {usage.shared + launch.shared:,} | {usage.spilled} | {blocks} "
            f"| {blocks * launch.threads / has.threads:.0%} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = options.Parser(
        prog="python -m benchmarks.occupancy",
        description="What each kernel of a training step takes of a multiprocessor. Needs no GPU.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="radford64", help="whose step")
    add("--precision", choices=kernels.PRECISIONS, default="tf32", help="of its convolutions")
    add("--architecture", choices=MULTIPROCESSORS, default="sm_90", help="of the GPU")
    add("--multiprocessors", type=options.whole(1), default=132, metavar="N", help="of the GPU; an H200 has 132")
    given = parser.parse_args(arguments)
    conv = "registers" if given.architecture in OLDER else "auto"
    launched = launches(given.preset, conv, given.precision, given.multiprocessors)
    print(f"{given.preset}, {given.precision}, {given.architecture}, {given.multiprocessors} multiprocessors\n")
    print(table(launched, given.architecture))


if __name__ == "__main__":
    run_command(main)
