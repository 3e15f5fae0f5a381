"""Draw pictures with a trained generator:  python -m minigan.generate runs/my-run --count 64 --out cats.png

Batch norm is in inference mode, so a picture depends on its own z alone and not on its neighbours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minigan import checkpoint, pictures
from minigan.autograd import Tensor, no_grad
from minigan.command import choose_device, run_command
from minigan.data import CHANNELS
from minigan.errors import UserError
from minigan.models import PRESETS, networks, sample_z
from minigan.options import Parser, Settings, add_device, whole
from minigan.random import Random
from minigan.run import Run

BATCH = 64  # pictures drawn at once


def draw(run: Run, count: int, seed: int, device_name: str) -> np.ndarray:
    """(count,H,W,C) in [-1, 1] from the run's newest checkpoint. Picture i of a seed is the same for every count."""
    settings = Settings(**run.config["settings"])
    preset, path = PRESETS[settings.preset], run.newest_checkpoint()
    device, _ = choose_device(device_name)
    channels = CHANNELS[settings.mode]
    generator = networks(
        preset, device, settings.size, channels, settings.z_dim, settings.slope, settings.seed
    ).generator
    arrays, _ = checkpoint.load(path)
    checkpoint.restore(path, arrays, "generator", generator.state())
    generator.train(False)
    z = sample_z(preset, Random(seed, "generate", device), count, settings.z_dim).numpy()
    with no_grad():
        parts = [generator(Tensor(device.array(z[i : i + BATCH]), device)).numpy() for i in range(0, count, BATCH)]
    return np.concatenate(parts)


def generate(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(prog="python -m minigan.generate", description="Draw pictures with a trained generator.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run of minigan.train")
    parser.add_argument("--count", type=whole(1), default=64, metavar="N", help="how many pictures (default 64)")
    parser.add_argument("--seed", type=whole(0, 2**64 - 1), default=0, metavar="N", help="which ones (default 0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="one PNG with a grid of all (default cats.png)")
    parser.add_argument("--each", type=Path, metavar="DIR", help="one PNG for each picture, in this folder")
    add_device(parser, default="auto")
    given = parser.parse_args(arguments)
    out = given.out or (None if given.each else Path("cats.png"))

    images = draw(Run.open(given.run), given.count, given.seed, given.device)
    try:
        if out:
            pictures.save_png(pictures.grid(images), out)
            print(f"{given.count} pictures: {out}")
        if given.each:
            given.each.mkdir(parents=True, exist_ok=True)
            for i, image in enumerate(images):
                pictures.save_png(pictures.grid(image[None], pad=0), given.each / f"{i:05d}.png")
            print(f"{given.count} pictures: {given.each / '00000.png'} and so on")
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written ({error.strerror}): give another place") from error


if __name__ == "__main__":
    run_command(generate)
