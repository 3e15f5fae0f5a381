"""Where a benchmark writes what it has measured."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from minigan.errors import UserError

__all__ = ["check_folders", "write_json"]


def check_folders(given: argparse.Namespace, *names: str) -> None:
    """Raise UserError, before anything is measured, if one of these options names a file in a folder that is not."""
    for name in names:
        file = getattr(given, name)
        if file and not file.parent.is_dir():
            raise UserError(f"--{name}: there is no folder {file.parent}: make it, or choose another file")


def write_json(report: dict, file: Path | None) -> None:
    """The whole report; without a file, nothing."""
    if file:
        file.write_text(json.dumps(report, indent=2) + "\n")
