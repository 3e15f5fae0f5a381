"""A step that is captured once and repeated does what it did as it was written, and nothing that cannot be repeated."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import kernels
from kernels.launch import Source, empty, host, source
from kernels.launch.graph import HostGraph
from kernels.launch.order import Order, touched
from kernels.sum import cuda as sums
from minigan import options
from minigan.batches import Batches
from minigan.errors import UserError
from minigan.steps import Steps, use_graph
from minigan.train import Game

DOUBLE = """
extern "C" __global__ void twice(const float* x, float* y, int n, float factor) {
    if (threadIdx.x < n) y[threadIdx.x] = factor * x[threadIdx.x];
}
"""
SOURCE = Source("tests", "twice.cu", text=DOUBLE)


def twice(x, factor=2):
    y = empty(x, x.shape)
    SOURCE.launch("twice", (1,), (32,), x, y, x.size, factor)
    return y


def settings(*arguments: str) -> options.Settings:
    return options.new_settings(
        options.parse(["--preset", "tiny32", "--size", "16", "--batch-size", "4", "--z-dim", "8", *arguments])
    )


def noise(seed: int) -> np.ndarray:
    """Fourteen pictures, three steps an epoch."""
    return np.random.default_rng(seed).integers(0, 256, (14, 16, 16, 3), dtype=np.uint8)


def mapped(images: np.ndarray, folder: Path) -> np.memmap:
    """The same pictures in a file."""
    np.save(folder / "images.npy", images)
    return np.load(folder / "images.npy", mmap_mode="r")


def begun(device: kernels.Device, graph: bool, asked: options.Settings | None = None) -> Steps:
    """A game on pictures of noise."""
    asked = asked or settings()
    return Steps(Game(asked, device), Batches(noise(0), asked, device), graph)


def bits(game: Game) -> dict[str, bytes]:
    """Of all that the next step depends on."""
    counts = game.step_count, game.noise.position, game.adam_g.step_count, game.adam_d.step_count
    return {name: array.tobytes() for name, array in game.arrays().items()} | {"counts": counts}


@pytest.mark.parametrize(
    ("precision", "arguments"),
    [("fp32", []), ("tf32", ["--no-fusion", "--slope", "0.1", "--label-smoothing", "0.1"]), ("bf16", [])],
)
def test_a_repeated_step_is_the_step(gpu, precision, arguments):
    """Step after step the same scores, and in the end the same bits, with a sample drawn in between.

    So nothing in a step hangs on Python: a number that changed, an array that was brought, a result left for the next
    step in new memory would be those of the second step for ever. And no step writes on an array that was made in
    between: its memory is its own.
    """
    device, asked = kernels.device(gpu, precision=precision), settings(*arguments)
    written, repeated = (begun(device, graph, asked) for graph in (False, True))
    for step in range(5):
        expected, found = ({name: t.item() for name, t in steps().items()} for steps in (written, repeated))
        assert found == expected
        if step == 2:
            assert (repeated.game.sample() == written.game.sample()).all()
            between = repeated.game.arrays()
            kept = {name: device.array(array) for name, array in between.items()}
    assert repeated.move.repeat
    for name, array in kept.items():
        np.testing.assert_array_equal(device.numpy(array), between[name])
    assert bits(repeated.game) == bits(written.game)


def test_a_repeated_step_finds_the_pictures_that_were_sent(gpu, tmp_path, monkeypatch):
    """Wherever in their array they came, which is elsewhere each time: the same scores as if all pictures were held."""
    device, asked = kernels.device(gpu), settings()
    held = begun(device, graph=False, asked=asked)
    monkeypatch.setattr(device, "free_memory", lambda: 0)
    with Batches(mapped(noise(0), tmp_path), asked, device) as read:
        assert read.ahead
        sent = Steps(Game(asked, device), read, graph=True)
        for _ in range(5):
            expected, found = ({name: t.item() for name, t in steps().items()} for steps in (held, sent))
            assert found == expected
    assert sent.move.repeat


@pytest.mark.parametrize("arguments", [[], ["--no-fusion"]])
def test_kernels_wait_for_those_that_they_must(emulated, seed, arguments):
    """In whatever order the kernels of a step are taken that need not wait for one another, it gives the same bits."""
    asked = settings(*arguments)
    written, repeated = (begun(emulated, graph, asked) for graph in (False, True))
    for step in range(4):
        expected = {name: t.item() for name, t in written().items()}
        with host.emulation(order=seed + step):
            found = {name: t.item() for name, t in repeated().items()}
        assert found == expected
    assert bits(repeated.game) == bits(written.game)


def test_what_a_kernel_may_only_read_it_does_not_write(emulated):
    """A launch reads its const array alone and writes the other, over the whole of each; its numbers are no places."""
    x, found = emulated.array(np.ones(3, np.float32)), []
    with source.intercepted(lambda launch, arguments, _: found.append(touched(launch, arguments))):
        y = twice(x)
    places = [range(a.ctypes.data, a.ctypes.data + 12) for a in (x, y)]
    assert found == [([places[0]], [places[1]])]


def test_half_of_a_step_need_not_wait_for_the_other(emulated):
    """The longest chain of kernels of which each waits for the one before is much shorter than the step."""
    steps, order = begun(emulated, graph=False), Order()
    depth = []

    def take(launch, arguments, run):
        waits = order.add(*touched(launch, arguments))
        depth.append(1 + max((depth[earlier] for earlier in waits), default=0))

    steps()
    with source.intercepted(take):
        steps.game.step(steps.batches.pictures())
    assert max(depth) < 0.7 * len(depth)


PLACES = st.builds(lambda first, length: range(first, first + length), st.integers(0, 12), st.integers(1, 5))
LAUNCHES = st.lists(st.tuples(st.lists(PLACES, max_size=2), st.lists(PLACES, min_size=1, max_size=2)), max_size=12)


READ_TWICE = [([], [range(2)]), ([range(2)], [range(5, 6)]), ([range(2)], [range(6, 7)])]
IN_PART_WRITTEN_AGAIN = [([], [range(2, 5)]), ([], [range(1, 3)]), ([range(4, 5)], [range(6, 7)])]


@example(READ_TWICE, 0)
@example(IN_PART_WRITTEN_AGAIN, 0)
@given(LAUNCHES, st.integers(0, 2**32 - 1))
def test_who_comes_after_whom(launches, seed):
    """Of two launches of which one writes where the other reads or writes, were it but a part of a place, the later one
    comes after the earlier one, in any order that is drawn; and no launch is told to wait for one that those others for
    which it waits have waited for."""
    order = Order()
    waits = [order.add(*places) for places in launches]
    reads, writes = ([{i for place in launch[kind] for i in place} for launch in launches] for kind in (0, 1))
    at = {number: position for position, number in enumerate(order.shuffled(seed))}
    assert sorted(at) == list(range(len(launches)))
    for early, late in itertools.combinations(range(len(launches)), 2):
        if writes[early] & (reads[late] | writes[late]) or reads[early] & writes[late]:
            assert order.before[late] >> early & 1
            assert at[early] < at[late]
    for number, earlier in enumerate(waits):
        for one in earlier:
            assert order.before[number] >> one & 1
            assert not any(order.before[other] >> one & 1 for other in earlier)


@pytest.mark.parametrize(("function", "factor"), [(twice, 2), (lambda x: sums.sum(x, ()), 1)])
def test_kernels_run_when_they_are_repeated(gpu, function, factor):
    """Captured, they do not run; repeated, they read what the arrays hold then, and write where they wrote. A sum over
    no axes is a copy, and a kernel's like all others."""
    device, calls = kernels.device(gpu), []
    x = device.array(np.ones(3, np.float32))
    graph = device.graph(lambda: calls.append(1) or function(x))
    np.testing.assert_array_equal(device.numpy(graph()), factor)
    first = graph()
    device.copy(x, device.array(np.array([3, 4, 5], np.float32)))
    assert graph() is first
    np.testing.assert_array_equal(device.numpy(first), factor * np.array([3, 4, 5]))
    assert len(calls) == 2


