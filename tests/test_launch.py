"""`launch` hands a kernel only what its signature says, and says clearly what it refuses."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib.util
import re
import sys
import types

import numpy as np
import pytest

import kernels
from kernels.launch import Launch, Source, empty, host, recording
from kernels.launch.cache import cached
from kernels.launch.source import HOMES, intercepted
from minigan import options
from minigan.autograd import Tensor
from minigan.batches import Batches
from minigan.train import Game

SCALE = """
// extern "C" __global__ void hidden(float* in_a_comment) {}
extern "C" __global__ void __launch_bounds__(32 * (2 + 2)) scale(
    const float* __restrict__ x,  // (n,)
    float* y,                     // (n,), a comma in a comment
    int n, float factor, unsigned long long stride) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = OFFSET + factor * x[i * stride];
}
"""
SOURCE = Source("tests", "scale.cu", text=SCALE)
X = np.arange(6, dtype=np.float32)


def launch(*arguments, kernel="scale", grid=(1,), block=(8,), **defines):
    SOURCE.launch(kernel, grid, block, *arguments, **{"OFFSET": 1, **defines})


def test_signature():
    """The parameters are read out of the text: comments, qualifiers and launch bounds are not in the way."""
    assert [(p.name, p.ctype, p.pointer, p.const) for p in SOURCE.kernels["scale"]] == [
        ("x", "float", True, True),
        ("y", "float", True, False),
        ("n", "int", False, False),
        ("factor", "float", False, False),
        ("stride", "unsigned long long", False, False),
    ]
    assert list(SOURCE.kernels) == ["scale"]


def test_a_type_of_two_names(gpu):
    """A typedef is looked up, also in an include that Python writes: arrays are checked against the type it names."""
    text = '#include "number.cuh"\nextern "C" __global__ void first(const Number* x, Number* y) { y[0] = x[0]; }'
    device = kernels.device(gpu)
    for number, dtype in [("float", np.float32), ("unsigned short", np.uint16)]:
        source = Source("tests", "first.cu", text=text, written={"number.cuh": f"typedef {number} Number;"})
        assert [(p.ctype, p.cpp) for p in source.kernels["first"]] == [
            (number, f"const {number}*"), (number, f"{number}*")
        ]  # fmt: skip
        x, y = device.array(np.array([3, 4], dtype)), device.array(np.zeros(1, dtype))
        source.launch("first", (1,), (1,), x, y)
        assert device.numpy(y)[0] == 3
        with pytest.raises(TypeError, match=f"x is int32, and must be {np.dtype(dtype)}"):
            source.launch("first", (1,), (1,), device.array(np.zeros(2, np.int32)), y)
    with pytest.raises(ValueError, match="parameter `const Number\\* x` is not one of float"):
        Source("tests", "first.cu", text=text, written={"number.cuh": "typedef wide Number;"})


TABLES = """
#include "../launch/table.cuh"
extern "C" __global__ void add_up(const Table<const float*> x, const __grid_constant__ Table<int> n, float* total) {
    for (int i = 0; i < 3; ++i)
        for (int e = 0; e < n.row[i]; ++e) *total += x.row[i][e];
}
"""


def test_tables(gpu):
    """A list of arrays, or of numbers, is one parameter, whose rows are checked as other parameters are."""
    device = kernels.device(gpu)
    source = Source("kernels.adam", "add_up.cu", text=TABLES)
    assert [(p.name, p.cpp, p.table) for p in source.kernels["add_up"]] == [
        ("x", "Table<const float*>", True), ("n", "Table<int>", True), ("total", "float*", False)
    ]  # fmt: skip
    x = device.array(X)
    total, rows = device.array(np.zeros((), np.float32)), [x[:1], x[:3], x]
    source.launch("add_up", (1,), (1,), rows, [a.size for a in rows], total)
    assert device.numpy(total) == 0 + (0 + 1 + 2) + (0 + 1 + 2 + 3 + 4 + 5)
    for wrong, message in (
        (x, "x is a ndarray, and must be a list of 1 to 32"),
        ([x] * 33, "x is 33 rows, and must be a list of 1 to 32"),
        ([x, x[::2]], "x is not C-contiguous"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            source.launch("add_up", (1,), (1,), wrong, [1], total)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__global__ void f(int n) {}", "1 __global__ functions, but 0"),
        ('extern "C" __global__ void f(half* x) {}', "parameter `half* x` is not one of float, double"),
        ('extern "C" __global__ void f(float** x) {}', "f: parameter `float** x`"),
    ],
)
def test_signature_that_cannot_be_read(text, message):
    """A kernel that launch cannot check is refused when it is read, not when it is run."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Source("tests", "bad.cu", text=text)


