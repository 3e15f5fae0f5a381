"""What each launch of a training step asks of a multiprocessor, counted where there is none:

    python -m benchmarks.profile --precision tf32

NVIDIA's compiler makes PTX of the kernels, which the host runs an instruction at a time (kernels/launch/ptx.py), and of
each launch the block in the middle of the grid, alone. Counted is how many instructions its warps start, and what their
loads and stores ask of shared memory and of what lies behind it.

`clocks` is what a multiprocessor needs at least for its blocks: to start their instructions, to multiply on tensor
cores, or to read and write shared memory, whichever takes longest. Waiting is not in it, for memory, at barriers, or
for a kernel to begin and to end. So it says which launches matter, and which of them do more than they should. (Tensor
cores are taken to multiply as an H200's are said to, whatever the architecture: kernels/conv2d/tf32.py.)
"""

from __future__ import annotations

import math
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from unittest import mock

import numpy as np
from tqdm import tqdm

from benchmarks import launched
from kernels.conv2d.bf16 import PIPELINE as BF16
from kernels.conv2d.tf32 import PIPELINE as TF32
from kernels.launch import Launch, host, recording
from kernels.launch.counted import NOBODY, WARP, Counts, Requests
from kernels.launch.source import HOMES
from minigan.command import run_command

SCHEDULERS = 4  # of a multiprocessor; each starts an instruction of a warp in a clock
BANKS, WORD, SECTOR = 32, 4, 32  # of shared memory, bytes of a bank's word; bytes that memory is read and written in
ALIGNMENT = 512  # bytes, of which an array of CuPy begins at a multiple
NO_CODE = r"mov|cvta|ld\.param|bar\.warp"  # what the assembler finds a place for in other instructions, mostly
MULTIPLIES = {"tf32": (16 * 8 * 8, TF32.format.rate), "bf16": (16 * 8 * 16, BF16.format.rate)}  # of an mma; of a clock


class Traffic(NamedTuple):
    """Of a block with one kind of memory. moved: how many times it is at work; least: and would be, in better order."""

    moved: int = 0
    least: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.moved + other.moved, self.least + other.least)

    def said(self) -> str:
        """How many, and how many times as many as needed, if that is more than a few."""
        if not self.moved:
            return ""
        return f"{self.moved:,}" + (f" ({self.moved / self.least:.1f}x)" if self.moved > 1.05 * self.least else "")


