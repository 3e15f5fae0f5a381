"""The game, and the command around it: what a step does, what a run leaves behind, how it goes on, and how it ends."""

from __future__ import annotations

import errno
import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pytest
from commands import refused
from PIL import Image

import kernels
from kernels.conv2d import cpu as auto
from kernels.conv2d import direct
from kernels.threads import thread_count, use_threads
from minigan import checkpoint, command, data, faces, generate, options, pictures, progress, train
from minigan.autograd import Tensor, grad
from minigan.errors import UserError
from minigan.losses import discriminator_loss, generator_loss
from minigan.progress import MEASURED, Seldom
from minigan.run import Run
from minigan.steps import Steps
from minigan.table import layer_table

EPS = float(np.finfo(np.float32).eps)
REFERENCE = kernels.device("reference")
SMALL = ("--preset", "tiny32", "--size", "16", "--batch-size", "4", "--z-dim", "8")
PLOT_LOSSES = pictures.plot_losses
PICTURES, PER_EPOCH = 12, 3  # of the folder below: three batches of four


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of a dozen small pictures."""
    path = tmp_path_factory.mktemp("pictures") / "cats"
    path.mkdir()
    for i, face in enumerate(faces.draw(PICTURES, 16, "RGB", seed=1)):
        Image.fromarray(face).save(path / f"{i:02d}.png")
    return path


def settled(monkeypatch, path: Path) -> Path:
    """A new folder to run commands in, with a cache of its own, a row every other step, and no time spent on plots.

    Compiled kernels alone stay where they are: a process that a test starts need not compile them anew.
    """
    monkeypatch.setenv("NUMBA_CACHE_DIR", numba.config.CACHE_DIR)
    monkeypatch.setenv("XDG_CACHE_HOME", str(path / "cache"))
    (path / "here").mkdir()
    monkeypatch.chdir(path / "here")
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    monkeypatch.setattr(pictures, "plot_losses", lambda rows, path: None)
    return path / "here"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Where the test's commands run."""
    return settled(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def straight(folder, tmp_path_factory) -> Run:
    """A run of four epochs, never interrupted."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        here = settled(monkeypatch, tmp_path_factory.mktemp("straight"))
        return trained("--data", folder, "--epochs", 4, "--out", here / "run")


def small(*arguments) -> options.Settings:
    return options.new_settings(options.parse([*SMALL, *map(str, arguments)]))


def trained(*arguments) -> Run:
    """The run that the command makes with these options, in the folder `run` unless --out or --resume is among them."""
    arguments = list(map(str, arguments))
    if "--resume" not in arguments:
        arguments = [*SMALL, "--device", "cpu", *([] if "--out" in arguments else ["--out", "run"]), *arguments]
    train.train(arguments)
    return Run.open(Path(arguments[arguments.index("--resume" if "--resume" in arguments else "--out") + 1]))


def refusal(capsys, *arguments) -> str:
    return refused(capsys, train.train, *arguments)


def poisoned(monkeypatch, at: int, weight: float = np.nan) -> None:
    """From now on, some of G's weights turn into this one in the moves of that step."""
    step = train.Game.step

    def poisoned_step(game, real):
        scores = step(game, real)
        if game.step_count == at:
            game.g_parameters[0].data[0] = weight
        return scores

    monkeypatch.setattr(train.Game, "step", poisoned_step)


def asked_to_stop(monkeypatch, at: int, times: int = 1) -> None:
    """From now on Ctrl-C is pressed in that step."""
    step = train.Game.step

    def interrupted_step(game, real):
        if game.step_count + 1 == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return step(game, real)

    monkeypatch.setattr(train.Game, "step", interrupted_step)


# ---- the game ----------------------------------------------------------------


def bce(logits: Tensor, target: float) -> float:
    """The mean of -(t log p + (1 - t) log(1 - p)) with p = 1/(1 + exp(-l)), written out."""
    total = 0.0
    for logit in logits.numpy().ravel().tolist():
        p = 1 / (1 + math.exp(-logit))
        total -= target * math.log(p) + (1 - target) * math.log(1 - p)
    return total / logits.size


class LiteralAdam:
    """Kingma & Ba (2015), Algorithm 1, in float64, a parameter at a time."""

    def __init__(self, parameters: list[Tensor], lr: float, beta1: float):
        self.lr, self.beta1, self.t = lr, beta1, 0
        self.m = [np.zeros(p.shape) for p in parameters]
        self.v = [np.zeros(p.shape) for p in parameters]

    def moved(self, parameters: list[Tensor], gradients: list[Tensor]) -> list[np.ndarray]:
        self.t += 1
        result = []
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            g = g.numpy().astype(np.float64)
            self.m[i] = self.beta1 * self.m[i] + (1 - self.beta1) * g
            self.v[i] = 0.999 * self.v[i] + (1 - 0.999) * g * g
            m_hat, v_hat = self.m[i] / (1 - self.beta1**self.t), self.v[i] / (1 - 0.999**self.t)
            result.append(p.numpy() - self.lr * m_hat / (np.sqrt(v_hat) + 1e-8))
        return result


def assert_moved(parameters: list[Tensor], expected: list[np.ndarray], lr: float) -> None:
    """Bound: a rounding of the parameter, and at most 32 of the update, which is about lr."""
    for p, literal in zip(parameters, expected, strict=True):
        assert (np.abs(p.numpy() - literal) <= EPS * (np.abs(literal) + 32 * lr)).all()


def test_a_step_by_hand(seed):
    """One step against the same in plain words, three times over (Goodfellow et al. 2014, Algorithm 1).

    D sees real (against 1 - smoothing) and fake (against 0), d_loss is the sum, and D moves by Adam. G then plays
    against the D that has moved, wants its fakes to be taken for real (1), and moves with a learning rate of its own.
    D does not move again.
    """
    settings = small("--lr-g", 1e-3, "--lr-d", 3e-3, "--label-smoothing", 0.1, "--beta1", 0.6)
    game, twin = train.Game(settings, REFERENCE), train.Game(settings, REFERENCE)
    adam_d, adam_g = LiteralAdam(twin.d_parameters, 3e-3, 0.6), LiteralAdam(twin.g_parameters, 1e-3, 0.6)
    random = np.random.default_rng(seed)
    for _ in range(3):
        real = Tensor(random.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32), REFERENCE)
        scores = {name: t.item() for name, t in game.step(real).items()}

        fake = twin.generator(twin.draw_z(4, twin.noise))
        real_logits, fake_logits = twin.discriminator(real), twin.discriminator(fake)
        assert scores["d_loss"] == pytest.approx(bce(real_logits, 0.9) + bce(fake_logits, 0), rel=16 * EPS)
        assert scores["d_real"] == pytest.approx(np.mean(1 / (1 + np.exp(-real_logits.numpy()))), rel=16 * EPS)
        assert scores["d_fake"] == pytest.approx(np.mean(1 / (1 + np.exp(-fake_logits.numpy()))), rel=16 * EPS)
        d_loss_real, d_loss_fake = discriminator_loss(real_logits, fake_logits, 0.1)
        gradients = grad(d_loss_real + d_loss_fake, twin.d_parameters)
        assert_moved(game.d_parameters, adam_d.moved(twin.d_parameters, gradients), 3e-3)

        for mine, moved in zip(twin.d_parameters, game.d_parameters, strict=True):
            mine.data[...] = moved.data  # D has moved; G plays against this one
        logits = twin.discriminator(fake)
        assert scores["g_loss"] == pytest.approx(bce(logits, 1), rel=16 * EPS)
        gradients = grad(generator_loss(logits), twin.g_parameters)
        assert_moved(game.g_parameters, adam_g.moved(twin.g_parameters, gradients), 1e-3)
        for mine, moved in zip(twin.g_parameters, game.g_parameters, strict=True):
            mine.data[...] = moved.data


