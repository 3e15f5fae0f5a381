"""How the CPU's kernels share the cores, and the memory of their arrays."""

from __future__ import annotations

import gc
import math
import os
import shutil
import threading
import time
from pathlib import Path

import cases
import numba
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import kernels
from kernels import memory, threads

LARGE = {  # sizes that several threads have parts of, for every way that a convolution can go
    "conv2d": [
        (20, 17, 16, 32, 64, (4, 4, 2), 1),  # Winograd: groups of pictures
        (2, 17, 16, 32, 64, (4, 4, 2), 1),  # panels of channels
        (40, 32, 32, 3, 64, (4, 4, 2), 1),  # the direct sum
    ],
    "conv2d_transpose": [
        (30, 16, 18, 64, 32, (5, 5, 1), 2),
        (3, 16, 18, 64, 32, (5, 5, 1), 2),
        (9, 9, 9, 3, 64, (5, 5, 2), 2),
    ],
    "conv2d_weight_grad": [
        (20, 17, 16, 32, 64, (4, 4, 2), 1),
        (2, 17, 16, 32, 64, (4, 4, 2), 1),
        (2, 32, 32, 3, 64, (4, 4, 2), 1),  # sizes for which a BLAS rounds part of a product otherwise than the whole
        (3, 9, 9, 3, 96, (5, 5, 2), 2),
    ],
    **{name: [((64, 32, 32, 8), 0, 7)] for name in ("add", "subtract", "multiply", "divide")},
    "sum": [((64, 32, 32, 8), 7)],
    "adam": [((200_000, 3), 3)],
    "leaky_relu": [((64, 32, 32, 8),)],
    "leaky_relu_grad": [((64, 32, 32, 8),)],
    "normal": [((1, 2, 3, 4, 5, 6), (100, 1021))],
}


@pytest.fixture(autouse=True)
def as_many_threads_afterwards():
    yield
    threads.use_threads(threads.cpus())


@pytest.mark.parametrize("kernel", sorted(kernels.device("cpu").kernels))
@pytest.mark.parametrize("conv", ["auto", "direct"])
def test_same_bits_on_any_number_of_threads(kernel, conv):
    """1, 2 and 3 threads give the same bits: who computes an element does not matter to how it is computed."""
    if conv == "direct" and not kernel.startswith("conv2d"):
        pytest.skip("the same kernel")
    arguments = cases.fixed(kernel)
    arguments += [cases.CASES[kernel].arguments(np.random.default_rng(1), *sizes) for sizes in LARGE.get(kernel, [])]
    run = kernels.device("cpu", conv).kernels[kernel]
    bits = []
    for count in (1, 2, 3):
        threads.use_threads(count)
        copies = [[a.copy() if isinstance(a, np.ndarray) else a for a in case] for case in arguments]
        results = [run(*case) for case in copies]
        arrays = [a for result in results for a in (result if isinstance(result, tuple) else (result,))]
        arrays += [a for case in copies for a in case]  # some kernels work in place
        bits.append([np.asarray(a).tobytes() for a in arrays])
    assert bits[0] == bits[1] == bits[2]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("indices", "grain"), [(0, 1), (1, 1), (2, 1), (1000, 1), (1000, 300), (7, 100)])
def test_every_index_once(count, indices, grain):
    """The parts cover range(indices), and no two of them share an index."""
    threads.use_threads(count)
    seen = np.zeros(indices, int)

    def part(first, last, step):
        seen[first:last] += step

    threads.share(part, indices, 1, grain=grain)
    assert seen.tolist() == [1] * indices


@pytest.mark.parametrize(("indices", "grain"), [(1000, 300), (10, 9), (7, 100), (7, 1)])
def test_no_more_parts_than_grains(indices, grain):
    """What holds a few grains of work, the last perhaps a part of one, is divided into as many parts at most."""
    threads.use_threads(2)
    parts = []
    threads.share(lambda first, last: parts.append((first, last)), indices, grain=grain)
    assert len(parts) <= math.ceil(indices / grain)


def test_threads_work_at_the_same_time():
    """Two parts that wait for one another can both go on."""
    threads.use_threads(2)
    both = threading.Barrier(2, timeout=10)
    threads.share(lambda first, last: both.wait(), 2)


@pytest.mark.parametrize("culprit", [0, 1, 7])
def test_an_error_in_any_part_is_raised(culprit):
    """Whichever thread it happens in; and the next call works."""
    threads.use_threads(2)

    def part(first, last):
        time.sleep(0.001)  # so that both take part
        if first <= culprit < last:
            raise ZeroDivisionError("in a part")

    with pytest.raises(ZeroDivisionError, match="in a part"):
        threads.share(part, 8)
    threads.share(lambda first, last: None, 8)


def test_numpys_error_state_is_the_callers():
    """What the caller has told NumPy of overflows holds in every thread."""
    threads.use_threads(2)
    both, found = threading.Barrier(2, timeout=10), []

    def part(first, last):
        both.wait()
        found.append(np.geterr()["over"])

    with np.errstate(over="raise"):
        threads.share(part, 2)
    with np.errstate(over="ignore"):
        threads.share(part, 2)
    assert found == ["raise", "raise", "ignore", "ignore"]


