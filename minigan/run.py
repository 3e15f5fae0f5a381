"""A run's folder: what a training leaves behind.

config.json         what was asked for, and the versions that did it
log.jsonl           one JSON object a line: step epoch seconds d_loss g_loss d_real d_fake images_per_second
losses.png          the log as a plot
samples/STEP.png    pictures from the same z, as the generator learns
checkpoints/        STEP.safetensors
skipped.txt         pictures that could not be read, and why; only if there are any
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from minigan import checkpoint, pictures
from minigan.errors import UserError
from minigan.files import replacing

__all__ = ["Run", "free_folder"]


def free_folder(folder: Path) -> None:
    """Raise UserError unless a new run may be written to `folder`: no file, and no folder with something in it."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds files already: give another --out, or go on with --resume {folder}")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file: --out must name a folder")


class Run:
    """A run's folder, and its config."""

    def __init__(self, folder: Path, config: dict):
        self.folder = folder
        self.config = config

    @classmethod
    def create(cls, folder: Path, config: dict, skipped: list[tuple[str, str]]) -> Run:
        """A new run in `folder`. Raises UserError if it is not free or cannot be written."""
        free_folder(folder)
        run = cls(folder, config)
        with run._writing():
            for part in ("samples", "checkpoints"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            run._write("config.json", json.dumps(config, indent=2) + "\n")
            if skipped:
                run._write("skipped.txt", "".join(f"{name}: {reason}\n" for name, reason in skipped))
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run that is in `folder`. Raises UserError if there is none."""
        if not folder.exists():
            raise UserError(f"{folder}: no such run: check the path")
        try:
            return cls(folder, json.loads((folder / "config.json").read_text()))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: not a run's folder (config.json: {error})") from error

    def checkpoints(self) -> list[Path]:
        """Every checkpoint, the newest last."""
        return sorted((self.folder / "checkpoints").glob("*.safetensors"))

    def newest_checkpoint(self) -> Path:
        """Raises UserError if there is none yet."""
        found = self.checkpoints()
        if not found:
            raise UserError(f"{self.folder}: holds no checkpoint yet: train it first")
        return found[-1]

    def save_checkpoint(self, step: int, arrays: Mapping[str, np.ndarray], state: Mapping) -> Path:
        """Write it whole, or not at all."""
        path = self.folder / "checkpoints" / f"{step:08d}.safetensors"
        with self._writing():
            checkpoint.save(path, arrays, state)
        return path

    def save_sample(self, step: int, images: np.ndarray) -> Path:
        """A grid of `images` (N,H,W,C) in [-1, 1]; small ones are enlarged by a whole number, never smoothed."""
        path = self.folder / "samples" / f"{step:06d}.png"
        with self._writing():
            pictures.save_png(pictures.grid(images, scale=max(1, 64 // images.shape[1])), path)
        return path

    def log(self, row: Mapping[str, float]) -> None:
        """Add a row to log.jsonl."""
        with self._writing(), (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, float]]:
        """The log so far."""
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def rewind(self, step: int) -> None:
        """Forget the rows after `step`: a resumed run logs them again."""
        with self._writing():
            self._write("log.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step))

    def plot(self) -> None:
        """Draw losses.png from the log."""
        rows = self.rows()
        if rows:
            with self._writing():
                pictures.plot_losses(rows, self.folder / "losses.png")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """What the disk refuses becomes one line; what was written before is whole."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{self.folder}: cannot be written ({reason}): free the disk or give another --out"
            ) from error

    def _write(self, name: str, text: str) -> None:
        with replacing(self.folder / name) as file:
            file.write(text.encode())
