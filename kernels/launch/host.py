"""The host: a `.cu` compiled by its C++ compiler and run a thread at a time on NumPy arrays (see emulated.h).

Or compiled by NVIDIA's, as far as it goes without a GPU, and the outcome by the host's (see `ptx`).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kernels import DeviceError
from kernels.launch import counted, nvrtc, ptx
from kernels.launch.cache import cached
from kernels.launch.signature import Parameter, join

OPTIONS = (
    "-std=c++17", "-O1", "-g1", "-fPIC", "-shared", "-fvisibility=hidden",
    "-ffp-contract=off",     # a * b + c rounds twice, as NumPy's does
    "-fno-strict-aliasing",  # a kernel may read four floats as one float4
    "-U_FORTIFY_SOURCE",     # whose longjmp refuses to change stacks
    "-w",                    # NVRTC's warnings are the ones that count
)  # fmt: skip
SANITIZED = (
    "-fsanitize=address,alignment,shift",  # a GPU reads no float4 that begins anywhere, and shifts by 32 otherwise
    "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-DEMULATED_SANITIZED",
)  # fmt: skip


THREADS, STACK = 1024, 1 << 18  # of a block at most; bytes of each one's stack, where sanitizers' red zones take room
PTX = ("-fwrapv", "-DEMULATED_PTX")  # its whole numbers wrap around, and C++'s signed ones need not
COUNTED = ("-DEMULATED_COUNTED", "-fno-threadsafe-statics")  # the GIL sees to that


class Emulation(NamedTuple):
    """How kernels run on the host.

    Attributes
    ----------
    order: None runs a graph's kernels, blocks, and the threads of a block between barriers, in their order; a seed
        shuffles them.
    sanitize: whether they are built with sanitizers, and stop at a read beyond an array, say; see
        `sanitized_environment`.
    multiprocessors: as if there were so many: a launch may plan for them. Few, so that small cases are quick.
    ptx: None runs a `.cu` as the host's compiler reads it; a virtual architecture, "compute_90", runs the PTX that
        NVIDIA's makes of it for that.
    counted: None, or, of PTX, a function: of each launch one block runs, alone, and it is handed the Counts of that.
    """

    order: int | None = None
    sanitize: bool = False
    multiprocessors: int = 4
    ptx: str | None = None
    counted: Callable[[counted.Counts], None] | None = None


_emulation = Emulation()


@contextlib.contextmanager
def emulation(**chosen) -> Iterator[None]:
    """While active, kernels on the host run as chosen, and otherwise as they did."""
    global _emulation
    outer, _emulation = _emulation, _emulation._replace(**chosen)
    try:
        yield
    finally:
        _emulation = outer


def order() -> int | None:
    """The seed that shuffles, or None."""
    return _emulation.order


def multiprocessors() -> int:
    """How many there are, as far as a launch can tell."""
    return _emulation.multiprocessors


def architecture() -> str | None:
    """Of the PTX that runs, or None."""
    return _emulation.ptx


@functools.cache
def compiler() -> str:
    """The path of the host's C++ compiler: $CXX, g++ or clang++.

    Raises
    ------
    DeviceError: there is none, or the machine is not a Linux one, whose linker and contexts emulated.h relies on.
    """
    if sys.platform != "linux":
        raise DeviceError(f"emulated: runs on Linux, and this is {sys.platform}")
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise DeviceError("emulated: needs g++ or clang++ (apt install g++), or the path of one in $CXX")


@functools.cache
def compiler_version() -> str:
    """What the compiler says of itself, in one line."""
    return subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def sanitized_environment() -> dict[str, str]:
    """The environment in which Python must be started for `emulation(sanitize=True)`.

    The sanitizer's library has to be there before NumPy allocates, so that every array gets its red zones.

    Raises
    ------
    DeviceError: the compiler has no address sanitizer.
    """
    # A file that the compiler does not find comes back as its name alone. clang finds g++'s too: its own come first.
    for name in (f"libclang_rt.asan-{os.uname().machine}.so", "libclang_rt.asan.so", "libasan.so"):
        found = subprocess.run([compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        if Path(found.stdout.strip()).is_absolute():
            return {
                **os.environ,
                "LD_PRELOAD": found.stdout.strip(),
                "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
            }
    raise DeviceError(f"emulated: {compiler()} has no address sanitizer")


def run(source, kernel: str, grid, block, shared, arguments, defines: frozenset) -> None:
    """Run one kernel over its whole grid.

    Raises
    ------
    RuntimeError: the source does not compile, or some thread never reaches a barrier where others wait.
    ValueError: an array that the kernel writes is read-only.
    """
    values = []
    for parameter, argument in zip(source.kernels[kernel], arguments, strict=True):
        arrays = (argument if parameter.table else [argument]) if parameter.pointer else []
        if not parameter.const and not all(array.flags.writeable for array in arrays):
            raise ValueError(f"{source.name}: {kernel}: {parameter.name} is read-only, and the kernel writes it")
        if parameter.table:
            values.append(parameter.packed(argument, address))
        else:
            values.append(np.array(address(argument) if parameter.pointer else argument))
    library = built(source, defines, _emulation.sanitize, _emulation.ptx, bool(_emulation.counted))
    middle = math.prod(grid) // 2 if _emulation.counted else None
    start(library, source.name, kernel, grid, block, shared, values, middle)
    if _emulation.counted:
        _emulation.counted(counted.Counts(source, kernel, defines, grid, block, counted.instructions(library)))


def start(library: ctypes.PyDLL, name: str, kernel: str, grid, block, shared: int, values, only=None) -> None:
    """Run one kernel of a library, built of the source of that name.

    values: arrays of one number, or one address. only: the number of the one block that is to run.
    """
    first, last = (0, math.prod(grid)) if only is None else (only, only + 1)
    failure = library.emulated_launch(
        ctypes.cast(getattr(library, _entry_name(kernel)), ctypes.c_void_p),
        (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values)),
        (ctypes.c_uint * 3)(*grid),
        (ctypes.c_uint * 3)(*block),
        ctypes.c_size_t(shared),
        _the_stacks(),
        ctypes.c_uint64(0 if _emulation.order is None else 2 * _emulation.order + 1),
        ctypes.c_size_t(first),
        ctypes.c_size_t(last),
    )
    if failure:
        raise RuntimeError(f"{name}: {kernel}: {failure.decode()}")


_one_at_a_time = threading.Lock()


def _the_stacks() -> ctypes.Array:
    """Of the threads of a block (fibers.h), the same whoever asks first."""
    with _one_at_a_time:
        return _stacks()


@functools.cache
def _stacks() -> ctypes.Array:
    """Memory for them, of which only what is touched is taken."""
    size = THREADS * STACK
    return (ctypes.c_char * size).from_buffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def address(array: np.ndarray) -> int:
    """Where an array begins in memory."""
    return array.ctypes.data


@functools.cache
def built(source, defines: frozenset, sanitize: bool, architecture: str | None, counts: bool = False) -> ctypes.PyDLL:
    """The source compiled and loaded. Threads may build several at once.

    architecture: that of `Emulation.ptx`. counts: whether the PTX is to count what it does.

    Raises
    ------
    DeviceError: sanitize, in a Python that was started without the sanitizer's library; PTX, without NVRTC.
    RuntimeError: the source does not compile.
    """
    if sanitize and not hasattr(ctypes.CDLL(None), "__asan_init"):
        raise DeviceError("emulated: sanitize=True needs Python started in kernels.launch.host.sanitized_environment()")
    sizes = [f"-DEMULATED_THREADS={THREADS}", f"-DEMULATED_STACK={STACK}"]
    chosen = [*(SANITIZED if sanitize else ()), *(PTX if architecture else ()), *(COUNTED if counts else ())]
    options = [*OPTIONS, *sizes, *chosen]
    parts, write = _as_written(source, defines) if architecture is None else _as_ptx(source, defines, architecture)

    def make(path: Path) -> None:
        done = subprocess.run(
            [compiler(), *options, "-x", "c++", "-", "-o", path, "-lm"],
            input="\n".join([_header("emulated.h"), *write()]),
            env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{source.name} does not compile for the host:\n{done.stderr}")

    path = cached("emulated", [compiler_version(), *options, _header("emulated.h"), *parts], ".so", make)
    library = ctypes.PyDLL(path)  # keeps the GIL: a library has one set of fibers, and so one launch at a time
    library.emulated_launch.restype = ctypes.c_char_p
    return library


def _as_written(source, defines: frozenset) -> tuple[list[str], Callable[[], list[str]]]:
    """What the host's build of a `.cu` is made of, and a function that returns its C++."""
    constants = [f"#define {name} {value}" for name, value in sorted(defines)]
    text = [*constants, source.text, *(_entry(name, source.kernels[name]) for name in source.kernels)]
    return text, lambda: text


