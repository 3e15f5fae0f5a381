"""`python -m benchmarks`: what it counts, what it refuses, and that it runs to its end. No time is asserted."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kernels
from benchmarks import __main__ as command
from benchmarks import ceilings, gpu, race, work
from benchmarks.calls import Call, Training, undisputed
from benchmarks.results import write_json
from kernels.threads import thread_count, use_threads
from minigan import options
from minigan.errors import UserError

ROOT = Path(__file__).parents[1]
TINY = ["--preset", "tiny32", "--size", "16", "--batch-size", "4", "--rounds", "1", "--threads", "1"]


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


X, W, Y = normal(2, 4, 4, 3), normal(5, 2, 2, 3), normal(2, 2, 2, 5)
DERIVATIVES = [
    Call("conv2d", (X, W, 2, 0)),
    Call("conv2d_transpose", (Y, W, 2, 0, (4, 4))),
    Call("conv2d_weight_grad", (X, Y, 2, 0, (2, 2))),
]
STEP = np.array(3, np.int32)
ADAM = Call("adam", (STEP, 1e-3, 0.5, 0.999, 1e-8, *abs(normal(4, 100))))


class Here:
    """A contestant in this process, which remembers what it was asked."""

    def __init__(self, player):
        self.player, self.orders = player, []

    def turn(self, order, *arguments, pause):
        self.orders.append(order)
        return self.player(order, *arguments)


@pytest.fixture
def minigan():
    return Here(race.minigan_player("cpu", "auto", None))


@pytest.mark.parametrize("call", DERIVATIVES, ids=lambda call: call.kernel)
def test_work_of_a_convolution(call):
    """By hand: T has 2 pictures x (2 x 2 x 5) results x (2 x 2 x 3) terms, each multiplied and added.

    Its three arrays have 96, 60 and 40 numbers, of which two are read and one is written, whichever derivative it is.
    """
    results = race.exact(call)
    assert work.operations(call.kernel, call.arguments, results) == 2 * 2 * 20 * 12
    assert work.moved(call.arguments, results) == 4 * (96 + 60 + 40)
    # Two operations for each of the terms of a result; a result has at least as many as numbers that go in.
    terms = 2 * 2 * 20 * 12 / results[0].size
    assert work.bound(call.kernel, call.arguments, results, results[0]) == 6 * np.sqrt(terms) * 2**-24


def test_work_of_a_kernel_in_place():
    """Adam reads four arrays and writes three of them: the gradients it leaves alone. It counts the step."""
    results = race.exact(ADAM)
    assert [result is None for result in results] == [False, False, True, False, False]
    assert work.moved(ADAM.arguments, results) == 7 * 400 + 2 * 4
    assert work.operations(ADAM.kernel, ADAM.arguments, results) == 1400


def test_batch_norm_is_as_exact_as_its_statistics():
    """Its results hang on sums of M terms, not only on the few operations for each number."""
    call = Call("batch_norm", (normal(50, 6, 3), normal(3), normal(3), 1e-5))
    results = race.exact(call)
    assert work.bound(call.kernel, call.arguments, results, results[0]) == 6 * np.sqrt(300) * 2**-24


def test_attainable():
    """The roofline: whichever takes longer, the operations at one ceiling or the bytes at the other."""
    limits = {"sgemm": 100.0, "copy": 10.0}
    assert ceilings.attainable(1000, 50, limits) == (10.0, "sgemm")
    assert ceilings.attainable(1000, 200, limits) == (20.0, "copy")


def test_row(minigan):
    """Rates, share and median follow from the seconds."""
    row = race.measure(DERIVATIVES[0], [minigan], 5, {"sgemm": 1e9, "copy": 1e8})
    ours = row["ways"]["minigan"]
    assert minigan.orders == ["compute", *["time"] * 5]
    assert ours["median"] == sorted(ours["seconds"])[2]
    assert row["ceiling"] == "copy"  # 784 bytes at 1e8 a second take longer than 960 operations at 1e9
    assert ours["share"] == pytest.approx(784 / 1e8 / ours["median"])
    assert ours["flops"] == pytest.approx(960 / ours["median"])
    assert ours["bandwidth"] == pytest.approx(784 / ours["median"])
    assert "ratio" not in row


def test_the_ratio_is_to_the_faster_layout(monkeypatch, minigan):
    """How many times PyTorch's speed we have: its smaller median over ours."""
    seconds = {"minigan": 2.0, "torch": 5.0, "torch channels_last": 3.0}
    results = race.exact(DERIVATIVES[0])
    monkeypatch.setattr(
        minigan, "turn", lambda order, *_, pause: {w: results if order == "compute" else seconds[w] for w in seconds}
    )
    row = race.measure(DERIVATIVES[0], [minigan], 1, {"sgemm": 1.0, "copy": 1.0})
    assert (row["peer"], row["ratio"]) == ("torch channels_last", 1.5)


