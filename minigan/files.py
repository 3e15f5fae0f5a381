"""Files that are whole or not there: what a killed run leaves behind is never taken for a result."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from minigan.errors import UserError

__all__ = ["FULL", "UNFINISHED", "remove_unfinished", "replacing", "replacing_folder", "sync", "try_place", "writing"]

UNFINISHED = f"*.{'[0-9a-f]' * 8}.tmp"  # matches the names of what is still being written, and no other
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what an OSError says where there is no more room


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
    temporary = _beside(path)
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def try_place(path: Path) -> None:
    """Raise the OSError that `replacing(path)` would, before the work for it is done rather than after."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    temporary = _beside(path)
    temporary.touch(exist_ok=False)
    temporary.unlink()


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder`, until then missing or empty, when the block ends.

    Folders above it that are missing are made too. The first of them, or else `folder`, is filled beside its place
    under a name of its own (`<name>.<random>.tmp`) and then renamed, so that all of it appears at once. If the block
    raises, nothing stays; a run that is killed leaves its `.tmp` behind, which nothing reads.

    Raises
    ------
    OSError: the place cannot be written, is taken or is the current folder, or the disk is full.
    """
    folder = folder.resolve()
    if folder == Path.cwd():
        raise OSError(errno.EBUSY, "it is the current folder")
    top = folder  # the highest one that is new
    while not top.parent.exists():
        top = top.parent
    temporary = _beside(top)
    filled = temporary / folder.relative_to(top)
    try:
        filled.mkdir(parents=True)
        yield filled
        if top.exists():
            top.rmdir()  # it is empty; not everywhere can a folder be renamed to another's name
        os.replace(temporary, top)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def writing(place: Path | str, remedy: str = "give another place") -> Iterator[None]:
    """What the disk refuses becomes one line, a UserError, which says to free the disk only where it is full."""
    try:
        yield
    except OSError as error:
        advice = f"free the disk, or {remedy}" if error.errno in FULL else remedy
        raise UserError(f"{place}: cannot be written ({error.strerror or error}): {advice}") from error


def remove_unfinished(folder: Path, hours: float = 0) -> None:
    """Delete the files in `folder` that killed writers left, if they have not changed for so many hours.

    With 0 hours it is only for who knows that nobody else writes there now.
    """
    latest = time.time() - 3600 * hours
    for path in folder.glob(UNFINISHED):
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished
            if path.is_file() and path.stat().st_mtime <= latest:
                path.unlink()


def sync(path: Path) -> None:
    """What was written to the file is on the disk now; if there is no such file, nothing was."""
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        os.fsync(file.fileno())


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
