"""The command line of `minigan.train`: what may be asked for, in which range, and what holds where nothing was said.

A value comes from the command line, else (with `--resume`) from the run that goes on, else from the preset.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from kernels import CONVOLUTIONS, PRECISIONS
from minigan.data import CHANNELS
from minigan.errors import UserError
from minigan.models import PRESETS, SIZES, Preset
from minigan.reporter import Json, Quiet, usual

__all__ = [
    "Parser",
    "Settings",
    "add_device",
    "add_reporter",
    "add_threads",
    "kept_settings",
    "new_settings",
    "parse",
    "real",
    "resumed_settings",
    "said",
    "whole",
]

DEFAULT_PRESET = "tiny32"  # of the drawn faces
DATA_PRESET = "radford64"  # of pictures from a folder
# What may change from run to run, and what an early run's config.json lacks, with what is then meant.
RESUMABLE = (
    "data", "device", "conv", "precision", "fusion", "epochs", "minutes", "sample_every", "save_every", "keep",
    "archive_every", "tensorboard",
)  # fmt: skip
YOUNGER = {
    "conv": "auto", "precision": "auto", "fusion": True, "keep": 3, "archive_every": None, "tensorboard": False
}  # fmt: skip


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
    conv: str  # one of kernels.CONVOLUTIONS
    precision: str  # of what convolutions multiply: one of kernels.PRECISIONS, or "auto"
    fusion: bool  # of batch norm and the leaky ReLU after it
    epochs: int | None  # None: until `minutes` are over
    minutes: float | None  # None: until `epochs` are done
    save_every: int | None  # epochs; None: 5, or more where saving would take more than a twentieth of the time
    sample_every: int  # steps
    keep: int  # checkpoints, the newest
    archive_every: int | None  # epochs after which one stays for good; None: none does
    tensorboard: bool  # also writes what TensorBoard reads


class Parser(argparse.ArgumentParser):
    """An argument parser for which a wrong option is bad input like any other; so is nothing where something should be.

    A path from a shell's variable that is not set would else be the folder where the command is typed.
    """

    def parse_known_args(self, args=None, namespace=None):
        given = sys.argv[1:] if args is None else args
        for before, text in itertools.pairwise(["", *given]):
            if not text or re.fullmatch(r"--[\w-]+=", text):
                name = text[:-1] or (before if before.startswith("--") else "an argument")
                raise UserError(f"{name}: is empty: fill it, or leave it out")
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        """Say what is wrong and where to look."""
        raise UserError(f"{message} (--help lists the options)")


def whole(low: int, high: int = 10**9) -> Callable[[str], int]:
    """A whole number from low to high."""
    return _number(int, "a whole number", lambda value: low <= value <= high, f"from {low} to {high}")


def real(low: float, high: float) -> Callable[[str], float]:
    """A number from low to high."""
    return _number(float, "a number", lambda value: low <= value <= high, f"from {low} to {high}")


def _positive(high: float) -> Callable[[str], float]:
    """A number above 0, and at most high."""
    return _number(float, "a number", lambda value: 0 < value <= high, f"above 0, and at most {high:g}")


def _number(kind: type, noun: str, holds: Callable, text: str) -> Callable:
    def convert(given: str):
        try:
            value = kind(given)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{given!r} is not {noun}") from None
        if not holds(value):  # NaN never does
            raise argparse.ArgumentTypeError(f"{given} is out of range: it must be {text}")
        return value

    return convert


def add_device(add: Callable) -> None:
    """The option that every command has, by an `add_argument`."""
    add(
        "--device",
        choices=("auto", "cuda", "cpu", "emulated"),
        help="auto (default) takes a GPU if there is one; emulated runs the CUDA kernels on the host, thread by "
        "thread, to study them",
    )


def add_threads(add: Callable) -> None:
    """The option that goes with the CPU."""
    add("--threads", type=whole(1, 1024), metavar="N", help="of the CPU (default: as many as CPUs may be used)")


def add_reporter(group: argparse._ArgumentGroup) -> None:
    """The options that say who is spoken to: `reporter`, one of minigan.reporter's."""
    group.set_defaults(reporter=usual)
    add = group.add_mutually_exclusive_group().add_argument
    add("--quiet", action="store_const", dest="reporter", const=Quiet, help="print nothing but errors and the result")
    add("--json", action="store_const", dest="reporter", const=Json, help="print each event as a JSON object on a line")


def _option(name: str) -> str:
    """The option of a setting."""
    return f"--{name.replace('_', '-')}"


def _preset_table() -> str:
    """The settings that a preset decides, a line each."""
    lines = [("", *PRESETS)]
    for field in dataclasses.fields(Settings):
        if field.name in Preset.__dataclass_fields__:
            lines.append((_option(field.name), *(getattr(preset, field.name) for preset in PRESETS.values())))
    form = "  {:<18}" + "{:>12}" * len(PRESETS)
    return "\n".join(["defaults of the presets:", *(form.format(*line) for line in lines)])


