"""What is counted of a launch: instructions, and what the loads and stores of a warp ask of memory."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import launched, profile
from kernels.launch import Launch, Source, host
from kernels.launch.counted import NOBODY, Counts, Instruction, Requests

LANES = np.arange(32, dtype=np.uint64)


def request(size, addresses):
    """One of a warp, of lanes that ask for so many bytes each."""
    return Requests(size, np.array([addresses], np.uint64))


@pytest.mark.parametrize(
    ("size", "addresses", "moved", "least"),
    [
        (4, 4 * LANES, 1, 1),  # neighbours
        (4, 0 * LANES, 1, 1),  # one word for all
        (4, 8 * LANES, 2, 1),  # every other word: two of each of 16 banks
        (4, 128 * LANES, 32, 1),  # all in one bank
        (4, np.where(LANES < 4, 128 * LANES, NOBODY), 4, 1),  # of four lanes; the others ask for nothing
        (16, 16 * LANES, 4, 4),  # a quarter of the warp at a time
        (16, 32 * LANES, 8, 4),
        (16, np.where(LANES < 8, 16 * LANES, NOBODY), 1, 1),
        (2, 2 * LANES, 1, 1),  # two lanes share a word
    ],
)
def test_wavefronts(size, addresses, moved, least):
    """A bank of shared memory gives one word at a time, to as many lanes as want it."""
    assert profile.wavefronts(request(size, addresses)) == (moved, least)


@pytest.mark.parametrize(
    ("size", "addresses", "moved", "least"),
    [
        (4, 4 * LANES, 4, 4),  # 128 bytes
        (4, 4 * LANES + np.uint64(16), 5, 4),  # that begin in the middle of a sector
        (4, 12 * LANES, 12, 4),
        (4, 0 * LANES, 1, 1),
        (16, 16 * LANES, 16, 16),
        (16, 32 * LANES, 32, 16),  # half of each sector
        (4, np.where(LANES == 5, 4 * LANES, NOBODY), 1, 1),
    ],
)
def test_sectors(size, addresses, moved, least):
    """Memory is read in sectors of 32 bytes, whatever of them is wanted."""
    assert profile.sectors(request(size, addresses)) == (moved, least)


def test_nothing_asked():
    """Of no memory nothing is moved, and nothing is said."""
    nothing = Requests(0, np.empty((0, 32), np.uint64))
    assert profile.wavefronts(nothing) == profile.sectors(nothing) == (0, 0)
    assert profile.Traffic().said() == ""
    assert (profile.Traffic(1000, 990).said(), profile.Traffic(1500, 1000).said()) == ("1,000", "1,500 (1.5x)")


KERNEL = """
extern "C" __global__ void f(const float* x, float* y, int times) {
    __shared__ float tile[64][33];
    float sum = 0.0f;
#pragma unroll 1
    for (int i = 0; i < times; ++i) sum = fmaf(sum, x[32 * i + threadIdx.x % 32], 1.0f);
    tile[threadIdx.x][0] = sum;  // 33 words apart: each lane another bank
    __syncthreads();
    if (threadIdx.x < 8) y[8 * blockIdx.x + threadIdx.x] = tile[0][4 * threadIdx.x];
}
"""


@pytest.fixture
def counts(emulated, nvrtc):
    """Counts of the kernel above, in 3 blocks of 64 threads, 5 times round; and y after it."""
    source, taken = Source("tests", "counted.cu", text=KERNEL), []
    x, y = profile.aligned((160,), np.float32), profile.aligned((24,), np.float32)
    x[...], y[...] = 1, 0
    with host.emulation(ptx="compute_90", counted=taken.append):
        source.launch("f", (3,), (64,), x, y, 5)
        source.launch("f", (3,), (64,), x, y, 5)
    assert taken[0].instructions[0].times == taken[1].instructions[0].times  # each launch is counted by itself
    return taken[1], y


def test_counts(counts):
    """Of one block, the middle one: each warp's instructions, those of a loop as often as it goes round, and where they
    read and write."""
    told, y = counts
    assert (told.kernel, told.grid, told.block) == ("f", (3, 1, 1), (64, 1, 1))
    assert np.flatnonzero(y).tolist() == list(range(8, 16))  # the others have written nothing
    times = {}
    for each in told.instructions:
        times[each.name] = times.get(each.name, 0) + each.times
    assert times["fma.rn.f32"] == 2 * 5
    assert times["bar.sync"] == 2
    row = profile.row(told)
    assert (row.blocks, row.launch) == (3, Launch(told.source, "f", frozenset(), 64, 0))
    assert row.shared == (2 + 1, 3)  # two warps store, one loads
    assert row.memory == (2 * 5 * 4 + 1, 2 * 5 * 4 + 1)  # and load 128 bytes each time; one stores 32
    assert row.tensor == 0
    assert 2 * 5 + 10 * 4 <= row.instructions <= 300


def test_clocks():
    """A multiprocessor needs those of its scarcest part, for as many blocks as the one with most has."""
    launch = Launch(Source("tests", "counted.cu", text=KERNEL), "f", frozenset(), 64, 0)
    for instructions, tensor, shared, expected in [(400, 7, 9, 100), (40, 70, 9, 70), (40, 7, 90, 90)]:
        row = profile.Row(launch, 133, instructions, tensor, profile.Traffic(shared, shared), profile.Traffic())
        assert row.clocks(132) == 2 * expected
    assert "| 2 | `tests/counted.cu f` |  | 133 |" in profile.table([row, row], 132)
    assert profile.table([row, row], 132).endswith(f"\n\n2 launches, {4 * 90} clocks")


@pytest.mark.parametrize(
    ("name", "clocks"), [("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 1.6), ("add.s32", 0)]
)
def test_tensor_cores(name, clocks):
    """An mma of TF32 is 1,024 multiplications, of which a multiprocessor makes 640 in a clock."""
    nothing = Requests(0, np.empty((0, 32), np.uint64))
    told = Counts(None, "f", frozenset(), (1, 1, 1), (32, 1, 1), [Instruction(name, 10, nothing, nothing)])
    assert profile.row(told).tensor == pytest.approx(10 * clocks)


def test_command(emulated, nvrtc, monkeypatch, capsys):
    """Every launch of a step has a line, in its order, and equal ones share it."""
    steps = []

    def training(preset, conv2d):
        assert (preset, conv2d) == ("tiny32", "tf32")
        device, x = launched.recorder(conv2d), profile.HOMES[np.ndarray].empty((300,), np.float32)

        def step():
            steps.append([device.tanh(x), device.tanh(x), device.leaky_relu(x, 0.2)])

        return step

    monkeypatch.setattr(launched, "training", training)
    profile.main(["--preset", "tiny32", "--multiprocessors", "4"])
    title, _, _, _, tanh, leaky_relu, _, total = capsys.readouterr().out.splitlines()
    assert title == "tiny32, tf32, sm_90, 4 multiprocessors"
    assert tanh.startswith("| 2 | `tanh/tanh.cu tanh_elements` |  | 1 |")
    assert leaky_relu.startswith("| 1 | `leaky_relu/leaky_relu.cu leaky_relu` |  | 1 |")
    assert total.startswith("3 launches, ")
    assert len(steps) == 2  # recorded once, so that all can be compiled at once, and counted once