def test_devices_play_the_same_game(device, seed):
    """The losses and scores of three steps, from the same seed, are those of `reference`; there, bit for bit.

    Bound: a layer adds at most eps for each term of its longest sum, relative to values that batch norm keeps near 1.
    A step is behind both networks, forward and backward, and carries what the steps before it added.
    """
    terms = 2 * (4 * 4 * (8 + 64 + 32) + 4 * 4 * (3 + 32 + 64) + 2 * 4 * 8 * 8)  # convolutions; batch norm of 4x8x8
    games = [train.Game(small(), d) for d in (REFERENCE, device)]
    random = np.random.default_rng(seed)
    for step in range(1, 4):
        real = random.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
        expected, got = (
            [t.item() for t in game.step(Tensor(game.device.array(real), game.device)).values()] for game in games
        )
        tolerance = 0 if device is REFERENCE else step * terms * EPS
        assert got == pytest.approx(expected, rel=0, abs=tolerance)


def test_samples_come_from_the_same_z_and_change_nothing():
    """A sample is drawn in inference, as `minigan.generate` will, and moves nothing: no weight, no running mean."""
    game, twin = train.Game(small(), REFERENCE), train.Game(small(), REFERENCE)
    real = Tensor(np.zeros((4, 16, 16, 3), np.float32), REFERENCE)
    first = game.sample()
    game.step(real), twin.step(real)
    state = {name: t.numpy().copy() for name, t in game.generator.state().items()}
    second = game.sample()
    assert all((t.numpy() == state[name]).all() for name, t in game.generator.state().items())
    assert (second != first).any()
    assert (game.sample() == second).all()
    assert [t.item() for t in game.step(real).values()] == [t.item() for t in twin.step(real).values()]
    assert (game.sample() == twin.sample()).all()


# ---- a run -------------------------------------------------------------------


def test_looking_takes_a_twentieth_of_the_time(monkeypatch):
    """Where steps are quick, plot and page are not drawn at each sample; where they are slow, they are, and at the end
    in any case."""
    clock, drawn = 0.0, []
    monkeypatch.setattr(time, "monotonic", lambda: clock)

    def draw():
        nonlocal clock
        drawn.append(clock)
        clock += 1.0

    look = Seldom(draw)
    for interval, expected in ((1.0, [0.0, 20.0, 40.0]), (30.0, [72.0, 103.0, 134.0])):
        del drawn[:]
        while len(drawn) < 3:
            look(anyway=False)
            clock += interval
        assert drawn == pytest.approx(expected)
    clock -= 29.0
    look(anyway=False)
    assert len(drawn) == 3
    look(anyway=True)
    assert len(drawn) == 4


def test_what_a_run_leaves(folder, capsys, monkeypatch):
    """config.json, a row each interval with just these keys, samples that are not stretched, a plot, checkpoints."""
    monkeypatch.setattr(pictures, "plot_losses", PLOT_LOSSES)
    run = trained("--data", folder, "--epochs", 3, "--save-every", 2, "--sample-every", 4)
    said = capsys.readouterr().out

    assert sorted(p.name for p in run.folder.iterdir()) == [
        "checkpoints", "config.json", "doctor.jsonl", "log.jsonl", "losses.png", "real.png", "report.html",
        "samples",
    ]  # fmt: skip
    assert [p.name for p in run.checkpoints()] == ["00000006.safetensors", "00000009.safetensors"]
    assert sorted(p.name for p in (run.folder / "samples").iterdir()) == [
        "000000.png", "000004.png", "000008.png", "000009.png",
    ]  # fmt: skip
    with Image.open(run.folder / "samples" / "000009.png") as image:
        assert image.size == (8 * 66 + 2, 8 * 66 + 2)  # 64 pictures of 16 pixels, four times as large, 2 between
        assert image.mode == "RGB"

    rows = run.rows()
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 9]
    keys = "step epoch seconds d_loss g_loss d_real d_fake images_per_second memory_mib"
    assert all(list(row) == keys.split() for row in rows)
    assert [row["epoch"] for row in rows] == [0.6667, 1.3333, 2, 2.6667, 3]
    assert all(row["images_per_second"] > 0 and 0 < row["d_real"] < 1 and 0 < row["d_fake"] < 1 for row in rows)
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    assert [row["memory_mib"] for row in rows] == sorted(row["memory_mib"] for row in rows)  # the most until then
    assert 0 < rows[-1]["memory_mib"] < 2**20

    config = json.loads((run.folder / "config.json").read_text())
    assert options.kept_settings(config["settings"]) == small(
        "--data", folder, "--epochs", 3, "--save-every", 2, "--sample-every", 4, "--device", "cpu"
    )
    assert (config["device"], config["pictures"]) == ("cpu", PICTURES)
    assert [shlex.split(command)[:6] for command in config["commands"]] == [
        ["python", "-m", "minigan.train", "--preset", "tiny32", "--size"]
    ]

    assert "python -m minigan.train --resume run --epochs 6" in said
    assert "python -m minigan.generate run --count 64 --out cats.png" in said
    assert max(map(len, said.splitlines())) <= 80 + len(str(folder))


