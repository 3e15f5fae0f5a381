"""From a picture file's bytes to its pixels: upright, square, scaled; many at once, each for itself.

Whatever a stranger's file holds, it costs that one picture and a line of text, not the others.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from minigan.errors import UserError
from minigan.words import either, one_line

__all__ = [
    "CHANNELS",
    "centre_square",
    "decode",
    "each_file",
    "flatten",
    "open_picture",
    "scale",
    "upright",
]

CHANNELS = {"RGB": 3, "L": 1}  # C of each mode
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")  # all that Pillow may open files as, whatever their names say
REDUCING_GAP = 3.0  # cheap box reduction stops at this many times the final size, and the exact filter does the rest
TASK, WINDOW = 16, 64  # pictures that a thread takes at once (one alone is too little work), and tasks in flight

F, T = TypeVar("F"), TypeVar("T")


def decode(content: bytes, size: int, mode: str) -> np.ndarray:
    """A picture file's content -> uint8 (size, size, C): upright, cut to its centred square, and scaled.

    The first frame of an animation; turned as its EXIF orientation says; 16-bit greys scaled to 8 bits, to the nearest;
    transparency on white, as a page would show it; colour profiles are not applied. The scaling is antialiased:
    Lanczos, which keeps eyes and whiskers sharper than a box does. Of a large picture it sees what is left, at least
    `REDUCING_GAP` times the final size, by the JPEG decoder (which halves once, twice or three times) and a box filter.

    Raises
    ------
    Exception: whatever Pillow makes of a broken file.
    """
    image = scale(flatten(centre_square(upright(open_picture(content), mode, size)), mode), size)
    return np.asarray(image).reshape(size, size, CHANNELS[mode])


def open_picture(content: bytes) -> Image.Image:
    """A picture file's content, its header alone read: what it is, how large, and in which mode."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def upright(image: Image.Image, mode: str, size: int | None = None) -> Image.Image:
    """The opened picture, decoded and turned, in place, as its EXIF orientation says.

    size: what its shorter side will be scaled to, if it will be: so a large JPEG need not be decoded in full.
    """
    if size is not None:
        image.draft(mode, (round(REDUCING_GAP * size), round(REDUCING_GAP * size)))
    ImageOps.exif_transpose(image, in_place=True)
    return image


def centre_square(image: Image.Image) -> Image.Image:
    """The largest square in the middle; where the rest is odd, its larger half is cut off on the right or below."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """The picture as it is seen, in "RGB" or "L": 16-bit greys scaled to 8 bits, transparency on white."""
    if image.mode.startswith("I;16"):  # 0 .. 65535 = 255 * 257; Pillow's own conversion clips at 255
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(mode)


def scale(image: Image.Image, size: int) -> Image.Image:
    """The picture with a shorter side of `size` pixels, its proportions kept."""
    shape = [round(side * size / min(image.size)) for side in image.size]
    return image.resize(shape, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


@contextlib.contextmanager
def each_file(files: Iterable[F], work: Callable[[F], T]) -> Iterator[Iterator[tuple[F, T | str]]]:
    """Inside `with each_file(files, work) as results:` the results are (file, work(file)), in order, for each file.

    Where `work` raises, the reason, one line, stands in its result's place; but a UserError ends the whole, and so does
    the end of the memory, which is no fault of the file's. Whoever leaves the block early, by Ctrl-C or otherwise,
    waits for one file of each thread. Threads suffice: Pillow decodes and scales outside of Python's global lock. At
    most TASK * WINDOW files are taken from `files`, and as many results held, at a time.
    """
    stopped = threading.Event()

    def one(file: F) -> T | str:
        try:
            return work(file)
        except (UserError, MemoryError):
            raise
        except UnidentifiedImageError:
            return f"no {either(FORMATS)} inside"
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return f"a decompression bomb, or a picture of more than {Image.MAX_IMAGE_PIXELS:,} pixels"
        except Exception as error:  # bytes from anywhere make decoders raise anything, and what they say is the reason
            return one_line(error)

    def some(task: list[F]) -> list[tuple[F, T | str]]:
        return [(file, one(file)) for file in task if not stopped.is_set()]

    def results() -> Iterator[tuple[F, T | str]]:
        rest = iter(files)
        while window := list(itertools.islice(rest, TASK * WINDOW)):
            for result in pool.map(some, [window[i : i + TASK] for i in range(0, len(window), TASK)]):
                yield from result

    pool = ThreadPoolExecutor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on files that it can read all the same
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # more than Image.MAX_IMAGE_PIXELS pixels
        try:
            yield results()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
