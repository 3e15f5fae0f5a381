"""NVIDIA's PTX as C++ for the host: what NVRTC makes of a `.cu` runs here, an instruction at a time, without a GPU.

`emulated` runs a `.cu` as the host's compiler reads it. This is the same `.cu` as NVIDIA's compiler reads it: with its
fused multiplications and its own functions, with the inline PTX of tensor_cores.cuh and the operands it is bound to,
with 32-bit addresses in shared memory, and with loads, copies and barriers in the order in which the compiler left
them. What is not seen is the last step, from PTX to a card's own machine code.

PTX is a language of single instructions, and so is what is written here: `add.s32 %r3, %r1, -4;` becomes
`take(ptx_add<S32>(r1, -4), r3);`, and `@%p1 bra $L_2;` becomes `if (p1) goto $L_2;`. What each of them means stands in
ptx.h; one that does not stand there does not compile. Before each stands its name, `ISSUED("add.s32")`, for whoever
counts them (counted.h). (Source: NVIDIA's PTX ISA 9.0, chapters 4, 5 and 7.)
"""

from __future__ import annotations

import math
import os
import re
from typing import NamedTuple

BYTES = {"8": 1, "16": 2, "32": 4, "64": 8}  # of a type, by its bits
SPECIAL = {"tid": "threadIdx", "ntid": "blockDim", "ctaid": "blockIdx", "nctaid": "gridDim"}
WITHOUT_RESULT = ("st.", "bar.", "cp.")  # instructions that write no register
ALIGNED = 16  # bytes, of which the launch's shared memory begins at a multiple

_PASSED_OVER = re.compile(
    r"//.*|\.(?:version|target|address_size|file)\s.*|\.section[^}]*\}|\.(?:visible|weak)\b|\.pragma.*?;"
    r"|\.loc\s+\d+ 0 .*"  # line 0: the compiler knows none
)
_FUNCTION = re.compile(
    r"\.(?P<kind>entry|func)\s*(?:\((?P<result>[^)]*)\))?\s*(?P<name>\w+)\s*\((?P<parameters>[^)]*)\)"
    r"(?P<directives>[^{;]*)(?:;|\{(?P<body>.*?)\n\})",
    re.DOTALL,
)
_BOUNDS = re.compile(r"(?:\.maxntid (?P<x>\d+)(?:, (?P<y>\d+))?(?:, (?P<z>\d+))?)? ?(?:\.minnctapersm \d+)?")
_STATEMENT = re.compile(r"(?P<line>#line .*)|(?P<label>[$\w]+):|[{}]|(?P<code>[^\s{};][^;]*);|\s+")
_VARIABLE = re.compile(
    r"(?:\.extern )?\.(?P<space>shared|global|local|param) (?:\.align (?P<align>\d+) )?\.(?P<type>\w+) (?P<name>\w+)"
    r"(?P<array>\[(?P<length>\d*)\])?(?: = (?P<value>.*))?"
)
_REGISTERS = re.compile(r"\.reg \.(?P<type>\w+) %?(?P<name>\w+)(?:<(?P<count>\d+)>)?")
_CALL = re.compile(r"call(?:\.uni)? \((?P<result>[^)]*)\), (?P<name>\w+), \((?P<arguments>[^)]*)\)")
_INSTRUCTION = re.compile(r"(?:@(?P<unless>!?)%(?P<guard>\w+) )?(?P<opcode>[\w.]+)(?: (?P<operands>.*))?")
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+")
_NAME = re.compile(r"[A-Za-z_$][\w$]*")
_TYPE = re.compile(r"[subf](?:8|16|32|64)|pred|bf16|bf16x2|tf32")


def translated(ptx: str) -> str:
    """C++ to stand behind ptx.h.

    Of each kernel there is `entry_NAME(void** arguments)`, as `host` calls it. What goes wrong in a line of PTX is said
    to go wrong in the line of the `.cu` that it comes from.

    Raises
    ------
    ValueError: a statement that is none of those known here.
    """
    files = {number: os.path.relpath(path) for number, path in re.findall(r'\.file\s+(\d+) "(.*?)"', ptx)}
    text = _PASSED_OVER.sub("", ptx)
    text = re.sub(r"\.loc\s+(\d+) (\d+).*", lambda at: f'#line {at[2]} "{files[at[1]]}"\n', text)
    everywhere = _window(_FUNCTION.sub("", text), 0)  # what stands in shared memory for all kernels of a file
    written, end = everywhere.addresses.copy(), 0
    for function in _FUNCTION.finditer(text):
        written += [_statements(text[end : function.start()]), _function(function, everywhere)]
        end = function.end()
    return "\n".join([*written, _statements(text[end:])])


class _Window(NamedTuple):
    """Arrays in shared memory: where each begins, in C++; bytes; and the name and alignment of those of no size."""

    addresses: list[str]
    taken: int
    dynamic: list[tuple[str, int]]


