"""Checkpoints: they give back what was saved, bit for bit, and whatever else lies at their place is refused by name."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

import minigan
from minigan import checkpoint
from minigan.errors import UserError

STATE = {"step": 7, "noise": 2**70, "seconds": 0.1, "order": {"seed": 2**64 - 1}}


@pytest.fixture
def arrays(seed) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"g.w": random.standard_normal((3, 2, 2, 4), np.float32), "g.b": np.array([np.nan, -0.0], np.float32)}


def test_what_was_saved_comes_back(tmp_path, arrays):
    """Bits, shapes, names, and numbers of any size; NaN and the sign of zero included."""
    path = tmp_path / "1.safetensors"
    checkpoint.save(path, arrays, STATE)
    loaded, state = checkpoint.load(path)
    assert state == STATE
    assert {name: (a.shape, a.tobytes()) for name, a in loaded.items()} == {
        name: (a.shape, a.tobytes()) for name, a in arrays.items()
    }


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path, arrays):
    """At every length but the whole one, in one line with the file's name."""
    path = tmp_path / "1.safetensors"
    checkpoint.save(path, arrays, STATE)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError) as error:
            checkpoint.load(path)
        assert str(error.value).startswith(f"{path}: not a whole checkpoint (")
        assert "\n" not in str(error.value)


def test_a_checkpoint_with_a_flipped_bit_is_refused(tmp_path, arrays):
    """Whichever bit it is, nothing but what was saved is ever given back."""
    path = tmp_path / "1.safetensors"
    checkpoint.save(path, arrays, STATE)
    content, saved = path.read_bytes(), {name: a.tobytes() for name, a in arrays.items()}
    refused = 0
    for at in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            loaded, state = checkpoint.load(path)
        except UserError as error:
            refused += "not a whole checkpoint (" in str(error)
        else:
            assert state == STATE
            assert {name: a.tobytes() for name, a in loaded.items()} == saved
    assert refused > 7 * len(content)  # what is left are bits of the sum's own name


@pytest.mark.parametrize("content", [b"", b"PK\3\4 something else", b"\2\0\0\0\0\0\0\0{}", None])
def test_another_file_is_no_checkpoint(tmp_path, content):
    """Empty, of another kind, without the state of a run, or not there at all."""
    path = tmp_path / "1.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="not a whole checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("w", (3, 2, 2, 5), "g.w is float32 (3, 2, 2, 4), but the network has float32 (3, 2, 2, 5)"),
        ("w", (48,), "g.w is float32 (3, 2, 2, 4), but the network has float32 (48,)"),
        ("scale", (2,), "g.scale is missing, but the network has float32 (2,)"),
    ],
)
def test_another_networks_checkpoint_names_the_tensor(tmp_path, arrays, name, shape, said):
    """The first tensor that is missing or has another shape, with both shapes; nothing is reshaped to fit."""
    t = minigan.tensor(np.zeros(shape, np.float32))
    with pytest.raises(UserError) as error:
        checkpoint.restore(tmp_path / "1.safetensors", arrays, "g", {name: t})
    assert said in str(error.value)
    assert not t.numpy().any()


def test_tensors_are_restored_in_place(tmp_path, arrays):
    """The parameters stay the views of the optimizer's flat array that they are."""
    flat = np.zeros(60, np.float32)
    t = minigan.tensor(flat[8:56].reshape(3, 2, 2, 4))
    checkpoint.restore(tmp_path / "1.safetensors", arrays, "g", {"w": t})
    assert (flat[8:56] == arrays["g.w"].ravel()).all()
    assert not flat[:8].any()
    assert not flat[56:].any()


def test_a_disk_that_fails_leaves_the_old_checkpoint(tmp_path, arrays, monkeypatch):
    """The content is synced before it takes the old one's place; if that fails, nothing has changed."""

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "1.safetensors"
    checkpoint.save(path, arrays, STATE)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, arrays, {**STATE, "step": 8})
    assert checkpoint.load(path)[1] == STATE
    assert list(tmp_path.iterdir()) == [path]
