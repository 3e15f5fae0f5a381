"""All runs at a glance:  python -m minigan.runs runs/

Everything is read from the runs' folders (docs/run-folder.md), while they train or after; nothing is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from minigan.command import run_command
from minigan.errors import UserError
from minigan.options import Parser
from minigan.run import DOCTOR, Run

ABOUT = """\
state     training, with its process number; done; stopped (before its time, by
          Ctrl-C); diverged (its numbers were not finite any more); killed (or
          ended by an error: go on with --resume); or imported (see
          minigan.import)
img/s     pictures a second, and both losses, in the last row of the log
best      the smallest distance between generated and real pictures that the
          doctor measured, and at which step; see minigan/doctor.py
written   how long ago the run wrote last

A narrow terminal leaves columns out; --json never does.
"""
GAP = "  "  # between columns


@dataclasses.dataclass
class Summary:
    """What a folder says of its run; None where it does not say (yet)."""

    name: str
    state: str
    written: float  # seconds since the epoch of the clock, 1970
    process: int | None = None  # that trains in it now
    preset: str | None = None
    step: int | None = None
    epoch: float | None = None
    epochs: int | None = None  # asked for
    images_per_second: float | None = None
    d_loss: float | None = None
    g_loss: float | None = None
    best: float | None = None
    best_step: int | None = None


def summary(folder: Path) -> Summary:
    """What is known of the run in `folder`. Raises UserError if it is broken, or no run's."""
    run = Run.open(folder)
    try:
        process, rows = run.trained_by(), run.rows()
        last = rows[-1] if rows else {}
        visits = [row for row in run.rows(DOCTOR) if "distance" in row["measures"]]
        scores = [(row["measures"]["distance"], row["step"]) for row in visits]
        best, best_step = min(scores, default=(None, None))
        return Summary(
            name=folder.resolve().name,
            state="training" if process else run.about.get("outcome", "stopped") or "killed",
            written=max(path.stat().st_mtime for path in folder.iterdir()),
            process=process,
            preset=run.settings.preset,
            epochs=run.settings.epochs,
            best=best,
            best_step=best_step,
            **{name: last.get(name) for name in ("step", "epoch", "images_per_second", "d_loss", "g_loss")},
        )
    except (OSError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: broken ({error}): leave it out, or begin a new run") from error


def summaries(folder: Path) -> tuple[list[Summary], list[tuple[str, str]]]:
    """The runs in `folder`, or the one that it is itself, the last written first; and (name, reason) of other folders.

    Raises
    ------
    UserError: it is no folder that can be read.
    """
    try:
        inside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}): give the folder that holds runs") from error
    found, others = [], []
    for path in [folder] if (folder / "config.json").exists() else inside:
        try:
            found.append(summary(path))
        except UserError as error:
            others.append((path.name, str(error)))
    return sorted(found, key=lambda run: run.written, reverse=True), others


# ---- the table ---------------------------------------------------------------


def _age(seconds: float) -> str:
    """In the largest unit that fills."""
    size, unit = next(pair for pair in ((86400, "d"), (3600, "h"), (60, "min"), (0, "s")) if seconds >= pair[0])
    return f"{seconds // (size or 1):.0f} {unit}"


def _cells(run: Summary) -> dict[str, str]:
    """What the table says of a run, by the titles of its columns."""

    def text(form: str, *values) -> str:
        return "-" if None in values else form.format(*values)

    return {
        "run": run.name,
        "state": text("training {}", run.process) if run.process else run.state,
        "preset": run.preset,
        "step": text("{:,}", run.step),
        "epoch": text("{:.1f}/{}" if run.epochs else "{:.1f}", run.epoch, *([run.epochs] if run.epochs else [])),
        "img/s": text("{:,.0f}", run.images_per_second),
        "loss D": text("{:.2f}", run.d_loss),
        "loss G": text("{:.2f}", run.g_loss),
        "best": text("{:.3f} at {:,}", run.best, run.best_step),
        "written": f"{_age(max(0, time.time() - run.written))} ago",
    }


LEFT = ("run", "state", "preset")  # are words, flush left
# The most wanted first:
WANTED = ("run", "state", "step", "loss D", "loss G", "written", "best", "img/s", "epoch", "preset")


def table(found: list[Summary], width: int) -> str:
    """A line for each run, below one of titles. Columns that have no room in `width` characters are left out."""
    rows = [_cells(run) for run in found]
    widths = {title: max(len(title), *(len(row[title]) for row in rows)) for title in rows[0]}
    shown = list(WANTED)
    while len(shown) > 1 and sum(widths[title] + len(GAP) for title in shown) - len(GAP) > width:
        shown.pop()

    def line(row: Mapping[str, str]) -> str:
        cells = [f"{row[title]:{'<' if title in LEFT else '>'}{widths[title]}}" for title in widths if title in shown]
        return GAP.join(cells).rstrip()[:width]

    return "\n".join(map(line, [dict(zip(widths, widths, strict=True)), *rows]))


def runs(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(
        prog="python -m minigan.runs",
        description="List the runs in a folder, the last written first.",
        epilog=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folder", type=Path, nargs="?", default=Path("runs"), metavar="FOLDER", help="that holds them (default runs)")
    add("--json", action="store_true", help="print each run as a JSON object on a line")
    given = parser.parse_args(arguments)

    found, others = summaries(given.folder)
    if given.json:
        for run in found:
            print(json.dumps(dataclasses.asdict(run)))
        for name, reason in others:
            print(json.dumps({"name": name, "state": "broken", "reason": reason}))
        return
    if found:
        print(table(found, shutil.get_terminal_size((10**6, 24)).columns))
    else:
        print(f"no runs in {given.folder}: python -m minigan.train begins one")
    for _, reason in others:
        print(f"not listed: {reason}")


if __name__ == "__main__":
    run_command(runs)