def _as_ptx(source, defines: frozenset, architecture: str) -> tuple[list[str], Callable[[], list[str]]]:
    """What the build of a `.cu`'s PTX is made of, and a function that returns its C++."""
    major = nvrtc.newest()
    translator = resources.files(__package__).joinpath("ptx.py").read_text("utf-8")
    parts = [nvrtc.version(major), *nvrtc.options(source, defines, architecture), source.text, translator]

    def write() -> list[str]:
        code = nvrtc.compile(source, defines, architecture, major).code
        return [_header("ptx.h"), ptx.translated(code.decode().rstrip("\0"))]

    return [*parts, _header("ptx.h")], write


@functools.cache
def _header(file: str) -> str:
    return join(__package__, file, resources.files(__package__).joinpath(file).read_text("utf-8"))


def _entry_name(kernel: str) -> str:
    return f"entry_{kernel}"


def _entry(kernel: str, parameters: tuple[Parameter, ...]) -> str:
    """C++ that calls a kernel with arguments given as a pointer to each, as CUDA's own launch takes them."""
    arguments = ", ".join(f"*({parameter.cpp}*)arguments[{index}]" for index, parameter in enumerate(parameters))
    return (
        f'extern "C" __attribute__((visibility("default"))) '
        f"void {_entry_name(kernel)}(void** arguments) {{ {kernel}({arguments}); }}"
    )