def test_arguments_arrive(gpu):
    """Every number arrives as its parameter's type, and -D as a constant; Python's and NumPy's numbers alike."""
    device = kernels.device(gpu)
    x = device.array(X)
    y = empty(x, (3,))
    launch(x, y, np.int64(3), 2, 2, OFFSET=7)
    np.testing.assert_array_equal(device.numpy(y), [7, 11, 15])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((X, X, 6, 1.0), TypeError, "4 arguments for 5 parameters (x, y, n, factor, stride)"),
        ((X.astype(np.float64), X, 6, 1.0, 1), TypeError, "scale: x is float64, and must be float32"),
        ((X, X.view(np.int32), 6, 1.0, 1), TypeError, "scale: y is int32, and must be float32"),
        ((X[::2], X, 3, 1.0, 1), ValueError, "x is not C-contiguous (shape (3,), strides (8,))"),
        ((X, [0.0] * 6, 6, 1.0, 1), TypeError, "y is a list, and must be an array: ndarray"),
        ((2.0, 3.0, 6, 1.0, 1), TypeError, "x is a float, and must be an array: ndarray"),
        ((X, X, 2**31, 1.0, 1), ValueError, "n is 2147483648, and must be int from -2147483648 to 2147483647"),
        ((X, X, 6.5, 1.0, 1), ValueError, "n is 6.5, and must be int from"),
        ((X, X, 6, 1.0, -1), ValueError, "stride is -1, and must be unsigned long long from 0"),
        ((X, X, 6, "1", 1), TypeError, "factor is a str, and must be a number"),
        ((X, X, X, 1.0, 1), TypeError, "n is a ndarray, and must be a number"),
        ((X, X, 6, 1e39, 1), ValueError, "factor is 1e+39, and must be float from -3.4028"),
    ],
)
def test_refused_arguments(arguments, error, message):
    """What a raw kernel would misread is an error that names kernel, parameter, what came and what is wanted."""
    with pytest.raises(error, match=re.escape(message)) as refused:
        launch(*arguments)
    assert str(refused.value).startswith("tests/scale.cu: scale: ")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"grid": (0,)}, "grid is (0,)"),
        ({"grid": (1, 65536)}, "grid is (1, 65536)"),
        ({"block": (2048,)}, "block is (2048,)"),
        ({"block": (64, 32)}, "a block of (64, 32, 1) has more than 1024 threads"),
        ({"block": (1, 1, 1, 1)}, "block is (1, 1, 1, 1)"),
        ({"kernel": "scael"}, "has no kernel 'scael': it has scale"),
    ],
)
def test_refused_launches(where, message):
    """So are grids and blocks that no GPU takes, an empty grid among them."""
    with pytest.raises(ValueError, match=re.escape(message)):
        launch(X, X, 6, 1.0, 1, **where)


