"""--verify-resume: it proves that nothing is lost, on every device, and it would see the least that was."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from conftest import device_or_skip
from soak_kill import soak

from minigan import checkpoint, options, train, verify_resume
from minigan.checkpoint import Checkpoint
from minigan.errors import UserError
from minigan.run import FIELDS, LOG, Run
from minigan.verify_resume import Different, compare

ROW = dict.fromkeys(FIELDS[LOG], 0.1)
SMALL = ("--preset", "tiny32", "--size", "16", "--batch-size", "4", "--z-dim", "8")


def in_this_process(*arguments: object) -> None:
    """The command as it is in a process of its own, but sooner."""
    train.train(list(map(str, arguments)))


@pytest.mark.parametrize("name", ["cpu", "emulated", "cuda"])  # those that a run can have
def test_a_resumed_run_is_the_uninterrupted_one_on_every_device(name, capsys, monkeypatch):
    """The command itself, and what it says that it has compared; on the CPU as it is, in processes of their own."""
    device_or_skip(name)
    monkeypatch.setattr(train, "FACES", 16)
    if name != "cpu":
        monkeypatch.setattr(verify_resume, "_train", in_this_process)
    train.train([*SMALL, "--device", name, "--verify-resume"])
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"verified  on {name} a resumed run is the uninterrupted one, to the bit"
    assert "verifying with 12 of the pictures, in a temporary folder" in said
    assert "equal     checkpoints of steps 3, 6, with every counter; in each" in said
    parts = [re.match(r"equal +(\w+), [\d,]+ numbers$", line)[1] for line in said if line.endswith("numbers")]
    assert sorted(parts) == ["adam_d", "adam_g", "discriminator", "fixed", "generator"]
    assert any(line.startswith("equal     samples of steps 0, 1, 2, 3, 4, 5, 6, ") for line in said)
    assert "equal     log.jsonl of steps 6, but for what is measured" in said


def test_a_difference_ends_it_with_status_1(capsys, monkeypatch):
    """A second run that is not quite the first, by a learning rate, is found out."""
    settings = options.new_settings(options.parse([*SMALL, "--device", "cpu"]))
    made = []

    def slipping(*arguments):
        made.append(arguments)
        in_this_process(*arguments, *(["--lr-g", settings.lr_g * 1.001] if len(made) == 2 else []))

    monkeypatch.setattr(verify_resume, "_train", slipping)
    images = np.zeros((12, 16, 16, 3), np.uint8)
    with pytest.raises(SystemExit) as end:
        verify_resume.verify_resume(settings, images, "cpu", None, False, options.parse([]).reporter())
    said = "minigan: on cpu a resumed run is not the uninterrupted one: checkpoint 00000003: "
    assert str(end.value.code).startswith(said)  # a text, which Python prints to stderr, and its status is 1
    assert "verified" not in capsys.readouterr().out


def test_a_run_that_cannot_be_made_says_why():
    """The line of the process that failed, not a verdict."""
    with pytest.raises(UserError, match=r"^a run to be compared failed: nowhere: no run's folder"):
        verify_resume._train("--resume", "nowhere")


@pytest.fixture
def pair(tmp_path) -> tuple[Run, Run]:
    """Two equal runs, made by hand."""
    one = Run.create(tmp_path / "one", options.new_settings(options.parse([])), {}, [])
    for step in (3, 6):
        arrays = {"generator.w": np.arange(12, dtype=np.float32).reshape(3, 4), "adam_g.m": np.zeros(2, np.float32)}
        one.save_checkpoint(step, arrays, {"step": step, "noise": 2**70, "seconds": step / 7})
        one.save_sample(step, np.full((1, 16, 16, 3), step / 10, np.float32))
        one.log({**ROW, "step": step, "seconds": step / 7})
        one.log({"step": step, "measures": {}, "notes": []}, "doctor.jsonl")
    return one, Run.open(shutil.copytree(one.folder, tmp_path / "other"))


def resaved(run: Run, change: Callable[[Checkpoint], object]) -> None:
    """The newest checkpoint, changed, with a sum that is right."""
    saved = run.newest_checkpoint()
    change(saved)
    checkpoint.save(saved.path, saved.arrays, saved.state)


def logged(run: Run, **changes) -> None:
    """The log, its last row changed."""
    *rows, last = run.rows()
    text = "".join(json.dumps(row) + "\n" for row in [*rows, {**last, **changes}])
    (run.folder / "log.jsonl").write_text(text)


def test_what_is_measured_may_differ(pair):
    """Seconds, speed and memory are the machine's. All else is equal, and is counted."""
    one, other = pair
    resaved(other, lambda saved: saved.state.update(seconds=99))
    logged(other, seconds=99, images_per_second=3, memory_mib=5)
    size = sum(len(path.read_bytes()) for path in one.samples())
    assert compare(one, other) == [
        "checkpoints of steps 3, 6, with every counter; in each",
        "  adam_g, 2 numbers",
        "  generator, 12 numbers",
        f"samples of steps 3, 6, {size:,} bytes",
        "doctor.jsonl of steps 3, 6, but for what is measured",
        "log.jsonl of steps 3, 6, but for what is measured",
    ]


