"""What the loops of a training step's kernels are made of, machine instruction by machine instruction:

    python -m benchmarks.machine_code --precision tf32
    python -m benchmarks.machine_code --precision tf32 --only "pipeline.cu conv2d " --lines

No GPU is needed: NVIDIA's compiler makes the machine code and its disassembler spells it out (pip install
nvidia-cuda-nvdisasm, or the CUDA toolkit). A scheduler of a multiprocessor starts one instruction of a warp in a clock,
whatever it is. So where a kernel should multiply, all that is no multiplication takes its place, unless the
multiplication takes several clocks, as on tensor cores; and `--lines` says which line of the `.cu` it comes from.

An instruction counts once each time a loop goes round, whether it is jumped over or not.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks import launched
from kernels.launch import Launch, nvrtc
from minigan.command import run_command
from minigan.errors import UserError

WHEEL, PROGRAM = "nvidia-cuda-nvdisasm", "nvdisasm"

# What an instruction does, by how its name begins: the first that suits. (Names: CUDA Binary Utilities, "Instruction
# Set Reference", of each architecture.)
KINDS = (
    ("tensor cores", r"[HIQD]G?MMA"),  # a warp's product of small matrices
    ("multiply-add", r"FFMA"),  # of float32
    ("other float", r"F(?!LO)|MUFU|D(ADD|MUL|FMA|SETP)|H(ADD|MUL|FMA)2|F2F|I2F|F2I"),
    ("shared memory", r"LDS|STS|SHFL"),  # as many bytes a clock as all warps together get
    ("global memory", r"LDG(?!DEP)|STG|RED|ATOM|LD\b|ST\b|LDL|STL"),  # LDGSTS, cp.async, too
    ("control", r"BRA|BRX|BSSY|BSYNC|BAR|CALL|RET|EXIT|DEPBAR|LDGDEPBAR|WARPSYNC|NOP|YIELD|WARPGROUP|CCTL|MEMBAR"),
    ("whole numbers", r""),  # addresses, indices, conditions, moves
)


class Instruction(NamedTuple):
    """One of the machine.

    name: "HMMA.1688.F32.TF32". line: of the source, ("kernels/conv2d/pipeline.cu", 87). target: the label to which it
    may jump, or None. goes_on: whether the one behind it may be next.
    """

    name: str
    line: tuple[str, int]
    target: str | None
    goes_on: bool

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return next(kind for kind, pattern in KINDS if re.match(pattern, self.name))


class Loop(NamedTuple):
    """Instructions by their numbers: its own, less those of the loops inside, and the jump that closes it; and in how
    many others it lies.
    """

    own: frozenset[int]
    jump: int
    depth: int


# ---- the disassembler ------------------------------------------------------------------------------------------------
def disassembler() -> str:
    """Its path.

    Raises
    ------
    UserError: it is not installed.
    """
    try:
        (file,) = (file for file in importlib.metadata.files(WHEEL) if file.stem == PROGRAM)
        return str(file.locate())
    except importlib.metadata.PackageNotFoundError:
        if found := shutil.which(PROGRAM):
            return found
        raise UserError(f"needs NVIDIA's disassembler, {PROGRAM}: pip install {WHEEL}") from None


def listing(cubin: bytes) -> str:
    """The machine code of a cubin as text, and which source lines it comes from."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernels.cubin")
        file.write_bytes(cubin)
        command = [disassembler(), "--print-code", "--print-line-info", file]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{PROGRAM}: {done.stderr.strip()}")
    return done.stdout


_FUNCTION = re.compile(r"^//-+ \.text\.(\w+) +-+$", re.MULTILINE)
_LINE = re.compile(
    r'\s*//## File "(?P<file>.*?)", line (?P<line>\d+).*'
    r"|(?P<label>\.L_\w+):"
    r"|\s*/\*[0-9a-f]+\*/ +(?P<guard>@!?U?P\w+ +)?(?P<name>[\w.]+)(?P<operands>[^;]*);.*"
)


