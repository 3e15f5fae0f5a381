"""Draw with a trained generator: pictures, a loop through them, or how it learned.

    python -m minigan.generate RUN --count 64 --out cats.png             a grid of 64
    python -m minigan.generate RUN --seeds 3,17,40-42 --each cats        the picture of each seed, in a file of its own
    python -m minigan.generate RUN --interpolate 8 --out cats.webp       from picture to picture, and back to the first
    python -m minigan.generate RUN --timelapse --out learning.gif        the run's samples, from noise to cats

Batch norm is in inference mode, so a picture depends on its own z alone and not on its neighbours.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

import numpy as np
from PIL import Image

from minigan import latent
from minigan.autograd import Tensor, no_grad
from minigan.command import choose_device, run_command
from minigan.data import CHANNELS
from minigan.errors import UserError
from minigan.files import replacing_folder, writing
from minigan.models import PRESETS, networks
from minigan.options import Parser, add_device, add_threads, real, whole
from minigan.pictures import ANIMATIONS, grid, save_animation, save_png, to_uint8
from minigan.run import Run, free_folder

BATCH = 16  # pictures drawn at once, always: of fewer, a BLAS may sum the same products in another order
MOST = 100_000  # pictures
FRAMES = 24  # of a loop, from one picture to the next: about a second
LOOP_MS, TIMELAPSE_MS = 40, 150  # that a frame is shown

APART = (  # options that exclude each other, and why
    ("--seed", "--seeds", "each says which pictures"),
    ("--grid", "--interpolate", "a loop shows one picture at a time"),
    *(
        ("--timelapse", other, "it shows what the run drew as it learned")
        for other in ("--checkpoint", "--count", "--seed", "--seeds", "--truncation")
    ),
    *(("--timelapse", other, "it is an animation") for other in ("--interpolate", "--frames", "--grid", "--each")),
    *(("--timelapse", other, "nothing is computed for it") for other in ("--device", "--threads")),
)


def choose_z(run: Run, given: argparse.Namespace, count: int) -> np.ndarray:
    """What to draw from, (n, z_dim): a z for each picture, or for each frame of a loop through `count` of them."""
    preset, z_dim = PRESETS[run.settings.preset], run.settings.z_dim
    if given.seeds:
        z = latent.of_seeds(preset, z_dim, given.seeds)
    else:
        z = latent.of_seed(preset, z_dim, given.seed or 0, count)
    if given.truncation:
        z = latent.truncate(z, preset.z, given.truncation)
    return latent.loop(z, given.frames or FRAMES) if given.interpolate else z


def draw(run: Run, z: np.ndarray, device_name: str, threads: int | None = None, step: int | None = None) -> np.ndarray:
    """The pictures, uint8 (n,H,W,C), of z (n, z_dim) by the run's checkpoint of a step, or its newest.

    A run that was made on one device is drawn on any: `device_name` is of this machine and now.
    """
    settings, saved = run.settings, run.newest_checkpoint() if step is None else run.checkpoint_at(step)
    preset, channels = PRESETS[settings.preset], CHANNELS[settings.mode]
    conv = settings.conv if settings.conv == "direct" else "auto"  # which every device has
    device, _ = choose_device(device_name, conv, threads)
    generator = networks(
        preset, device, settings.size, channels, settings.z_dim, settings.slope, settings.seed
    ).generator
    saved.restore("generator", generator.state())
    generator.train(False)
    padded, parts = np.concatenate([z, np.zeros((-len(z) % BATCH, settings.z_dim), np.float32)]), []
    with no_grad():
        for batch in np.split(padded, len(padded) // BATCH):
            parts.append(to_uint8(generator(Tensor(device.array(batch), device)).numpy()))
    return np.concatenate(parts)[: len(z)]


def timelapse(run: Run) -> list[Image.Image]:
    """The run's sample pictures in order."""
    frames = []
    for path in run.samples():
        try:
            with Image.open(path) as image:
                frames.append(image.copy())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error}): move it away") from error
    if not frames:
        raise UserError(f"{run.folder}: holds no samples yet: train it first")
    return frames


def generate(arguments: list[str] | None = None) -> None:
    """The command."""
    given = options().parse_args(arguments)
    refuse_contradictions(given)
    count, moving = how_many(given), bool(given.interpolate or given.timelapse)
    kinds = tuple(ANIMATIONS) if moving else (".png",)
    out = given.out or (None if given.each and not given.grid else Path(f"cats{kinds[0]}"))
    if out and out.suffix.lower() not in kinds:
        noun, formats = ("animations", "WebP or GIF") if moving else ("pictures", "PNG")
        raise UserError(f"--out {out}: {noun} are written as {formats}: give a name that ends in {' or '.join(kinds)}")
    if given.each:
        free_folder(given.each)
    run = Run.open(given.run)

    if given.timelapse:
        frames = timelapse(run)
    else:
        images = draw(run, choose_z(run, given, count), given.device or "auto", given.threads, given.checkpoint)
        frames = [grid(image[None], pad=0) for image in images]

    said = f"{len(frames)} {'frames' if moving else 'pictures'}"
    if out:
        with writing(out):
            if moving:
                save_animation(frames, out, TIMELAPSE_MS if given.timelapse else LOOP_MS)
            else:
                save_png(grid(images, given.grid and given.grid[1]), out)
        print(f"{said}: {out}")
    if given.each:
        numbers = range(len(frames)) if moving or not given.seeds else given.seeds
        with writing(given.each), replacing_folder(given.each) as folder:
            for number, frame in zip(numbers, frames, strict=True):
                save_png(frame, folder / f"{number:05d}.png")
        print(f"{said}: {given.each / f'{numbers[0]:05d}.png'} and so on")


