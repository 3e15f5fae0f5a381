"""A run's folder: whatever a disk or a killed process makes of it, what was good before is there, and is found."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minigan import checkpoint, options, pictures
from minigan.checkpoint import FORMAT, Newer
from minigan.errors import UserError
from minigan.run import FIELDS, LOG, Run, free_folder

ROW = dict.fromkeys(FIELDS[LOG], 0.5) | {"step": 20}
VISIT = {"step": 0, "measures": {}, "notes": []}
SETTINGS = options.new_settings(options.parse(["--sample-every", "2"]))
IMAGES = np.zeros((1, 16, 16, 3), np.float32)


@pytest.fixture
def run(tmp_path) -> Run:
    """A new run."""
    return Run.create(tmp_path / "run", SETTINGS, {}, [])


def saved(run: Run, *steps: int) -> list[Path]:
    """Checkpoints of these steps, of a few numbers each."""
    return [run.save_checkpoint(step, {"w": np.full(9, step, np.float32)}, {"step": step}) for step in steps]


def files(run: Run) -> list[str]:
    return sorted(path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file())


# ---- checkpoints -------------------------------------------------------------


DAMAGES = (  # of bytes, at a place, over a length
    lambda content, at, length: content[:at] + bytes([content[at] ^ 1 << length % 8]) + content[at + 1 :],  # a bit
    lambda content, at, length: content[:at],  # the end is missing
    lambda content, at, length: content[:at] + content[at + length :],  # some are missing inside
    lambda content, at, length: content[:at] + bytes(len(content[at : at + length])) + content[at + length :],  # zeros
)


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    while True:  # zeros may have been zeros
        damage = DAMAGES[random.integers(len(DAMAGES))]
        result = damage(content, int(random.integers(len(content))), int(random.integers(1, 100)))
        if result != content:
            return result


def test_whatever_happens_to_a_checkpoint_the_one_before_it_is_used(run, seed, capsys):
    """Bits flipped, bytes missing or zero, in any two checkpoints: each is named, and so is the one that is used."""
    good, *later = saved(run, 1, 2, 3)
    contents = {path: path.read_bytes() for path in later}
    random = np.random.default_rng(seed)
    for _ in range(200):
        for path, content in contents.items():
            path.write_bytes(damaged(content, random))
        found = run.newest_checkpoint()
        assert (found.path, found.state, found.arrays["w"].tolist()) == (good, {"step": 1}, [1.0] * 9)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        for line, path in zip(lines, reversed(later), strict=True):
            assert line.startswith(f"minigan: {path}: not a whole checkpoint (")
            assert line.endswith(f"): {good.name} is used instead")


def test_a_broken_checkpoint_keeps_no_good_one_from_staying(run):
    """Where a run goes on from an earlier one, those that were broken are not counted among the newest."""
    _, broken = saved(run, 4, 9)
    broken.write_bytes(b"")
    (newest,) = saved(run, 6)
    run.keep_checkpoints(6, newest=1, every=None)
    assert run.checkpoints() == [newest, broken]
    assert run.newest_checkpoint().path == newest


def test_a_copy_under_a_name_of_its_own_is_none_of_the_run_s(run):
    """Somebody keeps a checkpoint and a sample: the run finds its own, by their steps, and lets those be."""
    *_, newest = saved(run, 2, 10)
    samples = [run.save_sample(step, IMAGES) for step in (2, 10**6, 999)]
    for path in (newest, samples[0]):
        path.with_stem("best").write_bytes(path.read_bytes())
    assert [int(path.stem) for path in run.checkpoints()] == [2, 10]
    assert [int(path.stem) for path in run.samples()] == [2, 999, 10**6]
    assert run.newest_checkpoint().path == newest
    run.keep_checkpoints(10, newest=1, every=None)
    run.rewind(1, 20)
    names = ("checkpoints/00000010.safetensors", "checkpoints/best.safetensors", "samples/best.png")
    assert files(run) == sorted([*names, "checkpoints/lock", "config.json"])


def test_a_step_without_a_checkpoint_is_told_of_those_that_have_one(run):
    """Step 0, which an imported run has, is one of them."""
    saved(run, 0, 10)
    with pytest.raises(UserError, match=r"holds no checkpoint of step 3: give one of 0, 10$"):
        run.checkpoint_at(3)
    assert run.checkpoint_at(0).state == {"step": 0}


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("done", "any more: put one back"),
        ("stopped", "any more: put one back"),
        ("imported", "any more: put one back"),
        ("diverged", "yet: train it first"),
        (None, "yet: train it first"),
    ],
)
def test_a_run_without_a_checkpoint_says_whether_it_has_had_one(run, outcome, said):
    """One that has ended in a way that leaves one has lost it; another has none yet."""
    if outcome:
        run.end(outcome)
    with pytest.raises(UserError, match=f"holds no checkpoint {said}"):
        Run.open(run.folder).newest_checkpoint()


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(("code", "mend"), [(errno.EIO, "mend that"), (errno.ENOSPC, "free the disk")])
def test_a_disk_that_fails_leaves_the_checkpoint_before(run, monkeypatch, call, code, mend):
    """A sync or a renaming that fails: one line that says from where to go on, and nothing unfinished is left."""
    (good,) = saved(run, 1)
    before = files(run)

    def fail(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(UserError) as error:
            saved(run, 2)
    assert str(error.value) == (
        f"{run.folder}: cannot be written ({os.strerror(code)}): "
        f"{mend}, and go on from {good} with --resume {run.folder}"
    )
    assert files(run) == before
    assert run.newest_checkpoint().path == good


def test_a_newer_minigans_run_is_not_guessed_at(run, monkeypatch):
    """Neither its config.json nor its checkpoint, and no earlier checkpoint is taken in its place."""
    saved(run, 1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", FORMAT + 1)
        (newest,) = saved(run, 2)
    with pytest.raises(Newer) as error:
        run.newest_checkpoint()
    assert str(error.value).startswith(f"{newest}: of format {FORMAT + 1}, and this minigan knows up to {FORMAT}: ")
    config = run.folder / "config.json"
    about = json.loads(config.read_text())
    config.write_text(json.dumps({**about, "format": FORMAT + 1, "settings": {"unheard": "of"}}))
    with pytest.raises(Newer) as error:
        Run.open(run.folder)
    assert str(error.value).startswith(f"{config}: of format {FORMAT + 1}, and this minigan knows up to {FORMAT}: ")


def test_the_first_runs_can_still_be_opened(run):
    """Their config.json says no format, and lacks the settings of later days."""
    config = run.folder / "config.json"
    about = json.loads(config.read_text())
    assert about.pop("format") == FORMAT
    for name in ("conv", "fusion", "keep", "archive_every"):
        del about["settings"][name]
    config.write_text(json.dumps(about))
    assert Run.open(run.folder).settings == SETTINGS


# ---- the log and the samples -------------------------------------------------


@pytest.mark.parametrize(("side", "scale"), [(16, 4), (64, 1), (128, 1)])
def test_small_samples_are_enlarged_and_large_ones_are_as_they_are(run, side, scale):
    """Up to 64 pixels on a side, by a whole number: each pixel is there."""
    images = np.linspace(-1, 1, side * side * 3, dtype=np.float32).reshape(1, side, side, 3)
    with Image.open(run.save_sample(0, images)) as sample:
        np.testing.assert_array_equal(np.asarray(sample), np.asarray(pictures.grid(images, scale=scale)))


def test_the_newest_sample_and_weights_are_named(run):
    """Of several; and of what is not there, nothing."""
    assert run.places() == {"folder": run.folder}
    weights, samples = saved(run, 1, 2), [run.save_sample(step, IMAGES) for step in (1, 2)]
    run.log(ROW)
    log = run.folder / "log.jsonl"
    assert run.places() == {"folder": run.folder, "samples": samples[-1], "weights": weights[-1], "log": log}


def test_a_skipped_picture_is_one_line(run):
    """Whatever its name holds: a line break is escaped."""
    run.name_skipped([("a\nb.png", "broken"), ("c.png", "empty")])
    assert (run.folder / "skipped.txt").read_text() == "a\\nb.png: broken\nc.png: empty\n"


@pytest.mark.parametrize("rest", ['{"st', '{"step": 40, "d_loss": 0.5}', "", "\0\0\0", "\xe4"])
def test_half_a_line_at_the_end_of_the_log_is_none(run, rest):
    """What a killed process or a full disk has cut is no row, and going on forgets it; a broken line is named."""
    run.log(ROW)
    path = run.folder / "log.jsonl"
    with path.open("ab") as file:
        file.write(rest.encode("latin-1"))
    assert run.rows() == [ROW]
    run.rewind(30, 20)
    run.log({**ROW, "step": 40})
    assert run.rows() == [ROW, {**ROW, "step": 40}]
    path.write_bytes(b'{"st\n' + path.read_bytes())
    with pytest.raises(UserError, match="broken"):
        run.rows()


def test_going_back_is_to_where_nothing_was_stopped(run):
    """Rows and samples after the step go, and at the step itself those of a run that had only stopped there."""
    for step in (20, 40, 45, 60):
        run.log({**ROW, "step": step})
    for step in (0, 7, 10, 45, 46):  # the 7th is of a time when it drew another number of them
        run.save_sample(step, IMAGES)
        run.log({**VISIT, "step": step}, "doctor.jsonl")
    assert run.rewind(45, 20) == 40
    assert [row["step"] for row in run.rows()] == [20, 40]
    assert [row["step"] for row in run.rows("doctor.jsonl")] == [0, 7, 10]
    assert [int(path.stem) for path in run.samples()] == [0, 7, 10]
    assert run.rewind(40, 20) == 40
    assert run.rewind(10, 20) == 0
    assert [int(path.stem) for path in run.samples()] == [0, 7, 10]


def test_a_row_is_synced_before_a_checkpoint(run, monkeypatch):
    """So that a log is never behind the checkpoint that a run goes on from; and not each row, for which a disk
    may take as long as several quick steps."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    run.log(ROW)
    run.log(ROW)
    run.log(VISIT, "doctor.jsonl")
    assert synced == []
    (path,) = saved(run, 1)
    assert synced == [(run.folder / name).stat().st_size for name in ("log.jsonl", "doctor.jsonl", path)]


