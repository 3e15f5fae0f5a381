"""On which card figures were measured: they mean nothing without it."""

from __future__ import annotations

import contextlib
import subprocess
from importlib import metadata

from benchmarks import machine

__all__ = ["describe"]

PACKAGES = ("numpy", "cupy-cuda13x", "cupy-cuda12x", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "torch", "triton")


def describe(device: str) -> dict:
    """The machine, and of a GPU its name, memory in bytes, multiprocessors, architecture and driver."""
    about = machine.describe(())
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            about["versions"][package] = metadata.version(package)
    return about | (_card() if device == "cuda" else {"card": f"{about['cpu']}, the kernels emulated"})


def _card() -> dict:
    import cupy  # here and not above: not every machine has it

    runtime = cupy.cuda.runtime
    card = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "card": card["name"].decode(),
        "memory": card["totalGlobalMem"],
        "multiprocessors": card["multiProcessorCount"],
        "architecture": f"sm_{card['major']}{card['minor']}",
        "cache": card["l2CacheSize"],
        "cuda": f"{runtime.driverGetVersion()} of the driver, {runtime.runtimeGetVersion()} of CuPy",
        "driver": _driver(),
    }


def _driver() -> str:
    """As NVIDIA's own tool calls it."""
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError) as error:
        return f"not known: {error}"
