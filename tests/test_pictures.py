"""Pictures out: the way back from [-1, 1], grids, animations, plots, and files that are whole or not there."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minigan.files import replacing, replacing_folder, try_place
from minigan.pictures import grid, plot_losses, save_animation, save_png, to_uint8


def noise(n: int, h: int, w: int, c: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, h, w, c), dtype=np.uint8)


def test_to_uint8_undoes_the_scaling_to_minus_one_and_one():
    """All 256 values survive v / 127.5 - 1 in float32 and back, and uint8 passes."""
    values = np.arange(256, dtype=np.uint8)
    assert (to_uint8(values.astype(np.float32) / np.float32(127.5) - 1) == values).all()
    assert (to_uint8(values) == values).all()


def test_to_uint8_clips_and_rounds_to_the_nearest(recwarn):
    """What lies outside of [-1, 1] goes to its end, and NaN to black, without a warning."""
    values = np.array([-np.inf, -7, -1, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0, 1, 7, np.inf, np.nan])
    assert to_uint8(values).tolist() == [0, 0, 0, 0, 1, 128, 255, 255, 255, 0]
    assert not recwarn.list


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize(
    ("n", "columns", "pad", "scale"), [(1, None, 2, 1), (7, 3, 2, 1), (6, None, 0, 3), (4, 4, 5, 2)]
)
def test_a_grid_holds_every_picture_unstretched(n, c, columns, pad, scale):
    """Picture i is at row i // columns and column i % columns, pixel for pixel, and all the rest is white."""
    images = noise(n, 5, 4, c)
    sheet = np.atleast_3d(np.asarray(grid(images, columns, pad, scale)))
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    assert sheet.shape == (rows * (5 * scale + pad) + pad, columns * (4 * scale + pad) + pad, c)
    rest = np.ones(sheet.shape, bool)
    for i, image in enumerate(images):
        y, x = pad + i // columns * (5 * scale + pad), pad + i % columns * (4 * scale + pad)
        place = np.s_[y : y + 5 * scale, x : x + 4 * scale]
        assert (sheet[place] == np.kron(image, np.ones((scale, scale, 1), np.uint8))).all()
        rest[place] = False
    assert (sheet[rest] == 255).all()


def test_a_grid_of_floats_is_the_grid_of_their_bytes():
    """A generator's output, float32 in [-1, 1], needs no conversion first."""
    images = noise(5, 4, 4, 3)
    floats = images.astype(np.float32) / np.float32(127.5) - 1
    assert grid(floats).tobytes() == grid(images).tobytes()


