"""Where a benchmark writes what it has measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from minigan.errors import UserError
from minigan.files import replacing

__all__ = ["check_folders", "write_json"]


def check_folders(given: argparse.Namespace, *names: str) -> None:
    """Raise UserError, before anything is measured, if one of these options names a file in a folder that is not."""
    for name in names:
        file = getattr(given, name)
        if file and not file.parent.is_dir():
            raise UserError(f"--{name}: there is no folder {file.parent}: make it, or choose another file")


def write_json(report: dict, file: Path | None) -> None:
    """The whole report or, whatever happens meanwhile, none of it; without a file, nothing."""
    if file:
        with replacing(file) as target:
            target.write(f"{json.dumps(report, indent=1)}\n".encode())
