"""How many blocks a multiprocessor can hold of each kernel that a training step launches:

    python -m benchmarks.occupancy --architecture sm_90

No GPU is needed: NVIDIA's compiler says how many registers and how much shared memory a kernel takes, a training step
says how it is launched, and the programming guide says what a multiprocessor has. While one block waits for memory
another one works, so there should be two or more; few threads are enough where each has many copies under way.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks import launched
from kernels.launch import Launch, nvrtc
from kernels.launch.nvrtc import Usage
from minigan.command import run_command

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


def table(launches: list[Launch], architecture: str) -> str:
    """A line of Markdown for each launch."""
    builds = {(launch.source, launch.defines) for launch in launches}
    major, has = nvrtc.newest(), MULTIPROCESSORS[architecture]
    with ThreadPoolExecutor() as pool:
        cubins = pool.map(lambda build: nvrtc.compile(*build, architecture, major), builds)
    usages = {build: cubin.usage for build, cubin in zip(builds, cubins, strict=True)}
    lines = [
        "| kernel | constants | threads a block | registers a thread | shared bytes a block | spilled bytes a thread "
        "| blocks a multiprocessor | limited by | of its threads |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for launch in launches:
        usage = usages[launch.source, launch.defines][launch.kernel]
        blocks, limit = resident(usage, launch, has)
        lines.append(
            f"| `{launched.name(launch)}` | {launched.constants(launch)} | {launch.threads} "
            f"| {usage.registers} | {usage.shared + launch.shared:,} | {usage.spilled} | {blocks} "
            f"| {limit} | {blocks * launch.threads / has.threads:.0%} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    asked = launched.parser("occupancy", "What each kernel that a training step launches takes of a multiprocessor.")
    given = asked.parse_args(arguments)
    step, launches = launched.of_step(given)
    print(f"{step}\n")
    print(table(launches, given.architecture))


if __name__ == "__main__":
    run_command(main)
