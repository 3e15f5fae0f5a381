"""Arithmetic: one folder an operation, one file a device.

Every folder in here but `launch` is a room: `reference.py` defines its functions in NumPy, `cpu.py` computes them with
Numba and BLAS, and `cuda.py` launches the kernels of its `.cu` file. The functions of a room are the names in its
modules' `__all__`, and they have the same signatures on every device: arrays in, arrays out.

    device = kernels.device("cpu")
    y = device.conv2d(device.array(x), device.array(w), stride=2, padding=1)

`cuda` and `emulated` are one set of modules: `cuda.py` launches its kernels where its arrays live, CuPy arrays on the
GPU, NumPy arrays on the host (see `kernels.launch`). A room may hold another way to the same results, to read and to
compare with: `kernels.device("cpu", conv="direct")` has the functions of `kernels/conv2d/direct.py`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping

import numpy as np

from kernels.memory import peak_memory

__all__ = ["CONVOLUTIONS", "DEVICES", "Device", "DeviceError", "device", "rooms"]


class DeviceError(RuntimeError):
    """A device that cannot be had on this machine; the message says what to install or to choose instead."""


def _contiguous(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, order="C")


class Device:
    """One of the four devices: its kernels as attributes, and the way in and out for arrays.

    Attributes
    ----------
    name: "cuda", "cpu", "emulated" or "reference".
    dtypes: the floating-point types its kernels accept.
    kernels: every kernel function by name; `device.conv2d` is `device.kernels["conv2d"]`.
    """

    def __init__(
        self,
        name: str,
        module: str,
        dtypes: tuple[type, ...],
        array: Callable = _contiguous,
        numpy: Callable = np.asarray,
        copy: Callable = np.copyto,
        memory: Callable = peak_memory,
        instead: Mapping[str, str] | None = None,
    ):
        self.name = name
        self.dtypes = tuple(np.dtype(dtype) for dtype in dtypes)
        self.array = array  # NumPy array -> C-contiguous array on this device
        self.numpy = numpy  # array on this device -> NumPy array
        self.copy = copy  # copy(target, source): all elements of one array on this device into another
        self.memory = memory  # () -> the most bytes that were ever held where its arrays live, or None: not known
        self.kernels = {}
        for room in rooms():
            functions = importlib.import_module(f"kernels.{room}.{(instead or {}).get(room, module)}")
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


def _cuda() -> Device:
    from kernels.launch import gpu  # imports CuPy, or says what to install

    return Device("cuda", "cuda", (np.float32,), gpu.array, gpu.numpy, gpu.copy, gpu.memory)


def _emulated() -> Device:
    from kernels.launch import host

    host.compiler()  # raises where there is none
    return Device("emulated", "cuda", (np.float32,))


_AUTO = {
    "cuda": _cuda,
    "cpu": lambda: Device("cpu", "cpu", (np.float32,)),
    "emulated": _emulated,
    "reference": lambda: Device("reference", "reference", (np.float32, np.float64)),
}
_DIRECT = {**_AUTO, "cpu": lambda: Device("cpu", "cpu", (np.float32,), instead={"conv2d": "direct"})}
_MAKE = {"auto": _AUTO, "direct": _DIRECT}  # the other devices know no sum but the direct one
DEVICES, CONVOLUTIONS = tuple(_AUTO), tuple(_MAKE)


def device(name: str, conv: str = "auto") -> Device:
    """The device of that name, made once for each way of convolution that it has.

    conv: "auto" convolves in the way that is fastest for each shape, "direct" by the definition.

    Raises
    ------
    DeviceError: no such device, or this machine cannot have it (no CuPy, no GPU, no C++ compiler).
    """
    if name not in DEVICES:
        raise DeviceError(f"no device {name!r}: choose one of {', '.join(DEVICES)}")
    return _made(_MAKE[conv][name])


@functools.cache
def _made(make: Callable[[], Device]) -> Device:
    return make()
