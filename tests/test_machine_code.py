"""What machine code is made of: a disassembler's listing, the loops in it, and what each line of a `.cu` has become."""

from __future__ import annotations

import importlib.metadata
from collections import Counter

import pytest

from benchmarks import launched, machine_code
from kernels.launch import Launch, Source
from minigan.errors import UserError

LISTING = """
\t.section\t.nv.info,"",@"SHT_CUDA_INFO"
//--------------------- .text.first  --------------------------
.text.first:
\t//## File "kernels/a.cu", line 3
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 EXIT ;
.L_x_0:
\t//## File "kernels/a.cu", line 4 inlined at "kernels/a.cu", line 9
        /*0020*/                   IADD3 R2, R2, 0x1, RZ ;
.L_x_1:
        /*0030*/                   FFMA R3, R2.reuse, R4, R3 ;
        /*0040*/              @!P1 BRA `(.L_x_3) ;
.L_x_2:
        /*0050*/              @!PT LDS RZ, [RZ] ;
\t//## File "kernels/a.cu", line 5
        /*0060*/               @P2 BRA P3, `(.L_x_1) ;
        /*0070*/                   LDG.E R5, desc[UR4][R2.64] ;
        /*0080*/              @UP0 BRA `(.L_x_0) ;
\t//## File "kernels/a.cu", line 6
        /*0090*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_rcp_rn_f32_slowpath) ;
        /*00a0*/                   EXIT ;
.L_x_3:
\t//## File "kernels/a.cu", line 7
        /*00b0*/                   MUFU.RCP R3, R3 ;
        /*00c0*/                   BRA `(.L_x_2) ;
.L_x_4:
        /*00d0*/                   BRA `(.L_x_4);
        /*00e0*/                   NOP;
//--------------------- .text.second  --------------------------
.text.second:
        /*0000*/                   EXIT ;
"""


@pytest.fixture(scope="module")
def disassembler():
    try:
        return machine_code.disassembler()
    except UserError as missing:
        pytest.skip(str(missing))


def test_a_listing():
    """Is kernels, each of instructions that know their line, where they may jump, and whether they go on."""
    functions = machine_code.functions(LISTING)
    assert list(functions) == ["first", "second"]
    assert functions["second"].code == [machine_code.Instruction("EXIT", ("", 0), None, False)]
    code, labels = functions["first"]
    assert [i.name for i in code[:6]] == ["LDC", "EXIT", "IADD3", "FFMA", "BRA", "NOP"]  # what never happens is a NOP
    assert labels == {".L_x_0": 2, ".L_x_1": 3, ".L_x_2": 5, ".L_x_3": 11, ".L_x_4": 13}
    assert [i.line[1] for i in code[:13]] == [3, 3, 4, 4, 4, 4, 5, 5, 5, 6, 6, 7, 7]
    assert {i.line[0] for i in code} == {"kernels/a.cu"}
    assert [(n, i.target) for n, i in enumerate(code) if i.target] == [
        (4, ".L_x_3"), (6, ".L_x_1"), (8, ".L_x_0"), (12, ".L_x_2"), (13, ".L_x_4"),
    ]  # fmt: skip
    assert [n for n, i in enumerate(code) if not i.goes_on] == [10, 12, 13]  # the jumps on a condition may go on


def test_loops():
    """What stands behind a loop and jumps back into it belongs to it, and closes none; an inner loop's instructions
    are not the outer one's; and what is never reached is in no part."""
    function = machine_code.functions(LISTING)["first"]
    outer, inner = machine_code.loops(function)
    assert outer == ({2, 7, 8}, 8, 0)
    assert inner == ({3, 4, 5, 6, 11, 12}, 6, 1)
    parts = machine_code.parts(function)
    assert [place for place, _ in parts] == ["once", "loop at a.cu:5", "in it loop at a.cu:5"]
    assert Counter(i.name for i in parts[0][1].elements()) == {"LDC": 1, "EXIT": 2, "CALL.REL.NOINC": 1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("HMMA.1688.F32.TF32", "tensor cores"),
        ("HGMMA.64x64x8.F32.TF32", "tensor cores"),
        ("FFMA", "multiply-add"),
        ("FMNMX", "other float"),
        ("FSETP.GT.AND", "other float"),
        ("MUFU.EX2", "other float"),
        ("DFMA", "other float"),
        ("LDSM.16.M88.4", "shared memory"),
        ("STS.128", "shared memory"),
        ("SHFL.BFLY", "shared memory"),
        ("LDG.E.128", "global memory"),
        ("LDGSTS.E.BYPASS.128", "global memory"),
        ("LDGDEPBAR", "control"),
        ("DEPBAR.LE", "control"),
        ("BAR.SYNC.DEFER_BLOCKING", "control"),
        ("BRA", "control"),
        ("IMAD.WIDE", "whole numbers"),
        ("LDC", "whole numbers"),
        ("FLO.U32", "whole numbers"),  # where a word's highest bit is
        ("PRMT", "whole numbers"),
    ],
)
def test_kinds(name, kind):
    """What an instruction does is known from its name."""
    assert machine_code.Instruction(name, ("", 0), None, True).kind == kind