def test_alignment(emulated):
    """A kernel that copies sixteen bytes at a time says so, and gets no array that begins between two of them."""
    begins_well = np.zeros(16, np.float32)
    begins_well = begins_well[-begins_well.ctypes.data % 16 // 4 :]
    launch(X, begins_well[:6], 6, 1.0, 1, aligned=4)
    with pytest.raises(ValueError, match="scale: y does not begin at a multiple of 16 bytes in memory"):
        launch(begins_well[:6], begins_well[1:7], 6, 1.0, 1, aligned=16)


def test_read_only_output(emulated):
    """An array that the kernel writes must be writable; one that it reads need not be."""
    fixed = X.copy()
    fixed.flags.writeable = False
    launch(fixed, X.copy(), 6, 1.0, 1)
    with pytest.raises(ValueError, match="y is read-only, and the kernel writes it"):
        launch(X, fixed, 6, 1.0, 1)


def test_recording():
    """While recording, launches are checked and noted, once for each kernel, set of constants and size, and not run."""
    y = np.zeros(6, np.float32)
    with recording() as variants:
        for offset in (1, 2, 2):
            launch(X, y, 6, 1.0, 1, OFFSET=offset)
        with pytest.raises(TypeError):
            launch(X, y, 6, 1.0)
    assert variants == {Launch(SOURCE, "scale", frozenset({("OFFSET", offset)}), 8, 0) for offset in (1, 2)}
    np.testing.assert_array_equal(y, 0)


def test_includes_are_joined(tmp_path, monkeypatch):
    """A room's own header is part of the text, once, and messages keep each file's line numbers."""
    (tmp_path / "a_room").mkdir()
    (tmp_path / "a_room" / "tile.cuh").write_text("constexpr int TILE = 8;\n")
    (tmp_path / "a_room" / "a.cu").write_text('#include "tile.cuh"\n#include "tile.cuh"\nint after;\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert Source("a_room", "a.cu").text.splitlines() == [
        '#line 1 "a_room/a.cu"',
        '#line 1 "a_room/tile.cuh"',
        "constexpr int TILE = 8;",
        "",
        '#line 2 "a_room/a.cu"',
        "",
        "int after;",
    ]
    written = Source("a_room", "a.cu", written={"tile.cuh": "constexpr int TILE = 9;"})  # by Python, and no file
    assert written.text == Source("a_room", "a.cu").text.replace("8", "9")


def test_cache(tmp_path, monkeypatch):
    """A file is made once for its content; what was interrupted leaves nothing behind."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    made = []

    def make(path):
        made.append(path)
        path.write_text("whole")

    def interrupted(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("emulated", ["text"], ".so", interrupted)
    assert list((tmp_path / "minigan" / "emulated").iterdir()) == []
    path = cached("emulated", ["text"], ".so", make)
    assert path == cached("emulated", ["text"], ".so", make) != cached("emulated", ["te", "xt"], ".so", make)
    assert path.read_text() == "whole"
    assert len(made) == 2


def test_no_compiler(monkeypatch):
    """Where there is no C++ compiler, `emulated` says what to install."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(kernels.DeviceError, match=r"emulated: needs g\+\+ or clang\+\+"):
        host.compiler.__wrapped__()


def import_gpu():
    """A fresh `kernels.launch.gpu` that no other test meets."""
    spec = importlib.util.find_spec("kernels.launch.gpu")
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    return gpu


def gpu_with(monkeypatch, cupy):
    """A fresh `kernels.launch.gpu` that speaks to that CuPy. Any memory is page-locked enough."""
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=np.empty))
    monkeypatch.setattr("kernels.launch.source.HOMES", dict(HOMES))
    return import_gpu()


