"""The compile gate: every kernel, with every set of constants in use, to machine code for every architecture.

NVRTC needs no GPU. What it refuses fails, and so does what it warns of, a kernel that spills registers to memory, and
one whose arrays are not in registers to begin with.
`pytest -n0 -s tests/test_compile_gate.py` shows what each kernel takes on each architecture.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from planting import MODULES, PROGRAMS, results

import kernels
from benchmarks.launched import ARCHITECTURES, OLDER
from kernels.conv2d import bf16, fp32, fp32_direct, pipeline, tf32, winograd, winograd_cuda
from kernels.conv2d.plan import TILES
from kernels.launch import Source, recording
from kernels.launch import nvrtc as compiler
from kernels.launch.cache import cached
from minigan import options
from minigan.autograd import Tensor
from minigan.models import PRESETS
from minigan.train import Game

TENSOR_CORES = [each for each in ARCHITECTURES if each not in OLDER]  # which have what is in tensor_cores.cuh
OF_EACH_KIND = ("sm_80", "sm_90", "sm_120")  # sm_86 has the first's instructions, and sm_100 the second's, for us
EMULATED = kernels.Device("emulated", "cuda", (np.float32,))  # needs no C++ compiler while launches are only recorded


@pytest.fixture(scope="module")
def variants():
    """What is launched by a training step of every preset and by tests/cases.py; and with other tiles besides."""
    with recording() as tiled:
        for tile in TILES:  # whichever this machine would have taken
            with pytest.MonkeyPatch.context() as patch:
                for launcher in (pipeline, winograd_cuda):
                    patch.setattr(launcher, "plan", lambda *_, tile=tile: (tile, 1))
                for module in (fp32, fp32_direct, tf32, bf16):
                    list(results(module))
    with recording() as launched:
        for preset in PRESETS:
            game = Game(options.new_settings(options.parse(["--preset", preset])), EMULATED)
            game.step(Tensor(np.empty((2, *game.networks.picture), np.float32), EMULATED))
        for module in MODULES:
            list(results(module))
        for algorithm in (winograd.Algorithm(m, r, 1, 0) for r, outputs in winograd.OUTPUTS.items() for m in outputs):
            y, w = np.empty((1, 4, 4, 4), np.float32), np.empty((4, algorithm.r, algorithm.r, 4), np.float32)
            x = winograd_cuda.conv2d_transpose(y, w, algorithm, (3 + algorithm.r, 3 + algorithm.r))
            winograd_cuda.conv2d(x, w, algorithm, (4, 4))
            winograd_cuda.conv2d_weight_grad(x, y, algorithm, (algorithm.r, algorithm.r))
    return launched, tiled


def architectures(source):
    """Those that a source is for."""
    return TENSOR_CORES if "tensor_cores.cuh" in source.text else ARCHITECTURES


def test_every_kernel_is_launched(variants):
    """Every `__global__` of every `.cu` is among what the gate compiles: none is dead, none unseen."""
    launched = {(launch.source.name, launch.kernel) for launch in variants[0]}
    assert launched == {(p.source.name, kernel) for p in PROGRAMS.values() for kernel in p.source.kernels}


def compiled(source, defines, architecture, major):
    """The compiler's report, kept from an earlier run of the tests if nothing has changed."""
    parts = [compiler.version(major), *compiler.options(source, defines, architecture), source.name, source.text]

    def make(path):
        path.write_text(compiler.compile(source, defines, architecture, major).log)

    return compiler.Compiled(b"", cached("gate", parts, ".log", make).read_text())


def gate(source, defines, architecture, major):
    """A line for each kernel, and what is wrong with it."""
    where = f"{source.name} {' '.join(f'{name}={value}' for name, value in sorted(defines))} {architecture}"
    try:
        cubin = compiled(source, defines, architecture, major)
    except RuntimeError as error:
        return [], [f"{where}: {error}"]
    wrong = [f"{where}: {warning}" for warning in cubin.warnings]
    wrong += [f"{where}: {name} spills {usage.spilled} bytes" for name, usage in cubin.usage.items() if usage.spilled]
    wrong += [f"{where}: {name} has {usage.stack} bytes of stack" for name, usage in cubin.usage.items() if usage.stack]
    wrong += [f"{where}: no report of {kernel}" for kernel in source.kernels if kernel not in cubin.usage]
    lines = [
        f"{where:55} {name:20} {usage.registers:3} registers {usage.shared:5} bytes shared {usage.stack:3} bytes stack"
        for name, usage in cubin.usage.items()
    ]
    return lines, wrong


