"""TensorBoard's files hold what the log and the samples hold, of a resumed run too."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refused

from minigan import train
from minigan.run import Run

SMALL = ["--preset", "tiny32", "--size", "16", "--batch-size", "4", "--z-dim", "8", "--device", "cpu", "--out", "run"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> None:
    """An empty folder to run commands in; three batches an epoch, and a row every other step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "FACES", 12)
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    monkeypatch.setattr(Run, "plot", lambda run: None)


def events(folder: Path) -> list:
    """What a reader of all files of a folder is left with.

    A record is its length (8 bytes), that one's checksum (4), the event, and the event's checksum (4). A session that
    starts at a step takes back what was said before of this step and of later ones.
    """
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found = []
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += length + 16
            if event.session_log.status == SessionLog.START:
                found = [earlier for earlier in found if earlier.step < event.step]
            if event.HasField("summary"):
                found.append(event)
        assert at == len(content)
    return found


def assert_log_and_samples(run: Run, samples: list[int]) -> None:
    """Each number of each row, rounded to float32, once; and these samples' very bytes, once."""
    scalars, pictures = {}, {}
    for event in events(run.folder / "tensorboard"):
        for value in event.summary.value:
            kind, content = (pictures, value.image) if value.HasField("image") else (scalars, value.simple_value)
            assert (event.step, value.tag) not in kind
            kind[event.step, value.tag] = content
    assert scalars == {
        (row["step"], name): np.float32(value)
        for row in run.rows()
        for name, value in row.items()
        if name != "step" and value is not None
    }
    assert {step: picture.encoded_image_string for (step, _), picture in pictures.items()} == {
        step: (run.folder / "samples" / f"{step:06d}.png").read_bytes() for step in samples
    }
    assert {(p.width, p.height, p.colorspace) for p in pictures.values()} == {(8 * 66 + 2, 8 * 66 + 2, 3)}


def test_event_files_hold_the_log_and_the_samples():
    """As TensorBoard will read them. A resumed run writes on without being told, and says no step twice.

    By the clock it stops after step 1, where neither a row nor a sample is due; after step 3 a sample is, but no row.
    Going on takes back what is not due, as the log does, and ends where an uninterrupted run does.
    """
    pytest.importorskip("tensorboardX")
    train.train([*SMALL, "--tensorboard", "--minutes", "1e-4", "--sample-every", "3"])
    assert_log_and_samples(Run.open(Path("run")), [0, 1])
    for epochs, samples in (("1", [0, 3]), ("2", [0, 3, 6])):
        train.train(["--resume", "run", "--epochs", epochs])
        assert_log_and_samples(Run.open(Path("run")), samples)
    train.train(["--resume", "run", "--epochs", "3", "--no-tensorboard"])
    assert max(event.step for event in events(Path("run/tensorboard"))) == 6


def test_without_the_package_it_says_what_to_install(capsys, monkeypatch):
    """In one line, before anything is written."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    line = refused(capsys, train.train, *SMALL, "--tensorboard")
    assert "--tensorboard: needs tensorboardX (" in line
    assert "pip install 'minigan[tensorboard]'" in line
    assert not Path("run").exists()


def test_a_disk_that_refuses_is_one_line(capsys, monkeypatch):
    """The event file is a result like any other: if it cannot be written, the run says so and stops."""
    pytest.importorskip("tensorboardX")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.flush", full)
    line = refused(capsys, train.train, *SMALL, "--tensorboard", "--epochs", "1")
    assert "--tensorboard: cannot be written (No space left on device): free the disk" in line