def test_a_repeated_step_reads_only_what_stays(emulated, monkeypatch):
    """Each array that a captured kernel is handed was made in the step, or belongs to the game or to its pictures.

    On a GPU a graph holds addresses and no arrays: what somebody let go of would be somebody else's memory.
    """
    steps = begun(emulated, graph=False)
    steps()
    home, made, handed = source.HOMES[np.ndarray], [], []
    monkeypatch.setitem(
        source.HOMES, np.ndarray, home._replace(empty=lambda *a: made.append(home.empty(*a)) or made[-1])
    )

    def take(launch, arguments, run):
        for parameter, argument in zip(launch.source.kernels[launch.kernel], arguments, strict=True):
            if parameter.pointer:
                handed.extend(argument if parameter.table else [argument])

    with source.intercepted(take):
        steps.game.step(steps.batches.pictures())
    game, pictures = steps.game, steps.batches
    tensors = [*game.generator.state().values(), *game.discriminator.state().values()]
    stay = [t.data for t in tensors] + [pictures.images, pictures.places, pictures.mirror, game.noise.state]
    stay += [array for adam in (game.adam_g, game.adam_d) for array in (adam.m, adam.v, adam.steps)]
    places = [range(a.ctypes.data, a.ctypes.data + a.nbytes) for a in (*stay, *made)]
    assert len(handed) > len(made) > 100
    assert all(any(a.ctypes.data in place for place in places) for a in handed)


