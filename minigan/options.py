"""The command line of `minigan.train`: what may be asked for, in which range, and what holds where nothing was said.

A value comes from the command line, else (with `--resume`) from the run that goes on, else from the preset.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

from minigan.errors import UserError
from minigan.models import PRESETS, SIZES

__all__ = ["Parser", "Settings", "add_device", "new_settings", "parse", "resumed_settings", "whole"]

DEFAULT_PRESET = "tiny32"  # of the drawn faces
DATA_PRESET = "radford64"  # of pictures from a folder
RESUMABLE = ("data", "device", "epochs", "minutes", "sample_every", "save_every")  # may change from run to run


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that a training depends on; `config.json` holds it."""

    data: str | None  # a folder or .zip, or None for the drawn faces
    preset: str
    size: int
    mode: str
    z_dim: int
    slope: float
    batch_size: int
    lr_g: float
    lr_d: float
    beta1: float
    label_smoothing: float
    seed: int
    device: str
    epochs: int | None  # None: until `minutes` are over
    minutes: float | None  # None: until `epochs` are done
    save_every: int  # epochs
    sample_every: int  # steps


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit status 2."""

    def error(self, message: str):
        """Say what is wrong and where to look."""
        self.exit(2, f"minigan: error: {message} (--help lists the options)\n")


def whole(low: int, high: float = math.inf) -> Callable[[str], int]:
    """A whole number between low and high."""
    return _number(int, "a whole number", lambda value: low <= value <= high, _range(low, high))


def _real(low: float, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A number between low and high, or above low."""
    text = f"above {low}" if above and high == math.inf else _range(low, high)
    return _number(float, "a number", lambda value: low <= value <= high and not (above and value == low), text)


def _range(low: float, high: float) -> str:
    return f"at least {low}" if high == math.inf else f"between {low} and {high}"


def _number(kind: type, noun: str, holds: Callable, text: str) -> Callable:
    def convert(given: str):
        try:
            value = kind(given)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{given!r} is not {noun}") from None
        if not (math.isfinite(value) and holds(value)):
            raise argparse.ArgumentTypeError(f"{given} is out of range: it must be {text}")
        return value

    return convert


def add_device(parser, default: str | None = None) -> None:
    """The option that every command has."""
    parser.add_argument(
        "--device",
        default=default,
        choices=("auto", "cuda", "cpu", "emulated"),
        help="where to compute; auto takes a GPU if there is one; emulated runs the CUDA kernels on the host, "
        "thread by thread, to study them",
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m minigan.train",
        description="Train a DCGAN. Without --data it learns to draw the small cat faces that come with it.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=100),
    )
    add = parser.add_argument_group("pictures").add_argument
    add("--data", metavar="PATH", help="a folder (nested or not) or a .zip of JPEG, PNG, WebP, BMP or GIF pictures")
    add("--size", type=int, choices=SIZES, metavar="PIXELS", help="16, 32, 64, 128 or 256; default: the preset's")
    add("--mode", choices=("RGB", "L"), help="colour (default) or grey")

    add = parser.add_argument_group("network").add_argument
    add("--preset", choices=PRESETS, help=f"default: {DATA_PRESET} with --data, {DEFAULT_PRESET} without")
    add("--z-dim", type=whole(1, 65536), metavar="N", help="numbers that a picture is drawn from")
    add("--slope", type=_real(0, 1), help="of leaky ReLU")

    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=whole(1), metavar="N", help="passes over the pictures; default: the preset's")
    add("--minutes", type=_real(0, above=True), metavar="M", help="stop after so long (and at --epochs, if given)")
    add("--batch-size", type=whole(2), metavar="N", help="pictures a step")
    add("--lr-g", type=_real(0, above=True), metavar="LR", help="learning rate of the generator")
    add("--lr-d", type=_real(0, above=True), metavar="LR", help="learning rate of the discriminator")
    add("--beta1", type=_real(0, 0.999999), help="Adam's memory of the gradient")
    add("--label-smoothing", type=_real(0, 0.5), metavar="S", help="real pictures count as 1 - S")
    add("--seed", type=whole(0, 2**64 - 1), metavar="N", help="of all that is random (default 0)")
    add_device(parser)

    add = parser.add_argument_group("run").add_argument
    add("--out", type=Path, metavar="DIR", help="the run's folder (default runs/DATE-TIME); it must be new or empty")
    add("--save-every", type=whole(1), metavar="EPOCHS", help="epochs between checkpoints (default 5)")
    add("--sample-every", type=whole(1), metavar="STEPS", help="steps between sample pictures (default 200)")
    add("--resume", type=Path, metavar="RUN", help="go on with an earlier run's folder, where it stopped")
    add("--dry-run", action="store_true", help="show the layers of both networks, do one step, write nothing")
    return parser


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; None stands for an option that was not given."""
    return _parser().parse_args(arguments)


def new_settings(given: argparse.Namespace) -> Settings:
    """The settings of a new run."""
    preset = PRESETS[given.preset or (DATA_PRESET if given.data else DEFAULT_PRESET)]
    defaults = {
        **{field.name: getattr(preset, field.name, None) for field in dataclasses.fields(Settings)},
        "preset": preset.name,
        "mode": "RGB",
        "seed": 0,
        "device": "auto",
        "epochs": None if given.minutes else preset.epochs,
        "save_every": 5,
        "sample_every": 200,
    }
    return Settings(**{name: _first(getattr(given, name), default) for name, default in defaults.items()})


def resumed_settings(given: argparse.Namespace, earlier: dict) -> Settings:
    """An earlier run's settings with what may change. Raises UserError for an option that may not."""
    names = [field.name for field in dataclasses.fields(Settings)]
    said = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    for name, value in said.items():
        if name not in RESUMABLE and value != earlier[name]:
            option = name.replace("_", "-")
            raise UserError(f"--{option}: the run that goes on has {earlier[name]}: leave it out, or start a new run")
    if "minutes" in said and "epochs" not in said:
        said["epochs"] = None
    if "epochs" in said and "minutes" not in said:
        said["minutes"] = None
    return Settings(**{**earlier, **said})


def _first(value, default):
    return default if value is None else value
