"""See for yourself that nothing is lost:  python -m minigan.train --verify-resume

Two short runs are made by the command itself, each process a new one, in a temporary folder and on a few of the
pictures: one of two epochs, and one of one epoch that is then resumed. What they leave must be equal to the bit.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TypeVar

import numpy as np

from minigan import checkpoint, options, pictures
from minigan.errors import UserError
from minigan.options import Settings
from minigan.progress import MEASURED
from minigan.reporter import Reporter
from minigan.run import DOCTOR, LOG, Run

__all__ = ["Different", "compare", "verify_resume"]

EPOCHS = 2  # are enough: the second begins with another order of the pictures
STEPS = 3  # an epoch

T = TypeVar("T")


class Different(Exception):
    """The first thing in which two runs differ."""


def verify_resume(
    settings: Settings, images: np.ndarray, device: str, threads: int | None, graph: bool, reporter: Reporter
) -> None:
    """Make the two runs, compare them, and say so. If they differ, it ends the program with status 1, and says where.

    settings: of the training that is meant, but for its length. images: uint8 (M,H,W,C). device: its name.
    threads, graph: what a run does not keep.

    Raises
    ------
    UserError: a run could not be made.
    """
    with tempfile.TemporaryDirectory(prefix="minigan-") as name:
        straight, resumed, source = (Path(name, part) for part in ("straight", "resumed", "pictures.zip"))
        few = images[: STEPS * settings.batch_size]
        write_zip(few, source)
        settings = dataclasses.replace(
            settings, data=str(source), device=device, epochs=EPOCHS, minutes=None,
            save_every=1, sample_every=1, keep=EPOCHS, archive_every=None,
        )  # fmt: skip
        begin = options.said(settings)
        half, session = EPOCHS // 2, ["--graph" if graph else "--no-graph"]
        if threads is not None:
            session.append(f"--threads={threads}")
        reporter.say("verifying", f"with {len(few):,} of the pictures, in a temporary folder", pictures=len(few))
        _train(*begin, *session, "--out", straight)
        reporter.say("straight", f"--epochs {EPOCHS}")
        _train(*begin, *session, "--out", resumed, "--epochs", half)
        _train("--resume", resumed, *session, "--epochs", EPOCHS)
        reporter.say("resumed", f"--epochs {half}, then --resume --epochs {EPOCHS}")
        try:
            equal = compare(Run.open(straight), Run.open(resumed))
        except Different as difference:
            reporter.say("verified", equal=False, difference=str(difference))
            sys.exit(f"minigan: on {device} a resumed run is not the uninterrupted one: {difference}")
    for line in equal:
        reporter.say("equal", line, what=line)
    reporter.say("verified", f"on {device} a resumed run is the uninterrupted one, to the bit", equal=True)


def compare(one: Run, other: Run) -> list[str]:
    """What is equal, to the bit, in what two runs left: checkpoints, samples and rows, but for what is measured.

    Raises
    ------
    Different: at the first thing that is not equal.
    UserError: what a run left is broken.
    """
    return [
        *_compare_checkpoints(one, other),
        _compare_samples(one, other),
        *(_compare_rows(name, one, other) for name in (DOCTOR, LOG)),
    ]


def _compare_checkpoints(one: Run, other: Run) -> list[str]:
    steps = _same("checkpoints, of steps", *(_steps(run.checkpoints()) for run in (one, other)))
    for paths in zip(one.checkpoints(), other.checkpoints(), strict=True):
        first, second = map(checkpoint.load, paths)
        at = f"checkpoint {paths[0].stem}:"
        _same(f"{at} names of tensors", sorted(first.arrays), sorted(second.arrays))
        for name, array in first.arrays.items():
            _same_bits(f"{at} {name}", array, second.arrays[name])
        _same_items(at, first.state, second.state)
    numbers = collections.Counter()  # by the part of the game, generator or adam_d
    for name, array in first.arrays.items():
        numbers[name.partition(".")[0]] += array.size
    return [
        f"checkpoints of steps {_listed(steps)}, with every counter; in each",
        *(f"  {part}, {count:,} numbers" for part, count in numbers.items()),
    ]


def _compare_samples(one: Run, other: Run) -> str:
    steps, total = _same("samples, of steps", *(_steps(run.samples()) for run in (one, other))), 0
    for first, second in zip(one.samples(), other.samples(), strict=True):
        if first.read_bytes() != second.read_bytes():
            raise Different(f"samples/{first.name}: other bytes")
        total += first.stat().st_size
    return f"samples of steps {_listed(steps)}, {total:,} bytes"


def _compare_rows(name: str, one: Run, other: Run) -> str:
    steps = _same(f"{name}, rows of steps", *([row["step"] for row in run.rows(name)] for run in (one, other)))
    for first, second in zip(one.rows(name), other.rows(name), strict=True):
        _same_items(f"{name}, step {first['step']}:", first, second)
    return f"{name} of steps {_listed(steps)}, but for what is measured"


def _same(what: str, first: T, second: T) -> T:
    if first != second:
        raise Different(f"{what} {first} and {second}")
    return first


def _same_items(what: str, first: dict, second: dict) -> None:
    for name in first | second:
        if name not in MEASURED:
            _same(f"{what} {name}", first.get(name), second.get(name))


def _same_bits(what: str, first: np.ndarray, second: np.ndarray) -> None:
    _same(what, f"{first.dtype} {first.shape}", f"{second.dtype} {second.shape}")
    bits = f"u{first.itemsize}"  # whole numbers: as such, NaN is NaN, and 0 is not -0
    if len(wrong := np.argwhere(first.view(bits) != second.view(bits))):
        at = tuple(wrong[0].tolist())
        count = f"{len(wrong):,} of {first.size:,} numbers"
        raise Different(f"{what}: {count}, the first at {at}, where {first[at]!s} and {second[at]!s} stand")


def _steps(paths: list[Path]) -> list[int]:
    return [int(path.stem) for path in paths]


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))


def write_zip(images: np.ndarray, path: Path) -> Path:
    """A .zip of pictures, uint8 (M,H,W,C), without loss. It has no date: of the same ones the cache has it already."""
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in enumerate(images):
            file = io.BytesIO()
            pictures.grid(image[None], pad=0).save(file, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{i:06d}.png"), file.getvalue())
    os.utime(path, (0, 0))
    return path


def _train(*arguments: object) -> None:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "minigan.train", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}"
        raise UserError(f"a run to be compared failed: {last.removeprefix('minigan: error: ')}")
