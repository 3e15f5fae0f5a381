"""The emulator shows what a GPU hides: missing barriers, missing guards, and memory that nobody wrote."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planting import MODULES, PROGRAMS, planted, results

import kernels
from kernels.launch import Source, host

ORDERS = 3  # shuffled orders that a missing barrier gets to show itself in


def source(text):
    """A small kernel to learn from."""
    return Source("tests", "small.cu", text=text)


# ---- small kernels, one lesson each ---------------------------------------------------------------------------------

DIFFERENCES = """
extern "C" __global__ void differences(const float* x, float* y) {  // (256,), (256,): y[t] = x[t] - x[t - 1]
    __shared__ float tile[256];
    const int t = threadIdx.x;
    tile[t] = x[t];
    __syncthreads();
    y[t] = t ? tile[t] - tile[t - 1] : tile[t];
}
"""


def differences(text, order):
    x, y = np.arange(256, dtype=np.float32) ** 2, np.empty(256, np.float32)
    with host.emulation(order=order):
        source(text).launch("differences", (1,), (256,), x, y)
    return y


def test_missing_barrier(emulated, seed):
    """A missing barrier hides while threads happen to run in order, and changes the result when they do not."""
    right = np.diff(np.arange(256, dtype=np.float32) ** 2, prepend=np.float32(0))
    planted = DIFFERENCES.replace("__syncthreads();", "")
    np.testing.assert_array_equal(differences(DIFFERENCES, None), right)
    np.testing.assert_array_equal(differences(planted, None), right)
    for order in range(seed, seed + ORDERS):
        np.testing.assert_array_equal(differences(DIFFERENCES, order), right)
        assert not np.array_equal(differences(planted, order), right)


NEIGHBOURS = """
extern "C" __global__ void neighbours(const float* x, float* y) {  // (256,), (256,): the sum of the warp before
    __shared__ float sums[8];
    const int warp = threadIdx.x / 32;
    float sum = x[threadIdx.x];
    for (int lanes = 1; lanes < 32; lanes *= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
    sums[warp] = sum;
    __syncthreads();
    y[threadIdx.x] = __shfl_sync(~0u, sums[(warp + 7) % 8], 0);
}
"""


def test_warps_run_ahead(emulated, seed):
    """What keeps the lanes of a warp in step keeps no two warps in step: a barrier that is missing between shuffles
    shows too."""
    x, y = np.ones(256, np.float32), np.empty(256, np.float32)
    for text, missed in [
        (NEIGHBOURS, False),
        (NEIGHBOURS.replace("__syncthreads();", "__shfl_sync(~0u, sum, 0);"), True),
    ]:
        for order in range(seed, seed + ORDERS):
            with host.emulation(order=order):
                source(text).launch("neighbours", (1,), (256,), x, y)
            assert np.isnan(y).any() == missed
            assert np.all((y == 32) | np.isnan(y))


def test_order_is_a_function_of_its_seed(emulated, seed):
    """The same seed runs the threads in the same order, another seed in another, and each runs all of them once."""
    text = """
    extern "C" __global__ void arrivals(int* order, int* count) {  // (2, 64), (1,)
        order[(*count)++] = blockIdx.x * 64 + threadIdx.x;
    }
    """
    arrivals = source(text)

    def run(order):
        numbers, count = np.zeros((2, 64), np.int32), np.zeros(1, np.int32)
        with host.emulation(order=order):
            arrivals.launch("arrivals", (2,), (64,), numbers, count)
        return numbers.ravel().tolist()

    assert run(None) == list(range(128))
    assert run(seed) == run(seed) != run(seed + 1)
    assert sorted(run(seed)) == run(None) != run(seed)


def test_unwritten_shared_memory_is_nan(emulated):
    """Shared memory holds NaN at the start of every block, whatever the block before left in it."""
    text = """
    extern "C" __global__ void leak(float* y, int i) {  // (gridDim.x,); i is 0, which no compiler knows
        __shared__ float total[2];
        total[1 - i] = 0.0f;
        y[blockIdx.x] = total[i];
        total[i] = 1.0f;
    }
    """
    y = np.zeros(3, np.float32)
    source(text).launch("leak", (3,), (1,), y, 0)
    assert np.isnan(y).all()


SOME_RETURN = """
extern "C" __global__ void divergent(float* y, int threads) {
    if (threadIdx.x >= threads) return;
    __syncthreads();
    y[threadIdx.x] = 1.0f;
}
"""
TWO_BARRIERS = """
extern "C" __global__ void divergent(float* y, int threads) {
    if (threadIdx.x < threads) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
"""
HALF_A_WARP = """
extern "C" __global__ void divergent(float* y, int threads) {
    if (threadIdx.x < threads) y[threadIdx.x] = __shfl_xor_sync(0xffffffff, 1.0f, 1);
    __syncthreads();
}
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SOME_RETURN, "thread 0 and 7 more at the block barrier of line 4; thread 8 and 23 more returned"),
        (TWO_BARRIERS, "block barrier of line 4; thread 8 and 23 more at the block barrier of line 6"),
        (HALF_A_WARP, "warp barrier of line 3; thread 8 and 23 more at the block barrier of line 4"),
    ],
)
def test_divergent_barrier(emulated, text, message):
    """A barrier that not all threads reach ends the launch, with the kernel, the block and who is where; the next
    launch of the same library starts afresh."""
    divergent, y = source(text), np.zeros(32, np.float32)
    with pytest.raises(RuntimeError, match=re.escape("tests/small.cu: divergent: block (0, 0, 0): ")) as error:
        divergent.launch("divergent", (2,), (32,), y, 8)
    assert str(error.value).endswith(message)
    divergent.launch("divergent", (2,), (32,), y, 32)


