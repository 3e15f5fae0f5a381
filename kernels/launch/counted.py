"""What a block does, counted on the host an instruction of PTX at a time: counted.h tells."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np

__all__ = ["NOBODY", "WARP", "Counts", "Instruction", "Requests", "instructions"]

WARP = 32
NOBODY = np.uint64(2**64 - 1)


class Requests(NamedTuple):
    """Of warps to memory. addresses (requests, WARP): where each lane asks for so many bytes, or NOBODY."""

    bytes: int
    addresses: np.ndarray


class Instruction(NamedTuple):
    """name: "ld.shared.v4.u32". times: that the block's warps have come to it, all together."""

    name: str
    times: int
    shared: Requests
    memory: Requests


class Counts(NamedTuple):
    """Of a launch: what it was, and what the block in the middle of its grid has done."""

    source: object
    kernel: str
    defines: frozenset
    grid: tuple
    block: tuple
    instructions: list[Instruction]


class _Counted(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("times", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64 * 2),
        ("count", ctypes.c_uint64 * 2),
        ("requests", ctypes.c_void_p * 2),
    ]


def instructions(library: ctypes.PyDLL) -> list[Instruction]:
    """Those of the last launch of a library that counts, as far as they were come to; and it forgets them."""
    library.counted.restype = ctypes.c_size_t
    told, found, number = _Counted(), [], 0
    while number < library.counted(ctypes.c_size_t(number), ctypes.byref(told)):
        number += 1
        if told.times:
            shared, memory = (_requests(told, space) for space in (0, 1))
            found.append(Instruction(told.name.decode(), told.times, shared, memory))
    library.forget_counted()
    return found


def _requests(told: _Counted, space: int) -> Requests:
    count = told.count[space]
    if not count:
        return Requests(0, np.empty((0, WARP), np.uint64))
    memory = (ctypes.c_uint64 * (count * WARP)).from_address(told.requests[space])
    return Requests(told.bytes[space], np.array(memory, np.uint64).reshape(count, WARP))