def test_no_cupy(monkeypatch):
    """Without CuPy, `cuda` says what to install; nothing falls back."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(kernels.DeviceError, match=r"cuda: needs CuPy .* pip install 'minigan\[cuda13\]'"):
        import_gpu()


def test_a_gpu_that_cannot_be_used(monkeypatch, nvrtc):
    """It is not there, or others have taken all of its memory: the line says which."""
    cupy = fake_cupy([], [])

    def free(address):
        raise NoMemory("cudaErrorMemoryAllocation: out of memory")

    cupy.cuda.runtime.free = free
    with pytest.raises(kernels.DeviceError, match=r"cuda: needs an NVIDIA GPU .*\(cudaErrorMemoryAllocation"):
        gpu_with(monkeypatch, cupy)


class FakeArray(np.ndarray):
    """Stands for an array on the GPU."""


class FakeStream:
    """Stands for a CUDA stream: it notes what is asked of it."""

    def __init__(self, events, non_blocking):
        self.events, self.non_blocking = events, non_blocking

    def use(self):
        self.events.append(f"use a stream{', not the default' * self.non_blocking}")

    def begin_capture(self):
        self.events.append("begin capture")

    def end_capture(self):
        self.events.append("end capture")
        return types.SimpleNamespace(launch=lambda stream: self.events.append(f"launch{' here' * (stream is self)}"))

    def record(self, event):
        return event


class FakePool:
    """Stands for a memory pool."""

    def malloc(self, size):
        raise AssertionError("a fake allocates nothing")

    def free_all_blocks(self):
        """It has none."""

    def total_bytes(self):
        return 1000


class FakeError(RuntimeError):
    """Stands for an error of CUDA's."""

    status = None


class NoMemory(FakeError):
    """The one that says that there is none left."""

    status = 2


def fake_cupy(launches, events):
    """The part of CuPy that kernels.launch.gpu speaks to. It launches nothing: it notes what it is handed."""

    @contextlib.contextmanager
    def using_allocator(allocate):
        events.append(f"memory of {type(allocate.__self__).__name__}")
        yield
        events.append("any memory")

    most_shared = {}  # bytes, by kernel, whoever has loaded it

    class RawKernel:
        def __init__(self, name, code):
            self.name, self.code = name, code

        @property
        def max_dynamic_shared_size_bytes(self):
            return most_shared.get(self.name, 48 << 10)

        @max_dynamic_shared_size_bytes.setter
        def max_dynamic_shared_size_bytes(self, size):
            most_shared[self.name] = size

        def __call__(self, grid, block, arguments, shared_mem):
            most = self.max_dynamic_shared_size_bytes
            launches.append((self.name, self.code, grid, block, arguments, shared_mem, most))

    class RawModule:
        def __init__(self, *, path: str):
            with open(path, "rb") as file:
                self.code = file.read()

        def get_function(self, name):
            return RawKernel(name, self.code)

    cupy = types.ModuleType("cupy")
    cupy.ndarray, cupy.RawModule, cupy.RawKernel = FakeArray, RawModule, RawKernel
    cupy.empty, cupy.copyto, cupy.asnumpy = None, np.copyto, np.asarray
    cupy.get_default_memory_pool = FakePool
    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(
            free=lambda address: None,
            getDevice=lambda: 0,
            runtimeGetVersion=lambda: 13000,
            CUDARuntimeError=FakeError,
            errorMemoryAllocation=NoMemory.status,
        ),
        driver=types.SimpleNamespace(CUDADriverError=FakeError),
        Stream=functools.partial(FakeStream, events),
        Event=lambda **_: None,
        MemoryPool=FakePool,
        using_allocator=using_allocator,
        Device=lambda number: types.SimpleNamespace(compute_capability="80"),
    )
    return cupy


def test_what_cupy_is_handed(monkeypatch, nvrtc, tmp_path):
    """CuPy gets machine code for this GPU, arrays as they are, and numbers of exactly the parameters' widths.

    A Python int would be passed as 8 bytes where an `int` has 4. The launch itself needs a GPU.
    """
    launches = []
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    gpu_with(monkeypatch, fake_cupy(launches, []))

    x = X.view(FakeArray)
    launch(x, x, 6, 0.5, 1, grid=(2, 3), shared=1000)
    name, code, grid, block, arguments, shared, most = launches[0]
    assert (name, grid, block, shared, most) == ("scale", (2, 3, 1), (8, 1, 1), 1000, 48 << 10)
    assert arguments[0] is x
    assert [type(number) for number in arguments[2:]] == [np.int32, np.float32, np.uint64]
    assert code.startswith(b"\x7fELF")
    with pytest.raises(TypeError, match="must live in one place, but they are FakeArray, ndarray"):
        launch(x, X, 6, 0.5, 1)


