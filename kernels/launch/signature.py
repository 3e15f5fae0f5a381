"""The text of a `.cu`: its includes joined, and the signatures of its kernels read out of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

DTYPES = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "int": np.dtype(np.int32),
    "unsigned": np.dtype(np.uint32),
    "unsigned int": np.dtype(np.uint32),
    "long long": np.dtype(np.int64),
    "unsigned long long": np.dtype(np.uint64),
    "unsigned short": np.dtype(np.uint16),
    "unsigned char": np.dtype(np.uint8),
}
LIMITS = {  # the smallest and the largest number of each type
    ctype: (float(np.finfo(dtype).min), float(np.finfo(dtype).max))
    if dtype.kind == "f"
    else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    for ctype, dtype in DTYPES.items()
}


TABLE = 32  # rows of a table: see table.cuh


class Parameter(NamedTuple):
    """One parameter of a kernel, such as `const float* __restrict__ x` or `const Table<int> sizes`."""

    name: str
    ctype: str  # "float"
    pointer: bool
    const: bool
    table: bool = False  # of as many such numbers, or arrays, as a table has rows

    @property
    def dtype(self) -> np.dtype:
        """The NumPy type of the number, or of the array's elements."""
        return DTYPES[self.ctype]

    @property
    def cpp(self) -> str:
        """Its type in C++."""
        written = f"{'const ' * self.const}{self.ctype}{'*' * self.pointer}"
        return f"Table<{written}>" if self.table else written

    def packed(self, rows: tuple, address: Callable) -> np.ndarray:
        """A table as the one value, of shape (1,), that its kernel is handed. address: of an array."""
        values = np.zeros(TABLE, np.uint64 if self.pointer else self.dtype)
        values[: len(rows)] = [address(row) for row in rows] if self.pointer else rows
        return values.view(f"V{values.nbytes}")


def join(package: str, file: str, text: str, written: Mapping[str, str] = MappingProxyType({})) -> str:
    """The text with every `#include "..."` of a file of its own package replaced by that file, once each.

    Another room's file is named from there: "../batch_norm/columns.cuh". written: what is no file, by its name.
    `#line` keeps the compilers' messages in the files' own line numbers.
    """
    seen = set()

    def joined(file: str, text: str) -> str:
        path = f"{package.replace('.', '/')}/{file}"
        lines = [f'#line 1 "{path}"']
        for number, line in enumerate(text.splitlines(), 1):
            include = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not include:
                lines.append(line)
            elif include[1] not in seen:
                seen.add(include[1])
                included = written.get(include[1]) or resources.files(package).joinpath(include[1]).read_text("utf-8")
                lines += [joined(include[1], included), f'#line {number + 1} "{path}"']
            else:
                lines.append("")
        return "\n".join(lines) + "\n"

    return joined(file, text)


_GLOBAL = re.compile(
    r'extern\s*"C"\s*__global__\s+void\s+(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?(\w+)\s*\(([^()]*)\)'
)
_TABLE = re.compile(r"const (?:__grid_constant__ )?Table<(?P<row>[^<>]+)> (?P<name>\w+)")
_PARAMETER = re.compile(r"(?:(?P<const>const) )?(?P<ctype>[\w ]+?)(?P<pointer> ?\* ?(?:__restrict__ )?| )(?P<name>\w+)")


def signatures(text: str, where: str) -> dict[str, tuple[Parameter, ...]]:
    """The parameters of every kernel of a `.cu` by its name; where a type has two names, that of `DTYPES`.

    Raises
    ------
    ValueError: a `__global__` function that is not `extern "C" __global__ void [__launch_bounds__(..)] name(..)`, or a
        parameter that is neither a number, nor a pointer to numbers of a type that NumPy has too, nor a table of these.
    """
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    other_names = {other: ctype for ctype, other in re.findall(r"\btypedef ([\w ]+) (\w+);", text)}
    found = {}
    for name, inside in _GLOBAL.findall(text):
        parameters = []
        for written in filter(None, (" ".join(part.split()) for part in inside.split(","))):
            table = _TABLE.fullmatch(written)
            match = _PARAMETER.fullmatch(f"{table['row']} {table['name']}" if table else written)
            ctype = other_names.get(match["ctype"], match["ctype"]) if match else None
            if ctype not in DTYPES:
                raise ValueError(
                    f"{where}: {name}: parameter `{written}` is not one of {', '.join(DTYPES)}, a pointer to one, or a "
                    "const Table<> of these"
                )
            pointer, const = "*" in match["pointer"], bool(match["const"])
            parameters.append(Parameter(match["name"], ctype, pointer, const, bool(table)))
        found[name] = tuple(parameters)
    written = len(re.findall(r"\b__global__\b", text))
    if written != len(found):
        raise ValueError(
            f"{where}: {written} __global__ functions, but {len(found)} with a name of their own that read "
            'extern "C" __global__ void [__launch_bounds__(..)] name(..)'
        )
    return found
