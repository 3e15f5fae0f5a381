"""A generator of PyTorch's DCGAN into a run:  python -m minigan.import cats.safetensors --out runs/imported

The other way of `python -m minigan.export --torch`. The run draws (`minigan.generate`), and trains on (`minigan.train
--resume RUN --data cats/`): from step 0 and with fresh optimizers, because a state_dict has none, and with a fresh
discriminator unless one is given, whose slope no state_dict says: it is taken to be the example's 0.2.

The word `import` is Python's own, so this module can be run and not imported; all but the command is in
minigan.torch_names and minigan.train.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

import kernels
from minigan import models, options
from minigan.checkpoint import UNREADABLE
from minigan.command import run_command
from minigan.data import CHANNELS
from minigan.errors import UserError
from minigan.options import Parser, Settings
from minigan.run import Run, free_folder
from minigan.torch_names import from_torch
from minigan.train import Game
from minigan.words import one_line, quoted

FILTER = r"main\.\d+\.weight"  # and, of one axis, batch norm's scale
PICKLES = (b"PK", b"\x80")  # what torch.save writes begins so, today and before 1.6


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by name. Raises UserError; a pickle is never opened."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
        with safetensors.safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except IsADirectoryError:
        raise UserError(f"{path}: a folder: give a safetensors file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}): check the path, and its permissions") from None
    except UNREADABLE as error:
        reason = one_line(error)
        if start.startswith(PICKLES):
            name = path.with_suffix(".safetensors").name
            reason = (
                "it is a pickle, which can run any program when it is opened: "
                f"safetensors.torch.save_file(netG.state_dict(), '{name}') makes one where it is from"
            )
        raise UserError(f"{path}: no safetensors file that can be read ({reason})") from None


def settings_of(path: Path, generator: Mapping[str, np.ndarray]) -> Settings:
    """What a run would have been asked for, by the shapes of a generator's filters (K,C,R,S), from z to the picture."""
    filters = [(name, array.shape) for name, array in generator.items() if re.fullmatch(FILTER, name)]
    shapes = [shape for _, shape in sorted(filters, key=lambda pair: int(pair[0].split(".")[1])) if len(shape) == 4]
    widths = {preset.width: preset.name for preset in models.PRESETS.values() if preset.architecture is models.radford}
    modes = {channels: mode for mode, channels in CHANNELS.items()}
    size = 4 * 2 ** (len(shapes) - 1)
    width, channels = shapes[-1][:2] if shapes else (None, None)
    if width not in widths or channels not in modes or size not in models.SIZES:
        known = ", ".join(map(str, widths))
        raise UserError(f"{path}: not a generator of PyTorch's DCGAN, {known} channels wide before the picture")
    said = {"preset": widths[width], "size": size, "mode": modes[channels], "z-dim": shapes[0][0]}
    return options.new_settings(options.parse([f"--{name}={value}" for name, value in said.items()]))


def command(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(prog="python -m minigan.import", description="Make a run of the weights of PyTorch's DCGAN.")
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the generator's state_dict, as .safetensors")
    add("--discriminator", type=Path, metavar="FILE", help="the discriminator's (default: a fresh one)")
    add("--out", type=Path, required=True, metavar="DIR", help="the run's folder, new or empty")
    given = parser.parse_args(arguments)
    free_folder(given.out)

    arrays = read(given.file)
    settings = settings_of(given.file, arrays)
    game = Game(settings, kernels.device("cpu"))
    from_torch(given.file, arrays, game.generator)
    if given.discriminator:
        from_torch(given.discriminator, read(given.discriminator), game.discriminator)

    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    about = {"device": "cpu", "imported": str(given.file), "commands": [], "outcome": "imported", "started": started}
    run = Run.create(given.out, settings, about, skipped=[])
    with run.alone():
        game.save(run, seconds=0.0)
    folder = quoted(run.folder)
    print(f"imported  {given.file}: {settings.preset}, {settings.size}x{settings.size} {settings.mode}")
    print(f"generate  python -m minigan.generate {folder} --count 64 --out cats.png")
    print(f"resume    python -m minigan.train --resume {folder} --data cats/")


if __name__ == "__main__":
    run_command(command)