class Function(NamedTuple):
    """A kernel's code, and where its labels are: the number of the instruction behind each."""

    code: list[Instruction]
    labels: dict[str, int]


def functions(listing: str) -> dict[str, Function]:
    """The kernels of a listing by their names."""
    _, *parts = _FUNCTION.split(listing)
    return dict(zip(parts[::2], map(_function, parts[1::2]), strict=True))


def _function(text: str) -> Function:
    code, labels, line = [], {}, ("", 0)
    for found in filter(None, map(_LINE.fullmatch, text.splitlines())):
        if found["file"]:
            line = os.path.relpath(found["file"]), int(found["line"])
        elif found["label"]:
            labels[found["label"]] = len(code)
        else:
            code.append(_instruction(found, line))
    return Function(code, labels)


def _instruction(found: re.Match, line: tuple[str, int]) -> Instruction:
    name, guard, operands = found["name"], (found["guard"] or "").strip(), found["operands"].strip()
    if re.fullmatch(r"@!U?PT", guard):
        name = "NOP"  # it never happens
    jump = re.fullmatch(r"(?P<condition>.*?),? *`\((?P<label>\.L_\w+)\)", operands) if name.startswith("BRA") else None
    always = not guard and (name.startswith(("EXIT", "RET")) or bool(jump and not jump["condition"]))
    return Instruction(name, line, jump["label"] if jump else None, not always)


# ---- loops ----------------------------------------------------------------------------------------------------------
def loops(function: Function) -> list[Loop]:
    """Those of a kernel, in the order of their first instructions, an outer one before those inside it.

    A jump to an instruction without which nothing behind it is reached, closes a loop: all from which the jump is
    reached without passing that instruction again. (Aho, Sethi and Ullman, "Compilers", 1986, section 10.4: the natural
    loops of a flow graph.)
    """
    before: list[list[int]] = [[] for _ in function.code]  # which instructions may come before each
    for i in range(len(function.code)):
        for j in _next(function, i):
            before[j].append(i)
    bodies: dict[int, set[int]] = {}  # by the first instruction
    jumps: dict[int, int] = {}
    for jump, first in _backward(function):
        jumps[first] = max(jump, jumps.get(first, 0))
        body, reached = bodies.setdefault(first, {first}), [jump]
        while reached:
            i = reached.pop()
            if i not in body:
                body.add(i)
                reached += before[i]
    found = []
    for first, body in sorted(bodies.items(), key=lambda item: (min(item[1]), -len(item[1]))):
        inside = [other for key, other in bodies.items() if key != first and other < body]
        depth = sum(body < other for other in bodies.values())
        found.append(Loop(frozenset(body.difference(*inside)), jumps[first], depth))
    return found


def _next(function: Function, i: int) -> Iterator[int]:
    instruction = function.code[i]
    if instruction.goes_on and i + 1 < len(function.code):
        yield i + 1
    if instruction.target in function.labels:
        yield function.labels[instruction.target]


def _reached(function: Function) -> set[int]:
    """What a kernel may come to from its first instruction. What it calls, a division's rare cases, is not followed."""
    found, reached = set(), [0]
    while reached:
        i = reached.pop()
        if i not in found:
            found.add(i)
            reached += _next(function, i)
    return found


def _backward(function: Function) -> Iterator[tuple[int, int]]:
    """Jumps to an instruction that is still on the way from the kernel's first to the jump: (jump, instruction)."""
    on_the_way, done, stack = {0}, set(), [(0, _next(function, 0))]
    while stack:
        i, following = stack[-1]
        j = next(following, None)
        if j is None:
            stack.pop()
            on_the_way.remove(i)
            done.add(i)
        elif j in on_the_way:
            yield i, j
        elif j not in done:
            on_the_way.add(j)
            stack.append((j, _next(function, j)))