def test_real_pictures_are_kept_as_the_discriminator_sees_them(folder, straight):
    """real.png is the first batches, mirrored by their coins, in a grid like that of the samples: of 64 pictures, or of
    as many as there are."""
    images = data.load(folder, 16, "RGB").images
    batches = train.Batches(images, straight.settings, REFERENCE)
    shown = np.concatenate([batches.batch(step).numpy() for step in range(PER_EPOCH)])
    with Image.open(straight.folder / "real.png") as image:
        assert image.tobytes() == pictures.grid(shown, scale=4).tobytes()


def test_a_run_is_its_options(folder, straight):
    """The same options twice are the same bits; another seed is another run."""
    assert_equal_runs(straight, trained("--data", folder, "--epochs", 4), step=12)
    other = trained("--data", folder, "--epochs", 1, "--out", "other", "--seed", 1)
    assert timeless(other.rows()[0]) != timeless(straight.rows()[0])
    first = "samples/000000.png"
    assert (other.folder / first).read_bytes() != (straight.folder / first).read_bytes()


def test_without_data_it_draws_faces(monkeypatch):
    """The embedded pictures need no --data; a run by minutes ends by the clock."""
    monkeypatch.setattr(train, "FACES", 8)
    run = trained("--minutes", 1e-4)
    assert len(run.checkpoints()) == 1
    assert (run.about["pictures"], run.settings.epochs, run.settings.data) == (8, None, None)


# ---- going on ----------------------------------------------------------------


def timeless(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in MEASURED}


def assert_equal_runs(one: Run, other: Run, step: int) -> None:
    """At that step, their weights, optimizers, statistics, random counters, samples and rows: the same bits."""
    a, b = one.newest_checkpoint(), other.newest_checkpoint()
    assert a.state["step"] == step
    assert {**a.state, "seconds": 0} == {**b.state, "seconds": 0}
    assert {n: array.tobytes() for n, array in a.arrays.items()} == {
        n: array.tobytes() for n, array in b.arrays.items()
    }
    assert [p.name for p in one.samples()] == [p.name for p in other.samples()]
    assert [p.read_bytes() for p in one.samples()] == [p.read_bytes() for p in other.samples()]
    assert list(map(timeless, one.rows())) == list(map(timeless, other.rows()))


def test_a_resumed_run_is_an_uninterrupted_one(folder, straight):
    """Four epochs at once, and one epoch, another, and two more: bit for bit. (An epoch is 3 steps, a row is 2.)"""
    trained("--data", folder, "--epochs", 1)
    trained("--resume", "run", "--epochs", 2)
    run = trained("--resume", "run", "--epochs", 4)
    assert_equal_runs(straight, run, step=12)
    seconds = [row["seconds"] for row in run.rows()]
    assert seconds == sorted(seconds)  # of all three parts together
    assert [command.split("--epochs ")[1][0] for command in run.about["commands"]] == ["1", "2", "4"]
    assert run.settings.epochs == 4  # what config.json says now, so that --resume alone goes on to there


def test_a_resumed_run_is_an_uninterrupted_one_on_reference(folder, monkeypatch):
    """Where only tests train. (tests/test_verify_resume.py has the devices that a run can have.)"""
    monkeypatch.setattr(train, "choose_device", lambda *_: (REFERENCE, "as asked"))
    straight = trained("--data", folder, "--epochs", 2, "--out", "straight")
    trained("--data", folder, "--epochs", 1)
    assert_equal_runs(straight, trained("--resume", "run", "--epochs", 2), step=6)


def test_a_run_of_graphs_is_the_same_run(folder, gpu, capsys):
    """Two epochs with their steps captured and repeated, interrupted and resumed, and two as written: bit for bit.

    What was captured is said; a run does not keep it.
    """
    device = ("--device", gpu, "--precision", "fp32", "--data", folder)
    written = trained(*device, "--epochs", 2, "--no-graph", "--out", "written")
    assert capsys.readouterr().out.splitlines()[0].endswith(f" on {gpu}, fp32 (as asked)")
    trained(*device, "--epochs", 1, "--graph")
    assert capsys.readouterr().out.splitlines()[0].endswith(f" on {gpu}, fp32, each step one graph (as asked)")
    assert_equal_runs(written, trained("--resume", "run", "--epochs", 2, "--graph"), step=6)


