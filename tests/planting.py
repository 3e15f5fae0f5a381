"""Faults planted in copies of the real kernels, to see that they are found."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from types import ModuleType
from typing import NamedTuple

import cases
import numpy as np

import kernels
from kernels.launch import Source


class Program(NamedTuple):
    """A `.cu` and what launches it."""

    names: dict  # of what launches it, where `name` is its Source
    name: str
    module: ModuleType  # which has the functions of the contract

    @property
    def source(self) -> Source:
        """The `.cu`."""
        return self.names[self.name]


def program(launcher: str, module: str | None = None) -> Program:
    """By the modules' paths: "conv2d.fold", "conv2d.fp32_direct"."""
    launcher, module = (importlib.import_module(f"kernels.{path}") for path in (launcher, module or launcher))
    return Program(vars(launcher), "SOURCE", module)


def pipeline(file: str, module: str) -> Program:
    """By the name of one of its two files, and the path of the module of a format."""
    module = importlib.import_module(f"kernels.{module}")
    return Program(module.PIPELINE.format.sources, file, module)


PROGRAMS = {room: program(f"{room}.cuda") for room in kernels.rooms()} | {
    "conv2d, fold": program("conv2d.fold", "conv2d.fp32_direct"),
    "conv2d, dot": program("conv2d.dot", "conv2d.fp32_direct"),
    "conv2d, parts": program("conv2d.parts", "conv2d.fp32_direct"),
    "conv2d, naive": program("conv2d.naive"),
    "conv2d, tiled": program("conv2d.tiled"),
    "conv2d, fp32": pipeline("pipeline.cu", "conv2d.fp32_direct"),
    "conv2d, tf32": pipeline("pipeline.cu", "conv2d.tf32"),
    "conv2d, bf16": pipeline("pipeline.cu", "conv2d.bf16"),
    "conv2d, operand in fp32": pipeline("operand.cu", "conv2d.fp32_direct"),
    "conv2d, operand in bf16": pipeline("operand.cu", "conv2d.bf16"),
    "conv2d, tiles": program("conv2d.tiles_cuda", "conv2d.fp32"),
    "conv2d, winograd": program("conv2d.winograd_cuda", "conv2d.fp32"),
}
MODULES = list(dict.fromkeys(program.module for program in PROGRAMS.values()))


@contextlib.contextmanager
def planted(name, text):
    """The module of a program, which launches `text` in place of its own `.cu`."""
    names, place, module = PROGRAMS[name]
    kept = names[place]
    room, file = kept.name.rsplit("/", 1)
    names[place] = Source(room.replace("/", "."), file, contract=kept.contract, text=text)
    try:
        yield module
    finally:
        names[place] = kept


def results(module):
    """Every array that the kernels of a module make or change, one by one.

    At the sizes of tests/cases.py that are not drawn: all kernels at their first, then all at their second, so that a
    difference is met before every set of constants has been compiled; and the sizes of each kind in turn. A kernel that
    is two others of the contract, one after the other, is left out.
    """
    calls = [
        [(function, arguments) for arguments in in_turn(cases.many_tiles(kernel), pending(module, kernel), fixed)]
        for kernel in module.__all__
        for function, fixed in [(getattr(module, kernel), cases.fixed(kernel))]
        if not hasattr(function, "__wrapped__")
    ]
    for kernel, arguments in in_turn(*calls):
        made = kernel(*arguments)
        yield from made if isinstance(made, tuple) else [made]
        yield from (a for a in arguments if isinstance(a, np.ndarray))


def pending(module, kernel):
    """The arguments with pictures that are pending, for a module that reads them."""
    return cases.pending(kernel) if hasattr(module, "READS_PENDING") else []


def in_turn(*lists):
    """The first of each list, then the second of each, as far as there are any."""
    return [each for row in itertools.zip_longest(*lists) for each in row if each is not None]
