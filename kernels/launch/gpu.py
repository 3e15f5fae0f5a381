"""The GPU: CuPy gives memory, a stream, graphs and the launch; the machine code comes from `nvrtc`.

All that is asked of the GPU goes through one stream, and so is done in the order in which it was asked for: kernels,
repeated graphs and copies; but within a graph kernels wait only for those that they must. Only what is sent travels in
a stream beside it, and the two wait for each other's events. Python goes on meanwhile. It waits where it makes a large
array, reads one, or asks for one that it has fetched, and where it sends one while two before it are on their way.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kernels import DeviceError
from kernels.launch import nvrtc
from kernels.launch.cache import cached
from kernels.launch.graph import Graph, between_steps
from kernels.launch.order import Order, touched
from kernels.launch.source import HOMES, Home, Launch, intercepted

try:
    import cupy
    import cupyx
except ImportError as error:
    raise DeviceError(
        f"cuda: needs CuPy ({error}): pip install 'minigan[cuda13]', or 'minigan[cuda12]' if the driver is of CUDA 12"
    ) from error


def _major() -> int:
    """CUDA's major version, as CuPy was built for it.

    Raises
    ------
    DeviceError: CuPy finds no GPU that it can use, or NVRTC is not installed beside it.
    """
    try:
        cupy.cuda.runtime.free(0)  # nothing: but to be asked for anything, a GPU must be there, and have some memory
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(f"cuda: needs an NVIDIA GPU and its driver ({error})") from error
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    nvrtc.version(major)
    return major


MAJOR = _major()
LOCKED = 1 << 20  # bytes of an array that is sent through page-locked memory of CuPy's
STREAM = cupy.cuda.Stream(non_blocking=True)  # not the default one, on which nothing can be captured
STREAM.use()
BRANCHES = (
    STREAM,
    *(cupy.cuda.Stream(non_blocking=True) for _ in range(3)),
)  # of a graph: so many kernels at the same time
_graphs = weakref.WeakSet()


@between_steps
def array(values) -> cupy.ndarray:
    """A NumPy array copied to the GPU, C-contiguous; the values are the caller's again when it returns.

    Few bytes, such as a step is sent, CuPy copies to page-locked memory, and nobody waits. It keeps that memory, and so
    many bytes go through CUDA's own, a piece at a time.
    """
    values = np.asarray(values, order="C")
    if values.nbytes <= LOCKED:
        return cupy.asarray(values.reshape(-1)).reshape(values.shape)  # of no axes, CuPy would compile a kernel
    made = cupy.empty(values.shape, values.dtype)
    made.set(values, STREAM)
    STREAM.synchronize()  # CUDA may still be reading them
    return made


numpy = between_steps(cupy.asnumpy)  # and back
copy = between_steps(cupy.copyto)


@between_steps
def fetch(array: cupy.ndarray) -> Callable:
    """A function that returns the values of now: see kernels.Device."""
    here = cupyx.empty_pinned(array.shape, array.dtype)
    array.get(STREAM, out=here, blocking=False)
    arrived = STREAM.record(cupy.cuda.Event(block=True, disable_timing=True))

    def fetched():
        arrived.synchronize()
        return here

    return fetched


def sender(shape: tuple[int, ...], dtype) -> Callable:
    """A function that sends NumPy arrays of that shape: see kernels.Device.

    A copy begins when all is done that had been asked for when the copy before it was; kernels asked for since then run
    beside it, and those asked for afterwards wait for it.
    """
    beside = cupy.cuda.Stream(non_blocking=True)
    # Page-locked memory stays where it is, so the GPU fetches from it without Python's help. There is enough for two
    # sends: Python fills one half while the GPU may still fetch the other.
    halves = cupyx.empty_pinned((2, *shape), dtype)
    # Who waits for an event with block=True sleeps, and leaves the core to the threads that read ahead.
    turns = itertools.cycle([(half, cupy.cuda.Event(block=True, disable_timing=True)) for half in halves])
    asked = STREAM.record(_event())

    @between_steps
    def send(target: cupy.ndarray, values) -> None:
        half, fetched = next(turns)
        fetched.synchronize()  # what was sent from this half two sends ago; an event that is new is no wait
        half[...] = values
        beside.wait_event(asked)  # as the send before recorded it
        STREAM.record(asked)
        target.set(half, beside)
        STREAM.wait_event(beside.record(fetched))

    return send


def memory() -> int:
    """Bytes of the GPU that CuPy's pools hold. They keep what they once took, unless the GPU's memory is at its end."""
    return sum(pool.total_bytes() for pool in (cupy.get_default_memory_pool(), *(graph.pool for graph in _graphs)))


def free_memory() -> int:
    """Bytes that are free on the GPU."""
    return cupy.cuda.runtime.memGetInfo()[0]


def _or_memory_error(ask: Callable) -> Callable:
    """A function that asks CUDA for what is no array, machine code, a graph, a launch: that needs memory as well.

    Where there is none left it raises MemoryError, as CuPy's pools do for arrays.
    """

    @functools.wraps(ask)
    def asked(*arguments):
        try:
            return ask(*arguments)
        except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
            if error.status != cupy.cuda.runtime.errorMemoryAllocation:  # the driver has the same number for it
                raise
            raise MemoryError(str(error)) from error

    return asked


class GpuGraph(Graph):
    """A CUDA graph. It holds no array: its memory is a pool of its own, which lives as long as it does."""

    def __init__(self, step):
        super().__init__(step)
        self.pool = cupy.cuda.MemoryPool()
        _graphs.add(self)

    def __del__(self):
        self.result = self.repeat = None
        self.pool.free_all_blocks()  # one that is only forgotten keeps them

    def arena(self):
        return cupy.cuda.using_allocator(self.pool.malloc)

    @_or_memory_error
    def capture(self):
        STREAM.begin_capture()
        branches = Branches()
        try:
            with intercepted(branches.launch):
                result = self.step()
        finally:
            try:
                branches.join()
            finally:
                graph = STREAM.end_capture()
        return result, _or_memory_error(lambda: graph.launch(STREAM))


class Branches:
    """Streams that a capture runs in side by side, so that the graph's kernels wait only for those that they must.

    What is captured in a stream comes after what was captured there before it, and after the events that the stream was
    told to wait for: this is how CUDA learns a graph's edges. So a launch goes where the last one is one that it must
    wait for anyway, and waits for the events of the others.
    """

    def __init__(self):
        self.order = Order()
        self.last: dict[int, int] = {}  # branch -> its last launch
        self.branch_of: list[int] = []  # of each launch
        self.events = []  # each launch is over
        self.begun = STREAM.record(_event())

    def launch(self, launch: Launch, arguments: list, run: Callable[[], None]) -> None:
        """Capture a launch."""
        waits = self.order.add(*touched(launch, arguments))
        branch = self._branch(waits)
        stream = BRANCHES[branch]
        if branch not in self.last and stream is not STREAM:
            stream.wait_event(self.begun)  # so that it is captured, too
        for earlier in waits:
            if self.branch_of[earlier] != branch:
                stream.wait_event(self.events[earlier])
        stream.use()
        try:
            run()
        finally:
            STREAM.use()
        self.last[branch] = len(self.branch_of)
        self.branch_of.append(branch)
        self.events.append(stream.record(_event()))

    def _branch(self, waits: list[int]) -> int:
        """Where no launch is last that need not be waited for; if there is none, where the last one is the oldest."""
        before, last = self.order.before[-1], self.last
        behind = [branch for branch in last if last[branch] in waits]
        unused = [branch for branch in range(len(BRANCHES)) if branch not in last]
        waited = [branch for branch in last if before >> last[branch] & 1]
        return next(iter([*behind, *waited, *unused]), min(last, key=last.get, default=0))

    def join(self) -> None:
        """The capture's own stream waits for the others, as it must before it ends."""
        for branch, launch in self.last.items():
            if BRANCHES[branch] is not STREAM:
                STREAM.wait_event(self.events[launch])