def test_scores_are_read_where_they_are_wanted(folder, gpu, monkeypatch):
    """With a graph the losses wait on the device for the next row, and are read when the step after has begun: else the
    device would wait for the host, that writes of them."""
    device, done = kernels.device(gpu), []
    fetch, call = device.fetch, Steps.__call__

    def fetch_and_tell(array):
        step, fetched = len(done), fetch(array)
        return lambda: done[-1].add((step, len(done))) or fetched()

    monkeypatch.setattr(device, "fetch", fetch_and_tell)
    monkeypatch.setattr(Steps, "__call__", lambda steps: done.append(set()) or call(steps))
    monkeypatch.setattr(train, "LOG_EVERY", 4)
    run = trained("--device", gpu, "--precision", "fp32", "--data", folder, "--epochs", 3, "--graph")
    assert set().union(*done) == {(4, 5), (8, 9), (9, 9)}  # that of the 4th step, in the 5th; and the last at once
    assert [row["step"] for row in run.rows()] == [4, 8, 9]


def test_steps_go_on_while_a_sample_is_written(folder, gpu, monkeypatch):
    """With a graph a sample and what the doctor concludes wait for no step, nor a step for them; a checkpoint does, so
    that whoever goes on from it has all that is before it. (9 steps, sampled at 2, 4, 6, 8, 9; saved at 3, 6, 9.)"""
    begun, written = {step: threading.Event() for step in range(10)}, []
    call, save_sample, save_checkpoint = Steps.__call__, Run.save_sample, Run.save_checkpoint

    def call_and_tell(steps):
        begun[steps.game.step_count].set()  # as many are done
        return call(steps)

    def save_late(run, step, images):
        if step in (2, 4, 8):
            assert begun[step].wait(timeout=60)
        if step == 6:
            time.sleep(0.3)  # for a checkpoint that would not wait
        written.append(step)
        return save_sample(run, step, images)

    def save_and_tell(run, step, arrays, state):
        assert written == [made for made in (0, 2, 4, 6, 8, 9) if made <= step]
        return save_checkpoint(run, step, arrays, state)

    monkeypatch.setattr(Steps, "__call__", call_and_tell)
    monkeypatch.setattr(Run, "save_sample", save_late)
    monkeypatch.setattr(Run, "save_checkpoint", save_and_tell)
    device = ("--device", gpu, "--precision", "fp32", "--data", folder, "--graph")
    run = trained(*device, "--epochs", 3, "--sample-every", 2, "--save-every", 1)
    assert written == [0, 2, 4, 6, 8, 9]
    assert [row["step"] for row in run.rows("doctor.jsonl")] == written[1:]


def test_a_sample_is_told_of_when_it_is_written(folder, gpu, monkeypatch, capsys):
    """Or its error: by the step that comes then, and not only by the next sample. (Sampled at 4 and 8.)"""
    call = Steps.__call__

    def call_and_wait(steps):
        if steps.game.step_count == 5:
            time.sleep(0.5)  # the sample is written
        if steps.game.step_count == 7:
            assert '"event": "sample", "step": 4,' in capsys.readouterr().out
        return call(steps)

    monkeypatch.setattr(Steps, "__call__", call_and_wait)
    device = ("--device", gpu, "--precision", "fp32", "--data", folder, "--graph", "--json")
    trained(*device, "--epochs", 3, "--sample-every", 4, "--save-every", 3)
    assert '"event": "sample", "step": 8,' in capsys.readouterr().out


def test_without_a_graph_a_step_is_seen_before_the_next(folder, monkeypatch):
    """There the device does nothing meanwhile: sample and doctor come where they are asked for."""
    seen, call = [], Steps.__call__

    def call_and_look(steps):
        seen.append([row["step"] for row in Run(Path("run"), None, {}).rows("doctor.jsonl")])
        return call(steps)

    monkeypatch.setattr(Steps, "__call__", call_and_look)
    trained("--data", folder, "--epochs", 2, "--sample-every", 2)
    assert seen == [[], [], [2], [2], [2, 4], [2, 4]]


def test_ctrl_c_in_the_middle_of_an_epoch_loses_nothing(folder, straight, monkeypatch, capsys):
    """The step is finished and saved, the command says how to go on, and going on ends where a straight run does."""
    with monkeypatch.context() as patch:
        asked_to_stop(patch, at=5)
        stopped = trained("--data", folder, "--epochs", 4)
    assert [p.name for p in stopped.checkpoints()] == ["00000005.safetensors"]
    said = capsys.readouterr().out
    assert re.search(r"^stopped   at step 5, epoch 1\.67, after \d\d:\d\d of training$", said, re.MULTILINE)
    assert "\nweights   run/checkpoints/00000005.safetensors\n" in said
    assert_equal_runs(straight, trained("--resume", "run"), step=12)


def test_rows_after_the_checkpoint_are_logged_again(folder, straight):
    """A run that was killed has logged more than it saved: going on forgets those rows."""
    run = trained("--data", folder, "--epochs", 1)
    run.log({**run.rows()[-1], "step": 4, "d_loss": -1.0})
    assert_equal_runs(straight, trained("--resume", "run", "--epochs", 4), step=12)


def test_a_run_that_kept_no_digest_goes_on(folder, straight):
    """The first runs did not note what their pixels were: their number is all that can be compared."""
    run = trained("--data", folder, "--epochs", 1)
    assert run.about.pop("digest") == straight.about["digest"]
    run.configure(run.settings)
    assert_equal_runs(straight, trained("--resume", "run", "--epochs", 4), step=12)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(folder, straight, capsys):
    """--resume does it: what it had drawn and logged comes again, bit for bit."""
    run = trained("--data", folder, "--epochs", 1)
    for path in run.checkpoints():
        path.unlink()
    run.about["outcome"] = None
    run.configure(run.settings)
    capsys.readouterr()
    resumed = trained("--resume", "run", "--epochs", 4)
    assert "run       run, step 0" in capsys.readouterr().out
    assert_equal_runs(straight, resumed, step=12)


