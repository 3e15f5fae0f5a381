"""Look at pictures before a training does:  python -m minigan.inspect cats/ --out inspect.png

Every file is listed, read and decoded as a training would, by the same functions; nothing is cached or changed. Only
counts, a digest and the name of each picture are kept in memory, never the pictures. With --verify every byte of the
set that a training keeps of them is checked as well.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

import kernels
from minigan.cache import Damaged
from minigan.command import run_command
from minigan.data import cache_of, none_readable
from minigan.decoding import CHANNELS, decode, each_file, open_picture
from minigan.errors import UserError
from minigan.files import try_place, writing
from minigan.models import PRESETS, SIZES
from minigan.options import DATA_PRESET, Parser
from minigan.pictures import grid, save_png
from minigan.random import coins, permutation
from minigan.reporter import usual
from minigan.sources import Archive, Contents, File, Folder, contents, kinds, open_source, pictures, read, refuse_inside
from minigan.words import number_of, printable

BATCH = 64  # pictures shown, the batch size of every preset
SHOWN = 10  # names in a list on the terminal


@dataclasses.dataclass
class Survey:
    """What is in a source.

    Attributes
    ----------
    sizes: (width, height) in pixels, as stored -> how many pictures. modes, formats: likewise, by Pillow's names.
    rejected: (name, reason) of each picture that a training would skip.
    duplicates: (name, an earlier name) of pictures that are equal, decoded to the size and mode asked for, pixel for
        pixel: whatever their files say, a training sees the same picture twice.
    """

    sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    modes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    formats: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    rejected: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    duplicates: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @property
    def count(self) -> int:
        """Of the pictures that can be read."""
        return self.formats.total()


def survey(
    opened: Folder | Archive, listed: Contents, size: int, mode: str, progress: Callable[..., Iterable] = tqdm
) -> Survey:
    """Read every picture once.

    Raises
    ------
    UserError: none can be read.
    """

    def look(file: File) -> tuple[tuple[int, int], str, str, bytes]:
        content = read(opened, file)
        pixels = decode(content, size, mode)
        with open_picture(content) as image:
            return image.size, image.mode, image.format, hashlib.blake2b(pixels, digest_size=16).digest()

    found, first = Survey(), {}  # first: digest -> name
    with each_file(pictures(opened), look) as results:
        for file, result in progress(results, total=listed.count, desc="reading", unit="picture"):
            if isinstance(result, str):
                found.rejected.append((file.name, result))
                continue
            pixel_size, pixel_mode, file_format, digest = result
            found.sizes[pixel_size] += 1
            found.modes[pixel_mode] += 1
            found.formats[file_format] += 1
            if (earlier := first.setdefault(digest, file.name)) != file.name:
                found.duplicates.append((file.name, earlier))
    if not found.count:
        raise none_readable(opened, found.rejected)
    return found


def first_batch(opened: Folder | Archive, found: Survey, size: int, mode: str) -> np.ndarray:
    """float32 (N, size, size, C) in [-1, 1]: what the discriminator meets first in a training with `--seed 0`.

    N is BATCH, or as many as there are.

    Raises
    ------
    UserError: the source is not what was found any more.
    """
    rejected = {name for name, _ in found.rejected}
    order = permutation(seed=0, epoch=0, count=found.count)[:BATCH].tolist()
    readable = (file for file in pictures(opened) if file.name not in rejected)
    chosen = {i: file for i, file in enumerate(readable) if i in order}
    images = []
    if len(chosen) == len(order):
        with each_file([chosen[i] for i in order], lambda file: decode(read(opened, file), size, mode)) as results:
            images = [pixels for _, pixels in results if not isinstance(pixels, str)]
    if len(images) < len(order):
        raise UserError(f"{opened.path}: changed while it was read: run the command again when it is complete")
    indices, mirror = np.arange(len(images), dtype=np.int32), coins(seed=0, step=0, count=len(images))
    return kernels.device("reference").image_batch(np.stack(images), indices, mirror)


def verified(listed: Contents, size: int, mode: str) -> str:
    """What is to be said of the set in the cache, every byte of which is read. A damaged one is removed."""
    cache = cache_of(listed, size, mode)
    try:
        stored = cache.open(whole=True)
    except Damaged as error:
        cache.remove()
        return f"damaged ({error}) and removed: the next training decodes the pictures again"
    if stored is None:
        return f"none yet at {size}x{size} {mode}: the first training makes it"
    count = number_of(len(stored.images), "picture")
    return f"whole: {count}, {stored.images.nbytes / 2**20:,.0f} MiB, all as they were written"


def report(found: Survey, listed: Contents, source: Path, size: int, mode: str) -> str:
    """A survey in lines."""
    order = sorted(found.sizes, key=lambda wh: (min(wh), max(wh), wh))
    ranks = np.cumsum([found.sizes[wh] for wh in order])
    median = order[int(np.searchsorted(ranks, (found.count + 1) // 2))]
    small = sum(count for wh, count in found.sizes.items() if min(wh) < size)
    shapes = [f"{width}x{height}" for width, height in (order[0], median, order[-1])]
    lines = [
        f"pictures  {found.count:,} from {source}: {_counts(found.formats)}",
        "sizes     {} smallest, {} median, {} largest, by their shorter side".format(*shapes),
        f"modes     {_counts(found.modes)}",
    ]
    if small:
        lines.append(f"small     {small:,} under {size} pixels on a side, which will be enlarged")
    if listed.others:
        lines.append(f"ignored   {kinds(listed.others)}")
    if found.rejected:
        lines.append(f"rejected  {len(found.rejected):,}, which a training skips")
        lines += _some(f"{printable(name)}: {reason}" for name, reason in found.rejected)
    if found.duplicates:
        lines.append(
            f"twice     {len(found.duplicates):,} equal an earlier one, pixel for pixel at {size}x{size} {mode}"
        )
        lines += _some(f"{printable(name)} = {printable(earlier)}" for name, earlier in found.duplicates)
    return "\n".join(lines)


def _counts(counter: collections.Counter) -> str:
    return ", ".join(f"{key} ({count:,})" for key, count in counter.most_common())


def _some(entries: Iterable[str]) -> list[str]:
    """The first few, a line each, and how many more there are."""
    entries = [f"          {entry}" for entry in entries]
    more = len(entries) - SHOWN
    return entries[:SHOWN] + ([f"          and {more:,} more"] if more > 0 else [])


def inspect(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(prog="python -m minigan.inspect", description="Look at pictures before training on them.")
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="a folder (nested or not) or a .zip of pictures")
    default = PRESETS[DATA_PRESET].size
    add("--size", type=int, choices=SIZES, default=default, metavar="PIXELS", help=f"to train at (default {default})")
    add("--mode", choices=CHANNELS, default="RGB", help="colour (default) or grey")
    add("--out", type=Path, default=Path("inspect.png"), metavar="FILE", help="outside of DATA (default %(default)s)")
    add("--verify", action="store_true", help="check every byte of the set that a training keeps decoded")
    given = parser.parse_args(arguments)
    size, mode, out = given.size, given.mode, given.out
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the picture is written as PNG: give a name like inspect.png")
    refuse_inside(out, given.data, "--out")
    with writing(f"--out {out}"):
        if not out.parent.is_dir():
            raise UserError(f"--out {out}: there is no folder {out.parent}: make it, or give another place")
        try_place(out)

    opened = open_source(given.data)
    listed = contents(opened)
    found = survey(opened, listed, size, mode, usual().counted)
    print(report(found, listed, given.data, size, mode))
    if given.verify:
        print(f"cache     {verified(listed, size, mode)}")
    batch = first_batch(opened, found, size, mode)
    with writing(f"--out {out}"):
        save_png(grid(batch, scale=max(1, 64 // size)), out)
    print(f"values    {batch.min():.3f} to {batch.max():.3f} in the batch below, mean {batch.mean():.3f}")
    print(f"seen      {out}: {number_of(len(batch), 'picture')} as the discriminator meets them first, with --seed 0")


if __name__ == "__main__":
    run_command(inspect)