SHUFFLES = """
extern "C" __global__ void shuffles(const double* x, double* y, int width) {  // (64,): two warps; (5, 64)
    const int t = threadIdx.x;
    y[t] = __shfl_sync(~0u, x[t], 3, width);
    y[64 + t] = __shfl_up_sync(~0u, x[t], 3, width);
    y[128 + t] = __shfl_down_sync(~0u, x[t], 3, width);
    y[192 + t] = __shfl_xor_sync(~0u, x[t], 3, width);
    if (t % 32 < 16) y[256 + t] = __shfl_sync(0xffffu, x[t], 1) + __shfl_sync(0xffffu, x[t], 16);
}
"""


@pytest.mark.parametrize("width", [2, 8, 32])
def test_shuffles(emulated, seed, width):
    """Warp shuffles hand values over as the CUDA programming guide says, one right after the other, in whatever order
    the lanes come. A source beyond the lane's segment gives the lane its own value, one outside the mask NaN."""
    x, y = np.arange(64.0), np.zeros((5, 64))
    with host.emulation(order=seed):
        source(SHUFFLES).launch("shuffles", (1,), (64,), x, y, width)
    t = np.arange(64)
    first = t // width * width  # lane of the segment
    np.testing.assert_array_equal(y[0], first + 3 % width)
    np.testing.assert_array_equal(y[1], np.where(t - 3 >= first, t - 3, t))
    np.testing.assert_array_equal(y[2], np.where(t + 3 < first + width, t + 3, t))
    np.testing.assert_array_equal(y[3], np.where(t ^ 3 < first + width, t ^ 3, t))
    np.testing.assert_array_equal(y[4], np.where(t % 32 < 16, np.nan, 0))


def test_places(emulated):
    """threadIdx, blockIdx, blockDim and gridDim count as CUDA's do, x fastest."""
    text = """
    extern "C" __global__ void places(int* y) {  // (gridDim z, y, x, blockDim z, y, x)
        const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        y[block * blockDim.x * blockDim.y * blockDim.z + thread] += block + 100 * thread;
    }
    """
    y = np.zeros((24, 30), np.int32)
    source(text).launch("places", (2, 3, 4), (5, 3, 2), y)
    np.testing.assert_array_equal(y, np.arange(24)[:, None] + 100 * np.arange(30))


def test_compile_error(emulated):
    """What the compiler says comes through, the host's or NVIDIA's, with the line of the `.cu`."""
    said = r"(?s)tests/small.cu does not compile for (the host:.*tests/small.cu:3:|\w+:.*tests/small.cu\(3\):).*oops"
    with pytest.raises(RuntimeError, match=said):
        source('\nextern "C" __global__ void f(int* n) {\n    *n = oops;\n}').launch(
            "f", (1,), (1,), np.zeros(1, np.int32)
        )


# ---- the real kernels, in any order ---------------------------------------------------------------------------------


def test_order_changes_nothing(emulated, seed):
    """Every kernel of every module has the same bits in whatever order its blocks and threads run."""
    for module in MODULES:
        in_order = list(results(module))
        with host.emulation(order=seed):
            for right, shuffled in zip(in_order, results(module), strict=True):
                np.testing.assert_array_equal(right, shuffled, err_msg=module.__name__)


@functools.cache
def right_results(module):
    """Those of the kernels as they are."""
    return list(results(module))


BARRIER = "__syncthreads();"


def barriers(name):
    """The numbers of a program's; of the pipeline's in bf16, which finds nothing pending, without its tables'."""
    *before, _ = PROGRAMS[name].source.text.split(BARRIER)
    idle = [name == "conv2d, bf16" and "FLOATS" in text.rpartition("[&]")[2] for text in before]
    return [n for n in range(len(before)) if not idle[n]]


BARRIERS = [(name, n) for name in PROGRAMS for n in barriers(name)]