def test_a_full_disk(folder, straight, capsys, place):
    """A real one, of 2 MiB: one line, nothing half-written; with more room it goes on from the last checkpoint."""
    disk, arguments = place / "run", [*SMALL, "--device", "cpu", "--data", folder, "--epochs", 4, "--out", "run"]
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mount is not permitted: {mounted.stderr.strip()}")
    try:
        line = refusal(capsys, *arguments, "--save-every", 1, "--keep", 9)
        run = Run.open(Path("run"))
        last = run.checkpoints()[-1]
        advice = f"free the disk, and go on from {last} with --resume run"
        assert line == f"minigan: error: run: cannot be written (No space left on device): {advice}\n"
        assert int(last.stem) < 12
        assert not list(disk.rglob("*.tmp"))
        for path in run.checkpoints():
            assert checkpoint.load(path).state["step"] == int(path.stem)
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        assert_equal_runs(straight, trained("--resume", "run"), step=12)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_broken_checkpoint_is_passed_over(folder, straight, capsys):
    """The one before it is used, the broken one is named, and the run ends where a straight one does."""
    run = trained("--data", folder, "--epochs", 2, "--save-every", 1)
    newest = run.checkpoints()[-1]
    content = bytearray(newest.read_bytes())
    content[-5] ^= 1  # one bit of a weight
    newest.write_bytes(content)
    resumed = trained("--resume", "run", "--epochs", 4)
    assert f"{newest}: not a whole checkpoint (its bytes are not those that were written)" in capsys.readouterr().err
    assert_equal_runs(straight, resumed, step=12)


def test_the_newest_checkpoints_are_kept(folder):
    """--keep so many, and with --archive-every one after every so many epochs for good. (An epoch is 3 steps.)"""
    run = trained("--data", folder, "--epochs", 7, "--save-every", 1, "--keep", 2, "--archive-every", 3)
    assert [int(path.stem) for path in run.checkpoints()] == [9, 18, 21]


def test_an_epoch_to_be_archived_is_saved(folder):
    """Whatever --save-every says, which says 5 epochs here, where nothing was asked for."""
    run = trained("--data", folder, "--epochs", 6, "--archive-every", 2, "--keep", 1)
    assert [int(path.stem) / PER_EPOCH for path in run.checkpoints()] == [2, 4, 6]


@pytest.mark.parametrize(
    ("arguments", "epochs"),
    [((), [5, 11]), (("--save-every", 5), [5, 10, 11]), (("--archive-every", 10), [5, 10, 11])],
)
def test_quick_epochs_are_saved_less_often(folder, monkeypatch, arguments, epochs):
    """Where saving would take more than its share of the time; but not if it was asked for, and at the end always."""
    monkeypatch.setattr(progress, "SHARE", 1e-9)
    run = trained("--data", folder, "--epochs", 11, "--keep", 9, *arguments)
    assert [int(path.stem) / PER_EPOCH for path in run.checkpoints()] == epochs