def test_compiles_for_every_architecture(variants, nvrtc):
    """No error, no warning, no spill, no stack; of other tiles, on an architecture of each kind."""
    launched, tiled = ({(launch.source, launch.defines) for launch in some} for some in variants)
    jobs = [(*build, architecture, nvrtc) for build in launched for architecture in architectures(build[0])]
    jobs += [(*build, architecture, nvrtc) for build in tiled - launched for architecture in OF_EACH_KIND]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(lambda job: gate(*job), jobs))
    print("", *sorted(line for lines, _ in outcomes for line in lines), sep="\n")
    wrong = [complaint for _, complaints in outcomes for complaint in complaints]
    assert not wrong, "\n".join(wrong)


GOOD = """
extern "C" __global__ void __launch_bounds__(BLOCK) planted(float* x) {  // (BLOCK, 100)
    float kept[100];  // 100 registers of each thread
    for (int i = 0; i < 100; ++i) kept[i] = x[threadIdx.x * 100 + i];
    __syncthreads();  // all are loaded before any is stored
    for (int i = 0; i < 100; ++i) x[threadIdx.x * 100 + i] = kept[99 - i];
}
"""


@pytest.mark.parametrize(
    ("text", "block", "message"),
    [
        (GOOD.replace("kept[99 - i]", "kept[99 - j]"), 128, r'planted.cu\(6\): error: identifier "j" is undefined'),
        (GOOD.replace("float kept", "int unused; float kept"), 128, r'planted.cu\(3\): warning.*"unused" was declared'),
        (GOOD, 1024, r"planted.cu BLOCK=1024 sm_80: planted spills \d+ bytes"),  # 65536 registers / 1024 threads = 64
        (GOOD.replace("kept[99 - i]", "kept[(int)x[i]]"), 128, "planted has 400 bytes of stack"),
    ],
)
def test_gate_fails(nvrtc, text, block, message):
    """The gate sees a planted error, a warning, a spill and an array not in registers, and passes what has none."""
    assert gate(Source("tests", "planted.cu", text=GOOD), {("BLOCK", 128)}, "sm_80", nvrtc)[1] == []
    _, wrong = gate(Source("tests", "planted.cu", text=text), {("BLOCK", block)}, "sm_80", nvrtc)
    assert wrong
    assert re.search(message, wrong[0])


def test_the_compiler_has_its_other_half(nvrtc):
    """NVRTC asks for its built-in functions by their library's bare name: it is open before the first compilation."""
    (name,) = (file.name for file in importlib.metadata.files(compiler.WHEELS[nvrtc]) if "builtins.so" in file.name)
    code = f"""
import ctypes, os
from kernels.launch import nvrtc
nvrtc._library({nvrtc})
ctypes.CDLL({name!r}, mode=os.RTLD_NOLOAD)  # raises where it is not open
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_denormals_are_kept(nvrtc, monkeypatch):
    """The smallest numbers are not flushed to 0: NumPy keeps them. Asked to flush, the compiler makes other code."""
    source = Source("tests", "half.cu", text='extern "C" __global__ void halve(float* x) { *x *= 0.5f; }')
    kept = compiler.compile(source, frozenset(), "sm_80", nvrtc).code
    assert kept == compiler.compile(source, frozenset(), "sm_80", nvrtc).code
    monkeypatch.setattr(compiler, "OPTIONS", [o.replace("-ftz=false", "-ftz=true") for o in compiler.OPTIONS])
    assert kept != compiler.compile(source, frozenset(), "sm_80", nvrtc).code


def test_contraction_is_a_choice_of_the_source(nvrtc):
    """a * b + c is fused into one rounding unless the source says `contract=False`, as philox.cu must."""
    text = 'extern "C" __global__ void f(double* x) { x[0] = x[1] * x[2] + x[3]; }'
    fused, apart = (
        compiler.compile(Source("tests", "f.cu", text=text, contract=contract), frozenset(), "sm_80", nvrtc).code
        for contract in (True, False)
    )
    assert fused != apart
    assert not importlib.import_module("kernels.philox.cuda").SOURCE.contract
