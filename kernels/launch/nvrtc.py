"""NVIDIA's runtime compiler: a `.cu` to machine code for one architecture, on a machine with a GPU or without.

It is bound here rather than used through CuPy, whose own way to it always flushes denormals to zero (NumPy keeps them):
what the tests compile for every architecture is thereby what a GPU runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import re
from typing import NamedTuple

from kernels import DeviceError

WHEELS = {12: "nvidia-cuda-nvrtc-cu12", 13: "nvidia-cuda-nvrtc"}  # by CUDA's major version
OPTIONS = (
    "-std=c++17",
    "-ftz=false",
    "-lineinfo",  # NVIDIA's tools, and the host that runs PTX, name a .cu's line; the machine code is the same
    "-default-device",  # else CUDA 13.0 and older take a lambda with an `auto` parameter for the host's
    "--ptxas-options=-v",
)


class Usage(NamedTuple):
    """What one kernel takes on one architecture, as the compiler reports it."""

    registers: int  # of a thread
    shared: int  # bytes of a block
    stack: int  # bytes of a thread in local memory, spills among them
    spilled: int  # bytes that a thread stores to and loads from local memory for want of registers


class Compiled(NamedTuple):
    """A source compiled, and the compiler's log. code: a cubin; for a virtual architecture, PTX."""

    code: bytes
    log: str

    @property
    def warnings(self) -> list[str]:
        """The warnings, of the front end and of the assembler."""
        return [line for line in self.log.splitlines() if re.search(r"\bwarning\b", line)]

    @property
    def usage(self) -> dict[str, Usage]:
        """What each function takes, by its name."""
        reports = re.findall(r"Function properties for (\S+)\n(.*?)(?=Function properties|\Z)", self.log, re.DOTALL)
        return {
            name: Usage(
                registers=_number(r"Used (\d+) registers", report),
                shared=_number(r"(\d+) bytes smem", report),
                stack=_number(r"(\d+) bytes stack frame", report),
                spilled=_number(r"(\d+) bytes spill stores", report) + _number(r"(\d+) bytes spill loads", report),
            )
            for name, report in reports
        }


def _number(pattern: str, report: str) -> int:
    match = re.search(pattern, report)
    return int(match[1]) if match else 0  # the report leaves out what a kernel has none of


def version(major: int) -> str:
    """The installed version of NVRTC for that major version of CUDA; a DeviceError if there is none."""
    try:
        return importlib.metadata.version(WHEELS[major])
    except importlib.metadata.PackageNotFoundError:
        raise DeviceError(f"cuda: needs NVRTC for CUDA {major}: pip install 'minigan[cuda{major}]'") from None


def newest() -> int:
    """The newest major version of CUDA whose NVRTC is installed; a DeviceError if there is none."""
    for major in sorted(WHEELS, reverse=True):
        with contextlib.suppress(DeviceError):
            version(major)
            return major
    raise DeviceError(f"NVRTC is not installed: pip install {WHEELS[max(WHEELS)]}")


@functools.cache
def _library(major: int) -> ctypes.CDLL:
    version(major)
    # NVRTC opens its other half by its bare name, and that of CUDA 13.0 does not look beside itself. One that is open
    # already is found.
    _open(major, r"libnvrtc-builtins\.so\.[\d.]+|nvrtc-builtins64_\d+\.dll")
    library = _open(major, r"libnvrtc\.so\.\d+|nvrtc64_\d+_\d+\.dll")
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _open(major: int, name: str) -> ctypes.CDLL:
    """The one library of the wheel whose name is of that pattern."""
    (file,) = (file for file in importlib.metadata.files(WHEELS[major]) if re.fullmatch(name, file.name))
    return ctypes.CDLL(str(file.locate()))


def options(source, defines: frozenset, architecture: str) -> list[str]:
    """The compiler's options for a Source on an architecture, real or virtual: "sm_80", "compute_80"."""
    constants = [f"-D{name}={value}" for name, value in sorted(defines)]
    return [*OPTIONS, f"-arch={architecture}", f"-fmad={'true' if source.contract else 'false'}", *constants]


def compile(source, defines: frozenset, architecture: str, major: int) -> Compiled:
    """Compile a Source for an architecture, with the NVRTC of that major version of CUDA.

    Raises
    ------
    DeviceError: NVRTC is not installed.
    RuntimeError: the compiler's own message.
    """
    library = _library(major)
    given = [option.encode() for option in options(source, defines, architecture)]
    program = ctypes.c_void_p()
    _check(library, library.nvrtcCreateProgram(
        ctypes.byref(program), source.text.encode(), source.name.encode(), 0, None, None
    ))  # fmt: skip
    try:
        failed = library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
        log = _read(library, program, "ProgramLog").decode().rstrip("\0")
        if failed:
            raise RuntimeError(f"{source.name} does not compile for {architecture}:\n{log}")
        return Compiled(_read(library, program, "PTX" if architecture.startswith("compute_") else "CUBIN"), log)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    content = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, content))
    return content.raw


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")
