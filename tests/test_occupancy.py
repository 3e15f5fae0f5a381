"""What a kernel takes of a multiprocessor, from the compiler's report and the launch."""

from __future__ import annotations

import pytest

from benchmarks import launched, occupancy
from kernels.launch import Launch, Source
from kernels.launch.nvrtc import Usage

SM_80 = occupancy.MULTIPROCESSORS["sm_80"]


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "dynamic", "blocks", "limit"),
    [
        (32, 0, 256, 0, 8, "threads, registers"),  # all 2048 threads, all 65536 registers
        (31, 0, 512, 0, 4, "threads, registers"),  # 31 registers are given out as 32
        (33, 0, 256, 0, 6, "registers"),  # and 33 as 40: 65536 / (8 * 1280) = 6.4
        (33, 22 << 10, 256, 0, 6, "registers"),  # shared memory for 7
        (255, 0, 256, 0, 1, "registers"),
        (16, 0, 1, 0, 32, "blocks"),  # no more than that
        (16, 0, 1024, 0, 2, "threads"),
        (16, 16 << 10, 128, 0, 9, "shared memory"),  # 164 KiB, of which each takes 17
        (16, 0, 128, 80 << 10, 2, "shared memory"),
        (16, 1 << 10, 128, 163 << 10, 0, "shared memory"),  # it could not be launched
    ],
)
def test_resident(registers, shared, threads, dynamic, blocks, limit):
    """As many blocks as the scarcest of threads, blocks, registers and shared memory allows, and which that is."""
    launch = Launch(None, "kernel", frozenset(), threads, dynamic)
    assert occupancy.resident(Usage(registers, shared, 0, 0), launch, SM_80) == (blocks, limit)


def test_every_architecture():
    """Is known, of all that can be asked for."""
    assert set(occupancy.MULTIPROCESSORS) == set(launched.ARCHITECTURES)


def test_table(nvrtc):
    """A line for each launch, with what the compiler says of its kernel."""
    text = 'extern "C" __global__ void f(float* x) { __shared__ float y[256]; y[threadIdx.x] = x[0]; x[1] = y[5]; }'
    launch = Launch(Source("tests", "f.cu", text=text), "f", frozenset({("N", 2), ("LETTER", ord("x"))}), 256, 1024)
    heads, _, line = occupancy.table([launch], "sm_80").splitlines()
    assert len(heads.split("|")) == len(line.split("|"))
    name, constants, threads, registers, shared, spilled, blocks, limit, share = (
        cell.strip() for cell in line.split("|")[1:-1]
    )
    assert (name, constants, threads, shared, spilled) == ("`tests/f.cu f`", "LETTER=x N=2", "256", "2,048", "0")
    assert 0 < int(registers) <= 32
    assert (blocks, share) == ("8", "100%")
    assert limit.startswith("threads")


@pytest.mark.parametrize(
    ("arguments", "title", "there"),
    [
        (["--architecture", "sm_75"], "radford64, fp32, sm_75, 132 multiprocessors", "`conv2d/conv2d.cu conv2d`"),
        (["--conv", "tiled"], "radford64, fp32, sm_90, 132 multiprocessors", "`conv2d/tiled.cu conv2d`"),
        ([], "radford64, tf32, sm_90, 132 multiprocessors", "`conv2d/pipeline.cu conv2d`"),
    ],
)
def test_command(nvrtc, capsys, arguments, title, there):
    """With what every architecture and every way of convolution has, unless more is said."""
    occupancy.main(arguments)
    said = capsys.readouterr().out
    assert said.startswith(f"{title}\n\n| kernel |")
    assert f"\n| {there} |" in said
