"""A set of decoded pictures on the disk: written whole or not at all, and checked whenever it is opened.

A set is two files in one folder. `KEY.npy` has the pixels; `numpy.load` reads it too. `KEY.json` says where they came
from, and has a digest of each BLOCK of them, made before they were written; it is written last, and without it the
pixels count for nothing. Of two processes that write one set at once, each writes all of it under a name of its own,
and whoever is last replaces the other's files by the same.

To read all of a large set would make every start a long one. What is checked is the length, and CHECKED blocks, others
each time: all of a set up to 64 MiB, a sample of a larger one. `python -m minigan.inspect --verify` reads every byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import math
import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from minigan.files import remove_unfinished, replacing

__all__ = ["Cache", "Damaged", "Stored", "digest_of"]

BLOCK = 2**22  # bytes that share a digest, to the nearest whole number of pictures below
CHECKED = 16  # blocks, at each start
STALE = 24  # hours after which a file that nobody has written on was left by a process that was killed


class Damaged(Exception):
    """A set that is not what was written. Its message says in what."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A set as it is on the disk.

    Attributes
    ----------
    images: uint8 (M,H,W,C), C-contiguous, read-only, mapped from the file.
    about: what was given to `Cache.write`.
    digest: of the pixels and their shape, in hexadecimal (see `digest_of`).
    """

    images: np.memmap
    about: dict
    digest: str


class Cache:
    """One set. folder: is made when it is first needed. key: its name."""

    def __init__(self, folder: Path, key: str):
        self.pixels, self.note = folder / f"{key}.npy", folder / f"{key}.json"

    def open(self, whole: bool = False) -> Stored | None:
        """The set, or None if there is none. whole: check all of it, not a sample.

        Raises
        ------
        Damaged: it is not what was written.
        """
        try:
            note = json.loads(self.note.read_bytes())
            about, shape, sums = note["about"], tuple(note["shape"]), note["sums"]
            if note["digest"] != _digest(about, shape, sums):
                raise ValueError
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError) as error:  # no JSON, or another
            raise Damaged("its note is not what was written") from error
        try:
            with self.pixels.open("rb") as file:
                length = os.fstat(file.fileno()).st_size
                header = file.read(len(_header(shape)))
        except FileNotFoundError:
            return None
        if header != _header(shape) or length != len(header) + math.prod(shape):
            raise Damaged("it is not as long as it was written")
        images = np.memmap(self.pixels, np.uint8, mode="r", offset=len(header), shape=shape)
        chosen = random.sample(range(len(sums)), len(sums) if whole else min(CHECKED, len(sums)))
        if any(_sum(images[_pictures(shape, block)]) != sums[block] for block in chosen):
            raise Damaged("its pixels are not what was written")
        return Stored(images, about, _digest(shape, sums))

    def write(self, pictures: Iterable[np.ndarray], shape: tuple[int, ...], about: Mapping) -> None:
        """Write a set. What `pictures` raises leaves none.

        pictures: uint8, each of this shape (H,W,C). about: JSON-able, and read when all pictures are written.

        Raises
        ------
        OSError: the disk refuses.
        """
        count, sums = 0, []
        self.pixels.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.pixels.parent, STALE)
        with replacing(self.pixels) as file:
            file.write(_header((0, *shape)))
            rest = iter(pictures)
            while block := list(itertools.islice(rest, _per_block(shape))):
                content = np.stack(block)
                sums.append(_sum(content))
                file.write(content)
                count += len(block)
            file.seek(0)
            file.write(_header((count, *shape)))  # as long as the first: NumPy leaves room for the first axis to grow
        with replacing(self.note) as file:
            note = {"about": about, "shape": (count, *shape), "sums": sums}
            file.write(json.dumps({**note, "digest": _digest(*note.values())}).encode())

    def remove(self) -> None:
        """The set is no more."""
        for path in (self.note, self.pixels):  # the pixels alone count for nothing
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def digest_of(images: np.ndarray) -> str:
    """The digest that a set of these pictures, uint8 (M,H,W,C), has or would have."""
    shape = images.shape
    return _digest(shape, [_sum(images[_pictures(shape, block)]) for block in range(_blocks(shape))])


def _digest(*parts) -> str:
    """Of anything JSON-able. A set's own is that of its blocks' digests, which is sooner had than its pixels'."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _sum(block: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(block), digest_size=16).hexdigest()


def _per_block(shape: tuple[int, ...]) -> int:
    """Pictures of this shape (H,W,C)."""
    return max(1, BLOCK // math.prod(shape))


def _blocks(shape: tuple[int, ...]) -> int:
    """How many a set of this shape (M,H,W,C) has."""
    return -(-shape[0] // _per_block(shape[1:]))


def _pictures(shape: tuple[int, ...], block: int) -> slice:
    """The pictures of a block, of a set of this shape (M,H,W,C)."""
    n = _per_block(shape[1:])
    return slice(block * n, (block + 1) * n)


def _header(shape: tuple[int, ...]) -> bytes:
    """What stands before the pixels in a .npy."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()