@pytest.mark.parametrize("call", [*DERIVATIVES, ADAM], ids=lambda call: call.kernel)
@pytest.mark.parametrize("wrong", [1e-4, np.nan])
def test_a_wrong_kernel_is_not_timed(call, wrong, minigan):
    """One that is off by a little in one number of a result; the message names it and its shapes."""
    prepare = minigan.player.prepare

    def plant(call):
        def compute():
            result = right()
            made = result if isinstance(result, tuple) else (result,)
            first = next(a for a in made if isinstance(a, np.ndarray) and a.ndim)
            first.flat[7] += wrong * abs(first).max()
            return result

        right = prepare(call)["minigan"]
        return {"minigan": compute}

    minigan.player.prepare = plant
    shape = re.escape(str(call.arguments[0].shape))
    with pytest.raises(UserError, match=rf"^{call.kernel} of {shape}, .*: result \d of minigan is off by .*"):
        race.measure(call, [minigan], 1, {})
    assert minigan.orders == ["compute"]


@pytest.fixture
def training():
    """Of a small radford, 16 x 16 pixels."""
    arguments = ["--preset", "tiny32", "--size", "16", "--batch-size", "4", "--device", "cpu", "--no-fusion"]
    return Training(options.new_settings(options.parse(arguments)), kernels.device("cpu"))


def test_a_layer_is_heard_forward_and_backward(training):
    """What is called, with the shapes of that layer; nothing of it is written down in the benchmark."""
    heard = {place.name: training.calls(place) for place in training.places}
    kinds = {place.name: place.layer for place in training.places}
    assert kinds["generator.4"] == "Conv2dTranspose"
    assert [call.key() for call in heard["generator.4"]] == [
        ("conv2d_transpose", (4, 4, 4, 64), (64, 4, 4, 32), 2, 1, (8, 8)),
        ("conv2d", (4, 8, 8, 32), (64, 4, 4, 32), 2, 1),
        ("conv2d_weight_grad", (4, 8, 8, 32), (4, 4, 4, 64), 2, 1, (4, 4)),
    ]
    assert [call.kernel for call in heard["discriminator.3"]] == [
        "batch_norm",
        "batch_norm_grad",
        "batch_norm_inference",  # but not what moves the running averages
    ]
    game = {call.kernel for call in heard["game"]}
    assert {"adam", "normal", "bce_with_logits", "bce_with_logits_grad", "image_batch"} <= game
    assert "conv2d" not in game


def test_no_gradient_arrives_at_the_kink():
    """Where rounding decides on which side of 0 a number is, the results of two right kernels may differ."""
    x = np.array([[-1], [0], [1]], np.float32)
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    gy = np.ones_like(x)
    settled = undisputed(Call("batch_norm_leaky_relu_grad", (gy, x, one, none, none, one, 1e-5, 0.2)))
    np.testing.assert_array_equal(settled.arguments[0], [[1], [0], [1]])