# ---- the options -------------------------------------------------------------


def options() -> Parser:
    """The command line; None stands for an option that was not given."""
    parser = Parser(prog="python -m minigan.generate", description="Draw pictures with a trained generator.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the folder of a run of minigan.train")
    add("--checkpoint", type=whole(0), metavar="STEP", help="one of RUN/checkpoints, by its step (default: the newest)")
    add("--timelapse", action="store_const", const=True, help="an animation of RUN/samples instead: how it learned")

    add = parser.add_argument_group("which pictures").add_argument
    add("--count", type=whole(1, MOST), metavar="N", help="how many (default 64)")
    add("--seed", type=whole(0, 2**64 - 1), metavar="N", help="which ones (default 0)")
    add("--seeds", type=seeds, metavar="LIST", help="the first picture of each seed: 0-63, or 3,17,40-42")
    add("--truncation", type=real(0.01, 100), metavar="T", help="no number of z beyond T: more average pictures")
    add("--interpolate", type=whole(2, 1000), metavar="N", help="a loop from picture to picture through N of them")
    add("--frames", type=whole(1, 1000), metavar="N", help=f"of the loop, from one to the next (default {FRAMES})")

    add = parser.add_argument_group("where to").add_argument
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="one PNG with a grid of all (default cats.png), or an animation as .webp or .gif (default cats.webp)",
    )
    add("--grid", type=shape, metavar="ROWSxCOLUMNS", help="of that PNG (default: about square)")
    add("--each", type=Path, metavar="DIR", help="one PNG for each picture or frame, into this new or empty folder")

    add = parser.add_argument_group("computed by").add_argument
    add_device(add)
    add_threads(add)
    return parser


def seeds(text: str) -> list[int]:
    """3,17,40-42: seeds and ranges of them, whose ends both count."""
    found, number = [], whole(0, 2**64 - 1)
    for part in text.split(","):
        if not re.fullmatch(r"\d+(-\d+)?", part):
            raise argparse.ArgumentTypeError(f"{part!r} is no seed, as 3, nor a range of them, as 40-42")
        first, dash, last = part.partition("-")
        low, high = number(first), number(last if dash else first)
        if not 0 <= high - low < MOST - len(found):
            raise argparse.ArgumentTypeError(f"{part} is out of range: give the lower one first, and at most {MOST:,}")
        found += range(low, high + 1)
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text} names a seed twice: give each one once")
    return found


def shape(text: str) -> tuple[int, int]:
    """4x8: rows and columns."""
    if not re.fullmatch(r"\d+x\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLUMNS, as in 4x8")
    rows, columns = map(whole(1, math.isqrt(MOST)), text.split("x"))
    return rows, columns


def refuse_contradictions(given: argparse.Namespace) -> None:
    """Raise UserError for options that exclude each other, or that would have no effect."""
    asked = {f"--{name}" for name, value in vars(given).items() if value is not None}
    for one, other, why in APART:
        if {one, other} <= asked:
            raise UserError(f"{one} with {other}: {why}: leave one of them out")
    if given.frames and not given.interpolate:
        raise UserError("--frames without --interpolate: only a loop has frames: add --interpolate N, or leave it out")
    if given.interpolate and (number := given.interpolate * (given.frames or FRAMES)) > MOST:
        raise UserError(f"--interpolate {given.interpolate}: a loop of {number:,} frames: let it be {MOST:,} at most")


def how_many(given: argparse.Namespace) -> int:
    """How many pictures to draw: 64, unless some option says. Raises UserError if two options disagree."""
    asked = {
        "--count": given.count,
        "--seeds": given.seeds and len(given.seeds),
        "--grid": given.grid and math.prod(given.grid),
        "--interpolate": given.interpolate,
    }
    asked = {option: number for option, number in asked.items() if number}
    if len(set(asked.values())) > 1:
        numbers = ", ".join(f"{option} for {number}" for option, number in asked.items())
        raise UserError(f"how many pictures? {numbers}: let them agree, or leave one of them out")
    return next(iter(asked.values()), 64)


if __name__ == "__main__":
    run_command(generate)
