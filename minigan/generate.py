"""Draw pictures with a trained generator:  python -m minigan.generate runs/my-run --count 64 --out cats.png

Batch norm is in inference mode, so a picture depends on its own z alone and not on its neighbours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minigan import checkpoint
from minigan.autograd import no_grad
from minigan.command import choose_device, run_command
from minigan.data import CHANNELS
from minigan.errors import UserError
from minigan.models import PRESETS, networks, sample_z
from minigan.options import Parser, add_device, add_threads, whole
from minigan.pictures import grid, save_png, to_uint8
from minigan.random import Random
from minigan.run import Run, free_folder

BATCH = 16  # pictures drawn at once, always: of fewer, a BLAS may sum the same products in another order


def draw(run: Run, count: int, seed: int, device_name: str, threads: int | None = None) -> np.ndarray:
    """uint8 (count,H,W,C) by the run's newest checkpoint. Picture i of a seed is the same for every count."""
    settings, path = run.settings, run.newest_checkpoint()
    preset, channels = PRESETS[settings.preset], CHANNELS[settings.mode]
    device, _ = choose_device(device_name, settings.conv, threads)
    generator = networks(
        preset, device, settings.size, channels, settings.z_dim, settings.slope, settings.seed
    ).generator
    arrays, _ = checkpoint.load(path)
    checkpoint.restore(path, arrays, "generator", generator.state())
    generator.train(False)
    random, parts = Random(seed, "generate", device), []
    with no_grad():
        for _ in range(0, count, BATCH):
            parts.append(to_uint8(generator(sample_z(preset, random, BATCH, settings.z_dim)).numpy()))
    return np.concatenate(parts)[:count]


def generate(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(prog="python -m minigan.generate", description="Draw pictures with a trained generator.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the folder of a run of minigan.train")
    add("--count", type=whole(1, 100_000), default=64, metavar="N", help="how many pictures (default 64)")
    add("--seed", type=whole(0, 2**64 - 1), default=0, metavar="N", help="which ones (default 0)")
    add("--out", type=Path, metavar="FILE", help="one PNG with a grid of all (default cats.png)")
    add("--each", type=Path, metavar="DIR", help="one PNG for each picture, into this new or empty folder")
    add_device(add, default="auto")
    add_threads(add)
    given = parser.parse_args(arguments)
    out = given.out or (None if given.each else Path("cats.png"))
    if out and out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: pictures are written as PNG: give a name that ends in .png")
    if given.each:
        free_folder(given.each)

    images = draw(Run.open(given.run), given.count, given.seed, given.device, given.threads)
    try:
        if out:
            save_png(grid(images), out)
            print(f"{given.count} pictures: {out}")
        if given.each:
            given.each.mkdir(parents=True, exist_ok=True)
            for i, image in enumerate(images):
                save_png(grid(image[None], pad=0), given.each / f"{i:05d}.png")
            print(f"{given.count} pictures: {given.each / '00000.png'} and so on")
    except OSError as error:
        place = given.each if out is None else out
        raise UserError(f"{place}: cannot be written ({error.strerror}): give another place") from error


if __name__ == "__main__":
    run_command(generate)