def nudged(run: Run) -> None:
    """One weight becomes the next number that there is."""
    saved = run.newest_checkpoint()
    w = saved.arrays["generator.w"]
    w[1, 2] = np.nextafter(w[1, 2], np.float32(np.inf))
    checkpoint.save(saved.path, saved.arrays, saved.state)


DIFFERENCES = {
    nudged: "checkpoint 00000006: generator.w: 1 of 12 numbers, the first at (1, 2), where 6.0 and 6.0000005 stand",
    lambda run: resaved(run, lambda saved: np.copyto(saved.arrays["adam_g.m"], -0.0)): (
        "checkpoint 00000006: adam_g.m: 2 of 2 numbers, the first at (0,), where 0.0 and -0.0 stand"
    ),
    lambda run: resaved(run, lambda saved: saved.arrays.pop("adam_g.m")): "checkpoint 00000006: names of tensors",
    lambda run: resaved(run, lambda saved: saved.state.update(noise=1)): f"checkpoint 00000006: noise {2**70} and 1",
    lambda run: run.checkpoints()[0].unlink(): "checkpoints, of steps [3, 6] and [6]",
    lambda run: run.samples()[0].unlink(): "samples, of steps [3, 6] and [6]",
    lambda run: run.save_sample(6, np.zeros((1, 16, 16, 3), np.float32)): "samples/000006.png: other bytes",
    lambda run: logged(run, d_loss=0.1 + 2**-56): "log.jsonl, step 6: d_loss 0.1 and 0.10000000000000002",
    lambda run: logged(run, step=7): "log.jsonl, rows of steps [3, 6] and [3, 7]",
    lambda run: run.log({"step": 9, "measures": {}, "notes": []}, "doctor.jsonl"): (
        "doctor.jsonl, rows of steps [3, 6] and [3, 6, 9]"
    ),
    lambda run: run.log({**ROW, "step": 9}): "log.jsonl, rows of steps [3, 6] and [3, 6, 9]",
}


@pytest.mark.parametrize("change", DIFFERENCES)
def test_the_least_difference_is_found(pair, change):
    """One bit of a weight, the sign of a zero, a counter, a pixel, a row: it is named with what stands on each side."""
    one, other = pair
    change(other)
    with pytest.raises(Different) as difference:
        compare(one, other)
    assert str(difference.value).startswith(DIFFERENCES[change])


def test_killed_trainings_end_as_one_that_nobody_killed(tmp_path, seed, capsys):
    """kill -9, twice, by the clock or before a file is touched; `python -m tests.soak_kill` does it 50 times."""
    soak(tmp_path, kills=2, epochs=8, seed=seed, say=print)
    assert re.search(r"run \d+ has ended as the one that nobody killed, to the bit\n$", capsys.readouterr().out)
