"""Where figures were measured: they mean nothing without it."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

from kernels.threads import cpus

__all__ = ["caches", "describe"]


def describe(packages: tuple[str, ...]) -> dict:
    """The machine, the versions of `packages`, the BLAS, the date, and how busy the machine was before."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "cpu": _cpu_name(),
        "cpus": cpus(),
        "load": round(os.getloadavg()[0], 1),  # processes at work in the last minute, on average
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
            blas["name"]: blas["version"],
        },
        "date": datetime.date.today().isoformat(),
    }


def _cpu_name() -> str:
    """As the kernel calls it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def caches() -> int:
    """Bytes of the largest cache, or of one as large as most."""
    names = {"SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE"} & getattr(os, "sysconf_names", {}).keys()
    return max([32 << 20, *map(os.sysconf, names)])
