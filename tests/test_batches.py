"""Batches: which pictures a step sees, that it is all the same where they wait, and what the threads ahead of it do."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import kernels
from minigan import batches, options
from minigan.batches import Ahead, Batches
from minigan.random import coins, permutation

REFERENCE = kernels.device("reference")
PICTURES, PER_EPOCH = 14, 3  # three batches of four; two pictures sit out


def settings(seed: int) -> options.Settings:
    return options.new_settings(options.parse(["--size", "16", "--batch-size", "4", "--seed", str(seed)]))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (PICTURES, 16, 16, 3), dtype=np.uint8)


def mapped(images: np.ndarray, folder: Path) -> np.memmap:
    """The same pictures in a file, as the cache has them."""
    np.save(folder / "images.npy", images)
    return np.load(folder / "images.npy", mmap_mode="r")


def ahead() -> list[str]:
    """The threads that read ahead and are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_batches_are_shuffled_and_mirrored_by_seed_and_step(seed):
    """Each epoch shows each picture once, in an order of its own, mirrored by a coin; a batch can be had again."""
    images = noise(seed)
    first = Batches(images, settings(seed), REFERENCE)
    seen = []
    for step in range(2 * PER_EPOCH):
        for picture in first.batch(step).numpy():
            pixels = np.rint((picture + 1) * 127.5).astype(np.uint8)
            upright = [i for i in range(PICTURES) if (images[i] == pixels).all()]
            mirrored = [i for i in range(PICTURES) if (images[i, :, ::-1] == pixels).all()]
            seen.append((*upright, *mirrored, bool(mirrored)))
    one, other = [i for i, _ in seen[:12]], [i for i, _ in seen[12:]]
    assert len(set(one)) == len(set(other)) == 12
    assert one != other
    assert 0 < sum(mirror for _, mirror in seen) < 24
    again = Batches(images, settings(seed), REFERENCE)
    assert (again.batch(4).numpy() == first.batch(4).numpy()).all()
    assert (again.batch(4).numpy() != Batches(images, settings(seed + 1), REFERENCE).batch(4).numpy()).any()


def test_a_step_s_coins_are_not_its_neighbour_s_shifted(seed):
    """Of n coins of two steps, moved by a block of four words, half agree, within 5 of their deviations sqrt(n)/2."""
    count = 4096
    for step in (0, 7):
        alike = coins(seed, step, count)[4:] == coins(seed, step + 1, count)[:-4]
        assert abs(alike.sum() - alike.size / 2) < 5 * math.sqrt(alike.size) / 2


def test_an_epoch_s_order_is_not_its_neighbour_s_shifted(seed):
    """Where pictures come in one epoch says nothing of the next: ranks do not correlate, however they are moved."""
    count = 4096  # the correlation of n independent ranks has a deviation of 1/sqrt(n - 1)
    one, other = (np.argsort(permutation(seed, epoch, count)) for epoch in (0, 1))
    for shift in range(9):
        kept = count - shift
        assert abs(np.corrcoef(one[shift:], other[:kept])[0, 1]) < 5 / math.sqrt(kept - 1), shift


def test_where_the_pictures_wait_changes_nothing(tmp_path, device, seed):
    """Read ahead from a file, or held on the device: the same bits in each step, in turn, out of turn, after a resume.

    They are looked at when all have been asked for: a device that works on by itself could have mixed them up by then.
    """
    file = mapped(noise(seed), tmp_path)
    held = Batches(noise(seed), settings(seed), device)
    for steps in ([*range(2 * PER_EPOCH), 1, 1, 40, 41, 2], [4, 5, 6]):
        with Batches(file, settings(seed), device) as read:
            found, expected = ([batches.batch(step) for step in steps] for batches in (read, held))
        for step, one, other in zip(steps, found, expected, strict=True):
            assert (one.numpy() == other.numpy()).all(), step


def test_the_next_pictures_come_while_the_step_is_computed():
    """AHEAD of them, all at once and no more, on other threads than the step's; each one once."""
    together = threading.Barrier(batches.AHEAD)  # is passed only if so many are fetched at the same time
    fetched, threads = [], set()

    def fetch(step: int) -> int:
        if 0 < step <= batches.AHEAD:
            together.wait(timeout=60)
        fetched.append(step)
        threads.add(threading.current_thread())
        return step

    reader = Ahead(fetch)
    assert reader.fetched(0) == 0
    for future in reader.steps.values():
        future.result(timeout=60)  # nobody has asked for them yet
    assert sorted(fetched) == list(range(batches.AHEAD + 1))
    assert [reader.fetched(step) for step in range(1, 9)] == list(range(1, 9))
    reader.close()
    assert sorted(fetched) == sorted(set(fetched))
    assert max(fetched) <= 8 + batches.AHEAD
    assert threading.current_thread() not in threads


def test_no_more_than_the_next_pictures_are_held():
    """A step's own and AHEAD more: in turn, and after a jump to a later or to an earlier step."""
    reader = Ahead(lambda step: step)
    for step in (0, 1, 2, 100, 3):
        assert reader.fetched(step) == step
        assert sorted(reader.steps) == list(range(step, step + batches.AHEAD + 1))
    reader.close()


def test_what_nobody_has_begun_is_not_fetched_after_the_end():
    """Every thread is at work when the reader closes: the steps that wait for one are cancelled, not fetched."""
    begun, release, fetched = threading.Semaphore(0), threading.Event(), []

    def fetch(step: int) -> None:
        fetched.append(step)
        if step not in (0, 1, 100):
            begun.release()
            release.wait(timeout=10)

    reader = Ahead(fetch)
    reader.fetched(0)
    for _ in range(batches.AHEAD - 1):
        assert begun.acquire(timeout=60)
    reader.fetched(100)  # one thread is left for it, and for what comes after it
    last = reader.steps[100 + batches.AHEAD]
    last.add_done_callback(lambda _: release.set())  # when it is cancelled: `close` waits for what has been begun
    reader.close()
    assert last.cancelled()
    assert max(fetched) <= 101


def test_the_order_of_an_epoch_is_made_once(tmp_path, monkeypatch):
    """Though several threads come to a new epoch at the same time: of millions of pictures it takes a second."""
    made, permutation = [], batches.permutation

    def counting(seed, epoch, count):
        made.append(epoch)
        time.sleep(0.01)  # long enough for all of them to come
        return permutation(seed, epoch, count)

    monkeypatch.setattr(batches, "permutation", counting)
    images = np.zeros((40, 16, 16, 3), np.uint8)  # more steps in an epoch than are read ahead
    with Batches(mapped(images, tmp_path), settings(0), REFERENCE) as read:
        for step in range(30):
            read.batch(step)
    assert sorted(made) in ([0, 1, 2], [0, 1, 2, 3])  # the last one is begun ahead, if its thread comes to it in time


def test_what_befalls_a_thread_reaches_the_training():
    """In the step whose pictures could not be fetched, not before it, and not instead of the others."""

    def fetch(step: int) -> int:
        if step == 3:
            raise OSError(5, "Input/output error")
        return step

    reader = Ahead(fetch)
    assert [reader.fetched(step) for step in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="Input/output error"):
        reader.fetched(3)
    reader.close()


def test_the_threads_end_with_the_training(tmp_path):
    """Nothing goes on reading afterwards, however the block ends."""

    def interrupted():
        with Batches(mapped(noise(0), tmp_path), settings(0), REFERENCE) as read:
            read.batch(0)
            assert ahead()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not ahead()
