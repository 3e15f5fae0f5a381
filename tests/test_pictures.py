"""Pictures out: the way back from [-1, 1], where a grid puts its pictures, and files that are whole or not there."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from minigan.files import replacing
from minigan.pictures import grid, plot_losses, save_png, to_uint8


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
