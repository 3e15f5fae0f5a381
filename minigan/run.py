"""A run's folder: what a training leaves behind.

config.json         what was asked for, and the versions that did it
log.jsonl           one JSON object a line: step epoch seconds d_loss g_loss d_real d_fake images_per_second
                    memory_mib (the most so far; null where the system does not say)
losses.png          the log as a plot
report.html         all of this on one page, to be opened in a browser
real.png            real pictures as the discriminator sees them first
samples/STEP.png    pictures from the same z, as the generator learns
checkpoints/        STEP.safetensors; and who is writing them: `lock`, `process`
skipped.txt         pictures that could not be read, and why; only if there are any
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import filelock
import numpy as np

from minigan import checkpoint, pictures
from minigan.errors import UserError
from minigan.files import replacing
from minigan.options import Settings, kept_settings
from minigan.sources import printable

__all__ = ["Run", "free_folder"]


def free_folder(folder: Path) -> None:
    """Raise UserError unless `folder` may be filled: it does not exist yet, or it is empty."""
    try:
        taken = any(folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{folder}: cannot be a folder for results ({error.strerror}): give another one") from error
    if taken:
        raise UserError(f"{folder}: holds files already: give a new or an empty folder")


class Run:
    """A run's folder.

    settings: what it trains with. about: the rest of its config.json, "device", "pictures" (their number), "digest" (of
    their pixels), "commands", "started" and "versions".
    """

    def __init__(self, folder: Path, settings: Settings, about: dict):
        self.folder, self.settings, self.about = folder, settings, about

    @classmethod
    def create(cls, folder: Path, settings: Settings, about: dict, skipped: list[tuple[str, str]]) -> Run:
        """A new run in `folder`. Raises UserError, and leaves nothing, if it is not free or cannot be written."""
        free_folder(folder)
        run = cls(folder, settings, about)
        with run._writing():
            (folder / "checkpoints").mkdir(parents=True)  # is refused where another run was faster
        try:
            with run._writing():
                (folder / "samples").mkdir()
                if skipped:
                    run._write("skipped.txt", "".join(f"{printable(name)}: {reason}\n" for name, reason in skipped))
            run.configure(settings)
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run that is in `folder`. Raises UserError if there is none, or its config.json is broken."""
        path = folder / "config.json"
        try:
            about = json.loads(path.read_text())
            return cls(folder, kept_settings(about.pop("settings")), about)
        except OSError as error:
            raise UserError(f"{folder}: no run's folder ({path.name}: {error.strerror}): check the path") from error
        except (ValueError, LookupError, TypeError, AttributeError, UserError) as error:
            raise UserError(f"{path}: broken ({error}): restore it, or begin a new run") from error

    def configure(self, settings: Settings) -> None:
        """Keep these settings, with which the run begins or goes on."""
        self.settings = settings
        text = json.dumps({"settings": dataclasses.asdict(settings), **self.about}, indent=2)
        with self._writing():
            self._write("config.json", text + "\n")

    def checkpoints(self) -> list[Path]:
        """Every checkpoint, the newest last."""
        return sorted((self.folder / "checkpoints").glob("*.safetensors"))

    def newest_checkpoint(self) -> Path:
        """The newest that is whole; those after it are named. Raises UserError if there is none."""
        broken = []
        for path in reversed(self.checkpoints()):
            try:
                checkpoint.load(path)
            except UserError as error:
                broken.append(error)
                continue
            for error in broken:
                print(f"minigan: {error}: {path.name} is used instead", file=sys.stderr)
            return path
        if broken:
            raise UserError(f"{broken[0]}, and there is no earlier one: begin a new run")
        raise UserError(f"{self.folder}: holds no checkpoint yet: train it first")

    def checkpoint_at(self, step: int) -> Path:
        """The checkpoint of that step. Raises UserError, which lists the steps that have one, if it has none."""
        path = self._checkpoint(step)
        if path not in (found := self.checkpoints()):
            steps = ", ".join(other.stem.lstrip("0") for other in found)
            advice = f"give one of {steps}" if steps else "train it first"
            raise UserError(f"{self.folder}: holds no checkpoint of step {step}: {advice}")
        return path

    def samples(self) -> list[Path]:
        """Every sample picture, the newest last."""
        found = (path for path in (self.folder / "samples").glob("*.png") if path.stem.isdecimal())
        return sorted(found, key=lambda path: int(path.stem))

    def places(self) -> dict[str, Path]:
        """Where what a person looks for is: the folder, the newest sample and weights, and what else there is."""
        found = {
            "folder": [self.folder],
            "samples": self.samples(),
            "report": [self.folder / "report.html"],
            "weights": self.checkpoints(),
            "log": [self.folder / "log.jsonl"],
        }
        return {name: paths[-1] for name, paths in found.items() if paths and paths[-1].exists()}

    def save_checkpoint(self, step: int, arrays: Mapping[str, np.ndarray], state: Mapping) -> Path:
        """Write it whole, or not at all."""
        path = self._checkpoint(step)
        with self._writing():
            checkpoint.save(path, arrays, state)
        return path

    def keep_checkpoints(self, newest: int, every: int | None) -> None:
        """Delete all but the newest ones, and those whose step is a multiple of `every`."""
        for path in self.checkpoints()[:-newest]:
            if every is None or int(path.stem) % every:
                with self._writing():
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process trains in this folder meanwhile. Raises UserError, with its number, if one does already.

        The system lets go of a lock when its process ends, however it ends: what a killed run leaves stops nobody.
        """
        lock = filelock.FileLock(self.folder / "checkpoints" / "lock")
        process = self.folder / "checkpoints" / "process"
        with self._writing():
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                number = process.read_text() if process.exists() else "unknown"
                raise UserError(f"{self.folder}: process {number} is training in it: wait for it, or stop it") from None
        try:
            with self._writing():
                self._write("checkpoints/process", str(os.getpid()))
            yield
        finally:
            process.unlink(missing_ok=True)
            lock.release()

    def save_sample(self, step: int, images: np.ndarray) -> Path:
        """A grid of `images` (N,H,W,C) in [-1, 1]; small ones are enlarged by a whole number, never smoothed."""
        return self._save_grid(f"samples/{step:06d}.png", images)

    def save_real(self, images: np.ndarray) -> Path:
        """Likewise of real pictures, to compare the samples with."""
        return self._save_grid("real.png", images)

    def _save_grid(self, name: str, images: np.ndarray) -> Path:
        path = self.folder / name
        with self._writing():
            pictures.save_png(pictures.grid(images, scale=max(1, 64 // images.shape[1])), path)
        return path

    def log(self, row: Mapping[str, float]) -> None:
        """Add a row to log.jsonl."""
        with self._writing(), (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self, name: str = "log.jsonl") -> list[dict]:
        """The log so far, or another file of rows. Raises UserError if a line is broken."""
        path = self.folder / name
        try:
            return [json.loads(line) for line in path.read_text().splitlines()]
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise UserError(f"{path}: broken ({error}): delete the line, or the file") from error

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

    def save_report(self, page: str) -> Path:
        """Replace report.html (see `minigan.report`)."""
        with self._writing():
            self._write("report.html", page)
        return self.folder / "report.html"

    def _checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"{step:08d}.safetensors"

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