def test_what_is_fetched_is_of_its_time(gpu):
    """The values that an array had when they were asked for, whatever a later kernel writes there."""
    device = kernels.device(gpu)
    x = device.array(np.ones(3, np.float32))
    fetched = []
    for _ in range(3):
        fetched.append(device.fetch(x))
        device.copy(x, twice(x))
    np.testing.assert_array_equal([each() for each in fetched], [[1, 1, 1], [2, 2, 2], [4, 4, 4]])


@pytest.mark.parametrize("move", ["array", "numpy", "copy", "send", "fetch"])
def test_what_cannot_be_repeated_is_refused(gpu, move):
    """An array that is read or brought within the step, when it is captured, in words; as it is written, it may."""
    device, here = kernels.device(gpu), np.ones(3, np.float32)
    x, y = device.array(here), device.array(np.empty(3, np.float32))
    send = device.sender(x.shape, x.dtype)
    bring = {
        "array": lambda: device.array(here),
        "numpy": lambda: device.numpy(x),
        "copy": lambda: device.copy(y, x),
        "send": lambda: send(y, here),
        "fetch": lambda: device.fetch(x),
    }[move]
    graph = device.graph(bring)
    graph()
    with pytest.raises(
        RuntimeError, match=r"^\w+: a captured step launches kernels and nothing else: .* between steps$"
    ):
        graph()
    bring()  # afterwards all is as before


def test_who_has_graphs(emulated):
    """A GPU's steps are captured unless it was said otherwise, others' if it was said; a CPU has nothing to capture."""
    gpu = kernels.Device("cuda", "cuda", (np.float32,), graph=HostGraph)
    cpu = kernels.device("cpu")
    assert [use_graph(None, device) for device in (gpu, emulated, cpu)] == [True, False, False]
    assert [use_graph(True, device) for device in (gpu, emulated)] == [True, True]
    assert [use_graph(False, device) for device in (gpu, emulated, cpu)] == [False, False, False]
    with pytest.raises(UserError, match="--graph: device cpu launches no CUDA kernels"):
        use_graph(True, cpu)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (3, "--batch-size 8: the memory does not hold a step of so many pictures; one of 2 fits"),
        (4, "--batch-size 8: the memory does not hold a step of so many pictures; one of 4 fits"),
        (1, "--size 16: the memory does not hold a step of even 2 pictures: take smaller ones"),
    ],
)
def test_too_large_a_batch_says_which_one_fits(gpu, monkeypatch, graph, pictures, message):
    """The memory ends within the first step: one line names the largest half, quarter, ... of which a step was done.

    Here no array of pictures may be larger than that of so many: D's first layer, forward, has 8 x 8 x 32 numbers each.
    """
    device = kernels.device(gpu)
    steps = begun(device, graph, settings("--batch-size", "8"))
    there = type(device.array(np.zeros(1, np.float32)))
    home = source.HOMES[there]

    def allocate(shape, dtype):
        if len(shape) == 4 and shape[0] > pictures and shape[1:3] == (8, 8):
            raise MemoryError
        return home.empty(shape, dtype)

    monkeypatch.setitem(source.HOMES, there, home._replace(empty=allocate))
    with pytest.raises(UserError) as refused:
        steps()
    assert str(refused.value) == message


def test_pictures_are_all_on_a_device_that_has_room(tmp_path, seed):
    """A file's pictures are put on a device with room for twice as many, and read ahead for one with less."""
    images, batches = noise(seed), []
    file = mapped(images, tmp_path)
    for free, ahead in ((2 * images.nbytes, False), (2 * images.nbytes - 1, True)):
        device = kernels.Device("reference", "reference", (np.float32,), free_memory=lambda free=free: free)
        with Batches(file, settings(), device) as found:
            assert (found.ahead is not None) == ahead
            batches.append([found.batch(step).numpy() for step in (0, 1, 2, 3)])
    np.testing.assert_array_equal(*batches)