def _window(text: str, taken: int) -> _Window:
    """Those that are declared in a text, behind what is taken already."""
    addresses, dynamic = [], []
    for variable in re.findall(r"\.shared\s[^;]*", text):
        found = _match(_VARIABLE, " ".join(variable.split()))
        align = int(found["align"] or _bytes(found["type"]))
        if found["length"] == "":
            dynamic.append((found["name"], align))
            continue
        taken = _up(taken, align)
        addresses.append(f"static const U32 at_{found['name']} = {taken};")
        taken += _size(found)
    return _Window(addresses, taken, dynamic)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _function(function: re.Match, everywhere: _Window) -> str:
    """A kernel, or a function that one calls; every parameter of PTX is memory, and its name an address."""
    names = [each.split()[-1].split("[")[0] for each in function["parameters"].split(",") if each.strip()]
    results = [each.split()[-1] for each in (function["result"] or "").split(",") if each.strip()]
    if function["kind"] == "func":
        head = f"static void call_{function['name']}({', '.join(f'U64 at_{name}' for name in [*results, *names])})"
        if function["body"] is None:
            return f"{head};"
        return "\n".join([f"{head} {{", _statements(function["body"]), "}"])
    own = _window(function["body"], everywhere.taken)
    taken = _up(own.taken, max([ALIGNED, *(align for _, align in everywhere.dynamic)]))
    bounds = _match(_BOUNDS, " ".join(function["directives"].split()))
    threads = math.prod(int(bounds[axis] or 1) for axis in "xyz") if bounds["x"] else "MAX_THREADS"
    return "\n".join([
        f'extern "C" __attribute__((visibility("default"))) void entry_{function["name"]}(void** arguments) {{',
        *own.addresses,
        *(f"static const U32 at_{name} = {taken};" for name, _ in everywhere.dynamic),
        f"if (!starts({taken}, {threads})) return;",
        *(f"const U64 at_{name} = (U64)arguments[{i}];" for i, name in enumerate(names)),
        _statements(function["body"]),
        "}",
    ])  # fmt: skip


def _statements(text: str) -> str:
    """Each statement of PTX as one of C++. Lines end only where another line of the `.cu` begins."""
    return _STATEMENT.sub(_translation, text)


def _translation(found: re.Match) -> str:
    if found["line"]:
        return f"\n{found['line']}\n"
    if found["label"]:
        return f"{found['label']}:;"
    return _statement(" ".join(found["code"].split())) if found["code"] else found[0].strip()


def _statement(code: str) -> str:
    if code.startswith(".reg"):
        return _registers(_match(_REGISTERS, code))
    if code.startswith("."):
        return _variable(_match(_VARIABLE, code))
    if code.startswith("call"):
        call = _match(_CALL, code)
        names = re.findall(r"\w+", f"{call['result']}, {call['arguments']}")
        return f"call_{call['name']}({', '.join(f'at_{name}' for name in names)});"
    found = _match(_INSTRUCTION, code)
    return f'ISSUED("{found["opcode"]}") {_instruction(found)}'


def _registers(found: re.Match) -> str:
    ctype = "bool" if found["type"] == "pred" else f"U{8 * _bytes(found['type'])}"
    names = [f"{found['name']}{i}" for i in range(int(found["count"]))] if found["count"] else [found["name"]]
    return f"{ctype} {', '.join(names)};"


def _variable(found: re.Match) -> str:
    """Memory, and its address. Shared memory is laid out elsewhere."""
    if found["space"] == "shared":
        return ""
    name, align = found["name"], found["align"] or _bytes(found["type"])
    if found["space"] == "global":
        values = (found["value"] or "0").strip("{}")
        length = found["length"] or 1
        memory = f"alignas({align}) static {found['type'].upper()} memory_{name}[{length}] = {{{values}}}; static "
    else:
        memory = f"alignas({align}) char memory_{name}[{_size(found)}]; "
    return f"{memory}const U64 at_{name} = (U64)memory_{name};"


def _instruction(found: re.Match) -> str:
    opcode, operands = found["opcode"], _OPERAND.findall(found["operands"] or "")
    guard = f"if ({'!' if found['unless'] else ''}{found['guard']}) " if found["guard"] else ""
    if opcode == "ret":
        return f"{guard}return;"
    if opcode in ("bra", "bra.uni"):
        return f"{guard}goto {operands[0]};"
    parts = opcode.split(".")
    types = [part for part in parts if _TYPE.fullmatch(part)]
    name = "_".join(["ptx", *(part for part in parts if part not in types)])
    name += f"<{', '.join(types).upper()}>" if types else ""
    if opcode.startswith(WITHOUT_RESULT) or not operands:
        return f"{guard}{name}({', '.join(map(_operand, operands))});"
    result, *operands = operands
    value = f"{name}({', '.join(map(_operand, operands))})"
    takers = re.findall(r"\w+", result)  # one, {several}, or one|predicate
    return f"{guard}take({', '.join([value, *takers])});"


def _operand(written: str) -> str:
    """A register, a number, a name, which is an address, a sum of two, or several."""
    if written[0] == "{":
        return f"{{{', '.join(map(_operand, _OPERAND.findall(written[1:-1])))}}}"
    if written[0] == "[":
        return " + ".join(map(_operand, written[1:-1].split("+")))
    if special := re.fullmatch(rf"%({'|'.join(SPECIAL)})\.([xyz])", written):
        return f"{SPECIAL[special[1]]}.{special[2]}"
    if re.fullmatch(r"%\w+", written):
        return written[1:]
    if bits := re.fullmatch(r"0[fd]([0-9A-Fa-f]+)", written):
        return f"0x{bits[1]}"  # of a float, as it is in a register
    if re.fullmatch(r"-?(?:0x[0-9A-Fa-f]+|\d+)", written):
        return written
    return f"at_{_match(_NAME, written)[0]}"


def _bytes(ptx_type: str) -> int:
    return BYTES[ptx_type[1:]]


def _size(found: re.Match) -> int:
    return _bytes(found["type"]) * int(found["length"] or 1)


def _match(pattern: re.Pattern, code: str) -> re.Match:
    found = pattern.fullmatch(code)
    if not found:
        raise ValueError(f"PTX: {code!r} is none of the statements that are known")
    return found
