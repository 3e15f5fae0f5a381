"""A run's folder: what a training leaves behind, file by file as docs/run-folder.md has it."""

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
from minigan.checkpoint import FORMAT, Checkpoint, Newer, NotWhole, refuse_newer
from minigan.errors import UserError
from minigan.files import FULL, UNFINISHED, remove_unfinished, replacing, sync
from minigan.options import Settings, kept_settings
from minigan.words import printable, quoted

__all__ = ["DOCTOR", "LOG", "Run", "free_folder"]

LOG, DOCTOR = "log.jsonl", "doctor.jsonl"  # files of rows
FIELDS = {  # that every row has
    LOG: {"step", "epoch", "seconds", "d_loss", "g_loss", "d_real", "d_fake", "images_per_second"},
    DOCTOR: {"step", "measures", "notes"},
}
LOCK = ("checkpoints/lock", "checkpoints/process")  # by which one process keeps the others out


def free_folder(folder: Path) -> None:
    """Raise UserError unless `folder` may be filled: it does not exist yet, or holds no files.

    What is left of a run that was killed before it had a config.json does not count.
    """
    try:
        taken = _holds_files(folder, [folder / name for name in LOCK])
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{folder}: cannot be a folder for results ({error.strerror}): give another one") from error
    if taken:
        raise UserError(f"{folder}: holds files already: give a new or an empty folder")


def _holds_files(folder: Path, left: list[Path]) -> bool:
    """Whether there are any at any depth, beside `left` and those that were never finished."""
    return any(
        _holds_files(path, left) if path.is_dir() else path not in left and not path.match(UNFINISHED)
        for path in folder.iterdir()
    )