def _event() -> cupy.cuda.Event:
    return cupy.cuda.Event(disable_timing=True)


@functools.cache
def _function(source, kernel: str, defines: frozenset, shared: int, device: int) -> cupy.RawKernel:
    """The kernel, compiled for that GPU (or taken from the cache), loaded, and allowed that much shared memory."""
    architecture = f"sm_{cupy.cuda.Device(device).compute_capability}"
    parts = [nvrtc.version(MAJOR), *nvrtc.options(source, defines, architecture), source.text]

    def make(path: Path) -> None:
        path.write_bytes(nvrtc.compile(source, defines, architecture, MAJOR).code)

    path = cached("cuda", parts, ".cubin", make)
    function = cupy.RawModule(path=str(path)).get_function(kernel)
    if shared > function.max_dynamic_shared_size_bytes:  # there is one, of all who load it: it must never shrink
        function.max_dynamic_shared_size_bytes = shared
    return function


@_or_memory_error
def run(source, kernel: str, grid, block, shared, arguments, defines: frozenset) -> None:
    """Start one kernel on the current stream; it runs while Python goes on."""
    handed = tuple(
        parameter.packed(argument, address) if parameter.table else argument
        for parameter, argument in zip(source.kernels[kernel], arguments, strict=True)
    )
    function = _function(source, kernel, defines, shared, cupy.cuda.runtime.getDevice())
    function(grid, block, handed, shared_mem=shared)


def address(array: cupy.ndarray) -> int:
    """Where an array begins in the GPU's memory."""
    return array.data.ptr


def has_tensor_cores() -> bool:
    """Whether the current GPU has those of sm_80, for TF32 and bf16, and its asynchronous copies."""
    return int(cupy.cuda.Device().compute_capability) >= 80


def multiprocessors() -> int:
    """How many the current GPU has."""
    return cupy.cuda.Device().attributes["MultiProcessorCount"]


HOMES[cupy.ndarray] = Home(cupy.empty, run, multiprocessors, address)