def test_a_png_holds_exactly_these_pixels(tmp_path):
    """Saved and read again, in colour and in grey; an older file of that name is replaced."""
    for c in (1, 3):
        image = grid(noise(4, 8, 8, c))
        save_png(image, tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as read:
            assert read.format == "PNG"
            assert read.mode == image.mode
            assert read.tobytes() == image.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """A reader meets the old file or the new one: a write that breaks off in the middle changes nothing."""
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"new, or half of i")
            assert path.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_is_tried_without_a_trace(tmp_path):
    """It raises what writing would, and else changes nothing, be there a file or none."""
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    for name in ("old", "new"):
        try_place(tmp_path / name)
    for name in ("folder", "missing/new", "old/new", 300 * "x"):
        with pytest.raises(OSError, match=r"\[Errno") as written, replacing(tmp_path / name):
            pass
        with pytest.raises(OSError, match=rf"\[Errno {written.value.errno}\]"):
            try_place(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("folder", ["new", "empty", "new/within/new", "empty/new"])
def test_a_folder_appears_with_all_that_is_in_it(tmp_path, monkeypatch, folder):
    """Until the block ends there is no file at the folder's place; then all are, and nothing else is anywhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    path = tmp_path / folder
    with replacing_folder(path.relative_to(tmp_path)) as filled:
        for name in "ab":
            (filled / name).write_text(name)
        assert not path.exists() or not any(path.iterdir())
    assert {name: (path / name).read_text() for name in "ab"} == {"a": "a", "b": "b"}
    assert {p.name for p in tmp_path.rglob("*")} == {"empty", *path.relative_to(tmp_path).parts, "a", "b"}


@pytest.mark.parametrize("folder", ["new", "empty", "new/within/new"])
def test_an_interrupted_folder_leaves_nothing(tmp_path, folder):
    """Neither files, nor the folders above them, nor the temporary one."""
    (tmp_path / "empty").mkdir()

    def interrupted() -> None:
        with replacing_folder(tmp_path / folder) as filled:
            (filled / "a").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_a_folder_that_was_filled_meanwhile_is_kept(tmp_path):
    """Someone else's files are not replaced, though the folder was empty when the block began."""

    def meanwhile() -> None:
        with replacing_folder(tmp_path / "x") as filled:
            (filled / "mine").write_text("mine")
            (tmp_path / "x").mkdir()
            (tmp_path / "x/theirs").write_text("theirs")

    with pytest.raises(OSError) as error:  # noqa: PT011
        meanwhile()
    assert error.value.errno in (errno.ENOTEMPTY, errno.EEXIST)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["theirs", "x"]


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    """Whoever is in it would be left in a folder that is gone."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="it is the current folder"), replacing_folder(Path()):
        pass
    assert tmp_path.samefile(".")


def played(path) -> tuple[list[np.ndarray], list[float], int]:
    """An animation's frames in RGB, how long each is shown, and how often it is played (0: for ever)."""
    frames, durations = [], []
    with Image.open(path) as image:
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
            durations.append(image.info["duration"])
        return frames, durations, image.info["loop"]


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize(("name", "form"), [("x.gif", "GIF"), ("x.webp", "WEBP"), ("x.GIF", "GIF")])
def test_an_animation_shows_every_frame_in_order_for_ever(tmp_path, name, form, c):
    """As many frames as were given, each as long as asked, each nearer to its own picture than to any other."""
    images = noise(7, 16, 12, c)
    save_animation([grid(image[None], pad=0) for image in images], tmp_path / name, 40)
    frames, durations, loop = played(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.format == form
    assert durations == [40] * 7
    assert loop == 0
    for i, frame in enumerate(frames):
        assert frame.shape == (16, 12, 3)
        assert np.abs(frame - images).sum(axis=(1, 2, 3)).argmin() == i


def test_a_gif_in_grey_is_exact(tmp_path):
    """256 greys fit GIF's 256 colours."""
    images = noise(3, 16, 16, 1)
    save_animation([grid(image[None], pad=0) for image in images], tmp_path / "x.gif", 40)
    assert (np.array(played(tmp_path / "x.gif")[0]) == images).all()


def test_an_animation_that_fails_leaves_nothing(tmp_path):
    """The second frame cannot be written: the first is not left behind."""
    frames = [grid(image[None], pad=0) for image in noise(2, 4, 4, 1)]
    frames[1].load = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        save_animation(frames, tmp_path / "x.webp", 40)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_an_error(tmp_path):
    """Where nothing can be written, the error is the system's own."""
    with pytest.raises(FileNotFoundError):
        save_png(grid(noise(1, 4, 4, 3)), tmp_path / "nowhere" / "x.png")


@pytest.mark.parametrize("count", [1, 2, 300])
def test_losses_are_plotted_from_the_first_row_on(tmp_path, count):
    """One row shows as points, many as lines: both panels hold blue and orange, and no temporary file stays."""
    random = np.random.default_rng(count)
    keys = ("d_loss", "g_loss", "d_real", "d_fake")
    rows = [{"step": 10 * i, **dict(zip(keys, random.random(4), strict=True))} for i in range(1, count + 1)]
    plot_losses(rows, tmp_path / "losses.png")
    assert [path.name for path in tmp_path.iterdir()] == ["losses.png"]
    with Image.open(tmp_path / "losses.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    for panel in (pixels[35:270, 60:], pixels[315:550, 60:]):  # the axes, below their legends
        for colour in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):
            assert (panel == colour).all(axis=-1).any()