def _parser() -> Parser:
    parser = Parser(
        prog="python -m minigan.train",
        usage="%(prog)s [--data PATH] [option ...]",
        description="Train a DCGAN. Without --data it learns cat faces that come with minigan.",
        epilog=_preset_table(),
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26),
    )
    add = parser.add_argument_group("pictures").add_argument
    add("--data", metavar="PATH", help="a folder (nested or not) or a .zip of JPEG, PNG, WebP, BMP or GIF pictures")
    add("--size", type=int, choices=SIZES, metavar="PIXELS", help="their side: 16, 32, 64, 128 or 256")
    add("--mode", choices=CHANNELS, help="colour (default) or grey")

    add = parser.add_argument_group("network").add_argument
    add("--preset", choices=PRESETS, help=f"default: {DATA_PRESET} with --data, {DEFAULT_PRESET} without")
    add("--z-dim", type=whole(1, 65536), metavar="N", help="numbers that a picture is drawn from")
    add("--slope", type=real(0, 1), metavar="S", help="of leaky ReLU")

    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=whole(1), metavar="N", help="passes over the pictures")
    add("--minutes", type=_positive(1e9), metavar="M", help="stop after so long (and at --epochs, if given)")
    add("--batch-size", type=whole(2), metavar="N", help="pictures a step")
    add("--lr-g", type=_positive(1e30), metavar="LR", help="learning rate of the generator")
    add("--lr-d", type=_positive(1e30), metavar="LR", help="learning rate of the discriminator")
    add("--beta1", type=real(0, 0.999999), metavar="B", help="Adam's memory of the gradient")
    add("--label-smoothing", type=real(0, 0.5), metavar="S", help="real pictures count as 1 - S")
    add("--seed", type=whole(0, 2**64 - 1), metavar="N", help="of all that is random (default 0)")
    add_device(add)
    add_threads(add)
    add(
        "--conv",
        choices=CONVOLUTIONS,
        help="how to convolve, to read and to compare: direct, by the definition; naive, tiled, registers, tensor "
        "(cores) on a GPU; auto (default) is the fastest",
    )
    add(
        "--precision",
        choices=("auto", *PRECISIONS),
        help="what convolutions multiply; sums and all else are fp32. auto (default): tf32 on a GPU that has it, else "
        "fp32",
    )
    add(
        "--graph",
        action=argparse.BooleanOptionalAction,
        help="capture a step's CUDA kernels once and repeat them (default on a GPU): the same bits, sooner",
    )
    add("--fusion", action=argparse.BooleanOptionalAction, help="batch norm and leaky ReLU as one operation (default)")

    group = parser.add_argument_group("run")
    add = group.add_argument
    add(
        "--save-every",
        type=whole(1),
        metavar="EPOCHS",
        help="epochs between checkpoints (default 5, or more where saving would take a twentieth of the time)",
    )
    add("--keep", type=whole(1), metavar="N", help="checkpoints to keep, the newest (default 3)")
    add("--archive-every", type=whole(1), metavar="EPOCHS", help="keep one after every so many epochs as well")
    add("--sample-every", type=whole(1), metavar="STEPS", help="steps between sample pictures (default 200)")
    add("--tensorboard", action=argparse.BooleanOptionalAction, help="write RUN/tensorboard as well (default: no)")
    add("--dry-run", action="store_true", help="show the layers of both networks, do one step, write nothing")
    add_reporter(group)
    add = group.add_mutually_exclusive_group().add_argument
    add("--out", type=Path, metavar="DIR", help="the run's folder, new or empty (default runs/DATE-TIME)")
    add("--resume", type=Path, metavar="RUN", help="go on with an earlier run's folder, where it stopped")
    add("--verify-resume", action="store_true", help="prove on a few steps that a resumed run is the uninterrupted one")
    return parser


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; None stands for an option that was not given."""
    given = _parser().parse_args(arguments)
    if given.verify_resume and given.dry_run:
        raise UserError("--verify-resume with --dry-run: it trains, in a folder of its own: leave one of them out")
    return given


def new_settings(given: argparse.Namespace) -> Settings:
    """The settings of a new run."""
    preset = PRESETS[given.preset or (DATA_PRESET if given.data else DEFAULT_PRESET)]
    defaults = {
        **{field.name: getattr(preset, field.name, None) for field in dataclasses.fields(Settings)},
        "preset": preset.name,
        "mode": "RGB",
        "seed": 0,
        "device": "auto",
        **YOUNGER,
        "epochs": None if given.minutes else preset.epochs,
        "sample_every": 200,
    }
    return Settings(**{name: _first(getattr(given, name), default) for name, default in defaults.items()})


def kept_settings(values: dict) -> Settings:
    """Settings as a run's config.json keeps them. Raises UserError unless they are whole and in range."""
    values = YOUNGER | values
    types = {field.name: field.type for field in dataclasses.fields(Settings)}
    if differing := types.keys() ^ values.keys():
        raise UserError(f"settings that are missing or unknown: {', '.join(sorted(differing))}")
    if nulls := [name for name, kind in types.items() if values[name] is None and "None" not in kind]:
        raise UserError(f"settings that are null: {', '.join(nulls)}")
    return new_settings(parse(_said(values)))


def said(settings: Settings) -> list[str]:
    """The command line that says them all."""
    return _said(vars(settings))


def _said(values: dict) -> list[str]:
    return [
        (_option(name if value else f"no_{name}") if isinstance(value, bool) else f"{_option(name)}={value}")
        for name, value in values.items()
        if value is not None
    ]


def resumed_settings(given: argparse.Namespace, earlier: Settings) -> Settings:
    """An earlier run's settings with what may change. Raises UserError for an option that may not."""
    said = {name: getattr(given, name) for name in vars(earlier) if getattr(given, name) is not None}
    for name, value in said.items():
        before = getattr(earlier, name)
        if name not in RESUMABLE and value != before:
            raise UserError(f"{_option(name)} {value}: the run began with {before}: leave it out, or begin a new run")
    if "epochs" in said or "minutes" in said:
        said = {"epochs": None, "minutes": None, **said}
    return dataclasses.replace(earlier, **said)


def _first(value, default):
    return default if value is None else value