def test_calls_from_several_threads():
    """One after the other, each gets its own result; and the number of threads may be changed meanwhile."""
    seen = np.zeros((4, 10), int)

    def call(caller):
        def part(first, last):
            seen[caller, first:last] += 1

        for _ in range(50):
            threads.share(part, 10)

    threads.use_threads(2)
    callers = [threading.Thread(target=call, args=(caller,), daemon=True) for caller in range(4)]
    for thread in callers:
        thread.start()
    for count in (3, 1, 2, 4):
        threads.use_threads(count)
    for thread in callers:
        thread.join(timeout=30)
    assert (seen == 50).all()


def test_a_part_may_share():
    """Its own thread does it all: nobody waits for somebody who waits."""
    threads.use_threads(2)
    seen = np.zeros((4, 6), int)

    def inner(first, last, row):
        seen[row, first:last] += 1

    def outer(first, last):
        for row in range(first, last):
            threads.share(inner, 6, row)

    threads.share(outer, 4)
    assert (seen == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    """As many as its parent had."""
    threads.use_threads(2)
    threads.share(lambda first, last: None, 2)
    child = os.fork()
    if child == 0:
        both = threading.Barrier(2, timeout=10)
        threads.share(lambda first, last: both.wait(), 2)
        os._exit(0 if threads.thread_count() == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_more_threads_than_asked_for():
    """The BLAS computes in the thread that calls it, and a smaller team lets its helpers go."""
    threadpool_limits(2, "blas")
    threads.use_threads(5)
    threads.share(lambda first, last: None, 10)
    assert threads.thread_count() == 5
    threads.use_threads(2)
    for _ in range(100):
        alive = [thread for thread in threading.enumerate() if thread.name == threads.NAME]
        if len(alive) == 1:
            break
        time.sleep(0.01)
    assert len(alive) == 1
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_whoever_still_calls_an_old_team_works_alone():
    """Its helpers have left and are not waited for: the work is done, once, by the thread that calls."""
    threads.use_threads(3)
    old, workers = threads._team, []
    threads.use_threads(2)
    caller = threading.Thread(target=old.work, args=(lambda: workers.append(threading.current_thread()),), daemon=True)
    caller.start()
    caller.join(timeout=10)
    assert not caller.is_alive()
    assert workers == [caller]


def test_as_many_threads_as_cpus(monkeypatch):
    """Those that the process may use, not those that the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 8}, raising=False)
    assert threads.cpus() == 3


# ---- memory ----------------------------------------------------------------------------------------------------------


def address(array):
    return array.ctypes.data


def test_memory_is_used_again():
    """What an array leaves, the next one of its size takes; not while a view of it is left."""
    a = memory.empty((1 << 16, 3))
    assert a.dtype == np.float32
    assert a.shape == (1 << 16, 3)
    before = address(a)
    assert before % memory.LINE == 0
    b = memory.empty((3, 1 << 16))
    assert address(b) != before
    view = a[5:].T
    del a
    gc.collect()
    c = memory.empty(3 << 16)
    assert address(c) not in (before, address(b))
    del view
    gc.collect()
    assert address(memory.empty((3 << 16, 1))) == before


def test_memory_is_free_when_the_kernel_is_done():
    """No thread holds on to the arrays that it has worked on."""
    threads.use_threads(2)
    both, lent = threading.Barrier(2, timeout=10), memory._store.lent
    array = memory.empty(1 << 20)
    threads.share(lambda first, last, a: both.wait(), 2, array)
    assert memory._store.lent > lent
    del array
    gc.collect()
    assert memory._store.lent == lent


def test_memory_that_is_kept_is_bounded():
    """All that is held is never more than what was lent at one time."""
    store = memory.Store()
    blocks = [store.lend(size) for size in (1000, 2000, 3000)]
    for block in blocks:
        store.take_back(block)
    assert (store.lent, store.kept) == (0, 6000)
    store.take_back(store.lend(2000))
    assert store.kept == 6000  # it was there
    large = store.lend(5000)
    assert store.lent + store.kept <= 6000  # what had waited longest is gone
    store.take_back(large)
    assert store.lent == 0


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """Machine code is kept where the user's caches are; if that is no folder, one line says which it is, and why."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    threads._use_cache()
    assert numba.config.CACHE_DIR.startswith(str(tmp_path / "minigan" / "numba"))
    assert not list(Path(numba.config.CACHE_DIR).iterdir())
    (tmp_path / "file").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(kernels.DeviceError, match=r"cpu: .*file/minigan/numba/.* \(Not a directory\): set XDG"):
        threads._use_cache()


@pytest.mark.parametrize("name", ["lanes.py", "conv2d/sizes.py"])
def test_an_edited_source_has_a_cache_of_its_own(name, tmp_path, monkeypatch):
    """A byte of any source changed: compiled kernels are kept in another folder; changed back: in the same again."""
    folder = tmp_path / "kernels"
    shutil.copytree(Path(threads.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(threads, "__file__", str(folder / "threads.py"))
    before, text = threads._cache(), (folder / name).read_bytes()
    (folder / name).write_bytes(text[:-1] + b" ")
    assert threads._cache() != before
    (folder / name).write_bytes(text)
    assert threads._cache() == before


def test_a_cache_that_the_user_chose_stays(tmp_path, monkeypatch):
    """Where NUMBA_CACHE_DIR names a folder, machine code is kept there, and none is made for it elsewhere."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    threads._use_cache()
    assert numba.config.CACHE_DIR == "chosen"
    assert not list(tmp_path.iterdir())