KERNEL = """
extern "C" __global__ void f(const float* x, float* y, int count) {
    float sum = 0.0f, product = x[count];
#pragma unroll 1
    for (int i = 0; i < count; ++i)
        sum = fmaf(fmaf(sum, product, x[i]), product, 1.0f);
    y[0] = sum;
}
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Launches of a kernel that stands in a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "f.cu").write_text(KERNEL)
    return [Launch(Source("tests", "f.cu", text=KERNEL), "f", frozenset({("N", 2)}), 32, 0)]


def test_parts_of_a_kernel(nvrtc, disassembler, planted):
    """A loop is found in what the compiler has made, with the multiplications that were written; in the table as well
    as beside the line that they come from."""
    code = machine_code.disassembled(planted, "sm_90")
    heads, _, once, loop = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in machine_code.table(planted, code).splitlines()
    ]
    row = dict(zip(heads, loop, strict=True))
    assert (row["kernel"], row["constants"], row["where"]) == ("`tests/f.cu f`", "N=2", "loop at f.cu:5")
    assert (row["multiply-add"], row["global memory"], row["shared memory"]) == ("2", "1", "")
    kinds = [kind for kind, _ in machine_code.KINDS]
    assert sum(int(row[kind] or 0) for kind in kinds) == int(row["instructions"])
    assert dict(zip(heads, once, strict=True))["where"] == "once"
    said = machine_code.by_lines(planted, code).splitlines()
    assert f"tests/f.cu f N=2, loop at f.cu:5: {row['instructions']}" in said
    line = next(line for line in said if "f.cu:6 " in line)
    assert "sum = fmaf(fmaf(sum, product, x[i]), product, 1.0f);" in line
    assert "FFMA 2" in line


NEEDIEST = "conv2d/pipeline.cu conv2d_weight_grad"  # of other instructions
CLOCKS = 6.4  # of an instruction on tensor cores (kernels/conv2d/tf32.py)
FP32, BF16 = ("fp32_direct", "multiply-add", 0.85), ("bf16", "tensor cores", 1 / CLOCKS)


@pytest.mark.parametrize(("conv2d", "kind", "share"), [FP32, BF16])
def test_what_multiplies_does_little_else(nvrtc, disassembler, conv2d, kind, share):
    """Of the loop in which a product spends its time: the rest takes little of float32's, and tensor cores need not
    wait for it."""
    step = [each for each in launched.launches("radford64", conv2d, 132) if launched.name(each) == NEEDIEST]
    assert step
    for function in machine_code.disassembled(step, "sm_90").values():
        counts = [Counter(i.kind for i in instructions.elements()) for _, instructions in machine_code.parts(function)]
        best = max(counts, key=lambda count: count[kind])
        assert best[kind] >= share * best.total()


def test_command(nvrtc, disassembler, capsys):
    """A table of the kernels with that name, or the lines that they come from."""
    machine_code.main(["--only", "adam.cu adam "])
    title, _, heads, _, *rows = capsys.readouterr().out.splitlines()
    assert title == "radford64, tf32, sm_90, 132 multiprocessors"
    assert heads.startswith("| kernel | constants | where | instructions | tensor cores |")
    assert {row.split("|")[1].strip() for row in rows} == {"`adam/adam.cu adam`"}
    machine_code.main(["--only", "adam.cu adam ", "--lines", "--precision", "bf16"])
    said = capsys.readouterr().out
    assert said.startswith("radford64, bf16, ")
    assert "store(theta, parameters.row[i], size, block);" in said


def test_a_kernel_that_the_step_has_not():
    """Is told what it has."""
    with pytest.raises(
        UserError, match=r"--only winograd.cu: the step launches none such: it launches adam/adam.cu adam, "
    ):
        machine_code.main(["--only", "winograd.cu"])


def test_without_the_disassembler(monkeypatch):
    """It says what to install; the CUDA toolkit's does as well."""

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    monkeypatch.setattr(machine_code.shutil, "which", lambda name: f"/cuda/bin/{name}")
    assert machine_code.disassembler() == "/cuda/bin/nvdisasm"
    monkeypatch.setattr(machine_code.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="needs NVIDIA's disassembler, nvdisasm: pip install nvidia-cuda-nvdisasm"):
        machine_code.disassembler()