def test_one_process_trains_in_a_folder(folder, capsys):
    """A second is refused with the first one's number, and changes nothing. Who was killed holds nothing."""
    run = trained("--data", folder, "--epochs", 1)
    go_on = ("--resume", "run", "--epochs", 2)
    program = (
        "import sys, time; from pathlib import Path; from minigan.run import Run\n"
        "with Run.open(Path('run')).alone(): print(flush=True), time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
        other.stdout.readline()  # it holds the folder now
        before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
        assert f"run: process {other.pid} is training in it" in refusal(capsys, *go_on)
        assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
        other.kill()
    assert trained(*go_on).checkpoints()


def test_ctrl_c_in_the_last_step_changes_nothing(folder, monkeypatch, capsys):
    """What was asked for is done."""
    asked_to_stop(monkeypatch, at=12)
    run = trained("--data", folder, "--epochs", 4)
    assert run.about["outcome"] == "done"
    assert "\ndone      at step 12, epoch 4.00" in capsys.readouterr().out


@pytest.mark.parametrize("graph", ["--no-graph", "--graph"])
def test_the_last_step_is_saved_whatever_its_page_says(folder, monkeypatch, graph):
    """What goes wrong where a run is shown ends it, and costs no work."""

    def fail(run):
        raise UserError("log.jsonl: line 3: broken")

    monkeypatch.setattr(train, "write_report", fail)
    with pytest.raises(UserError, match="line 3: broken"):
        trained("--data", folder, "--epochs", 1, "--device", "emulated", graph)
    assert [path.stem for path in Path("run/checkpoints").glob("*.safetensors")] == ["00000003"]


@pytest.mark.parametrize("out", [[], ["--out", "cats/run"], ["--out", "link/run"]])
def test_a_run_is_not_among_its_pictures(folder, place, capsys, monkeypatch, out):
    """Its samples would be pictures when it goes on. Nothing is written; a name that begins alike is another folder."""
    shutil.copytree(folder, "cats")
    Path("link").symlink_to("cats")
    before = sorted(Path("cats").rglob("*"))
    monkeypatch.chdir(place if out else "cats")
    line = refusal(capsys, *SMALL, "--data", "cats" if out else ".", *out)
    assert "and would be taken for its pictures: give --out a place outside" in line
    monkeypatch.chdir(place)
    assert sorted(Path("cats").rglob("*")) == before
    assert trained("--data", "cats", "--epochs", 1, "--out", "cats-run").checkpoints()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a name is text")
def test_a_name_that_is_no_text(folder):
    """The bytes of a name need not be letters: the run and its page are written all the same."""
    odd = shutil.copytree(folder, os.fsdecode(b"caf\xe9"))
    run = trained("--data", odd, "--epochs", 1)
    assert b"caf\\udce9" in (run.folder / "report.html").read_bytes()
    assert Run.open(run.folder).settings.data == odd


def test_a_second_ctrl_c_stops_at_once(folder, monkeypatch):
    """Status 130, and nothing half-written: no checkpoint rather than a piece of one. Ctrl-C is then what it was."""
    handler = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it
    asked_to_stop(monkeypatch, at=2, times=2)
    with pytest.raises(SystemExit) as end:
        command.run_command(lambda: trained("--data", folder, "--epochs", 3))
    assert end.value.code == 130
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["lock"]  # which nobody holds
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one process is POSIX's")
def test_ctrl_c_in_a_terminal(folder, capsys):
    """A real process, a real SIGINT: it finishes its step, saves, says how to go on, and exits with 0."""
    arguments = [*SMALL, "--data", folder, "--device", "cpu", "--minutes", 1, "--sample-every", 10, "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "minigan.train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while process.poll() is None and not Path("run/samples/000010.png").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    said = dict(line.split(maxsplit=1) for line in out.splitlines()[-8:])
    assert list(said) == ["stopped", "folder", "samples", "report", "weights", "log", "resume", "generate"]
    step = int(said["stopped"].split()[2].rstrip(",").replace(",", ""))
    assert said["weights"] == f"run/checkpoints/{step:08d}.safetensors"
    assert said["resume"] == "python -m minigan.train --resume run"
    assert step < trained("--resume", "run", "--minutes", 1e-4).rows()[-1]["step"]


# ---- bad input ---------------------------------------------------------------


def corrupt(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def test_pictures_that_cannot_be_read_are_named(folder, capsys):
    """Skipped, counted, and listed with the reason in skipped.txt; the rest is trained on."""
    shutil.copytree(folder, "cats")
    corrupt(Path("cats/03.png"))
    Path("cats/07.png").write_text("not a picture")
    run = trained("--data", "cats", "--epochs", 1)
    assert run.about["pictures"] == PICTURES - 2
    assert "skipped   2 files that cannot be read, named in run/skipped.txt" in capsys.readouterr().out
    names = [line.split(": ")[0] for line in (run.folder / "skipped.txt").read_text().splitlines()]
    assert names == ["03.png", "07.png"]
    (run.folder / "skipped.txt").unlink()  # as if it had been killed before it could name them
    trained("--resume", "run", "--epochs", 2)
    assert len((run.folder / "skipped.txt").read_text().splitlines()) == 2


def no_folder(folder):
    return "missing"


def empty_folder(folder):
    Path("cats").mkdir()
    return "cats"


def no_pictures(folder):
    Path("cats").mkdir()
    Path("cats/notes.txt").write_text("buy fish")
    return "cats"


def three_pictures(folder):
    Path("cats").mkdir()
    for i in range(3):
        shutil.copy(folder / f"{i:02d}.png", "cats")
    return "cats"


def corrupt_pictures(folder):
    shutil.copytree(folder, "cats")
    for path in Path("cats").iterdir():
        corrupt(path)
    return "cats"


def few_whole_pictures(folder):
    shutil.copytree(folder, "cats")
    for path in sorted(Path("cats").iterdir())[3:]:
        corrupt(path)
    return "cats"


def a_text(folder):
    Path("cats").write_text("buy fish")
    return "cats"


def half_a_zip(folder):
    with zipfile.ZipFile("cats.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    corrupt(Path("cats.zip"))
    return "cats.zip"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (no_folder, "missing: no such folder or .zip: check the path"),
        (empty_folder, "cats: no pictures in it (no files at all)"),
        (no_pictures, "cats: no pictures in 1 file: .txt (1)"),
        (three_pictures, "pictures: 3 from cats: fewer than a batch of 4: give more, or a smaller --batch-size"),
        (few_whole_pictures, "pictures: 3 from cats (beside 9 that cannot be read, the first 03.png: "),
        (corrupt_pictures, "cats: none of 12 pictures can be read; the first, 00.png: "),
        (a_text, "cats: neither a folder nor a .zip"),
        (half_a_zip, "cats.zip: not a whole .zip"),
    ],
)
def test_pictures_that_are_none(folder, place, capsys, data, said):
    """What is wrong, where, and what to do; and no run's folder is left behind."""
    source = data(folder)
    before = sorted(place.iterdir())
    for out in ([], ["--out", "run"]):
        assert said in refusal(capsys, *SMALL, "--data", source, *out)
    assert sorted(place.iterdir()) == before


def test_a_batch_is_not_larger_than_the_faces(capsys, monkeypatch):
    """Nor is the embedded default trained on without a batch."""
    monkeypatch.setattr(train, "FACES", 3)
    assert "3 drawn cat faces" in refusal(capsys, *SMALL, "--dry-run")


def test_wrong_options_are_refused_in_one_line(place, capsys):
    """As bad input is: status 2, one line. (tests/test_options.py has them all.)"""
    assert "--size: invalid choice: 17" in refusal(capsys, "--size", 17)
    assert "unrecognized arguments: --colour" in refusal(capsys, "--colour")
    assert not list(place.iterdir())


@pytest.mark.parametrize("out", ["file", "file/run", "full", "/proc/run"])
def test_folders_that_cannot_take_a_run(folder, capsys, out):
    """A file in its place, a file above it, files inside, or a place where nobody may write: what is there stays."""
    if out.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("this system has no /proc, where nobody may write")
    Path("file").write_text("mine")
    Path("full").mkdir()
    Path("full/mine").write_text("mine")
    line = refusal(capsys, *SMALL, "--data", folder, "--device", "cpu", "--out", out)
    assert line.startswith(f"minigan: error: {out}: ")
    assert Path("file").read_text() == Path("full/mine").read_text() == "mine"
    assert sorted(p.name for p in Path().rglob("*")) == ["file", "full", "mine"]


def test_a_run_begins_whole_or_not_at_all(capsys, monkeypatch):
    """A disk that fills while the folder is made leaves none: the same command works when there is room."""

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(train, "FACES", 4)
    data.drawn(4, 16, "RGB", 0)  # there already, so that nothing else fills the disk
    monkeypatch.setattr(os, "fsync", full)
    line = refusal(capsys, *SMALL, "--device", "cpu", "--out", "run")
    assert (
        line
        == "minigan: error: run: cannot be written (No space left on device): free the disk, or give another --out\n"
    )
    assert not Path("run").exists()


def test_an_earlier_run_is_not_overwritten(folder, capsys):
    """Its folder is refused, and so is a resume that would change it into another run."""
    run = trained("--data", folder, "--epochs", 1)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    for arguments, said in (
        (("--out", "run", "--data", folder), "run: holds files already: give a new or an empty folder"),
        (("--resume", "run", "--preset", "article128"), "--preset article128: the run began with tiny32"),
        (("--resume", "run", "--size", "32"), "--size 32: the run began with 16"),
        (("--resume", "run", "--out", "other"), "--out: not allowed with argument --resume"),
        (("--resume", "run"), "run: has done its 1 epochs: give more --epochs, or --minutes"),
    ):
        assert said in refusal(capsys, *arguments)
    shutil.copytree(folder, "fewer")
    Path("fewer/00.png").unlink()
    line = refusal(capsys, "--resume", "run", "--epochs", 2, "--data", "fewer")
    assert "11 from fewer: the run began with 12" in line
    shutil.copytree(folder, "others")
    shutil.copy("others/01.png", "others/00.png")
    line = refusal(capsys, "--resume", "run", "--epochs", 2, "--data", "others")
    assert "12 from others: not the pictures that the run began with, though as many" in line
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_run_that_cannot_go_on_says_why(folder, straight, capsys):
    """No run, no checkpoint, one cut short, one of another network, a log or a config.json that is no longer whole."""
    go_on = ("--resume", "run", "--epochs", 4)
    assert "run: no run's folder (config.json: No such file or directory)" in refusal(capsys, *go_on)
    run = trained("--data", folder, "--epochs", 1)
    newest, config, log = run.checkpoints()[-1], run.folder / "config.json", run.folder / "log.jsonl"
    good = {path: path.read_bytes() for path in (newest, config, log)}

    newest.write_bytes(good[newest][:-1])
    assert f"{newest}: not a whole checkpoint (" in refusal(capsys, *go_on)
    newest.unlink()
    assert "run: holds no checkpoint any more: put one back" in refusal(capsys, *go_on)
    assert log.read_bytes() == good[log]  # as it would not be, if it began again
    newest.write_bytes(good[newest])

    other = json.loads(good[config])
    other["settings"]["z_dim"] = 9
    config.write_text(json.dumps(other))
    line = refusal(capsys, *go_on)
    assert f"{newest}: generator.1.w is float32 (8, 4, 4, 64), but the network has float32 (9, 4, 4, 64)" in line
    other["settings"] = {**other["settings"], "z_dim": 8, "preset": "article128"}
    config.write_text(json.dumps(other))
    assert f"{newest}: generator.0.w is missing" in refusal(capsys, *go_on)

    other["settings"] = {**other["settings"], "preset": "tiny32", "seed": 5}
    config.write_text(json.dumps(other))
    assert f"{newest}: its pictures came in another order" in refusal(capsys, *go_on)

    for content in ("{", "[]", "{}", '{"settings": 1}', '{"settings": {"size": 16}}'):
        config.write_text(content)
        assert f"{config}: broken (" in refusal(capsys, *go_on)
    config.write_bytes(good[config])

    for content in (good[log][20:], b"null\n", b'{"step": 5}\n'):
        log.write_bytes(content)
        assert f"{log}: line 1: broken (" in refusal(capsys, *go_on)
    log.write_bytes(good[log])
    assert_equal_runs(straight, trained(*go_on), step=12)  # mended, it goes on


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_device_that_is_missing_says_what_to_install(capsys, monkeypatch):
    """Asked for by name it is an error with the remedy; `auto` says in half a line what it chose and why."""
    assert "cuda: needs CuPy (" in (line := refusal(capsys, *SMALL, "--device", "cuda"))
    assert "pip install 'minigan[cuda13]'" in line
    monkeypatch.setattr(train, "FACES", 4)
    train.train([*SMALL, "--dry-run"])
    first = capsys.readouterr().out.splitlines()[0]
    assert re.search(r"on cpu, \d+ threads? \(cuda: needs CuPy; --device cuda says more\)$", first)
    assert len(first) <= 80


@pytest.mark.parametrize(("threads", "said"), [(1, "cpu, 1 thread"), (3, "cpu, 3 threads")])
def test_threads_are_as_asked(folder, straight, capsys, request, threads, said):
    """--threads is how many the CPU's kernels have. It shapes no result: the run is the same, and does not keep it."""
    request.addfinalizer(partial(use_threads, thread_count()))
    run = trained("--data", folder, "--epochs", 4, "--threads", threads)
    assert capsys.readouterr().out.splitlines()[0].endswith(f" on {said} (as asked)")
    assert thread_count() == threads
    assert_equal_runs(straight, run, step=12)
    assert "threads" not in run.settings.__dict__


def test_a_device_without_threads_says_nothing_of_them(capsys, monkeypatch):
    """The first line of another device has what its convolutions multiply, and no threads."""
    monkeypatch.setattr(train, "FACES", 4)
    monkeypatch.setattr(train, "choose_device", lambda *_: (REFERENCE, "as asked"))
    train.train([*SMALL, "--dry-run"])
    assert capsys.readouterr().out.splitlines()[0].endswith(" on reference, fp32 (as asked)")


def test_precision(capsys, monkeypatch, emulated):
    """--precision is what the device multiplies, and the first line says so; a CPU has float32 alone, and says that."""
    monkeypatch.setattr(train, "FACES", 4)
    for asked, said in [("auto", "fp32"), ("bf16", "bf16")]:
        train.train([*SMALL, "--device", "emulated", "--precision", asked, "--dry-run"])
        assert capsys.readouterr().out.splitlines()[0].endswith(f" on emulated, {said} (as asked)")
    line = refusal(capsys, *SMALL, "--device", "cpu", "--precision", "tf32", "--dry-run")
    assert "cpu: no tf32 convolution here: 'auto' is in fp32" in line


def test_convolution_by_the_definition(folder, monkeypatch):
    """--conv direct computes every convolution of the run with kernels/conv2d/direct.py, and the run keeps it."""
    cpu, plain = kernels.device("cpu", "direct"), kernels.device("cpu")
    used = []

    def noting(kernel, compute, *arguments):
        used.append(kernel)
        return compute(*arguments)

    with monkeypatch.context() as patch:
        for kernel in direct.__all__:
            assert cpu.kernels[kernel] is getattr(direct, kernel)
            assert plain.kernels[kernel] is getattr(auto, kernel)
            patch.setattr(cpu, kernel, partial(noting, kernel, getattr(direct, kernel)))
            patch.setattr(plain, kernel, None)  # is never called
        run = trained("--data", folder, "--epochs", 1, "--conv", "direct")
    assert set(used) == set(direct.__all__)
    assert run.settings.conv == "direct"
    generate.draw(run, np.zeros((1, run.settings.z_dim), np.float32), "cpu")  # as any run, by any convolution
    assert kernels.device("reference", "direct") is kernels.device("reference")  # it has no other way


# ---- numbers that are none ---------------------------------------------------


def test_a_loss_that_is_no_number_stops_the_run(folder, capsys, monkeypatch):
    """It names the last good checkpoint: the last whose losses were seen to be finite. NaN is never saved."""
    trained("--data", folder, "--epochs", 2, "--save-every", 1)
    with monkeypatch.context() as patch:
        poisoned(patch, at=8)
        line = refusal(capsys, "--resume", "run", "--epochs", 4)
    assert "run: the numbers are not finite any more after step 8, first in generator.1.w: begin a new run" in line
    assert "the last good checkpoint is run/checkpoints/00000006.safetensors" in line
    with monkeypatch.context() as patch:
        poisoned(patch, at=9)  # after the losses, before the checkpoint
        line = refusal(capsys, "--resume", "run", "--epochs", 4)
    assert "after step 9" in line
    assert "the last good checkpoint is run/checkpoints/00000006.safetensors" in line
    assert Run.open(Path("run")).newest_checkpoint().path.name == "00000006.safetensors"
    with monkeypatch.context() as patch:
        poisoned(patch, at=9, weight=3e38)  # still a number, and saved; but not one that a network can use
        line = refusal(capsys, "--resume", "run", "--epochs", 4)
    assert Run.open(Path("run")).newest_checkpoint().path.name == "00000009.safetensors"
    assert "the last good checkpoint is run/checkpoints/00000006.safetensors" in line


def test_an_infinity_that_no_loss_shows_stops_the_run_at_the_next_sample(folder, capsys, monkeypatch):
    """An infinite variance only makes Adam stand still: the losses stay finite, and the checkpoint is far away."""
    trained("--data", folder, "--epochs", 1)  # 3 steps
    step = train.Game.step

    def poisoned_step(game, real):
        scores = step(game, real)
        if game.step_count == 4:
            game.adam_d.v[0] = np.inf
        return scores

    monkeypatch.setattr(train.Game, "step", poisoned_step)
    line = refusal(capsys, "--resume", "run", "--epochs", 40, "--sample-every", 7)
    assert "run: the numbers are not finite any more after step 7, first in adam_d.v: begin a new run" in line
    assert "the last good checkpoint is run/checkpoints/00000003.safetensors" in line
    assert [path.name for path in Run.open(Path("run")).samples()] == ["000000.png"]


def test_a_graph_that_goes_wrong_stops_at_the_next_row(folder, gpu, capsys, monkeypatch):
    """The scores of repeated steps are read every so often, and before a checkpoint; the run stops there, and names
    what is known to be good."""
    call = Steps.__call__

    def poisoned_step(steps):
        scores = call(steps)
        if steps.game.step_count == 7:
            device, w = steps.game.device, steps.game.g_parameters[0]
            device.copy(w.data, device.array(np.full(w.shape, np.nan, np.float32)))
        return scores

    monkeypatch.setattr(Steps, "__call__", poisoned_step)
    monkeypatch.setattr(train, "LOG_EVERY", 4)
    run = ("--data", folder, "--epochs", 4, "--save-every", 1, "--out", "run")
    line = refusal(capsys, *SMALL, "--device", gpu, "--graph", *run)
    assert "the numbers are not finite any more after step 6, first in generator.1.w" in line  # row 8 was not
    assert "the last good checkpoint is run/checkpoints/00000003.safetensors" in line


@pytest.mark.filterwarnings("error")
def test_a_learning_rate_that_is_far_too_high_is_noticed(folder, capsys):
    """Nothing is planted here: the weights fly off, the losses follow, and no checkpoint was good."""
    line = refusal(capsys, *SMALL, "--device", "cpu", "--data", folder, "--lr-d", 1e30, "--lr-g", 1e30, "--out", "run")
    assert "begin a new run with lower --lr-g and --lr-d; no good checkpoint was saved yet" in line
    assert Run.open(Path("run")).checkpoints() == []


# ---- a dry run ---------------------------------------------------------------


def test_a_dry_run_shows_the_layers_and_writes_nothing(folder, place, capsys):
    """Both tables, one step, and no folder; with the preset's own work, which can be counted by hand."""
    train.train([*SMALL, "--data", str(folder), "--device", "cpu", "--dry-run"])
    said = capsys.readouterr().out
    game = train.Game(small(), REFERENCE)
    assert layer_table("generator", game.generator, (8,), 4) in said
    assert layer_table("discriminator", game.discriminator, (16, 16, 3), 4) in said
    assert re.search(r"step      one of 4 pictures, 0\.05 GFLOP: \d+\.\d s", said)
    assert re.search(r"scores    d_loss \d\.\d+, g_loss \d\.\d+, d_real 0\.\d+, d_fake 0\.\d+", said)
    assert not list(place.iterdir())
