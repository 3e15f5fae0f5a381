"""A stand-in for CuPy on a machine without a GPU:  PYTHONPATH=tests/stand_in pytest --device cuda

It has what kernels/launch/gpu.py and the tests ask of CuPy, and no more. Kernels run on the host, as on `emulated`, and
with --ptx compute_90 as NVIDIA's compiler makes them; what is tried out here is all that is around them.

Arrays   are none of NumPy's, and become one only where that is asked for. What nobody wrote is NaN.
Pools    hand memory that is free again to the next array of its size, as CuPy's do, also while a step is captured.
Capture  A launch becomes a node of a graph. It waits for what its stream and the events that this waited for say, and
         for nothing else: a graph runs its nodes in an order that is drawn anew each time.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import pickle
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from kernels.launch import host, nvrtc

CAPABILITY = "99"  # of no card: what is compiled for it is not compiled by NVIDIA's compiler to machine code
GRANULE = 512  # bytes: an array begins at a multiple, as CUDA's do
MEMORY = 8 << 30  # bytes
UNASKED, MOST = 48 << 10, 227 << 10  # bytes of shared memory that a block may take, without asking and at all


# ---- arrays ----------------------------------------------------------------------------------------------------------


class MemoryPool:
    """Memory for arrays. What was held once is kept for others, also when the pool is forgotten, until it is freed."""

    held = 0  # bytes, by all pools

    def __init__(self):
        self.free: dict[int, list[np.ndarray]] = {}  # bytes -> what is free
        self.taken = 0

    def malloc(self, size: int) -> Block:
        """So many bytes or a few more, until nobody holds the block."""
        size = -(-max(1, size) // GRANULE) * GRANULE
        if not self.free.get(size):
            memory = np.full(size + GRANULE, 0xFF, np.uint8)  # NaN
            first = -memory.ctypes.data % GRANULE
            self.free[size] = [memory[first : first + size]]
            self._take(size)
        return Block(self, self.free[size].pop())

    def free_all_blocks(self) -> None:
        """Give back what nobody holds."""
        for size, blocks in self.free.items():
            self._take(-size * len(blocks))
        self.free.clear()

    def total_bytes(self) -> int:
        """That it has taken."""
        return self.taken

    def _take(self, size: int) -> None:
        self.taken += size
        MemoryPool.held += size


class NoPool(MemoryPool):
    """Each array has memory of its own, which goes with it."""

    def malloc(self, size: int) -> Block:
        """So many bytes or a few more, which nobody held before."""
        self.free_all_blocks()
        return super().malloc(size)


class Block:
    """A piece of a pool, which has it back when the last array in it is gone."""

    def __init__(self, pool: MemoryPool, memory: np.ndarray):
        self.pool, self.memory = pool, memory

    def __del__(self):
        self.pool.free.setdefault(self.memory.nbytes, []).append(self.memory)


class ndarray:
    """An array of the stand-in's memory."""

    def __init__(self, values: np.ndarray, block: Block):
        self._values, self._block = values, block

    def __getattr__(self, name: str):
        if name in ("shape", "dtype", "size", "ndim", "nbytes", "strides", "flags"):
            return getattr(self._values, name)
        raise AttributeError(f"the stand-in's ndarray has no {name}")

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")  # as CuPy says it

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index) -> ndarray:
        return ndarray(self._values[index], self._block)

    def reshape(self, *shape) -> ndarray:
        """Of the same memory."""
        return ndarray(self._values.reshape(*shape), self._block)

    def view(self, dtype) -> ndarray:
        """Of the same memory."""
        return ndarray(self._values.view(dtype), self._block)

    def fill(self, value) -> None:
        """Every number. Another than 0 would be a kernel of CuPy's, which it compiles where it finds CUDA's headers."""
        assert value == 0
        self._values.fill(value)

    def set(self, values: np.ndarray, stream: Stream) -> None:
        """Numbers of the host, in a stream; here at once."""
        assert (values.dtype, values.shape) == (self.dtype, self.shape)
        self._values[...] = values

    def get(self, stream: Stream, out: np.ndarray, blocking: bool) -> None:
        """To page-locked memory of the host, in a stream: it lands where an event after it is waited for."""
        assert (out.dtype, out.shape, blocking) == (self.dtype, self.shape, False)
        out.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN
        stream.landing.append((out, self._values.copy()))

    @property
    def data(self) -> SimpleNamespace:
        """Where it begins."""
        return SimpleNamespace(ptr=self._values.ctypes.data)