class Run:
    """A run's folder.

    settings: what it trains with. about: the rest of its config.json, "device", "pictures" (their number), "digest" (of
    their pixels), "commands", "outcome", "started" and "versions".
    """

    def __init__(self, folder: Path, settings: Settings, about: dict):
        self.folder, self.settings, self.about = folder, settings, about

    @classmethod
    def create(cls, folder: Path, settings: Settings, about: dict, skipped: list[tuple[str, str]]) -> Run:
        """A new run in `folder`. Raises UserError, and leaves no file, if it is not free or cannot be written."""
        free_folder(folder)
        run = cls(folder, settings, about)
        with run.alone():
            if (folder / "config.json").exists():
                raise UserError(f"{folder}: another run has just begun in it: give another --out")
            try:
                run.configure(settings)  # the first: a folder that has no config.json stays free
                run.name_skipped(skipped)
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
            refuse_newer(path, about.pop("format", None))
            return cls(folder, kept_settings(about.pop("settings")), about)
        except OSError as error:
            raise UserError(f"{folder}: no run's folder ({path.name}: {error.strerror}): check the path") from error
        except Newer:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, UserError) as error:
            raise UserError(f"{path}: broken ({error}): restore it, or begin a new run") from error

    def configure(self, settings: Settings) -> None:
        """Keep these settings, with which the run begins or goes on."""
        self.settings = settings
        text = json.dumps({"format": FORMAT, "settings": dataclasses.asdict(settings), **self.about}, indent=2)
        with self._writing():
            self._write("config.json", text + "\n")

    def name_skipped(self, skipped: list[tuple[str, str]]) -> None:
        """Keep the (name, reason) of pictures that could not be read."""
        if skipped:
            with self._writing():
                self._write("skipped.txt", "".join(f"{printable(name)}: {reason}\n" for name, reason in skipped))

    def end(self, outcome: str) -> None:
        """Keep how it ended: "done"; "stopped", before its time; or "diverged", to numbers that are not finite."""
        self.about["outcome"] = outcome
        self.configure(self.settings)

    @property
    def saved(self) -> bool:
        """Whether it has ended in a way that leaves a checkpoint."""
        return self.about.get("outcome") in ("done", "stopped", "imported")

    def checkpoints(self) -> list[Path]:
        """Every checkpoint, the newest last."""
        return self._of_steps("checkpoints/*.safetensors")

    def newest_checkpoint(self) -> Checkpoint:
        """The newest that is whole; those after it are named.

        Raises UserError if there is none, or if a newer minigan has written it.
        """
        broken = []
        for path in reversed(self.checkpoints()):
            try:
                found = checkpoint.load(path)
            except NotWhole as error:
                broken.append(error)
                continue
            for error in broken:
                print(f"minigan: {error}: {path.name} is used instead", file=sys.stderr)
            return found
        if broken:
            raise UserError(f"{broken[0]}, and there is no earlier one: begin a new run")
        if self.saved:
            raise UserError(f"{self.folder}: holds no checkpoint any more: put one back, or begin a new run")
        raise UserError(f"{self.folder}: holds no checkpoint yet: train it first")

    def checkpoint_at(self, step: int) -> Checkpoint:
        """That of a step. Raises UserError, which lists the steps that have one, if it has none, or it is broken."""
        path = self._checkpoint(step)
        if path not in (found := self.checkpoints()):
            steps = ", ".join(str(int(other.stem)) for other in found)
            advice = f"give one of {steps}" if steps else "train it first"
            raise UserError(f"{self.folder}: holds no checkpoint of step {step}: {advice}")
        return checkpoint.load(path)

    def samples(self) -> list[Path]:
        """Every sample picture, the newest last."""
        return self._of_steps("samples/*.png")

    def _of_steps(self, pattern: str) -> list[Path]:
        """The files that are named by a step, in their order; what else lies there is somebody's own."""
        found = (path for path in self.folder.glob(pattern) if path.stem.isdecimal())
        return sorted(found, key=lambda path: int(path.stem))

    def places(self) -> dict[str, Path]:
        """Where what a person looks for is: the folder, the newest sample and weights, and what else there is."""
        found = {
            "folder": [self.folder],
            "samples": self.samples(),
            "report": [self.folder / "report.html"],
            "weights": self.checkpoints(),
            "log": [self.folder / LOG],
        }
        return {name: paths[-1] for name, paths in found.items() if paths and paths[-1].exists()}

    def save_checkpoint(self, step: int, arrays: Mapping[str, np.ndarray], state: Mapping) -> Path:
        """Write it whole, or not at all. The rows of before are on the disk then, too."""
        path = self._checkpoint(step)
        with self._writing():
            for name in (LOG, DOCTOR):
                sync(self.folder / name)
            checkpoint.save(path, arrays, state)
        return path

    def keep_checkpoints(self, step: int, newest: int, every: int | None) -> None:
        """Of those up to this step, delete all but the newest and those whose step is a multiple of `every`.

        Where the run has gone on from an earlier one, those after it are broken, and stand for none that is whole.
        """
        for path in [path for path in self.checkpoints() if int(path.stem) <= step][:-newest]:
            if every is None or int(path.stem) % every:
                with self._writing():
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """No other process trains in this folder meanwhile. Raises UserError, with its number, if one does already.

        The system lets go of a lock when its process ends, however it ends: what a killed run leaves stops nobody.
        """
        checkpoints = self.folder / "checkpoints"
        lock, process = filelock.FileLock(checkpoints / "lock"), checkpoints / "process"
        with self._writing():
            for place in (checkpoints, self.folder / "samples"):
                place.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                number = self._process() or "unknown"
                raise UserError(f"{self.folder}: process {number} is training in it: wait for it, or stop it") from None
        try:
            with self._writing():
                for place in (checkpoints, self.folder / "samples", self.folder):
                    remove_unfinished(place)
                process.write_text(str(os.getpid()))
            yield
        finally:
            process.unlink(missing_ok=True)
            lock.release()

    def trained_by(self) -> int | None:
        """The number of the process that trains in it now, if one does and its number can be read."""
        number, lock = self._process(), self.folder / "checkpoints" / "lock"
        if number is None or not lock.exists():
            return None
        try:
            with filelock.FileLock(lock).acquire(timeout=0):
                return None  # that process was killed
        except (filelock.Timeout, PermissionError):  # or the folder is another's, and it may have been
            return number

    def _process(self) -> int | None:
        """The number that the last process has left, which may have been killed; None where there is none to read."""
        try:
            return int((self.folder / "checkpoints" / "process").read_text())
        except (FileNotFoundError, ValueError):
            return None

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

    def log(self, row: Mapping, name: str = LOG) -> None:
        """Add a row to log.jsonl, or to another file of rows; whoever reads the file finds it there."""
        with self._writing(), (self.folder / name).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self, name: str = LOG) -> list[dict]:
        """The log so far, or another file of rows. A last line without an end is none yet.

        Raises UserError if another is broken.
        """
        path = self.folder / name
        try:
            lines = path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [_row(f"{path}: line {number}", line, FIELDS[name]) for number, line in enumerate(lines, 1)]

    def rewind(self, step: int, log_every: int) -> int:
        """Forget what an uninterrupted run would not have at `step`; returns the step of the last row that it has.

        These are the rows and samples after it, which come again, and those of `step` itself if they are there only
        because the run stopped then: it logs every `log_every` steps.
        """

        def stays(at: int, every: int) -> bool:
            return at < step or (at == step and at % every == 0)

        sample_every = self.settings.sample_every  # as it was until now
        for name, every in ((DOCTOR, sample_every), (LOG, log_every)):
            rows = [row for row in self.rows(name) if stays(row["step"], every)]
            if (self.folder / name).exists():
                with self._writing():
                    self._write(name, "".join(json.dumps(row) + "\n" for row in rows))
        for path in self.samples():
            if not stays(int(path.stem), sample_every):
                with self._writing():
                    path.unlink()
        return rows[-1]["step"] if rows else 0

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
            if saved := self.checkpoints():
                mend = "free the disk" if error.errno in FULL else "mend that"
                remedy = f"{mend}, and go on from {saved[-1]} with --resume {quoted(self.folder)}"
            else:
                remedy = f"{'free the disk, or ' * (error.errno in FULL)}give another --out"
            raise UserError(f"{self.folder}: cannot be written ({error.strerror or error}): {remedy}") from error

    def _write(self, name: str, text: str) -> None:
        with replacing(self.folder / name) as file:
            file.write(text.encode(errors="backslashreplace"))  # of a name that is no text


def _row(where: str, line: bytes, fields: set[str]) -> dict:
    """The row that a line holds. Raises UserError unless it has the fields."""
    try:
        row = json.loads(line)
        if missing := fields - row.keys():
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except (ValueError, AttributeError) as error:  # the latter, of what has no fields at all
        raise UserError(f"{where}: broken ({error}): delete it, or the file") from error
    return row
