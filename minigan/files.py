"""Files that are whole or not there: what a killed run leaves behind is never taken for a result."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new binary file to write and seek in, which takes `path`'s place when the block ends.

    It is written beside `path` under a name of its own (`<name>.<random>.tmp`), synced, and renamed, so that a reader
    meets the old file or the new one, both whole, and two writers do not meet at all. If the block raises, the new
    file is removed and the old one stays; a run that is killed leaves its `.tmp` behind, which nothing reads.

    Raises
    ------
    OSError: the folder is missing or cannot be written, or the disk is full.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
