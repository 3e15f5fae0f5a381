"""Checkpoints: they give back what was saved, bit for bit, and whatever else lies at their place is refused by name."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import minigan
from minigan import checkpoint
from minigan.checkpoint import FORMAT, Checkpoint, Newer, NotWhole
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
    loaded = checkpoint.load(path)
    assert (loaded.path, loaded.state) == (path, STATE)
    assert {name: (a.shape, a.tobytes()) for name, a in loaded.arrays.items()} == {
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
    """Whichever bit it is, and it is not even taken for a newer minigan's: an earlier checkpoint will be used."""
    path = tmp_path / "1.safetensors"
    checkpoint.save(path, arrays, STATE)
    content = path.read_bytes()
    for at in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        with pytest.raises(NotWhole):
            checkpoint.load(path)


@pytest.mark.parametrize(("kind", "other"), [(b'"F32"', b'"I32"'), (b"[2,6]", b"[6,2]")])
def test_the_same_bytes_of_another_kind_are_refused(tmp_path, kind, other):
    """The sum is of dtypes and shapes too: a header that reads the numbers otherwise shows."""
    path = tmp_path / "1.safetensors"
    checkpoint.save(path, {"w": np.arange(12, dtype=np.float32).reshape(2, 6)}, STATE)
    content = path.read_bytes()
    assert content.count(kind) == 1
    path.write_bytes(content.replace(kind, other))
    with pytest.raises(NotWhole, match="its bytes are not those that were written"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 something else", b"\2\0\0\0\0\0\0\0{}", None])
def test_another_file_is_no_checkpoint(tmp_path, content):
    """Empty, of another kind, without the state of a run, or not there at all."""
    path = tmp_path / "1.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="not a whole checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("state", "dtype", "said"),
    [
        ("[]", "F32", "its state is no JSON object"),
        ("7", "F32", "its state is no JSON object"),
        ("{", "F32", "Expecting"),
        ("{}", "F8_E4M3", "float8"),
    ],
)
def test_a_strangers_file_is_refused_in_one_line(tmp_path, state, dtype, said):
    """A safetensors file that is whole, but whose state is none, or whose numbers are of a type that NumPy lacks."""
    array = {"dtype": dtype, "shape": [4 * 8 // int(re.search(r"\d+", dtype)[0])], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": {"state": state}, "w": array}).encode()
    path = tmp_path / "1.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(NotWhole) as error:
        checkpoint.load(path)
    assert str(error.value).startswith(f"{path}: not a whole checkpoint (")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("w", (3, 2, 2, 5), "g.w is float32 (3, 2, 2, 4), but the network has float32 (3, 2, 2, 5)"),
        ("w", (48,), "g.w is float32 (3, 2, 2, 4), but the network has float32 (48,)"),
        ("scale", (2,), "g.scale is missing, but the network has float32 (2,)"),
        ("b", (2,), "g.w is float32 (3, 2, 2, 4), but the network has none"),
    ],
)
def test_another_networks_checkpoint_names_the_tensor(tmp_path, arrays, name, shape, said):
    """The first that is missing, has another shape (both are said), or is one too many; no tensor is changed then."""
    t = minigan.tensor(np.zeros(shape, np.float32))
    tensors = {"b": minigan.tensor(np.zeros(2, np.float32)), name: t}
    with pytest.raises(UserError) as error:
        Checkpoint(tmp_path / "1.safetensors", arrays, {}).restore("g", tensors)
    assert said in str(error.value)
    assert not any(t.numpy().any() for t in tensors.values())


def test_tensors_are_restored_in_place(tmp_path, arrays):
    """The parameters stay the views of the optimizer's flat array that they are."""
    flat = np.zeros(60, np.float32)
    t = minigan.tensor(flat[8:56].reshape(3, 2, 2, 4))
    Checkpoint(tmp_path / "1.safetensors", {"g.w": arrays["g.w"], "other.w": arrays["g.b"]}, {}).restore("g", {"w": t})
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
    assert checkpoint.load(path).state == STATE
    assert list(tmp_path.iterdir()) == [path]


def resaved(path, change) -> None:
    """The checkpoint with another state and no or another sum, as `change` makes its metadata."""
    with safetensors.safe_open(path, "np") as file:
        about, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.numpy.save_file(arrays, path, change(about))


def test_the_first_checkpoints_can_still_be_read(tmp_path, arrays):
    """They say no format, and the very first have no sum; one that says a format has to have its sum."""
    path = tmp_path / "1.safetensors"
    checkpoint.save(path, arrays, STATE)
    resaved(path, lambda about: {"state": about["state"]})
    with pytest.raises(NotWhole):
        checkpoint.load(path)
    resaved(path, lambda about: {"state": json.dumps(STATE)})
    assert checkpoint.load(path).state == STATE


def test_a_newer_minigans_checkpoint_is_not_guessed_at(tmp_path, arrays, monkeypatch):
    """It is whole, so no earlier one is taken in its place: the line says what to install."""
    path = tmp_path / "1.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", FORMAT + 1)
        checkpoint.save(path, arrays, STATE)
    with pytest.raises(Newer) as error:
        checkpoint.load(path)
    said = f"{path}: of format {FORMAT + 1}, and this minigan knows up to {FORMAT}: install a newer minigan"
    assert str(error.value) == said


def test_a_checkpoint_never_executes_code(tmp_path, monkeypatch):
    """A pickle, PyTorch's usual form, would do whatever its author liked when it is opened; here it is only bytes."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, ("executed",)

    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(Evil())
    path = tmp_path / "1.safetensors"
    path.write_bytes(content)
    with pytest.raises(NotWhole):
        checkpoint.load(path)
    assert not Path("executed").exists()
    pickle.loads(content)
    assert Path("executed").exists()  # it would have
