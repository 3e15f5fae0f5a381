"""What a kernel takes of a multiprocessor, from the compiler's report and the launch."""

from __future__ import annotations

import pytest

from benchmarks import occupancy
from kernels.launch import Launch, Source
from kernels.launch.nvrtc import Usage

SM_80 = occupancy.MULTIPROCESSORS["sm_80"]


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "dynamic", "blocks"),
    [
        (32, 0, 256, 0, 8),  # all 2048 threads
        (33, 0, 256, 0, 6),  # 33 registers are given out as 40: 65536 / (8 * 1280) = 6.4
        (255, 0, 256, 0, 1),
        (16, 0, 1, 0, 32),  # no more blocks than that
        (16, 0, 1024, 0, 2),
        (16, 16 << 10, 128, 0, 9),  # 164 KiB, of which each takes 17
        (16, 0, 128, 80 << 10, 2),
        (16, 1 << 10, 128, 163 << 10, 0),  # it could not be launched
    ],
)
def test_resident(registers, shared, threads, dynamic, blocks):
    """As many blocks as the scarcest of threads, blocks, registers and shared memory allows."""
    launch = Launch(None, "kernel", frozenset(), threads, dynamic)
    assert occupancy.resident(Usage(registers, shared, 0, 0), launch, SM_80) == blocks


def test_table(nvrtc):
    """A line for each launch, with what the compiler says of its kernel."""
    text = 'extern "C" __global__ void f(float* x) { __shared__ float y[256]; y[threadIdx.x] = x[0]; x[1] = y[5]; }'
    launch = Launch(Source("tests", "f.cu", text=text), "f", frozenset({("N", 2)}), 256, 1024)
    *_, line = occupancy.table([launch], "sm_80").splitlines()
    name, constants, threads, registers, shared, spilled, blocks, share = (
        cell.strip() for cell in line.split("|")[1:-1]
    )
    assert (name, constants, threads, shared, spilled) == ("`tests/f.cu` f", "N=2", "256", "2,048", "0")
    assert 0 < int(registers) <= 32
    assert (blocks, share) == ("8", "100%")


def test_launches():
    """A step on a large GPU takes more than one build of a product, and for its three colours the other paths."""
    for precision, more in [("fp32", {"winograd.cu"}), ("tf32", set()), ("bf16", set())]:
        launched = [
            launch for launch in occupancy.launches("radford64", "auto", precision, 132) if "conv2d" in launch.kernel
        ]
        paths = {launch.source.name.removeprefix("kernels/conv2d/") for launch in launched}
        assert paths == {"conv2d.cu", "few.cu", "pipeline.cu"} | more
        assert len({launch.defines for launch in launched if "product.cuh" in launch.source.text}) > 1
