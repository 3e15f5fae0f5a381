"""The instructions of tensor_cores.cuh, as a GPU does them and as the emulator does: where each number is, how it is
rounded, and, on the emulator, that a copy is not there before it was waited for.
"""

from __future__ import annotations

import numpy as np
import pytest

import kernels
from kernels.launch import Source, host
from kernels.launch import nvrtc as compiler


def source(text):
    """A small kernel that includes the header."""
    return Source(
        "kernels.launch", "small.cu", text='#include "dynamic_shared.cuh"\n#include "tensor_cores.cuh"\n' + text
    )


@pytest.fixture(params=[None, "compute_90"], ids=["written", "ptx"], autouse=True)
def ptx(request):
    """Each test again with what NVIDIA's compiler makes of the wrappers, on the host: there, inline PTX is run."""
    if request.param:
        request.getfixturevalue("nvrtc")
        if request.node.callspec.params.get("gpu") == "cuda":
            pytest.skip("a GPU runs nothing else")
    with host.emulation(ptx=request.param):
        yield


def launch(gpu, text, kernel, threads, *arguments, **options):
    """One block of a kernel of `text` on that device, which changes the arrays among its arguments."""
    device = kernels.device(gpu)
    given = [device.array(a) if isinstance(a, np.ndarray) else a for a in arguments]
    source(text).launch(kernel, (1,), (threads,), *given, **options)
    for array, changed in zip(arguments, given, strict=True):
        if isinstance(array, np.ndarray):
            array[...] = device.numpy(changed)


# ---- rounding -------------------------------------------------------------------------------------------------------

ROUNDING = """
extern "C" __global__ void rounding(const float* x, unsigned* y, unsigned* z) {  // (n,), (n,), (n / 2,): n / 2 threads
    const int t = threadIdx.x;
    y[2 * t] = tf32(x[2 * t]);
    y[2 * t + 1] = tf32(x[2 * t + 1]);
    z[t] = bf16_pair(x[2 * t], x[2 * t + 1]);
}
"""


def cut(x):
    """What the tensor cores look at of a TF32 operand: all but the 13 lowest bits."""
    return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def to_tf32(x):
    """What is left of x where it becomes a TF32 operand, as float32."""
    with np.errstate(over="ignore"):
        return cut(x * np.float32(1 + 2**-11))