def test_command(tmp_path):
    """Without a peer, from the options to the table, the JSON and the picture."""
    file, picture = tmp_path / "kernels.json", tmp_path / "roofline.png"
    arguments = ["-m", "benchmarks", *TINY, "--peer", "none", "--only", "conv2d", "--json", file, "--plot", picture]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["threads"] == 1
    assert report["ceilings"].keys() == {"sgemm", "copy"}
    assert {row["kernel"] for row in report["rows"]} == {"conv2d"}
    row = next(row for row in report["rows"] if row["place"] == "discriminator.2")
    assert row["layer"] == "Conv2d BatchNorm LeakyRelu"
    assert row["given"] == [[4, 8, 8, 32], [64, 4, 4, 32]]
    assert row["ways"].keys() == {"minigan"}
    assert len(row["ways"]["minigan"]["seconds"]) == 1
    line = r"^  discriminator\.2 +conv2d +4x8x8x32 64x4x4x32 +[\d.]+ +[\d.]+ +[\d.]+ +\d+%  sgemm$"
    assert re.search(line, done.stdout, re.MULTILINE)
    assert "Winograd" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def threads():
    """Of this process, which a command changes: as they were."""
    count = thread_count()
    yield
    use_threads(count)


def test_command_beside_pytorch(threads, monkeypatch, tmp_path, capsys):
    """Every row that PyTorch has has a ratio, and its results passed the same check."""
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'minigan[peers]'")
    monkeypatch.setattr(ceilings, "SIDE", 64)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 20)
    monkeypatch.setattr(race, "PAUSE", 0)
    file = tmp_path / "kernels.json"
    command.main([*TINY, "--json", str(file)])
    said = capsys.readouterr().out
    assert re.search(r" conv2d_transpose_with_statistics ", said)
    places = [re.search(r"(sgemm|copy) +[\d.]+$", line) for line in said.splitlines()]
    assert len({place.start() for place in places if place}) == 1  # no column is too wide
    rows = json.loads(file.read_text())["rows"]
    alone = {row["kernel"] for row in rows if "ratio" not in row}
    assert alone <= {"normal", "uniform", "truncated_normal", "philox_advance", "image_batch"}
    conv2d = next(row for row in rows if row["kernel"] == "conv2d")
    assert conv2d["ways"].keys() == {"minigan", "torch", "torch channels_last"}
    assert re.search(r"^ +conv2d_weight_grad .*(sgemm|copy) +[\d.]+$", said, re.MULTILINE)


@pytest.mark.parametrize("write", [write_json, lambda report, file: gpu.Report(file).save()])
def test_a_report_is_whole_or_not_at_all(monkeypatch, tmp_path, write):
    """One that is stopped while it is written leaves the one before as it was, and nothing beside it."""
    file = tmp_path / "report.json"
    write({"rows": []}, file)
    before = file.read_bytes()
    assert json.loads(before)["rows"] == []

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        write({"rows": [1]}, file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "torch"], r"--peer torch: torch is not installed: pip install 'minigan\[peers\]'"),
        (["--plot", "nowhere/roofline.png"], "--plot: there is no folder nowhere"),
        (["--presets", "tiny32"], "unrecognized arguments"),
        (["--rounds", "0"], "--rounds: 0 is out of range"),
    ],
)
def test_bad_options(monkeypatch, arguments, message):
    """One line that says what to do."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        command.main(arguments)


def test_a_name_that_nothing_has(threads, monkeypatch):
    """The error lists those that there are."""
    monkeypatch.setattr(ceilings, "measure", lambda threads: {})
    monkeypatch.setattr(command, "Contestant", lambda *_: contextlib.nullcontext())
    with pytest.raises(UserError, match=r"--only conv3d: nothing has that name: .*conv2d, .*generator\.4"):
        command.main([*TINY, "--peer", "none", "--only", "conv3d"])