# ---- killed processes --------------------------------------------------------


def test_what_killed_runs_leave_does_not_pile_up(run):
    """The next one removes their unfinished files: its own folder's only, and not before it is alone there."""
    saved(run, 1)
    before = files(run)
    for name in ("config.json", "log.jsonl", "samples/000000.png", "checkpoints/00000002.safetensors"):
        (run.folder / f"{name}.0123abcd.tmp").write_text("half of it")
    (run.folder / "faces").mkdir()
    (run.folder / "faces/00000.png.0123abcd.tmp").write_text("another command's")
    unfinished = files(run)
    with subprocess.Popen([sys.executable, "-c", HOLD, run.folder], stdout=subprocess.PIPE) as other:
        other.stdout.readline()  # it is alone now
        for name in unfinished:
            (run.folder / name).touch()
        with pytest.raises(UserError, match=f"process {other.pid} is training in it"), run.alone():
            pass
        assert sorted({*files(run)} - {"checkpoints/process"}) == unfinished
        other.send_signal(signal.SIGKILL)
    assert (run.folder / "checkpoints/process").read_text() == str(other.pid)  # it could not tidy up
    with run.alone():
        assert (run.folder / "checkpoints/process").read_text() == str(os.getpid())
    assert files(run) == sorted([*before, "faces/00000.png.0123abcd.tmp"])


