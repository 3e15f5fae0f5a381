"""Arithmetic: one folder an operation, one file a device.

Every folder in here but `launch` is a room: `reference.py` defines its functions in NumPy, `cpu.py` computes them with
Numba and BLAS, and `cuda.py` launches the kernels of its `.cu` file. The functions of a room are the names in its
modules' `__all__`, and they have the same signatures on every device: arrays in, arrays out. (A picture that a
convolution reads may be `Pending` on a device that says so, and is an array to whoever asks for one.)

    device = kernels.device("cpu")
    y = device.conv2d(device.array(x), device.array(w), stride=2, padding=1)

`cuda` and `emulated` are one set of modules: `cuda.py` launches its kernels where its arrays live, CuPy arrays on the
GPU, NumPy arrays on the host (see `kernels.launch`). A room may hold other ways to the same results, to read and to
compare with: `kernels.device("cpu", conv="direct")` has the functions of `kernels/conv2d/direct.py`, and
`kernels.device("cuda", precision="tf32")` those of `kernels/conv2d/tf32.py`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping

import numpy as np

from kernels.memory import peak_memory
from kernels.pending import Normalised, Pending, Rectified, RoundedOnce, as_array

__all__ = [
    "CONVOLUTIONS",
    "DEVICES",
    "PRECISIONS",
    "Device",
    "DeviceError",
    "Normalised",
    "Pending",
    "Rectified",
    "RoundedOnce",
    "as_array",
    "convolution",
    "device",
    "precisions",
    "rooms",
    "ways_of_gpu",
]


class DeviceError(RuntimeError):
    """A device that cannot be had on this machine; the message says what to install or to choose instead."""


def _contiguous(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, order="C")


def fetch(array: np.ndarray) -> Callable[[], np.ndarray]:
    """As `Device.fetch`, of an array of the host."""
    values = array.copy()
    return lambda: values


class Device:
    """One of the four devices: its kernels as attributes, and the way in and out for arrays.

    Attributes
    ----------
    name: "cuda", "cpu", "emulated" or "reference".
    precision: what its convolutions multiply, one of PRECISIONS.
    dtypes: the floating-point types its kernels accept.
    kernels: every kernel function by name; `device.conv2d` is `device.kernels["conv2d"]`.
    reads_pending: whether its convolutions take a `Pending` picture.
    rounds_first: whether they round what they read into a copy first, which two of them may share: `RoundedOnce`.
    sender: with `send = device.sender(shape, dtype)`, `send(target, values)` copies a NumPy array into one on this
        device. It may compute meanwhile, but nothing that was asked of it since the send before (or since `sender`) may
        touch the target; what is asked afterwards finds the values there.
    fetch: with `fetched = device.fetch(array)`, `fetched()` is the array's values of now as a NumPy array, whatever is
        asked of the device meanwhile. It waits for them, and not for what was asked for since.
    """

    def __init__(
        self,
        name: str,
        module: str,
        dtypes: tuple[type, ...],
        array: Callable = _contiguous,
        numpy: Callable = np.asarray,
        copy: Callable = np.copyto,
        sender: Callable = lambda shape, dtype: np.copyto,
        fetch: Callable = fetch,
        memory: Callable = peak_memory,
        free_memory: Callable = lambda: 0,
        graph: Callable | None = None,
        instead: Mapping[str, str] | None = None,
        precision: str = "fp32",
    ):
        """`instead` names the module of a room that is not to be `module`."""
        self.name = name
        self.precision = precision
        self.dtypes = tuple(np.dtype(dtype) for dtype in dtypes)
        self.array = array  # NumPy array -> C-contiguous array on this device
        self.numpy = numpy  # array on this device -> NumPy array
        self.copy = copy  # copy(target, source): all elements of one array on this device into another
        self.sender = sender  # sender(shape, dtype) -> a function that sends arrays here; see above
        self.fetch = fetch  # fetch(array) -> a function that returns what it held then; see above
        self.memory = memory  # () -> the most bytes that were ever held where its arrays live, or None: not known
        self.free_memory = free_memory  # () -> bytes for arrays of the host; 0 where the host's are its own
        self.graph = graph  # graph(step) -> the same function, captured and repeated; None: no kernels are launched
        self.kernels = {}
        self.reads_pending = self.rounds_first = False
        for room in rooms():
            functions = importlib.import_module(f"kernels.{room}.{(instead or {}).get(room, module)}")
            self.reads_pending |= hasattr(functions, "READS_PENDING")
            self.rounds_first |= hasattr(functions, "ROUNDS_FIRST")
            for kernel in functions.__all__:
                if kernel in self.kernels:
                    raise ImportError(f"{functions.__name__}: another room defines {kernel} already")
                self.kernels[kernel] = getattr(functions, kernel)
        vars(self).update(self.kernels)

    def __repr__(self) -> str:
        return f"<device {self.name}>"


def rooms() -> list[str]:
    """The names of the folders that hold an operation, in alphabetical order."""
    return [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg and module.name != "launch"]


def _cuda(**chosen) -> Device:
    from kernels.launch import gpu  # imports CuPy, or says what to install

    moves = gpu.array, gpu.numpy, gpu.copy, gpu.sender, gpu.fetch
    return Device("cuda", "cuda", (np.float32,), *moves, gpu.memory, gpu.free_memory, gpu.GpuGraph, **chosen)


def _emulated(**chosen) -> Device:
    from kernels.launch import graph, host

    host.compiler()  # raises where there is none
    array, numpy, copy, fetched = map(graph.between_steps, (_contiguous, np.asarray, np.copyto, fetch))
    moves = array, numpy, copy, lambda shape, dtype: copy, fetched
    return Device("emulated", "cuda", (np.float32,), *moves, graph=graph.HostGraph, **chosen)


_MAKE = {
    "cuda": _cuda,
    "cpu": lambda **chosen: Device("cpu", "cpu", (np.float32,), **chosen),
    "emulated": _emulated,
    "reference": lambda **chosen: Device("reference", "reference", (np.float32, np.float64), **chosen),
}
PRECISIONS = ("fp32", "tf32", "bf16")
# Which module of kernels/conv2d, by way of convolution and precision.
_RUNGS = {"naive": {"fp32": "naive"}, "tiled": {"fp32": "tiled"}, "registers": {"fp32": "cuda"}}
_OLDER_GPU = {"auto": {"fp32": "cuda"}, "direct": {"fp32": "cuda"}, **_RUNGS}
_TENSOR = {"tf32": "tf32", "bf16": "bf16"}
_GPU = {"auto": {"fp32": "fp32", **_TENSOR}, "direct": {"fp32": "fp32_direct", **_TENSOR}, **_RUNGS, "tensor": _TENSOR}


def ways_of_gpu(tensor_cores: bool) -> dict[str, dict[str, str]]:
    """By way of convolution and precision, the module of kernels/conv2d that a GPU takes.

    tensor_cores: whether it has those of sm_80, for TF32 and bf16, and its asynchronous copies.
    """
    return _GPU if tensor_cores else _OLDER_GPU


def _ways_of_cuda() -> dict:
    from kernels.launch import gpu

    return ways_of_gpu(gpu.has_tensor_cores())


_WAYS = {
    "cuda": _ways_of_cuda,
    "cpu": lambda: {"auto": {"fp32": "cpu"}, "direct": {"fp32": "direct"}},
    "emulated": lambda: ways_of_gpu(tensor_cores=True),
    "reference": lambda: {"auto": {"fp32": "reference"}, "direct": {"fp32": "reference"}},
}
DEVICES, CONVOLUTIONS = tuple(_WAYS), tuple(_GPU)


def precisions(name: str, conv: str = "auto") -> tuple[str, ...]:
    """What a device's convolutions can multiply in that way: some of PRECISIONS, in their order.

    Raises
    ------
    DeviceError: no such device, none of this machine, or one that does not convolve in that way.
    """
    if name not in DEVICES:
        raise DeviceError(f"no device {name!r}: choose one of {', '.join(DEVICES)}")
    ways = _WAYS[name]()
    if conv not in ways:
        raise DeviceError(f"{name}: does not convolve {conv!r} here: choose one of {', '.join(ways)}")
    return tuple(ways[conv])


def convolution(name: str, conv: str = "auto", precision: str = "fp32") -> str:
    """The module of kernels/conv2d with which a device convolves so. Raises DeviceError where it does not."""
    known = precisions(name, conv)
    if precision not in known:
        raise DeviceError(f"{name}: no {precision} convolution here: {conv!r} is in {' or '.join(known)}")
    return _WAYS[name]()[conv][precision]


def device(name: str, conv: str = "auto", precision: str = "fp32") -> Device:
    """The device of that name, made once for each way of convolution and precision that it has.

    conv: "auto" convolves in the way that is fastest for each shape, "direct" by the definition. On a GPU, "naive",
    "tiled", "registers" and "tensor" are rungs of a ladder to read and to compare; "direct" has the uppermost of each
    precision, and "auto" Winograd's algorithm beside it, in float32. precision: of the numbers that are multiplied,
    "tf32" and "bf16" on tensor cores; sums are in float32.

    Raises
    ------
    DeviceError: no such device, or this machine cannot have it (no CuPy, no GPU, no C++ compiler), or it cannot
        convolve so.
    """
    return _made(name, convolution(name, conv, precision), precision)


@functools.cache
def _made(name: str, conv2d: str, precision: str) -> Device:
    """The device with that module of kernels/conv2d."""
    return _MAKE[name](instead={"conv2d": conv2d}, precision=precision)
