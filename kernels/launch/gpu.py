"""The GPU: CuPy gives memory, streams and the launch; the machine code comes from `nvrtc`."""

from __future__ import annotations

import functools
from pathlib import Path

from kernels import DeviceError
from kernels.launch import nvrtc
from kernels.launch.cache import cached
from kernels.launch.source import HOMES, Home

try:
    import cupy
except ImportError as error:
    raise DeviceError(
        f"cuda: needs CuPy ({error}): pip install 'minigan[cuda13]', or 'minigan[cuda12]' if the driver is of CUDA 12"
    ) from error


def _major() -> int:
    """CUDA's major version, as CuPy was built for it.

    Raises
    ------
    DeviceError: CuPy finds no GPU, or NVRTC is not installed beside it.
    """
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(f"cuda: needs an NVIDIA GPU and its driver ({error})") from error
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    nvrtc.version(major)
    return major


MAJOR = _major()
UNASKED = 48 << 10  # bytes of shared memory that a block may take without asking


def array(values) -> cupy.ndarray:
    """A NumPy array copied to the GPU, C-contiguous."""
    return cupy.asarray(values, order="C")


numpy = cupy.asnumpy  # and back
copy = cupy.copyto


def memory() -> int:
    """Bytes of the GPU that CuPy's pool has taken. It gives none back, so they are the most that were ever held."""
    return cupy.get_default_memory_pool().total_bytes()


@functools.cache
def _function(source, kernel: str, defines: frozenset, shared: int, device: int) -> cupy.RawKernel:
    """The kernel, compiled for that GPU (or taken from the cache), loaded, and allowed that much shared memory."""
    architecture = f"sm_{cupy.cuda.Device(device).compute_capability}"
    parts = [nvrtc.version(MAJOR), *nvrtc.options(source, defines, architecture), source.text]

    def make(path: Path) -> None:
        path.write_bytes(nvrtc.compile(source, defines, architecture, MAJOR).code)

    path = cached("cuda", parts, ".cubin", make)
    function = cupy.RawModule(path=str(path)).get_function(kernel)
    if shared > UNASKED:
        function.max_dynamic_shared_size_bytes = shared
    return function


def run(source, kernel: str, grid, block, shared, arguments, defines: frozenset) -> None:
    """Start one kernel on the current stream; it runs while Python goes on."""
    handed = tuple(
        parameter.packed(argument, address) if parameter.table else argument
        for parameter, argument in zip(source.kernels[kernel], arguments, strict=True)
    )
    function = _function(source, kernel, defines, shared, cupy.cuda.runtime.getDevice())
    function(grid, block, handed, shared_mem=shared)


def address(array: cupy.ndarray) -> int:
    """Where an array begins in the GPU's memory."""
    return array.data.ptr


def has_tensor_cores() -> bool:
    """Whether the current GPU has those of sm_80, for TF32 and bf16, and its asynchronous copies."""
    return int(cupy.cuda.Device().compute_capability) >= 80


def multiprocessors() -> int:
    """How many the current GPU has."""
    return cupy.cuda.Device().attributes["MultiProcessorCount"]


HOMES[cupy.ndarray] = Home(cupy.empty, run, multiprocessors, address)