def test_a_process_whose_number_cannot_be_read_is_unknown(run):
    """Where a disk has lost it, another process is told so, and a list of runs does not break."""
    path = run.folder / "checkpoints/process"
    with run.alone():
        assert run.trained_by() == os.getpid()
        for lost in (b"", b"\xff\0"):
            path.write_bytes(lost)
            assert run.trained_by() is None
            with pytest.raises(UserError, match="process unknown is training in it"), Run.open(run.folder).alone():
                pass


HOLD = """
import pathlib, sys, time
from minigan.run import Run
with Run.open(pathlib.Path(sys.argv[1])).alone():
    print(flush=True)
    time.sleep(60)
"""


def test_a_run_that_was_killed_as_it_began_leaves_its_folder_free(tmp_path):
    """Without a config.json it was none yet; but any other file is somebody's."""
    folder = tmp_path / "run"
    for name in ("samples", "checkpoints"):
        (folder / name).mkdir(parents=True)
    for name in ("checkpoints/lock", "checkpoints/process", "config.json.0123abcd.tmp"):
        (folder / name).write_text("1")
    Run.create(folder, SETTINGS, {}, [])
    assert files(Run.open(folder)) == ["checkpoints/lock", "config.json"]
    with pytest.raises(UserError, match="holds files already"):
        Run.create(folder, SETTINGS, {}, [])


def test_of_two_runs_that_begin_in_one_folder_one_is_refused(tmp_path, monkeypatch):
    """The other one has come between the look whether it is free and the lock: its config.json stays."""

    def free_then_taken(folder):
        folder.mkdir()
        (folder / "config.json").write_text("another's")

    monkeypatch.setattr("minigan.run.free_folder", free_then_taken)
    with pytest.raises(UserError, match="another run has just begun in it"):
        Run.create(tmp_path / "run", SETTINGS, {}, [])
    assert (tmp_path / "run/config.json").read_text() == "another's"


@pytest.mark.parametrize("name", ["a/b/mine", "notes.tmp", "notes.0123.tmp", "lock", "a/process", "a/checkpoints/lock"])
def test_a_file_of_somebody_s_own_is_not_taken_for_what_a_run_left(tmp_path, name):
    """Whatever it is called, at whatever depth: the folder is not free, and the file stays."""
    path = tmp_path / "other" / name
    path.parent.mkdir(parents=True)
    free_folder(tmp_path / "other")
    path.write_text("")
    with pytest.raises(UserError, match="holds files already"):
        Run.create(tmp_path / "other", SETTINGS, {}, [])
    assert path.exists()


def test_a_run_removes_no_file_of_somebody_s_own(run):
    """What came into its folder later and ends in .tmp, but not as an unfinished file does."""
    for name in ("notes.tmp", "checkpoints/notes.01234567.TMP", "samples/notes.0123.tmp"):
        (run.folder / name).write_text("")
    before = files(run)
    with run.alone():
        pass
    assert files(run) == before
