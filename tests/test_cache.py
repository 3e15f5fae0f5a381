"""The cache of decoded pictures: that it is what was written, that damage shows, and how much is read to know it."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from minigan import cache
from minigan.cache import Cache, Damaged

SHAPE = (2, 2, 3)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def written(folder, count: int) -> Cache:
    """A set of so many pictures."""
    kept = Cache(folder / "new", "key")
    kept.write(iter(pictures(count)), SHAPE, {"source": "cats", "skipped": [["a.png", "broken"]]})
    return kept


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_set_is_what_was_written(tmp_path, monkeypatch, count):
    """The pixels, and what was said of them, however they fall into blocks (here of three)."""
    monkeypatch.setattr(cache, "BLOCK", 3 * 12 + 11)
    kept = written(tmp_path, count)
    stored = kept.open()
    assert (stored.images == pictures(count)).all()
    assert (np.load(kept.pixels) == pictures(count)).all()
    assert stored.about == {"source": "cats", "skipped": [["a.png", "broken"]]}
    assert stored.digest == cache.digest_of(pictures(count)) != cache.digest_of(pictures(count + 1))


def test_kept_pictures_cannot_be_written_on(tmp_path):
    """They are mapped to be read: who writes on them is refused, and the set stays whole."""
    kept = written(tmp_path, 3)
    images = kept.open().images
    assert not images.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        images[:] = 0
    assert (kept.open(whole=True).images == pictures(3)).all()


def test_a_note_without_its_pixels_is_no_set(tmp_path):
    """Somebody has removed the large file alone: there is none, and nothing is damaged."""
    kept = written(tmp_path, 3)
    kept.pixels.unlink()
    assert kept.open() is None


def test_every_byte_is_watched(tmp_path):
    """One bit turned, in whichever byte of either file, and one byte less: none of it passes."""
    kept = written(tmp_path, 2)
    for path in (kept.pixels, kept.note):
        good = path.read_bytes()
        for i in range(len(good)):
            path.write_bytes(good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :])
            with pytest.raises(Damaged):
                kept.open()
        path.write_bytes(good[:-1])
        with pytest.raises(Damaged):
            kept.open()
        path.write_bytes(good)
    assert kept.open()


def test_a_large_set_is_sampled(tmp_path, monkeypatch):
    """So many blocks are read at a start, others each time; all of them when that is asked for."""
    monkeypatch.setattr(cache, "BLOCK", 12)
    kept = written(tmp_path, 200)
    read, digest = [], cache._sum

    def counting(block):
        read.append(block.tobytes())
        return digest(block)

    monkeypatch.setattr(cache, "_sum", counting)
    seen = set()
    for _ in range(3):
        read.clear()
        assert kept.open()
        assert len(set(read)) == cache.CHECKED
        seen |= set(read)
    assert len(seen) > cache.CHECKED  # three times the same 16 of 200: 1 in 10^48
    read.clear()
    assert kept.open(whole=True)
    assert len(set(read)) == 200


def test_pixels_without_their_note_are_no_set(tmp_path):
    """A run that was killed between the two leaves no set, and neither does one that fails while it writes."""
    kept = written(tmp_path, 3)
    kept.note.unlink()
    assert kept.open() is None
    kept.remove()
    assert not list(kept.pixels.parent.iterdir())

    def failing():
        yield pictures(1)[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        kept.write(failing(), SHAPE, {})
    assert not list(kept.pixels.parent.iterdir())


def test_what_killed_writers_left_is_removed_in_time(tmp_path):
    """A large unfinished set does not stay for ever; one on which somebody may be writing now does."""
    kept = written(tmp_path, 3)
    left, young = (kept.pixels.with_name(f"other.npy.0123abc{i}.tmp") for i in range(2))
    for path, hours in ((left, cache.STALE + 1), (young, cache.STALE - 1)):
        path.write_bytes(b"half of it")
        os.utime(path, (time.time() - 3600 * hours,) * 2)
    written(tmp_path, 3)
    assert not left.exists()
    assert young.exists()