def wavefronts(requests: Requests) -> Traffic:
    """Of shared memory: each of its banks gives or takes one word at a time.

    Lanes that ask for 8 or 16 bytes are served in halves or quarters of a warp; of the same word, all at once. (Source:
    CUDA C++ Programming Guide, "Compute Capability 5.x", "Shared Memory".)
    """
    lanes = min(WARP, BANKS * WORD // max(requests.bytes, WORD))  # that are served together
    addresses = requests.addresses.reshape(-1, lanes)
    asked = (addresses != NOBODY).any(axis=1)
    words = _words(addresses[asked], requests.bytes)
    rows, places = np.nonzero(_first_of_equals(words))
    conflicts = np.zeros((len(words), BANKS), np.int64)
    np.add.at(conflicts, (rows, words[rows, places].astype(np.int64) % BANKS), 1)
    return Traffic(int(conflicts.max(axis=1, initial=0).sum()), len(words))


def sectors(requests: Requests) -> Traffic:
    """Of the memory behind it, or its caches."""
    words = _words(requests.addresses, requests.bytes)
    words[words != NOBODY] //= np.uint64(SECTOR // WORD)
    distinct = _first_of_equals(words).sum()
    different = _first_of_equals(np.sort(requests.addresses, axis=1)).sum(axis=1)  # of a request's addresses
    return Traffic(int(distinct), int((-(-different * requests.bytes // SECTOR)).sum()))


def _words(addresses: np.ndarray, size: int) -> np.ndarray:
    """The numbers of the words that each row asks for, in order; NOBODY last."""
    steps = np.arange(0, max(size, 1), WORD, dtype=np.uint64)
    words = (addresses[:, :, None] + steps) // np.uint64(WORD)
    words[addresses == NOBODY] = NOBODY
    return np.sort(words.reshape(len(addresses), addresses.shape[1] * len(steps)), axis=1)


def _first_of_equals(numbers: np.ndarray) -> np.ndarray:
    """Of each row, which is sorted, where another number begins; NOBODY is none."""
    begins = np.ones(numbers.shape, bool)
    begins[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
    return begins & (numbers != NOBODY)


class Row(NamedTuple):
    """A launch: how many blocks there are, and what one of them does.

    instructions: that its warps start. tensor: clocks of the tensor cores.
    """

    launch: Launch
    blocks: int
    instructions: int
    tensor: float
    shared: Traffic
    memory: Traffic

    def clocks(self, multiprocessors: int) -> float:
        """That a multiprocessor needs for its blocks, at least: one that gets most of them."""
        turns = -(-self.blocks // multiprocessors)
        return turns * max(self.instructions / SCHEDULERS, self.tensor, self.shared.moved)


def row(counts: Counts) -> Row:
    """What a block has done, added up."""
    launch = Launch(counts.source, counts.kernel, counts.defines, math.prod(counts.block), 0)
    instructions, tensor, shared, memory = 0, 0.0, Traffic(), Traffic()
    for each in counts.instructions:
        if not re.match(NO_CODE, each.name):
            instructions += each.times
        if each.name.startswith("mma"):
            multiplications, rate = MULTIPLIES["tf32" if "tf32" in each.name else "bf16"]
            tensor += each.times * multiplications / rate
        if re.match(r"(ld|st)\.shared|ldmatrix|cp\.async\.c[ag]", each.name):
            shared += wavefronts(each.shared)
        if re.match(r"(ld|st)\.global|cp\.async\.c[ag]", each.name):
            memory += sectors(each.memory)
    return Row(launch, math.prod(counts.grid), instructions, tensor, shared, memory)


def profile(preset: str, conv2d: str, architecture: str, multiprocessors: int) -> list[Row]:
    """Every launch of a training step, in its order, on a virtual architecture: "compute_90"."""
    rows: list[Row] = []
    home = {np.ndarray: HOMES[np.ndarray]._replace(empty=aligned)}
    counting = {"ptx": architecture, "counted": lambda counts: rows.append(row(counts))}
    with mock.patch.dict(HOMES, home), host.emulation(multiprocessors=multiprocessors, **counting):
        with recording() as launches:
            step = launched.training(preset, conv2d)
            step()
        with ThreadPoolExecutor() as pool:
            builds = {(launch.source, launch.defines) for launch in launches}
            built = pool.map(lambda build: host.built(*build, False, architecture, True), builds)
            list(tqdm(built, total=len(builds), desc="compiling", unit="file", leave=False))
        step()
    return rows


def aligned(shape: tuple[int, ...], dtype) -> np.ndarray:
    """An uninitialised array that begins where one does in a GPU's memory."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)


def table(rows: list[Row], multiprocessors: int) -> str:
    """A line of Markdown for each launch, those that are equal in one; and what all of them need."""
    lines = [
        "| times | kernel | constants | blocks | instructions of a block | clocks of tensor cores "
        "| wavefronts of shared memory | sectors of memory | clocks |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each, times in Counter(rows).items():
        kernel = f"`{launched.name(each.launch)}` | {launched.constants(each.launch)}"
        tensor = f"{each.tensor:,.0f}" if each.tensor else ""
        counts = f"{each.instructions:,} | {tensor} | {each.shared.said()} | {each.memory.said()}"
        clocks = times * each.clocks(multiprocessors)
        lines.append(f"| {times} | {kernel} | {each.blocks:,} | {counts} | {clocks:,.0f} |")
    total = sum(each.clocks(multiprocessors) for each in rows)
    return "\n".join([*lines, f"\n{len(rows)} launches, {total:,.0f} clocks"])


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    asked = launched.parser("profile", "What each launch of a training step asks of a multiprocessor, counted.")
    given = asked.parse_args(arguments)
    step, conv2d = launched.chosen(given)
    print(f"{step}\n", flush=True)
    rows = profile(given.preset, conv2d, given.architecture.replace("sm_", "compute_"), given.multiprocessors)
    print(table(rows, given.multiprocessors))


if __name__ == "__main__":
    run_command(main)
