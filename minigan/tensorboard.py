"""A run in TensorBoard:  python -m minigan.train --tensorboard,  and then  tensorboard --logdir runs/

Each row of the log becomes scalars under the log's own names, and each sample a picture, in RUN/tensorboard. Writing
takes the package tensorboardX (the extra `tensorboard`), of which only what makes the bytes is used: its usual writer
has a thread of its own, where an error of the disk would be lost.
"""

from __future__ import annotations

import time
from pathlib import Path

from PIL import Image

from minigan.errors import UserError
from minigan.files import writing
from minigan.run import Run

__all__ = ["TensorBoard"]


class TensorBoard:
    """A listener (see minigan.reporter) that writes what it hears of. Raises UserError if tensorboardX is missing."""

    def __init__(self):
        try:
            from tensorboardX import event_file_writer, proto
        except ImportError as error:
            raise UserError(
                f"--tensorboard: needs tensorboardX ({error}): pip install 'minigan[tensorboard]', or leave it out"
            ) from None
        self._open, self._event, self._summary = (
            event_file_writer.EventsWriter, proto.event_pb2.Event, proto.summary_pb2.Summary,
        )  # fmt: skip

    def __call__(self, event: str, facts: dict) -> None:
        """Write an event down, at once. Raises UserError if the disk refuses."""
        with writing("--tensorboard", "leave it out"):
            match event:
                case "run":
                    self._begin(Run.open(facts["folder"]), facts["step"])
                case "row":
                    values = {name: value for name, value in facts.items() if name != "step" and value is not None}
                    self._write(facts["step"], [{"tag": name, "simple_value": value} for name, value in values.items()])
                case "sample":
                    self._write(facts["step"], [{"tag": "sample", "image": _picture(facts["path"])}])
                case "end":
                    self._file.close()

    def _begin(self, run: Run, step: int) -> None:
        """A new file, which takes back what earlier ones say of `step` and after, but for what the run has kept."""
        folder = run.folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        self._file = self._open(str(folder / "events"), f".{time.time_ns()}")  # read in the order of their names
        self._file.write_event(self._event(wall_time=time.time(), step=step, session_log={"status": "START"}))
        self._file.flush()
        for row in run.rows():
            if row["step"] >= step:
                self("row", row)
        for path in run.samples():
            if int(path.stem) >= step:
                self("sample", {"step": int(path.stem), "path": path})

    def _write(self, step: int, values: list[dict]) -> None:
        summary = self._summary(value=values)
        self._file.write_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._file.flush()


def _picture(path: Path) -> dict:
    """A PNG, of which the file's own bytes are kept."""
    with Image.open(path) as image:
        width, height = image.size
        channels = len(image.getbands())
    return {"width": width, "height": height, "colorspace": channels, "encoded_image_string": path.read_bytes()}