@pytest.mark.parametrize(("name", "n"), BARRIERS)
def test_every_barrier_is_needed(emulated, seed, name, n):
    """Without any one of its barriers a kernel gives another result in some order: none is missed, none is idle."""
    module = PROGRAMS[name].module
    right = right_results(module)
    parts = PROGRAMS[name].source.text.split(BARRIER)
    with planted(name, BARRIER.join(parts[: n + 1]) + BARRIER.join(parts[n + 1 :])):
        for order in range(seed, seed + ORDERS):
            with host.emulation(order=order):
                if any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(right, results(module), strict=True)):
                    return
    pytest.fail(f"{name}: nothing changes without barrier {n}")


# ---- the sanitizer, in a process of its own -------------------------------------------------------------------------


@pytest.fixture
def sanitized(emulated):
    """Runs tests/sanitized.py with arguments."""
    try:
        environment = host.sanitized_environment()
    except kernels.DeviceError as error:
        pytest.skip(str(error))
    script = Path(__file__).with_name("sanitized.py")
    return lambda *arguments: subprocess.run(
        [sys.executable, script, *arguments], env=environment, capture_output=True, text=True
    )


def test_sanitizer_must_be_there_first(emulated):
    """Arrays made before the sanitizer was loaded have no red zones, so it is refused where Python started without."""
    with host.emulation(sanitize=True), pytest.raises(kernels.DeviceError, match="sanitized_environment"):
        source(DIFFERENCES).launch("differences", (1,), (256,), *np.zeros((2, 256), np.float32))


NAMES = [module.__name__ for module in MODULES]
APART = [[name] for name in NAMES if "conv2d" in name]  # the slow ones


@pytest.mark.parametrize("names", [*APART, [name for name in NAMES if [name] not in APART]], ids=lambda names: names[0])
def test_no_kernel_leaves_its_arrays(sanitized, names):
    """Under the sanitizers every kernel of every module runs to its end."""
    done = sanitized("--all", *names)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == names


@pytest.mark.parametrize(
    ("name", "code", "instead", "error"),
    [
        ("leaky_relu", "if (element(i, block) < size) y", "if (element(i, block) <= size) y", "heap-buffer-overflow"),
        ("conv2d", "row < rows && column < columns", "row < rows", "heap-"),  # half of one; freed memory may follow
        ("conv2d", "0 <= i && i < H", "i < H", "heap-"),
        ("conv2d", "float a[DEPTH][PITCH]", "float a[DEPTH - 1][PITCH]", "global-buffer-overflow"),  # a shared tile
        ("conv2d", "row[MICRO], column[MICRO]", "row[MICRO], column[MICRO - 1]", "stack-buffer-overflow"),  # registers
        ("conv2d, fp32", "return !(outside & tap)", "return true", "heap-"),  # of an asynchronous copy
        ("conv2d, tf32", "Number at[LINES][DEPTH]", "Number at[LINES + 4][DEPTH]", "heap-"),  # beyond the launch's
        ("conv2d, bf16", "if (column >= columns) continue;", "", "heap-"),
        ("conv2d, fold", "if (at >= size) break;", "", "heap-"),
        ("conv2d, operand in bf16", "row < M ? C - c : 0", "C - c", "heap-"),
        ("conv2d, operand in fp32", "e < left ? from[e] : 0.0f", "from[e]", "heap-"),
        ("conv2d, tiles", "bool there = 0 <= h && h < H &&", "bool there =", "heap-"),
        ("conv2d, winograd", "line0 + line < lines && d0 + d < depth", "d0 + d < depth", "heap-"),
    ],
)
def test_missing_guard(sanitized, name, code, instead, error):
    """A fault planted in a copy of a kernel, such as a missing guard, ends the process and names the `.cu`'s line."""
    done = sanitized(name, code, instead)
    assert done.returncode != 0
    assert f"ERROR: AddressSanitizer: {error}" in done.stderr
    file = re.escape(PROGRAMS[name].source.name)
    assert re.search(rf"#\d+ .* in .* {file}:\d+", done.stderr)


@pytest.mark.parametrize(
    ("name", "code", "instead", "error"),
    [
        ("conv2d, operand in fp32", "C % 4 == 0", "true", "misaligned address .* requires 16 byte alignment"),
        ("conv2d, fp32", "1u << (16 + s)", "1u << (32 + s)", "shift exponent 32 is too large"),
    ],
)
def test_what_only_a_gpu_refuses(sanitized, name, code, instead, error):
    """Four floats that are read at once begin at a multiple of 16 bytes, else a GPU stops; and where a host shifts by
    32 not at all, it shifts everything out."""
    done = sanitized(name, code, instead)
    assert done.returncode != 0
    assert re.search(rf"{re.escape(PROGRAMS[name].source.name)}:\d+:\d+: runtime error: .*{error}", done.stderr)
