"""What a picture becomes: upright, square, scaled without aliasing, in the colours that a viewer shows; and many."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from picture_files import encoded, noise
from PIL import Image

from minigan import decoding
from minigan.decoding import TASK, decode, each_file
from minigan.errors import UserError


@pytest.mark.parametrize("side", [3, 8, 31, 32, 100, 640])
def test_scaling_keeps_a_constant_picture_constant(side):
    """The filter's weights sum to one, enlarging and reducing alike."""
    image = Image.new("RGB", (side, side), (7, 130, 249))
    assert (decode(encoded(image), 32, "RGB") == (7, 130, 249)).all()


@pytest.mark.parametrize("side", [256, 512])
def test_a_fine_checkerboard_becomes_grey(side):
    """Antialiasing: what is too fine for the small picture is averaged; picking pixels would leave black or white."""
    board = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert set(np.unique(decode(encoded(Image.fromarray(board)), 32, "L"))) <= {127, 128}


@pytest.mark.parametrize(("height", "width"), [(20, 31), (31, 20), (20, 20), (32, 20)])
def test_only_the_centred_square_counts(height, width):
    """A wide or a high picture gives just what its centred square gives."""
    image, side = noise(height, width), min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    assert (decode(encoded(image), 16, "RGB") == decode(encoded(square), 16, "RGB")).all()
    assert (decode(encoded(image), side, "RGB") == np.asarray(square)).all()


def test_a_large_jpeg_is_decoded_reduced_but_not_moved():
    """The JPEG decoder's own scaling changes the speed, not the picture.

    The picture is a ramp of 255 over 1600 columns, cut to 1200 x 1200 and scaled to 32. The decoder reduces by 8, so
    the cut is off by at most half of that, 4 columns, 0.64 grey levels; JPEG and the rounding in each of the three
    steps add at most 1/2 each.
    """
    ramp = Image.fromarray(np.linspace(0, 255, 1600).astype(np.uint8)[None, :].repeat(1200, axis=0))
    exact = decode(encoded(ramp, "PNG"), 32, "L").astype(int)
    assert np.abs(decode(encoded(ramp, "JPEG", quality=100), 32, "L") - exact).max() <= 0.64 + 4 / 2


ORIENTATIONS = {  # EXIF's number: how a camera that notes it has stored an upright picture
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pictures_are_turned_upright(orientation):
    """Whatever way the camera was held, EXIF tells, and the same picture comes out."""
    upright = noise(12, 17)
    how = ORIENTATIONS[orientation]
    stored = upright if how is None else upright.transpose(how)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (decode(encoded(stored, exif=exif), 12, "RGB") == decode(encoded(upright), 12, "RGB")).all()


def palette() -> Image.Image:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    return image


RED, BLUE = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
ODD_MODES = {  # a file, and the one colour that it shows
    "grey": (encoded(Image.new("L", (8, 8), 90)), (90, 90, 90)),
    "1-bit white": (encoded(Image.new("1", (8, 8), 1)), (255, 255, 255)),
    "16-bit grey": (encoded(Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))), (100, 100, 100)),
    "palette": (encoded(palette()), (200, 100, 50)),
    "palette, transparent": (encoded(palette(), transparency=1), (255, 255, 255)),
    "RGBA, opaque": (encoded(Image.new("RGBA", (8, 8), (10, 20, 30, 255))), (10, 20, 30)),
    "RGBA, transparent": (encoded(Image.new("RGBA", (8, 8), (10, 20, 30, 0))), (255, 255, 255)),
    "RGBA, one fifth": (encoded(Image.new("RGBA", (8, 8), (0, 5, 255, 51))), (204, 205, 255)),
    "RGBA WebP": (encoded(Image.new("RGBA", (8, 8), (10, 20, 30, 0)), "WEBP", lossless=True), (255, 255, 255)),
    "grey with alpha": (encoded(Image.new("LA", (8, 8), (0, 51))), (204, 204, 204)),
    "CMYK": (encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG"), (0, 0, 0)),
    "animated GIF": (encoded(RED, "GIF", save_all=True, append_images=[BLUE]), (255, 0, 0)),
    "animated WebP": (encoded(RED, "WEBP", save_all=True, append_images=[BLUE], lossless=True), (255, 0, 0)),
    "animated PNG": (encoded(RED, "PNG", save_all=True, append_images=[BLUE]), (255, 0, 0)),
}


@pytest.mark.parametrize("kind", ODD_MODES)
def test_odd_modes_show_the_colour_that_a_viewer_shows(kind):
    """Palette, alpha (on white), CMYK, 1 and 16 bits, and the first frame of an animation, in colour and in grey."""
    content, colour = ODD_MODES[kind]
    assert (decode(content, 4, "RGB") == colour).all()
    grey = Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))
    pixels = decode(content, 4, "L")
    assert pixels.shape == (4, 4, 1)
    assert (pixels == grey).all()


def test_16_bits_are_scaled_not_clipped():
    """Every grey of 65,536 goes to the nearest of 256: 65535 is 255 times 257."""
    greys = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    want = np.rint(greys / 257).astype(np.uint8)
    assert (decode(encoded(Image.fromarray(greys)), 256, "L")[:, :, 0] == want).all()


def test_the_end_of_the_memory_is_no_fault_of_a_picture():
    """It ends the whole, where any other error of a decoder's costs one picture."""

    def work(name):
        raise {"bad": ValueError("bad"), "large": MemoryError}[name]

    with each_file(["bad", "large"], work) as results, pytest.raises(MemoryError):
        list(results)
    with each_file(["bad"], work) as results:
        assert list(results) == [("bad", "bad")]


def test_who_leaves_early_waits_for_one_picture_of_each_thread(monkeypatch):
    """Of a task that has begun the picture in hand is finished, and no other is taken: Ctrl-C does not take minutes."""
    begun, another, leaving = [], threading.Event(), threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, **how):
            leaving.set()
            super().shutdown(**how)

    def work(i):
        begun.append(i)
        if i == 0:
            another.wait(60)
            raise UserError
        another.set()
        leaving.wait(60)

    monkeypatch.setattr(decoding, "ThreadPoolExecutor", Pool)
    with pytest.raises(UserError), each_file(range(4 * TASK), work) as results:
        next(results)
    assert len(begun) >= 2
    assert all(i % TASK == 0 for i in begun)