def test_a_step_that_is_sent_a_few_numbers_waits_for_nothing(monkeypatch, nvrtc):
    """They go through page-locked memory, in the stream's order. CuPy keeps such memory: many go through CUDA's."""
    cupy, events = fake_cupy([], []), []
    cupy.asarray = lambda values: events.append(f"locked {values.shape}") or values
    cupy.empty = lambda shape, dtype: types.SimpleNamespace(set=lambda *_: events.append(f"set {shape}"))
    gpu = gpu_with(monkeypatch, cupy)
    monkeypatch.setattr(FakeStream, "synchronize", lambda stream: events.append("wait"), raising=False)
    for shape in ((64,), (), (1 << 18,), ((1 << 18) + 1,)):
        gpu.array(np.zeros(shape, np.float32))
    assert events == ["locked (64,)", "locked (1,)", "locked (262144,)", "set (262145,)", "wait"]


def test_a_kernel_is_allowed_the_most_shared_memory_that_was_asked_for(monkeypatch, nvrtc, tmp_path):
    """Beyond 48 KiB a kernel must ask. What it is allowed is one number for all of its launches, and never shrinks."""
    launches = []
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    gpu_with(monkeypatch, fake_cupy(launches, []))
    x = X.view(FakeArray)
    for shared in (60_000, 50_000, 60_000, 70_000, 1000, 60_000):
        launch(x, x, 6, 0.5, 1, shared=shared)
    assert [most for *_, most in launches] == [60_000, 60_000, 60_000, 70_000, 70_000, 70_000]