_default = _pool = MemoryPool()


def get_default_memory_pool() -> MemoryPool:
    """For whatever is not within `using_allocator`."""
    return _default


@contextlib.contextmanager
def _using_allocator(malloc: Callable) -> Iterator[None]:
    global _pool
    outer, _pool = _pool, malloc.__self__
    try:
        yield
    finally:
        _pool = outer


def _set_allocator(malloc: None) -> None:
    global _pool
    assert malloc is None
    _pool = NoPool()


def empty(shape: tuple[int, ...], dtype=np.float32) -> ndarray:
    """An array that nobody has written yet."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    block = _pool.malloc(size)
    return ndarray(block.memory[:size].view(dtype).reshape(shape), block)


def asarray(values: np.ndarray) -> ndarray:
    """Of numbers of the host, through page-locked memory that is kept: few, and not one by itself, which is `fill`."""
    _not_captured()
    assert values.ndim
    assert values.nbytes <= 1 << 20
    array = empty(values.shape, values.dtype)
    array._values[...] = values
    return array


def asnumpy(array: ndarray) -> np.ndarray:
    """To the host."""
    _not_captured()
    return array._values.copy()


def copyto(target: ndarray, source: ndarray) -> None:
    """All numbers of one array into another."""
    _not_captured()
    assert (target.dtype, target.shape) == (source.dtype, source.shape)
    target._values[...] = source._values


# ---- streams, and what is captured in them ---------------------------------------------------------------------------


class Capture:
    """The launches that are captured, and those that each waits for; of each stream, those that its next waits for."""

    def __init__(self, origin: Stream):
        self.launches: list[Callable[[], None]] = []
        self.before: list[set[int]] = []
        self.waits: dict[Stream, set[int]] = {origin: set()}

    def add(self, stream: Stream, launch: Callable[[], None]) -> None:
        """A launch in one of its streams."""
        self.before.append(self.waits[stream])
        self.waits[stream] = {len(self.launches)}
        self.launches.append(launch)


_capture: Capture | None = None


def _not_captured() -> None:
    assert _capture is None, "not while a step is captured"


class Event:
    """A moment in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False):
        self.capture, self.waits, self.landing, self.time = None, set(), [], 0.0

    def record(self) -> None:
        """In the current stream."""
        _current.record(self)

    def synchronize(self) -> None:
        """All that was asked for before is done already, but for copies to the host."""
        _not_captured()
        for target, values in self.landing:
            target[...] = values


class Stream:
    """A row of launches. Those that are not captured are run at once."""

    def __init__(self, non_blocking: bool = False):
        self.landing: list[tuple[np.ndarray, np.ndarray]] = []  # where, and what

    def use(self) -> Stream:
        """From now on the current one."""
        global _current
        _current = self
        return self

    def record(self, event: Event) -> Event:
        """The event is now, in this stream."""
        event.landing, self.landing = self.landing, []
        event.capture = _capture if _capture and self in _capture.waits else None
        event.waits, event.time = set(_capture.waits[self]) if event.capture else set(), time.perf_counter()
        return event

    def wait_event(self, event: Event) -> None:
        """What comes in this stream waits for the event; for one that is captured, it is captured as well."""
        if event.capture is None:
            assert not (_capture and self in _capture.waits), "a captured stream waits for what is not captured"
            return
        assert event.capture is _capture, "the event's capture is over"
        _capture.waits.setdefault(self, set()).update(event.waits)

    def synchronize(self) -> None:
        """All is done already."""
        _not_captured()

    def begin_capture(self) -> None:
        """What is launched here from now on is not run."""
        global _capture
        _not_captured()
        _capture = Capture(self)

    def end_capture(self) -> Graph:
        """What was captured."""
        global _capture
        capture, _capture = _capture, None
        joined, open_ = set(), list(capture.waits[self])
        while open_:
            joined.add(number := open_.pop())
            open_ += capture.before[number] - joined
        assert len(joined) == len(capture.launches), "a stream was not waited for before the end of the capture"
        return Graph(capture)


_current = Stream()


class Graph:
    """Launches, each to be run after those that it waits for."""

    def __init__(self, capture: Capture):
        self.capture, self.times = capture, 0

    def launch(self, stream: Stream) -> None:
        """All of them, in an order that is drawn by how often that was done before."""
        _not_captured()
        self.times += 1
        draw, before = random.Random(self.times), self.capture.before
        after = [[] for _ in before]
        for number, waits in enumerate(before):
            for earlier in waits:
                after[earlier].append(number)
        missing = [len(waits) for waits in before]
        ready = [number for number, count in enumerate(missing) if count == 0]
        while ready:
            number = ready.pop(draw.randrange(len(ready)))
            self.capture.launches[number]()
            for later in after[number]:
                missing[later] -= 1
                if missing[later] == 0:
                    ready.append(later)


