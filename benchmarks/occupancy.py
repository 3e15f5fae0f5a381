"""How many blocks a multiprocessor can hold of each kernel that a training step launches:

    python -m benchmarks.occupancy --architecture sm_90

No GPU is needed: NVIDIA's compiler says how many registers and how much shared memory a kernel takes, a training step
says how it is launched, and the programming guide says what a multiprocessor has. While one block waits for memory
another one works, so there should be two or more; few threads are enough where each has many copies under way.
"""

from __future__ import annotations

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
from minigan.errors import UserError
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

OLDER = ("sm_75",)  # than sm_80


def resident(usage: Usage, launch: Launch, has: Multiprocessor) -> tuple[int, str]:
    """How many blocks of a launch a multiprocessor holds at the same time, and for want of what no more."""
    warps = -(-launch.threads // WARP)
    registers = warps * -(-usage.registers * WARP // GRANULE) * GRANULE
    shared = usage.shared + launch.shared + has.reserved
    enough_for = {
        "threads": has.threads // (warps * WARP),
        "registers": REGISTERS // registers,
        "shared memory": has.shared // max(1, shared),
        "blocks": has.blocks,
    }
    held = min(enough_for.values())
    return held, ", ".join(name for name, blocks in enough_for.items() if blocks == held)


def launches(preset: str, conv2d: str, multiprocessors: int) -> list[Launch]:
    """What a training step launches on a GPU with so many multiprocessors, as `ordered` has it.

    conv2d: the module of kernels/conv2d with which it convolves.
    """
    device = recorder(conv2d)
    settings = options.new_settings(options.parse(["--preset", preset]))
    with recording() as launched, host.emulation(multiprocessors=multiprocessors):
        game = Game(settings, device)
        game.step(Tensor(np.empty((settings.batch_size, *game.networks.picture), np.float32), device))
    return ordered(launched)


def ordered(launched: set[Launch]) -> list[Launch]:
    """By name; of launches that differ in shared memory alone, the one with most."""
    most = {launch._replace(shared=0): launch for launch in sorted(launched, key=lambda launch: launch.shared)}
    return sorted(
        most.values(), key=lambda launch: (launch.source.name, launch.kernel, sorted(launch.defines), launch.threads)
    )


def table(launched: list[Launch], architecture: str) -> str:
    """A line of Markdown for each launch."""
    builds = {(launch.source, launch.defines) for launch in launched}
    major, has = nvrtc.newest(), MULTIPROCESSORS[architecture]
    with ThreadPoolExecutor() as pool:
        cubins = pool.map(lambda build: nvrtc.compile(*build, architecture, major), builds)
    usages = {build: cubin.usage for build, cubin in zip(builds, cubins, strict=True)}
    lines = [
        "| kernel | constants | threads a block | registers a thread | shared bytes a block | spilled bytes a thread "
        "| blocks a multiprocessor | limited by | of its threads |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for launch in launched:
        usage = usages[launch.source, launch.defines][launch.kernel]
        blocks, limit = resident(usage, launch, has)
        constants = " ".join(
            f"{name}={chr(value) if name == 'LETTER' else value}" for name, value in sorted(launch.defines)
        )
        lines.append(
            f"| `{launch.source.name.removeprefix('kernels/')}` {launch.kernel} | {constants} | {launch.threads} "
            f"| {usage.registers} | {usage.shared + launch.shared:,} | {usage.spilled} | {blocks} "
            f"| {limit} | {blocks * launch.threads / has.threads:.0%} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = options.Parser(
        prog="python -m benchmarks.occupancy",
        description="What each kernel that a training step launches takes of a multiprocessor. Needs no GPU.",
    )
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="radford64", help="whose step (default radford64)")
    add("--conv", choices=kernels.CONVOLUTIONS, default="auto", help="how to convolve (default auto)")
    add("--precision", choices=kernels.PRECISIONS, help="of convolutions (default tf32 where --conv has it, else fp32)")
    add("--architecture", choices=MULTIPROCESSORS, default="sm_90", help="of the GPU (default sm_90)")
    add(
        "--multiprocessors", type=options.whole(1), default=132, metavar="N", help="of the GPU (default 132, an H200's)"
    )
    given = parser.parse_args(arguments)
    ways = kernels.ways_of_gpu(given.architecture not in OLDER)
    if given.conv not in ways:
        raise UserError(f"--conv {given.conv}: {given.architecture} cannot: choose one of {', '.join(ways)}")
    precisions = ways[given.conv]
    precision = given.precision or ("tf32" if "tf32" in precisions else "fp32")
    if precision not in precisions:
        known = " or ".join(precisions)
        raise UserError(f"--precision {precision}: --conv {given.conv} is in {known} on {given.architecture}")
    launched = launches(given.preset, precisions[precision], given.multiprocessors)
    print(f"{given.preset}, {precision}, {given.architecture}, {given.multiprocessors} multiprocessors\n")
    print(table(launched, given.architecture))


if __name__ == "__main__":
    run_command(main)
