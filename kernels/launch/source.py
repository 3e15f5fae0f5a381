"""`Source`: one `.cu` file and its kernels, launched wherever their arrays live."""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from kernels.launch import host
from kernels.launch.signature import LIMITS, TABLE, Parameter, join, signatures


class Home(NamedTuple):
    """Where arrays of one type live, and how a kernel is run there."""

    empty: Callable  # (shape, dtype) -> an uninitialised array
    run: Callable  # (source, kernel, grid, block, shared, arguments, defines) -> None
    multiprocessors: Callable  # () -> how many blocks can run at the same time, at least
    address: Callable  # array -> where in memory it begins


HOMES = {np.ndarray: Home(np.empty, host.run, host.multiprocessors, host.address)}
"""Array type -> its home; kernels.launch.gpu enters CuPy's."""


class Launch(NamedTuple):
    """What a launch asks of the compiler and of a multiprocessor."""

    source: Source
    kernel: str
    defines: frozenset  # of (name, value)
    threads: int  # of a block
    shared: int  # bytes of a block, beside those that the kernel itself declares


Take = Callable[[Launch, list, Callable[[], None]], None]
_take: Take | None = None  # what is done with a launch instead of running it


def empty(like, shape: tuple[int, ...], dtype=np.float32):
    """An uninitialised array where `like` lives."""
    return HOMES[type(like)].empty(shape, dtype)


def multiprocessors(like) -> int:
    """How many multiprocessors there are where `like` lives."""
    return HOMES[type(like)].multiprocessors()


@contextlib.contextmanager
def intercepted(take: Take) -> Iterator[None]:
    """While active, launches are checked and not run: `take` is handed each, its arguments, and what runs it."""
    global _take
    outer, _take = _take, take
    try:
        yield
    finally:
        _take = outer


@contextlib.contextmanager
def recording() -> Iterator[set[Launch]]:
    """Launches are checked and noted in the set it gives, and not run."""
    noted = set()
    with intercepted(lambda launch, *_: noted.add(launch)):
        yield noted


class Source:
    """One `.cu` file of a package.

    Attributes
    ----------
    name: its path for messages, "kernels/conv2d/conv2d.cu".
    text: its text with its `#include`s joined in.
    kernels: the parameters of each of its kernels, by name.
    contract: whether the GPU's compiler may fuse a * b + c into one rounding. The host's never does.
    """

    def __init__(
        self,
        package: str,
        file: str,
        *,
        contract: bool = True,
        text: str | None = None,
        written: Mapping[str, str] = MappingProxyType({}),
    ):
        """`text` stands in for the file's own. written: the texts of includes that are no files, by their names."""
        self.name = f"{package.replace('.', '/')}/{file}"
        if text is None:
            text = resources.files(package).joinpath(file).read_text("utf-8")
        self.text = join(package, file, text, written)
        self.kernels = signatures(self.text, self.name)
        self.contract = contract

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def launch(
        self,
        kernel: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        *arguments,
        shared: int = 0,
        aligned: int = 1,
        **defines: int,
    ) -> None:
        """Run a kernel on its arguments, compiled with `-D` for each keyword.

        grid: blocks, one to three numbers; block: threads of a block, one to three numbers; shared: bytes of a block,
        beside those that the kernel itself declares; aligned: bytes of which every array's address must be a multiple.

        Raises
        ------
        TypeError, ValueError: an argument that is not what the kernel's parameter says, or an impossible grid.
        """
        if kernel not in self.kernels:
            raise ValueError(f"{self.name} has no kernel {kernel!r}: it has {', '.join(self.kernels)}")
        where = f"{self.name}: {kernel}"
        parameters = self.kernels[kernel]
        if len(arguments) != len(parameters):
            raise TypeError(
                f"{where}: {len(arguments)} arguments for {len(parameters)} parameters "
                f"({', '.join(parameter.name for parameter in parameters)})"
            )
        grid = _extent(where, "grid", grid, (2**31 - 1, 65535, 65535))
        block = _extent(where, "block", block, (1024, 1024, 64))
        if block[0] * block[1] * block[2] > 1024:
            raise ValueError(f"{where}: a block of {block} has more than 1024 threads")
        arguments = [
            _argument(where, parameter, argument) for parameter, argument in zip(parameters, arguments, strict=True)
        ]
        for parameter, argument in zip(parameters, arguments, strict=True) if aligned > 1 else ():
            if parameter.pointer and not parameter.table and HOMES[type(argument)].address(argument) % aligned:
                raise ValueError(f"{where}: {parameter.name} does not begin at a multiple of {aligned} bytes in memory")
        types = {
            type(array)
            for parameter, argument in zip(parameters, arguments, strict=True)
            if parameter.pointer
            for array in (argument if parameter.table else [argument])
        }
        if len(types) != 1:
            raise TypeError(f"{where}: its arrays must live in one place, but they are {_names(types)}")
        variant = frozenset((name, operator.index(value)) for name, value in defines.items())
        home = HOMES[types.pop()]
        run = functools.partial(home.run, self, kernel, grid, block, shared, arguments, variant)
        if _take is None:
            run()
        else:
            _take(Launch(self, kernel, variant, math.prod(block), shared), arguments, run)


def _names(types) -> str:
    return ", ".join(sorted(t.__name__ for t in types))


def _extent(where: str, what: str, extent: tuple[int, ...], limits: tuple[int, int, int]) -> tuple[int, int, int]:
    """A grid or a block as three numbers, each at least 1 and at most its limit."""
    given = tuple(operator.index(length) for length in extent)
    full = given + (1,) * (3 - len(given))
    if len(full) != 3 or not all(1 <= length <= limit for length, limit in zip(full, limits, strict=True)):
        raise ValueError(f"{where}: {what} is {given}, and must be one to three numbers from 1 to {limits}")
    return full


def _argument(where: str, parameter: Parameter, argument):
    """What the kernel is handed for a parameter: an array, a number, or a tuple of them for a table."""
    checked = _array if parameter.pointer else _number
    if not parameter.table:
        return checked(where, parameter, argument)
    if not isinstance(argument, (list, tuple)) or not 1 <= len(argument) <= TABLE:
        raise TypeError(f"{where}: {parameter.name} is {_brief(argument)}, and must be a list of 1 to {TABLE}")
    return tuple(checked(where, parameter, row) for row in argument)


def _brief(argument) -> str:
    """What an argument is instead of a table."""
    return f"{len(argument)} rows" if isinstance(argument, (list, tuple)) else f"a {type(argument).__name__}"


def _array(where: str, parameter: Parameter, array):
    """The array, if the kernel reads it right."""
    if type(array) not in HOMES:
        raise TypeError(f"{where}: {parameter.name} is a {type(array).__name__}, and must be an array: {_names(HOMES)}")
    if array.dtype != parameter.dtype:
        raise TypeError(f"{where}: {parameter.name} is {array.dtype}, and must be {parameter.dtype}")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{where}: {parameter.name} is not C-contiguous (shape {array.shape}, strides {array.strides})"
        )
    return array


def _number(where: str, parameter: Parameter, value) -> np.number:
    """The number as the parameter's type: an integer exactly, a float rounded."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{where}: {parameter.name} is a {type(value).__name__}, and must be a number")
    low, high = LIMITS[parameter.ctype]
    if parameter.dtype.kind == "f":
        fits = low <= value <= high or not math.isfinite(value)
    else:
        fits = isinstance(value, (int, np.integer)) and low <= value <= high
    if not fits:
        raise ValueError(f"{where}: {parameter.name} is {value}, and must be {parameter.ctype} from {low} to {high}")
    return parameter.dtype.type(value)
