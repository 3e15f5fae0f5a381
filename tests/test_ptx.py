"""What NVIDIA's compiler makes of the kernels, run on the host an instruction at a time (kernels/launch/ptx.py).

Each instruction by itself: what it must give is written here as numbers, from the PTX ISA. Whole kernels run so in
test_tensor_cores.py, and all of them in `pytest --device emulated --ptx compute_90`.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from kernels.launch import Source, host, ptx
from kernels.launch import nvrtc as compiler

ARCHITECTURE = "compute_90"
SUFFIX = {32: "r", 64: "rd"}
KERNEL = """
.version 9.0
.target sm_90
.address_size 64
.visible .entry planted(.param .u64 planted_param_0, .param .u64 planted_param_1)
.maxntid 64, 1, 1
{{
    .reg .pred %p<3>;
    .reg .b16 %rs<3>;
    .reg .b32 %r<5>;
    .reg .b64 %rd<7>;
    .shared .align 16 .b8 tile[64];
    ld.param.u64 %rd5, [planted_param_0];
    ld.param.u64 %rd6, [planted_param_1];
{body}
    ret;
}}
"""


@pytest.fixture
def run(emulated, nvrtc, monkeypatch):
    """Runs a kernel written in PTX: x comes in %rd5 and y, which it returns changed, in %rd6."""

    def run(body, x, y, threads=1):
        text = KERNEL.format(body=body)
        monkeypatch.setattr(compiler, "compile", lambda *_: compiler.Compiled(text.encode(), ""))
        word = {4: "unsigned", 8: "unsigned long long"}[y.itemsize]
        signature = f'extern "C" __global__ void planted(const {word}* x, {word}* y) {{}}'
        source = Source("tests", "planted.cu", text=f"{signature} /*{text}*/")  # another text, another library
        with host.emulation(ptx=ARCHITECTURE):
            source.launch("planted", (1,), (threads,), x, y)
        return y

    return run


def f(number):
    """The word of a float32."""
    return int(np.float32(number).view(np.uint32))


def d(number):
    """The word of a float64."""
    return int(np.float64(number).view(np.uint64))


COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu"]
NAN, TINY = float("nan"), 2.0**-149  # the smallest float32
INSTRUCTIONS = {
    32: [
        # rounded to the nearest, down, to zero; denormals are kept
        ("fma.rn.f32 %r4, %r1, %r2, %r3", (f(1 + 2**-12), f(1 - 2**-12), f(-1)), f(-(2.0**-24))),
        ("fma.rm.f32 %r4, %r1, %r2, %r3", (f(1), f(2**-30), f(1)), f(1)),
        ("fma.rm.f32 %r4, %r1, %r2, %r3", (f(1), f(-(2**-30)), f(1)), f(1 - 2**-24)),
        ("add.rz.f32 %r4, %r1, %r2", (f(1), f(-(2**-30))), f(1 - 2**-24)),
        ("add.rz.f32 %r4, %r1, %r2", (f(-1), f(2**-30)), f(-1 + 2**-24)),
        ("add.f32 %r4, %r1, %r2", (f(TINY), f(TINY)), f(2 * TINY)),
        ("mul.f32 %r4, %r1, 0f40400000", (f(7),), f(21)),
        ("sub.f32 %r4, %r1, %r2", (f(1), f(3)), f(-2)),
        ("div.rn.f32 %r4, %r1, %r2", (f(1), f(3)), f(1 / 3)),
        ("sqrt.rn.f32 %r4, %r1", (f(2),), f(2**0.5)),
        ("rcp.rn.f32 %r4, %r1", (f(3),), f(1 / 3)),
        ("neg.f32 %r4, %r1", (f(0),), f(-0.0)),
        ("abs.f32 %r4, %r1", (f(-3),), f(3)),
        ("copysign.f32 %r4, %r1, %r2", (f(-1), f(3)), f(-3)),
        ("max.f32 %r4, %r1, %r2", (f(NAN), f(2)), f(2)),
        ("max.f32 %r4, %r1, %r2", (f(-0.0), f(0)), f(0)),
        ("min.f32 %r4, %r1, %r2", (f(0), f(-0.0)), f(-0.0)),
        ("min.f32 %r4, %r1, %r2", (f(3), f(NAN)), f(3)),
        # approximations flush what is denormal
        ("ex2.approx.ftz.f32 %r4, %r1", (f(3),), f(8)),
        ("ex2.approx.ftz.f32 %r4, %r1", (f(-130),), 0),
        ("rcp.approx.ftz.f32 %r4, %r1", (f(4),), f(0.25)),
        ("rcp.approx.ftz.f32 %r4, %r1", (f(TINY),), f(float("inf"))),
        # whole numbers
        ("add.s32 %r4, %r1, -4", (2,), 2**32 - 2),
        ("mul.lo.s32 %r4, %r1, %r2", (2**31 - 1, 2), 2**32 - 2),
        ("mul.hi.s32 %r4, %r1, %r2", (2**32 - 2, 3), 2**32 - 1),
        ("mad.lo.s32 %r4, %r1, %r2, %r3", (5, 7, 11), 46),
        ("div.s32 %r4, %r1, %r2", (2**32 - 7, 2), 2**32 - 3),
        ("div.u32 %r4, %r1, %r2", (2**32 - 7, 2**32 - 1), 0),
        ("rem.s32 %r4, %r1, %r2", (2**32 - 7, 2), 2**32 - 1),
        ("rem.u32 %r4, %r1, %r2", (2**32 - 7, 10), 9),
        ("div.s32 %r4, %r1, %r2", (2**31, 2**32 - 1), 2**31),
        ("min.s32 %r4, %r1, %r2", (2**32 - 1, 1), 2**32 - 1),
        ("min.u32 %r4, %r1, %r2", (2**32 - 1, 1), 1),
        ("max.s32 %r4, %r1, %r2", (2**32 - 1, 1), 1),
        ("abs.s32 %r4, %r1", (2**32 - 3,), 3),
        # bits: a shift by more than there are leaves none, or the sign
        ("shl.b32 %r4, %r1, %r2", (3, 4), 48),
        ("shl.b32 %r4, %r1, %r2", (3, 32), 0),
        ("shr.u32 %r4, %r1, %r2", (2**31, 31), 1),
        ("shr.u32 %r4, %r1, %r2", (2**31, 40), 0),
        ("shr.s32 %r4, %r1, %r2", (2**32 - 8, 1), 2**32 - 4),
        ("shr.s32 %r4, %r1, %r2", (2**32 - 8, 40), 2**32 - 1),
        ("bfi.b32 %r4, %r1, %r2, 4, 8", (0xAB, 0xFFFFFFFF), 0xFFFFFABF),
        ("shf.l.wrap.b32 %r4, %r1, %r2, %r3", (0xABCDEF01, 0x23456789, 8), 0x456789AB),
        ("shf.l.wrap.b32 %r4, %r1, %r2, %r3", (0xABCDEF01, 0x23456789, 32), 0x23456789),
        ("and.b32 %r4, %r1, %r2", (0b1100, 0b1010), 0b1000),
        ("or.b32 %r4, %r1, %r2", (0b1100, 0b1010), 0b1110),
        ("xor.b32 %r4, %r1, %r2", (0b1100, 0b1010), 0b0110),
        ("not.b32 %r4, %r1", (5,), 2**32 - 6),
        # comparisons: of two with a NaN, those that end in u hold, and no others
        *((f"setp.{name}.f32 %p1, %r1, %r2; selp.u32 %r4, 1, 0, %p1", (f(2), f(3)), name[:2] in ("ne", "lt", "le"))
          for name in COMPARISONS),
        *((f"setp.{name}.f32 %p1, %r1, %r2; selp.u32 %r4, 1, 0, %p1", (f(2), f(NAN)), len(name) > 2)
          for name in COMPARISONS),
        *((f"setp.{name}.f32 %p1, %r1, %r2; selp.u32 %r4, 1, 0, %p1", (f(2), f(x)), y)
          for name, x, y in [("num", 3, 1), ("num", NAN, 0), ("nan", 3, 0), ("nan", NAN, 1)]),
        ("setp.lt.s32 %p1, %r1, 1; not.pred %p2, %p1; selp.b32 %r4, %r1, %r2, %p2", (2**32 - 1, 7), 7),
        ("setp.lt.u32 %p1, %r1, 1; selp.b32 %r4, %r1, %r2, %p1", (2**32 - 1, 7), 7),
        ("mov.u32 %r4, 5; setp.eq.s32 %p1, %r1, 5; @!%p1 mov.u32 %r4, 6", (4,), 6),
        # conversions: what is too large is the largest, NaN is 0
        ("cvt.rn.f32.s32 %r4, %r1", (2**32 - 5,), f(-5)),
        ("cvt.rzi.s32.f32 %r4, %r1", (f(-1.7),), 2**32 - 1),
        ("cvt.rzi.s32.f32 %r4, %r1", (f(3e9),), 2**31 - 1),
        ("cvt.rzi.s32.f32 %r4, %r1", (f(-3e9),), 2**31),
        ("cvt.rzi.s32.f32 %r4, %r1", (f(NAN),), 0),
        ("cvt.rzi.u32.f32 %r4, %r1", (f(3e9),), 3_000_000_000),
        ("cvt.rzi.f32.f32 %r4, %r1", (f(-1.7),), f(-1)),
        ("cvt.rmi.f32.f32 %r4, %r1", (f(-1.5),), f(-2)),
        ("cvt.rni.f32.f32 %r4, %r1", (f(2.5),), f(2)),
        *(("cvt.sat.f32.f32 %r4, %r1", (f(x),), f(y)) for x, y in [(-1, 0), (0.25, 0.25), (2, 1), (NAN, 0)]),
        ("cvt.rn.bf16x2.f32 %r4, %r1, %r2", (f(1), f(-2)), 0x3F80C000),
        ("cvt.rn.bf16x2.f32 %r4, %r1, %r2", (0x3F808000, 0x3F818000), 0x3F803F82),  # halfway, to the even one
        ("cvt.u16.u32 %rs1, %r1; cvt.rn.f32.u16 %r4, %rs1", (0x10007,), f(7)),
    ],
    64: [
        ("add.s64 %rd4, %rd1, -4", (2,), 2**64 - 2),
        ("mul.lo.s64 %rd4, %rd1, %rd2", (2**63 + 3, 2), 6),
        ("div.s64 %rd4, %rd1, %rd2", (2**64 - 7, 2), 2**64 - 3),
        ("shl.b64 %rd4, %rd1, 40", (1,), 2**40),
        ("shr.u64 %rd4, %rd1, 63", (2**63,), 1),
        ("cvt.u32.u64 %r1, %rd1; mul.wide.s32 %rd4, %r1, 4", (2**32 - 3,), 2**64 - 12),
        ("cvt.u32.u64 %r1, %rd1; mul.wide.u32 %rd4, %r1, 4", (2**32 - 3,), 2**34 - 12),
        ("cvt.u16.u64 %rs1, %rd1; mul.wide.u16 %r2, %rs1, 4; cvt.u64.u32 %rd4, %r2", (0x1FFFF,), 0x3FFFC),
        ("cvt.u32.u64 %r1, %rd1; cvt.s64.s32 %rd4, %r1", (2**32 - 3,), 2**64 - 3),
        ("{ .reg .b32 %temp; mov.b64 {%temp, %r2}, %rd1; } mov.b64 %rd4, {%r2, 7}", (5 << 32,), 7 << 32 | 5),
        ("cvt.u32.u64 %r1, %rd1; st.shared.u32 [tile], %r1; ld.shared.s32 %rd4, [tile]", (2**32 - 2,), 2**64 - 2),
        ("cvt.u16.u64 %rs1, %rd1; cvt.u32.u64 %r1, %rd1; cvt.s64.s16 %rd4, %rs1", (0x8001,), 2**64 - 0x7FFF),
        ("cvt.u16.u64 %rs1, %rd1; mov.b32 %r2, {%rs1, %rs1}; cvt.u64.u32 %rd4, %r2", (0x1234,), 0x12341234),
        ("bfi.b64 %rd4, %rd1, %rd2, 32, 32", (5, 7), 5 << 32 | 7),
        ("mov.b64 {_, %r2}, %rd1; cvt.u64.u32 %rd4, %r2", (5 << 32 | 7,), 5),
        ("fma.rn.f64 %rd4, %rd1, %rd2, %rd3", (d(1 + 2**-30), d(1 - 2**-30), d(-1)), d(-(2.0**-60))),
        ("rcp.approx.ftz.f64 %rd4, %rd1", (d(3),), d(1 / 3) >> 32 << 32),
        ("cvt.u32.u64 %r1, %rd1; cvt.rn.f64.s32 %rd4, %r1", (2**32 - 3,), d(-3)),
        ("cvt.rn.f32.f64 %r1, %rd1; cvt.u64.u32 %rd4, %r1", (d(1 + 2**-24 + 2**-50),), f(1 + 2**-23)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64])
def test_instructions(run, bits):
    """Each gives what the ISA says, also where the host's own operators give something else."""
    registers, table = SUFFIX[bits], INSTRUCTIONS[bits]
    x = np.zeros((len(table), 4), f"u{bits // 8}")
    body = []
    for row, (code, words, _) in enumerate(table):
        x[row, : len(words)] = words
        places = [row * x.strides[0] + i * x.itemsize for i in range(3)]
        body += [f"ld.global.u{bits} %{registers}{i}, [%rd5+{place}];" for i, place in enumerate(places, 1)]
        body += [f"{code};", f"st.global.u{bits} [%rd6+{row * x.itemsize}], %{registers}4;"]
    got = run("\n".join(body), x, np.zeros(len(table), x.dtype))
    wrong = [(*row, int(y)) for row, y in zip(table, got, strict=True) if row[-1] != y]
    assert not wrong


