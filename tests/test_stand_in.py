"""All that is around the kernels on a GPU, but the GPU: with tests/stand_in/cupy in CuPy's place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Of the suite, what captures, repeats, sends and takes memory; `PYTHONPATH=tests/stand_in pytest --device cuda` is all.
CHOSEN = [
    "test_graph.py::test_a_repeated_step_is_the_step[cuda-bf16-arguments2]",
    "test_graph.py::test_a_repeated_step_finds_the_pictures_that_were_sent",
    "test_graph.py::test_kernels_run_when_they_are_repeated",
    "test_graph.py::test_what_cannot_be_repeated_is_refused",
    "test_train.py::test_a_run_of_graphs_is_the_same_run",
]
BROKEN = """
from kernels.launch import gpu
gpu.Branches.{function} = lambda self, *_: {instead}
import cupy, numpy as np
from kernels.launch import Source
twice = Source("tests", "twice.cu", text='''
extern "C" __global__ void twice(const float* x, float* y) {{ y[threadIdx.x] = 2 * x[threadIdx.x]; }}''')
x, y, z = (gpu.array(np.ones(32, np.float32)) for _ in range(3))
def step():
    twice.launch("twice", (1,), (32,), x, y)  # the second need not wait for the first, and so has another stream
    twice.launch("twice", (1,), (32,), x, z)
    return y, z
graph = gpu.GpuGraph(step)
graph(), graph()
"""


FORGOTTEN = """
from kernels.launch import gpu
import numpy as np
from kernels.launch import Source, empty
twice = Source("tests", "twice.cu", text='''
extern "C" __global__ void twice(const float* x, float* y) { y[threadIdx.x] = 2 * x[threadIdx.x]; }''')
x = gpu.array(np.ones(32, np.float32))
def step():
    y = empty(x, (32,))
    twice.launch("twice", (1,), (32,), x, y)
    return y
free = gpu.free_memory()
graph = gpu.GpuGraph(step)
graph(), graph()
assert gpu.free_memory() < free
del graph
assert gpu.free_memory() == free, "a graph's memory is lost"
"""


def with_stand_in(*arguments) -> subprocess.CompletedProcess:
    """Python, which finds the stand-in where it looks for CuPy."""
    paths = [str(TESTS / "stand_in"), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=TESTS, capture_output=True, text=True)


def test_the_device_cuda(emulated):
    """A graph's branches wait for each other, its memory is its own, and what is sent arrives: the bits are those of
    steps that are launched one by one."""
    done = with_stand_in("-m", "pytest", "-q", "-n0", "--device", "cuda", *CHOSEN)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("function", "instead", "message"),
    [
        ("join", "None", "a stream was not waited for before the end of the capture"),
        ("launch", "gpu.array(np.ones(1))", "a captured step launches kernels and nothing else"),
        ("_branch", "0", ""),
    ],
)
def test_what_a_capture_refuses(emulated, function, instead, message):
    """A branch that is left open, and what is no launch; one branch for all is slow, and right."""
    done = with_stand_in("-c", BROKEN.format(function=function, instead=instead))
    assert message in done.stderr
    assert (done.returncode == 0) == (not message)


def test_the_memory_of_a_graph_comes_back(emulated):
    """When it is forgotten: a step that was too large leaves room for a smaller one. CuPy's pools must be asked to."""
    done = with_stand_in("-c", FORGOTTEN)
    assert done.returncode == 0, done.stderr