@pytest.mark.parametrize(("error", "raised"), [(NoMemory, MemoryError), (FakeError, FakeError)])
def test_no_memory_for_what_is_no_array(monkeypatch, nvrtc, tmp_path, error, raised):
    """Machine code, a launch and a graph need memory too: its end is a MemoryError, and what else CUDA says is not."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    gpu = gpu_with(monkeypatch, fake_cupy([], []))

    def fail(*_, **__):
        raise error("as CUDA says it")

    monkeypatch.setattr(FakeStream, "end_capture", lambda stream: types.SimpleNamespace(launch=fail))
    repeated = gpu.GpuGraph(lambda: None)
    repeated()
    monkeypatch.setattr(gpu.cupy, "RawModule", fail)
    x = X.view(FakeArray)
    for asked in (repeated, lambda: launch(x, x, 6, 0.5, 1)):
        with pytest.raises(raised, match="as CUDA says it"):
            asked()
    monkeypatch.setattr(FakeStream, "end_capture", fail)
    captured = gpu.GpuGraph(lambda: None)
    captured()
    with pytest.raises(raised, match="as CUDA says it"):
        captured()


def test_a_graph_of_cupy(monkeypatch, nvrtc):
    """What CuPy's captures need: a stream that is not the default one, a step that has run before, memory of its own.

    That memory is counted, and the step's Python runs twice, however often it is repeated.
    """
    events = []
    gpu = gpu_with(monkeypatch, fake_cupy([], events))
    step = gpu.GpuGraph(lambda: events.append("step") or "scores")
    assert [step() for _ in range(4)] == ["scores"] * 4
    assert events == [
        "use a stream, not the default",
        "memory of FakePool", "step", "any memory",
        "memory of FakePool", "begin capture", "step", "end capture", "any memory", "launch here",
        "launch here",
        "launch here",
    ]  # fmt: skip
    assert gpu.memory() == 2000  # CuPy's own pool, and the graph's


class LateGpu:
    """Stands for a GPU that does nothing until somebody must wait for it.

    Then it goes on in one stream as far as it may before it looks at the other: first in "main", the one that was made
    first, or first in "beside".
    """

    def __init__(self, cupy, preferred: str):
        self.preferred, self.streams = preferred, []
        self.did = []  # what a test would know the order of
        cupy.cuda.Stream = functools.partial(LateStream, self)
        cupy.cuda.Event = functools.partial(LateEvent, self)

    def work(self, until) -> None:
        """Fails with StopIteration if all streams wait for ever."""
        while not until():
            streams = self.streams if self.preferred == "main" else self.streams[::-1]
            queue = next(stream.queue for stream in streams if stream.queue and stream.queue[0][0]())
            queue.popleft()[1]()


class LateStream(FakeStream):
    """A queue of what was asked for: whether it may begin, and what is done then."""

    def __init__(self, gpu, non_blocking):
        super().__init__([], non_blocking)
        self.gpu, self.queue = gpu, collections.deque()
        gpu.streams.append(self)

    def use(self):
        self.gpu.current = self

    def ask(self, do, ready=lambda: True):
        self.queue.append((ready, do))

    def record(self, event):
        event.recorded += 1
        self.ask(functools.partial(setattr, event, "passed", event.recorded))
        return event

    def wait_event(self, event):
        recorded = event.recorded  # what is recorded later is not waited for
        self.ask(lambda: None, lambda: event.passed >= recorded)


class LateEvent:
    """An event: how often it was recorded, and which of those records the GPU has come to."""

    def __init__(self, gpu, *, disable_timing, block=False):
        self.gpu, self.recorded, self.passed = gpu, 0, 0

    def synchronize(self):
        recorded = self.recorded
        self.gpu.work(until=lambda: self.passed >= recorded)


class LateArray(FakeArray):
    """An array on that GPU."""

    def set(self, values, stream):
        def copy():  # what the host's memory holds by then
            self[...] = values
            stream.gpu.did.append("sent")

        stream.ask(copy)


@pytest.mark.parametrize("preferred", ["main", "beside"])
def test_pictures_are_sent_beside_the_steps(monkeypatch, nvrtc, tmp_path, preferred):
    """Each step sees its pictures, though the GPU does all late and one stream first: no wait is missing.

    A step that came before its pictures, pictures that came while the step before the last one still read there, or
    before their array was cleared, and ones that were changed on the host before the GPU fetched them, would be wrong.
    And none is too long: a GPU that prefers to copy has a step's pictures before it begins with the step before.
    """
    cupy = fake_cupy([], [])
    late = LateGpu(cupy, preferred)
    gpu = gpu_with(monkeypatch, cupy)
    reference = kernels.device("reference")

    def array(values):
        values, result = np.array(values), np.empty_like(values).view(LateArray)
        gpu.STREAM.ask(lambda: np.copyto(result, values))
        return result

    def copy(target, source):
        gpu.STREAM.ask(lambda: np.copyto(target, source))

    def image_batch(images, places, mirror):
        batch = np.empty((len(places), *images.shape[1:]), np.float32)

        def step():
            batch[:] = reference.image_batch(images, places, mirror)
            late.did.append("step")

        gpu.STREAM.ask(step)
        return batch

    device = kernels.Device("cuda", "reference", (np.float32,), array=array, copy=copy, sender=gpu.sender)
    device.image_batch = image_batch
    given = options.new_settings(options.parse(["--size", "16", "--batch-size", "4"]))
    images = np.random.default_rng(0).integers(0, 256, (14, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    steps = [0, 1, 2, 3, 4, 0, 9, 9]
    with Batches(np.load(tmp_path / "images.npy", mmap_mode="r"), given, device) as batches:
        found = [batches.batch(step) for step in steps]
    late.work(until=lambda: not any(stream.queue for stream in late.streams))
    held = Batches(images, given, reference)
    for step, batch in zip(steps, found, strict=True):
        np.testing.assert_array_equal(batch.data, held.batch(step).data, err_msg=f"step {step}")
    if preferred == "beside":
        assert late.did == ["sent", *["sent", "step"] * (len(steps) - 1), "step"]


def test_python_is_no_further_ahead_than_the_memory_it_fills(monkeypatch, nvrtc):
    """It sends twice without waiting; the third time the first copy must be done, and no more than that."""
    cupy, counts = fake_cupy([], []), []
    late = LateGpu(cupy, "main")
    gpu = gpu_with(monkeypatch, cupy)
    send, target = gpu.sender((2,), np.uint8), np.zeros(2, np.uint8).view(LateArray)
    for value in range(5):
        send(target, np.full(2, value, np.uint8))
        counts.append(late.did.count("sent"))
    assert counts == [0, 0, 1, 2, 3]


def test_nothing_is_sent_within_a_captured_step(monkeypatch, nvrtc):
    """It would be sent again with each repetition, from where other pictures wait by then."""
    cupy = fake_cupy([], [])
    LateGpu(cupy, "main")
    gpu = gpu_with(monkeypatch, cupy)
    send, target = gpu.sender((2,), np.uint8), np.zeros(2, np.uint8).view(LateArray)
    step = gpu.GpuGraph(lambda: send(target, np.ones(2, np.uint8)))
    step()
    with pytest.raises(RuntimeError, match=r"^send: a captured step launches kernels and nothing else"):
        step()


@pytest.mark.parametrize("preferred", ["main", "beside"])
def test_branches_of_a_graph(monkeypatch, nvrtc, emulated, preferred):
    """Whichever stream a GPU prefers, each kernel of a step comes after all that it must, and the end after all.

    And it is a choice: there are kernels in every branch.
    """
    step = []  # the launches of one, with their arguments
    game = Game(options.new_settings(options.parse(["--preset", "tiny32", "--size", "16"])), emulated)
    with intercepted(lambda launch, arguments, run: step.append((launch, arguments))):
        game.step(Tensor(np.empty((4, 16, 16, 3), np.float32), emulated))
    cupy = fake_cupy([], [])
    late = LateGpu(cupy, preferred)
    gpu = gpu_with(monkeypatch, cupy)
    branches = gpu.Branches()
    for number, (launch, arguments) in enumerate(step):
        branches.launch(launch, arguments, lambda number=number: late.current.ask(lambda: late.did.append(number)))
        assert late.current is gpu.STREAM
    branches.join()
    gpu.STREAM.ask(lambda: late.did.append("end"))
    late.work(until=lambda: not any(stream.queue for stream in late.streams))
    *did, end = late.did
    assert end == "end"
    assert sorted(did) == list(range(len(step)))
    done = 0
    for number in did:
        assert branches.order.before[number] & ~done == 0
        done |= 1 << number
    assert set(branches.branch_of) == set(range(len(gpu.BRANCHES)))
    assert did != sorted(did)


def test_a_graph_ends_when_all_its_branches_have(monkeypatch, nvrtc):
    """Kernels that nobody waits for are over at the end, too: as many as there are branches, then one more."""
    cupy = fake_cupy([], [])
    late = LateGpu(cupy, "main")
    gpu = gpu_with(monkeypatch, cupy)
    branches = gpu.Branches()
    launch = Launch(SOURCE, "scale", frozenset(), 8, 0)
    for number in range(len(gpu.BRANCHES) + 1):
        arguments = [np.empty(6, np.float32), np.empty(6, np.float32), 6, 0.5, 1]
        branches.launch(launch, arguments, lambda number=number: late.current.ask(lambda: late.did.append(number)))
    branches.join()
    gpu.STREAM.ask(lambda: late.did.append("end"))
    late.work(until=lambda: "end" in late.did)
    assert sorted(late.did[:-1]) == list(range(len(gpu.BRANCHES) + 1))