# ---- kernels ---------------------------------------------------------------------------------------------------------

_compile = nvrtc.compile


@functools.wraps(_compile)
def _compile_or_name(source, defines: frozenset, architecture: str, major: int) -> nvrtc.Compiled:
    """For the stand-in, machine code is what says what is to be compiled for the host."""
    if architecture != f"sm_{CAPABILITY}":
        return _compile(source, defines, architecture, major)
    return nvrtc.Compiled(pickle.dumps((source.name, source.text, source.kernels, source.contract, defines)), "")


nvrtc.compile = _compile_or_name


class Source:
    """As much of a kernels.launch.Source as the compilers ask for."""

    def __init__(self, name: str, text: str, kernels: dict, contract: bool):
        self.name, self.text, self.kernels, self.contract = name, text, kernels, contract


@functools.cache
def _built(code: bytes) -> tuple[ctypes.PyDLL, Source]:
    """What that machine code says, once for all who load it."""
    *source, defines = pickle.loads(code)
    return host.built(source := Source(*source), defines, False, host.architecture()), source


class RawModule:
    """Machine code that is loaded."""

    def __init__(self, *, path: str):
        self.library, self.source = _built(Path(path).read_bytes())

    def get_function(self, kernel: str) -> RawKernel:
        """One of its kernels."""
        return RawKernel(self.library, self.source, kernel)


_most_shared: dict[tuple[ctypes.PyDLL, str], int] = {}  # bytes that a kernel was allowed, whoever loaded it


class RawKernel:
    """A kernel that is loaded. It takes numbers as NumPy's, of the very type of their parameter, and tables whole."""

    def __init__(self, library: ctypes.PyDLL, source: Source, kernel: str):
        assert _capture is None, "a kernel is loaded before a step is captured"
        self.library, self.source, self.kernel = library, source, kernel

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """That a launch may ask for; of the machine code, and so the same for all who have loaded it."""
        return _most_shared.get((self.library, self.kernel), UNASKED)

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        assert size <= MOST
        _most_shared[self.library, self.kernel] = size

    def __call__(self, grid, block, arguments: tuple, shared_mem: int = 0) -> None:
        """Launched in the current stream. The arrays are whoever's: a graph does not keep them."""
        assert shared_mem <= self.max_dynamic_shared_size_bytes, f"{shared_mem} bytes of shared memory"
        values = []
        for parameter, argument in zip(self.source.kernels[self.kernel], arguments, strict=True):
            if parameter.pointer and not parameter.table:
                values.append(np.array(argument.data.ptr))
            else:
                assert isinstance(argument, np.ndarray if parameter.table else parameter.dtype.type), parameter
                values.append(np.array(argument))
        run = functools.partial(
            host.start, self.library, self.source.name, self.kernel, grid, block, shared_mem, values
        )
        if _capture is None:
            run()
        else:
            _capture.add(_current, run)


# ---- the card --------------------------------------------------------------------------------------------------------


class CUDAError(RuntimeError):
    """What CUDA raises, its runtime and its driver."""

    def __init__(self, status: int):
        super().__init__(f"status {status}")
        self.status = status


class Device:
    """The only one."""

    def __init__(self, number: int = 0):
        self.compute_capability = CAPABILITY
        self.attributes = {"MultiProcessorCount": host.multiprocessors()}


cuda = SimpleNamespace(
    Device=Device,
    Event=Event,
    MemoryPool=MemoryPool,
    Stream=Stream,
    get_elapsed_time=lambda start, end: max(1e-3, 1e3 * (end.time - start.time)),
    set_allocator=_set_allocator,
    using_allocator=_using_allocator,
    driver=SimpleNamespace(CUDADriverError=type("CUDADriverError", (CUDAError,), {})),
    runtime=SimpleNamespace(
        CUDARuntimeError=type("CUDARuntimeError", (CUDAError,), {}),
        errorMemoryAllocation=2,
        free=lambda address: None,
        deviceSynchronize=_not_captured,
        getDevice=lambda: 0,
        memGetInfo=lambda: (MEMORY - MemoryPool.held, MEMORY),
        runtimeGetVersion=lambda: 1000 * nvrtc.newest(),
    ),
)
