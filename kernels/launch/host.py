"""The emulator: a `.cu` compiled by the host's C++ compiler and run a thread at a time (see emulated.h)."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from kernels import DeviceError

HEADER = "emulated.h"
OPTIONS = ("-std=c++17", "-O1", "-g1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing",
           "-fno-exceptions", "-U_FORTIFY_SOURCE", "-w", "-fvisibility=hidden")  # fmt: skip
SANITIZE = ("-fsanitize=address", "-fno-omit-frame-pointer", "-DEMULATED_SANITIZED")


class Emulation(NamedTuple):
    """How kernels are run on the host.

    Attributes
    ----------
    order: None runs the threads of a block in their order; a seed shuffles them anew after every barrier.
    sanitize: whether they are built with the address sanitizer; Python must have been started with
        `sanitized_environment()`.
    """

    order: int | None = None
    sanitize: bool = False


_emulation = Emulation()


@contextlib.contextmanager
def emulation(order: int | None = None, sanitize: bool = False) -> Iterator[None]:
    """While active, kernels on the host are run as `Emulation` says."""
    global _emulation
    outer, _emulation = _emulation, Emulation(order, sanitize)
    try:
        yield
    finally:
        _emulation = outer


@functools.cache
def compiler() -> str:
    """The path of the host's C++ compiler: $CXX, g++ or clang++.

    Raises
    ------
    DeviceError: there is none.
    """
    for name in filter(None, (os.environ.get("CXX"), "g++", "clang++")):
        if path := shutil.which(name):
            return path
    raise DeviceError(
        "the device 'emulated' needs a C++ compiler, g++ or clang++ (on Debian or Ubuntu: apt install g++), "
        "or its path in $CXX"
    )


@functools.cache
def _compiler_version() -> str:
    return subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout


def _entry(kernel: str, parameters) -> str:
    """A C function through which ctypes starts a kernel: it takes a pointer to each argument."""
    arguments = ", ".join(
        f"*static_cast<{'const ' * p.const}{p.ctype}{'*' * p.pointer}*>(arguments[{i}])"
        for i, p in enumerate(parameters)
    )
    return (
        f'extern "C" __attribute__((visibility("default"))) void entry_{kernel}(void** arguments) '
        f"{{ (void)arguments; {kernel}({arguments}); }}"
    )


@functools.cache
def _library(source, defines: frozenset, sanitize: bool) -> ctypes.CDLL:
    """The source compiled for the host: taken from the cache, or compiled now.

    Raises
    ------
    RuntimeError: the compiler's own message.
    """
    header = resources.files(__package__).joinpath(HEADER).read_text("utf-8")
    entries = "\n".join(_entry(kernel, parameters) for kernel, parameters in source.kernels.items())
    text = f'#line 1 "kernels/launch/{HEADER}"\n{header}\n{source.text}\n#line 1 "entries"\n{entries}\n'
    options = [*OPTIONS, *(SANITIZE if sanitize else ()), *(f"-D{name}={value}" for name, value in sorted(defines))]
    content = "\0".join([_compiler_version(), *options, text])
    folder = platformdirs.user_cache_path("minigan") / "emulated"
    path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            output = Path(unfinished) / path.name
            environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
            done = subprocess.run(
                [compiler(), *options, "-x", "c++", "-", "-o", str(output)],
                input=text, capture_output=True, text=True, env=environment,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"{source.name} does not compile for the host:\n{done.stderr}")
            output.replace(path)  # whole or not at all, whoever else compiles it now
    library = ctypes.PyDLL(str(path))  # holds the GIL: the fibers are one library's own, and run one launch at a time
    library.emulated_launch.restype = ctypes.c_char_p
    return library


def run(source, kernel: str, grid, block, arguments, defines: frozenset) -> None:
    """Run one kernel over its whole grid, on NumPy arrays.

    Raises
    ------
    RuntimeError: it does not compile, or a barrier that not every thread reaches.
    ValueError: an array that the kernel writes is read-only.
    """
    library = _library(source, defines, _emulation.sanitize)
    values = []
    for parameter, argument in zip(source.kernels[kernel], arguments, strict=True):
        if parameter.pointer and not parameter.const and not argument.flags.writeable:
            raise ValueError(f"{source.name}: {kernel}: {parameter.name} is written, and is a read-only array")
        values.append(np.array(argument.ctypes.data, np.uintp) if parameter.pointer else np.array(argument))
    pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    seed = 0 if _emulation.order is None else 2 * _emulation.order + 1
    failure = library.emulated_launch(
        ctypes.cast(getattr(library, f"entry_{kernel}"), ctypes.c_void_p),
        pointers,
        (ctypes.c_uint * 3)(*grid),
        (ctypes.c_uint * 3)(*block),
        ctypes.c_uint64(seed),
    )
    if failure:
        raise RuntimeError(f"{source.name}: {kernel}: {failure.decode()}")