def to_bf16(x):
    """The nearest bf16 as float32, ties to even: half is added, less one where the last kept bit is 0."""
    bits = x.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def test_rounding(gpu, seed):
    """Ties, denormals, carries into the exponent and infinities included; NaN stays NaN. What is rounded is off by at
    most the format's unit, 2^-11 and 2^-8 of itself, and a TF32 stays what it is. bf16 is the nearest, bit for bit."""
    rng = np.random.default_rng(seed)
    ties = np.arange(0x3F800000, 0x3F800000 + (1 << 17), 1 << 12, dtype=np.uint32).view(np.float32)
    binade = np.arange(0x3F800000, 0x40000000, 8191, dtype=np.uint32).view(np.float32)
    edges = np.float32([0, -0.0, 1e-45, -1e-40, 2 - 2**-23, 3.4e38, np.inf, -np.inf])
    x = np.concatenate([ties, -ties, binade, edges, rng.standard_normal(200, np.float32), [np.nan, 1, 1, 1]])
    x = x[: x.size // 2 * 2].astype(np.float32)
    y, z = np.zeros(x.size, np.uint32), np.zeros(x.size // 2, np.uint32)
    launch(gpu, ROUNDING, "rounding", x.size // 2, x, y, z)
    y, z = cut(y.view(np.float32)), (z.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    nan = np.isnan(x)
    assert nan.any()
    assert np.isnan(y[nan]).all()
    assert np.isnan(z[nan]).all()
    x, y, z = x[~nan], y[~nan], z[~nan]
    np.testing.assert_array_equal(y.view(np.uint32), to_tf32(x).view(np.uint32))
    np.testing.assert_array_equal(z.view(np.uint32), to_bf16(x).view(np.uint32))
    held = x == cut(x)
    assert held.any()
    np.testing.assert_array_equal(y[held], x[held])
    normal = np.isfinite(y) & np.isfinite(z) & (abs(x) > 1e-37)
    once = (1 + 2.0**-11) * 2.0**-24  # the multiplication by 1 + 2^-11 rounds, too
    assert np.all(abs(y[normal].astype(float) - x[normal]) <= (2.0**-11 + once) * abs(x[normal]))
    assert np.all(abs(z[normal] - x[normal]) <= 2.0**-8 * abs(x[normal]))


# ---- fragments ------------------------------------------------------------------------------------------------------

PIECES = """
extern "C" __global__ void pieces(const float* x, float* y) {  // (32, 20), 8 rows of four are a piece; (4, 32)
    __shared__ __align__(16) float tile[32 * 20];
    for (int e = threadIdx.x; e < 32 * 20; e += 32) tile[e] = x[e];
    __syncthreads();
    unsigned values[4];
    load_pieces(tile + threadIdx.x * 20, values);
    for (int piece = 0; piece < 4; ++piece) y[32 * piece + threadIdx.x] = __uint_as_float(values[piece]);
}
extern "C" __global__ void transposed(const unsigned short* x, unsigned* y) {  // (32, 40), 8 rows of eight; (4, 32)
    __shared__ __align__(16) unsigned short tile[32 * 40];
    for (int e = threadIdx.x; e < 32 * 40; e += 32) tile[e] = x[e];
    __syncthreads();
    unsigned values[4];
    load_pieces_transposed(tile + threadIdx.x * 40, values);
    for (int piece = 0; piece < 4; ++piece) y[32 * piece + threadIdx.x] = values[piece];
}
"""


def test_load_pieces(gpu, seed):
    """Lane (g, t) gets float t of row g of each piece, wherever its rows lie."""
    x, y = np.arange(32 * 20, dtype=np.float32).reshape(32, 20), np.zeros((4, 32), np.float32)
    with host.emulation(order=seed):
        launch(gpu, PIECES, "pieces", 32, x, y)
    np.testing.assert_array_equal(y, x[:, :4].reshape(4, 32))


def test_load_pieces_transposed(gpu, seed):
    """Lane (g, t) gets number g of rows 2 t and 2 t + 1 of each piece, wherever its rows lie."""
    x, y = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40), np.zeros((4, 32), np.uint32)
    with host.emulation(order=seed):
        launch(gpu, PIECES, "transposed", 32, x, y)
    pairs = y.reshape(4, 8, 4).view(np.uint16).reshape(4, 8, 8)  # (piece, g, row)
    np.testing.assert_array_equal(pairs, x[:, :8].reshape(4, 8, 8).transpose(0, 2, 1))


PRODUCTS = """
extern "C" __global__ void products(const float* a, const float* b, float* sum) {  // (16, D), (D, 8), (16, 8); a warp
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    float own[4];
    unsigned with_rows[4], with_columns[2];
    for (int e = 0; e < 4; ++e) own[e] = sum[(g + e / 2 * 8) * 8 + 2 * t + e % 2];
#if D == 8
    for (int e = 0; e < 4; ++e) with_rows[e] = ROUND(a[(g + e % 2 * 8) * D + t + e / 2 * 4]);
    for (int e = 0; e < 2; ++e) with_columns[e] = ROUND(b[(t + 4 * e) * 8 + g]);
    mma_tf32(own, with_rows, with_columns[0], with_columns[1]);
#else
    for (int e = 0; e < 4; ++e) {
        const float* pair = a + (g + e % 2 * 8) * D + 2 * t + e / 2 * 8;
        with_rows[e] = bf16_pair(pair[0], pair[1]);
    }
    for (int e = 0; e < 2; ++e) {
        const float* pair = b + (2 * t + 8 * e) * 8 + g;
        with_columns[e] = bf16_pair(pair[0], pair[8]);
    }
    mma_bf16(own, with_rows, with_columns[0], with_columns[1]);
#endif
    for (int e = 0; e < 4; ++e) sum[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = own[e];
}
"""


def product(gpu, depth, a, b, sum, rounding="tf32"):
    result = sum.copy()
    launch(gpu, PRODUCTS.replace("ROUND", rounding), "products", 32, a, b, result, D=depth)
    return result


@pytest.mark.parametrize("depth", [8, 16])
def test_products(gpu, seed, depth):
    """sum + a b, each number where the header says: exact for small whole numbers."""
    rng = np.random.default_rng(seed)
    a, b, sum = (rng.integers(-9, 10, shape).astype(np.float32) for shape in [(16, depth), (depth, 8), (16, 8)])
    with host.emulation(order=seed):
        np.testing.assert_array_equal(product(gpu, depth, a, b, sum), sum + a @ b)


@pytest.mark.parametrize(("depth", "rounded"), [(8, to_tf32), (16, to_bf16)])
def test_products_of_rounded_numbers(gpu, seed, depth, rounded):
    """What is multiplied are the rounded operands; each product is exact, and additions lose at most three roundings
    of float32 each (tests/test_convolution_ladder.py). An operand that was not rounded to TF32 is cut off, which is
    another result."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((16, depth), np.float32), rng.standard_normal((depth, 8), np.float32)
    zero = np.zeros((16, 8), np.float32)
    exact = [m.astype(np.float64) for m in (rounded(a), rounded(b))]
    right = exact[0] @ exact[1]
    within = 3 * depth * 2.0**-24 * (abs(exact[0]) @ abs(exact[1]))
    assert np.all(abs(product(gpu, depth, a, b, zero) - right) <= within)
    if depth == 8:
        assert np.any(abs(product(gpu, depth, a, b, zero, "*(const unsigned*)&") - right) > within)


# ---- copies ---------------------------------------------------------------------------------------------------------

COPIES = """
extern "C" __global__ void copies(const float* x, float* y, int count) {  // (count, 4), (2, 32, 4); 32 threads
    __shared__ __align__(16) float tile[2][32][4];
    const int t = threadIdx.x, other = (t + 1) % 32;
    for (int half = 0; half < 2; ++half) {
        const int line = 32 * half + t;
        copy_async(tile[half][t], x + 4 * (line < count ? line : 0), line < count);
        close_copies();
    }
    wait_copies<1>();
    __syncthreads();
    for (int e = 0; e < 4; ++e) y[4 * other + e] = tile[0][other][e];
    wait_copies<0>();
    __syncthreads();
    for (int e = 0; e < 4; ++e) y[128 + 4 * other + e] = tile[1][other][e];
}
"""


def copied(text, order=None, gpu="emulated"):
    x, y = np.arange(1, 161, dtype=np.float32), np.zeros((2, 32, 4), np.float32)
    with host.emulation(order=order):
        launch(gpu, text, "copies", 32, x, y, 40)
    return y


def test_copies(gpu, seed):
    """Four floats each, group by group; zeros where there is nothing to copy."""
    right = np.zeros(256, np.float32)
    right[:160] = np.arange(1, 161)
    np.testing.assert_array_equal(copied(COPIES, seed, gpu).ravel(), right)


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        ("wait_copies<1>();", ""),
        ("wait_copies<0>();", ""),
        ("wait_copies<1>();", "wait_copies<2>();"),  # waits for too little
        ("close_copies();", ""),  # no group is closed, so none is waited for
        ("    __syncthreads();\n    for (int e = 0; e < 4; ++e) y[4", "    for (int e = 0; e < 4; ++e) y[4"),
        (  # the second half is copied to where the first is still being read
            "copy_async(tile[half]",
            "copy_async(tile[0]",
        ),
    ],
)
def test_what_is_not_waited_for_shows(emulated, seed, there, instead):
    """A missing wait, a missing barrier and a copy onto what is still read are NaN, not what luck would have."""
    assert COPIES.count(there) == 1
    assert np.isnan(copied(COPIES.replace(there, instead), seed)).any()


def test_misaligned_copy(emulated):
    """A GPU refuses an address that is not a multiple of 16 bytes, and so does the emulator."""
    with pytest.raises(RuntimeError, match=r"small\.cu: copies: .*16 bytes .*(not aligned|no multiple)"):
        copied(COPIES.replace("x + 4 *", "x + 1 + 4 *"))


DYNAMIC = """
extern "C" __global__ void reversed(float* x) {  // (blockDim.x,), as many floats of shared memory
    DYNAMIC_SHARED(float, tile);
    const int t = threadIdx.x, last = blockDim.x - 1;
    if (t) tile[t] = x[t];
    __syncthreads();
    x[t] = tile[last - t];
}
"""


def test_dynamic_shared_memory(emulated):
    """The launch says how much there is; it too is NaN until it is written."""
    x = np.arange(64, dtype=np.float32)
    launch("emulated", DYNAMIC, "reversed", 64, x, shared=256)
    np.testing.assert_array_equal(x, [*range(63, 0, -1), np.nan])


@pytest.mark.parametrize("ptx", ["compute_90"], indirect=True)
@pytest.mark.parametrize(
    ("check", "code", "instead"),
    [
        (lambda seed: test_rounding("emulated", seed), '"f"(high), "f"(low)', '"f"(low), "f"(high)'),
        (lambda seed: test_load_pieces("emulated", seed), "{%0, %1, %2, %3}, [%4]", "{%0, %2, %1, %3}, [%4]"),
        (lambda seed: test_load_pieces_transposed("emulated", seed), "x4.trans", "x4"),
        (lambda seed: test_products("emulated", seed, 8), "{%4, %5, %6, %7}", "{%4, %6, %5, %7}"),
        (lambda seed: test_products("emulated", seed, 16), "{%8, %9}", "{%9, %8}"),
        (lambda seed: test_copies("emulated", seed), '"r"(inside ? 16 : 0)', '"r"(16)'),
        (lambda seed: test_copies("emulated", seed), 'asm volatile("cp.async.commit_group;");', ""),
    ],
    ids=["pair", "pieces", "transposed", "tf32", "bf16", "outside", "group"],
)
def test_faults_of_inline_ptx(emulated, seed, monkeypatch, check, code, instead):
    """Operands in another order, rows for columns, a copy of what is outside: a host's build of the `.cu` knows nothing
    of it, and the test of the instruction passes; with NVIDIA's compiler's it fails."""
    sound = source

    def faulty(text):
        joined = sound(text).text
        assert code in joined
        return Source("kernels.launch", "small.cu", text=joined.replace(code, instead))

    monkeypatch.setitem(globals(), "source", faulty)
    with host.emulation(ptx=None):
        check(seed)
    with pytest.raises(AssertionError):
        check(seed)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_120"])
def test_compiles(nvrtc, architecture):
    """NVIDIA's compiler takes every instruction, on every architecture that has them."""
    for text, depth in [(ROUNDING, 8), (PIECES, 8), (PRODUCTS, 8), (PRODUCTS, 16), (COPIES, 8), (DYNAMIC, 8)]:
        small = source(text.replace("ROUND", "tf32"))
        assert not compiler.compile(small, frozenset({("D", depth)}), architecture, nvrtc).warnings