# ---- what is printed -------------------------------------------------------------------------------------------------
def parts(function: Function) -> list[tuple[str, Counter[Instruction]]]:
    """A kernel's loops, each by the line of its jump back, and before them what it does once."""
    around = loops(function)
    once = _reached(function).difference(*(loop.own for loop in around))
    found = [("once", Counter(function.code[i] for i in once))]
    for loop in around:
        file, line = function.code[loop.jump].line
        place = f"{'in it ' * loop.depth}loop at {Path(file).name}:{line}"
        found.append((place, Counter(function.code[i] for i in loop.own)))
    return found


def table(launches: list[Launch], code: dict[Launch, Function]) -> str:
    """A line of Markdown for each part of each launch's kernel; a loop inside another stands below it."""
    kinds = [kind for kind, _ in KINDS]
    lines = [
        f"| kernel | constants | where | instructions | {' | '.join(kinds)} |",
        f"| --- | --- | --- | ---: |{' ---: |' * len(kinds)}",
    ]
    for launch in launches:
        for place, instructions in parts(code[launch]):
            count = Counter(instruction.kind for instruction in instructions.elements())
            numbers = " | ".join(str(count[kind] or "") for kind in kinds)
            kernel = f"`{launched.name(launch)}` | {launched.constants(launch)}"
            lines.append(f"| {kernel} | {place} | {instructions.total()} | {numbers} |")
    return "\n".join(lines)


def by_lines(launches: list[Launch], code: dict[Launch, Function]) -> str:
    """How many instructions, and which, each line of the sources has become, in each part of each launch's kernel."""
    said = []
    for launch in launches:
        for place, instructions in parts(code[launch]):
            said.append(f"\n{launched.name(launch)} {launched.constants(launch)}, {place}: {instructions.total()}")
            names: dict[tuple[str, int], Counter[str]] = {}
            for instruction, times in instructions.items():
                names.setdefault(instruction.line, Counter())[instruction.name.partition(".")[0]] += times
            for (file, line), count in sorted(names.items()):
                made = ", ".join(f"{name} {times}" if times > 1 else name for name, times in count.most_common())
                said.append(f"{count.total():5}  {f'{Path(file).name}:{line}':28} {_text(file, line)[:88]:88}  {made}")
    return "\n".join(said)


@functools.cache
def _lines(file: str) -> list[str]:
    return Path(file).read_text("utf-8").splitlines()


def _text(file: str, line: int) -> str:
    """What stands there, if it is a line of a file: of some instructions the compiler names none."""
    return _lines(file)[line - 1].strip() if line and Path(file).is_file() else ""


def disassembled(launches: list[Launch], architecture: str) -> dict[Launch, Function]:
    """The machine code of each."""
    builds = sorted({(launch.source, launch.defines) for launch in launches}, key=repr)
    major = nvrtc.newest()
    with ThreadPoolExecutor() as pool:
        listings = pool.map(lambda build: listing(nvrtc.compile(*build, architecture, major).code), builds)
        found = dict(zip(builds, map(functions, listings), strict=True))
    return {launch: found[launch.source, launch.defines][launch.kernel] for launch in launches}


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    asked = launched.parser("machine_code", "What the loops of a training step's kernels are made of.")
    asked.add_argument("--only", default="", metavar="NAME", help='kernels with that in their names: "fold.cu", "adam"')
    asked.add_argument("--lines", action="store_true", help="what each line of the .cu has become, rather than a table")
    given = asked.parse_args(arguments)
    step, launches = launched.of_step(given)
    chosen = [launch for launch in launches if given.only in f"{launched.name(launch)} "]
    if not chosen:
        known = ", ".join(sorted({launched.name(launch) for launch in launches}))
        raise UserError(f"--only {given.only}: the step launches none such: it launches {known}")
    code = disassembled(chosen, given.architecture)
    print(f"{step}\n")
    print((by_lines if given.lines else table)(chosen, code))


if __name__ == "__main__":
    run_command(main)
