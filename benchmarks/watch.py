"""A device that somebody watches at work."""

from __future__ import annotations

import copy
from collections.abc import Callable

import kernels

__all__ = ["watched"]


def watched(device: kernels.Device, watch: Callable[[str, Callable], Callable]) -> kernels.Device:
    """The same device with `watch(name, function)` in the place of each kernel, and of `copy`."""
    result = copy.copy(device)
    result.kernels = {name: watch(name, kernel) for name, kernel in device.kernels.items()}
    vars(result).update(result.kernels, copy=watch("copy", device.copy))
    return result
