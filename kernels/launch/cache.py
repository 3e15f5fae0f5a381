"""Compiled kernels on disk, each named by everything it is made of."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs


def cached(kind: str, parts: list[str], suffix: str, make: Callable[[Path], None]) -> Path:
    """The file made of these parts: kept from an earlier run, or made now.

    `make(path)` writes it under a temporary name and it is renamed, so that a file in the cache is whole, whatever
    was interrupted and whoever else makes it at the same time.
    """
    folder = platformdirs.user_cache_path("minigan") / kind
    path = folder / (hashlib.sha256("\0".join(parts).encode()).hexdigest() + suffix)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            made = Path(unfinished) / path.name
            make(made)
            made.replace(path)
    return path