@pytest.mark.parametrize(
    ("body", "threads", "message"),
    [
        ("mov.u32 %r1, tile; st.shared.u32 [%r1+64], %r1;", 1, "shared memory at 64, and the block has 64"),
        ("mov.u32 %r1, tile; st.shared.v4.f32 [%r1+4], {%r1, %r1, %r1, %r1};", 1, "16 bytes at an address that is no"),
        ("bar.sync 1;", 1, "barrier 1, and only 0 is known here"),
        ("bar.sync 0, 32;", 1, "Place"),  # another barrier than __syncthreads; 32 is no place in a .cu
        ("ld.global.u32 %r1, [%rd5], 5;", 1, "Place"),
        ("abs.u64 %rd1, %rd2, %rd3;", 1, "ptx_abs"),
        ("cvt.rmi.s32.f32 %r1, %r2;", 1, "static assertion failed"),
        ("ld.global.v4.f32 {%r1, %r2, %r3, %r4}, [%rd5+4];", 1, "16 bytes at an address that is no multiple"),
        ("cp.async.cg.shared.global [tile], [%rd5], 16, 8;", 1, "a copy reads 8 of 16 bytes"),
        ("", 128, "a block of 128 threads, and its bounds are 64"),
        ("popc.b32 %r1, %r2;", 1, "ptx_popc"),
        ("trap;", 1, "ptx_trap"),
        ("mov.u64 %r1, %rd1;", 1, "a register is too narrow for what it is given"),
    ],
)  # fmt: skip
def test_what_a_gpu_refuses(run, body, threads, message):
    """An access that is not aligned, or outside the block's shared memory; a block that is too large. And nothing is
    passed over that is not known here."""
    x = np.zeros(64, np.uint32)
    with pytest.raises(RuntimeError, match=re.escape(message)):
        run(body, x[-(x.ctypes.data // 4) % 4 :], x.copy(), threads)


def test_unknown_statements(emulated):
    """Of PTX that was never met before nothing is passed over either."""
    with pytest.raises(ValueError, match="none of the statements"):
        ptx.translated(".version 9.0\n.tex .u32 texture;")


TWO_KERNELS = """
extern "C" __global__ void beyond(float* y, int i) {  // (1,)
    __shared__ float tile[64];
    tile[threadIdx.x] = 1.0f;
    y[0] = tile[i];
}
extern "C" __global__ void other(float* y) {  // (64,)
    __shared__ float tile[64];
    tile[63 - threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x];
}
"""


def test_a_kernel_has_its_own_shared_memory_alone(emulated, nvrtc):
    """What another kernel of the file has is not there to be read; and it begins as NaN in each block."""
    source, y = Source("tests", "two.cu", text=TWO_KERNELS), np.zeros(64, np.float32)
    with host.emulation(ptx=ARCHITECTURE):
        source.launch("other", (1,), (64,), y)
        np.testing.assert_array_equal(y, np.arange(64)[::-1])
        source.launch("beyond", (2,), (1,), y, 63)
        assert np.isnan(y[0])
        with pytest.raises(RuntimeError, match=r"two.cu: beyond: tests/two.cu:5: shared memory at 256, .* has 256"):
            source.launch("beyond", (1,), (1,), y, 64)
