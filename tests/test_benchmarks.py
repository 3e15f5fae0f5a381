"""The benchmark, and what it makes possible: the whole game beside PyTorch's."""

from __future__ import annotations

import copy
import functools
import json
import operator
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import kernels
import minigan
from benchmarks import train_step
from benchmarks.contest import Contestant
from minigan import ops, options
from minigan.errors import UserError
from minigan.models import PRESETS
from minigan.random import Random
from minigan.train import Game

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'minigan[peers]'")


@pytest.fixture(params=PRESETS)
def preset(request):
    return request.param


def small(preset, *arguments):
    """The settings of a small game."""
    return options.new_settings(
        options.parse(["--preset", preset, "--size", "16", "--batch-size", "6", "--device", "cpu", *arguments])
    )


def changed(device, wrap, names):
    """The device with `wrap(name, function)` in the place of each function named."""
    device = copy.copy(device)
    for name in names:
        setattr(device, name, wrap(name, getattr(device, name)))
    return device


@pytest.fixture
def doubles(torch, preset, seed):
    """The game in float64, ours and PyTorch's."""
    from benchmarks.torch_peer import TorchGame

    def in_double(_, function):
        def call(*arguments):
            array = function(*arguments)
            return array.astype(np.float64) if array.dtype == np.float32 else array

        return call

    made_here = ("array", "uniform", "normal", "truncated_normal")  # from these everything else gets its dtype
    game = Game(small(preset, "--seed", str(seed)), changed(kernels.device("reference"), in_double, made_here))
    theirs = TorchGame(game.networks, game.settings)
    theirs.generator.double()
    theirs.discriminator.double()
    return game, theirs


def assert_same(ours, theirs, digits=9):
    """Equal to so many digits of the largest number in all arrays.

    A formula that is wrong somewhere is wrong by more; rounding in float64 leaves six or seven digits to spare.
    """
    largest = max(np.abs(a).max() for a in ours)
    assert 0 < largest < np.inf
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=10.0**-digits * largest)


def our_layout(t):
    """A torch.Tensor as a NumPy array, filters and pictures with their channels last."""
    array = t.detach().numpy()
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def test_two_steps_end_where_pytorchs_do(doubles):
    """Scores, parameters and running statistics after two steps: layers, tape, losses, Adam and the order of moves."""
    from benchmarks.torch_peer import torch_layout

    game, theirs = doubles
    before = [t.numpy().copy() for t in game.g_parameters + game.d_parameters]
    real = train_step.real_batch(game.settings).astype(np.float64)
    noise = Random(game.settings.seed, "z", game.device)  # the game has one of its own, which draws the same
    for _ in range(2):
        z = game.draw_z(game.settings.batch_size, noise).numpy()
        scores = game.step(minigan.tensor(real, device=game.device))
        their_scores = theirs.step(torch_layout(z), torch_layout(real))
        assert scores.keys() == their_scores.keys()
        assert_same([scores[name].numpy() for name in scores], [their_scores[name] for name in scores])

    after = [t.numpy() for t in game.g_parameters + game.d_parameters]
    their_after = [our_layout(t) for t in theirs.g_parameters + theirs.d_parameters]
    moves, their_moves = (list(map(operator.sub, end, before)) for end in (after, their_after))
    assert_same(moves, their_moves, digits=6)  # a gradient's rounding, 1e-16, is divided by as little as eps, 1e-8
    for ours, peer in ((game.generator, theirs.generator), (game.discriminator, theirs.discriminator)):
        assert_same(
            [t.numpy() for name, t in ours.state().items() if "running" in name],
            [t.numpy() for name, t in peer.named_buffers() if "running" in name],
        )


def test_gradients_of_a_gradient_are_pytorchs(torch, doubles):
    """R1 (Mescheder et al. 2018): the squared gradient of D by its pictures, differentiated by D's parameters."""
    from benchmarks.torch_peer import torch_layout

    game, theirs = doubles
    real = train_step.real_batch(game.settings).astype(np.float64)
    x, their_x = minigan.tensor(real, requires_grad=True, device=game.device), torch_layout(real).requires_grad_()

    gx = minigan.grad(ops.sum(game.discriminator(x)), x, create_graph=True)
    (their_gx,) = torch.autograd.grad(theirs.discriminator(their_x).sum(), their_x, create_graph=True)
    assert_same([gx.numpy()], [our_layout(their_gx)])

    ggs = minigan.grad(ops.sum(gx * gx), game.d_parameters)
    their_ggs = torch.autograd.grad((their_gx * their_gx).sum(), theirs.d_parameters, allow_unused=True)
    assert_same(  # None, where no path leads to a parameter, is 0
        [np.zeros(()) if gg is None else gg.numpy() for gg in ggs],
        [np.zeros(()) if gg is None else our_layout(gg) for gg in their_ggs],
    )


def test_first_losses_agree_on_the_cpu(torch, preset, seed):
    """What the benchmark asks before it times anything: our step in float32, and PyTorch's in both layouts."""
    s = small(preset, "--seed", str(seed))
    players = {"minigan": train_step.minigan_player, **train_step.PEERS["torch"]}
    scores = {name: make(s, 1)() for name, make in players.items()}
    train_step.agreement(scores, train_step.loss_bound(train_step.first_networks(s)))


def test_losses_that_differ_are_refused():
    """Nothing is timed that does not compute the same; NaN agrees with nothing."""
    same = {"d_loss": 1.4, "g_loss": 0.7}
    assert train_step.agreement({"minigan": same, "torch": same}, 1e-4) == {"d_loss": 0, "g_loss": 0}
    for wrong in (0.7002, float("nan")):
        with pytest.raises(UserError, match=r"g_loss of the first step differs by .*minigan 0\.7000000, torch"):
            train_step.agreement({"minigan": same, "torch": {**same, "g_loss": wrong}}, 1e-4)


@pytest.mark.parametrize("command", [["-m", "benchmarks.train_step"], ["benchmarks/train_step.py"]])
def test_command(command, tmp_path):
    """As a module and as a file: a table for the reader, everything in the JSON, and the times of all kernels."""
    file = tmp_path / "step.json"
    sizes = ["--preset", "tiny32", "--size", "16", "--batch-size", "2", "--steps", "3", "--threads", "1"]
    command = [sys.executable, *command, *sizes, "--profile", "--json", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["threads"] == 1
    assert report["settings"]["batch_size"] == 2
    player = report["players"]["minigan"]
    assert len(player["seconds"]) == 3
    assert player["median"] == sorted(player["seconds"])[1]
    assert player["memory"] > 2**20
    # Adam moves each network once. Each has three layers with filters, of which there are two gradients in D, one on
    # real and one on generated pictures, and one in G.
    assert report["kernels"]["adam"]["calls"] == 2
    assert report["kernels"]["conv2d_weight_grad"]["calls"] == 2 * 3 + 3
    assert re.search(r"^  minigan +[\d.]+ +[\d.]+ - [\d.]+ +[\d.]+ +[\d.]+ +\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^  conv2d_transpose +\d+ +[\d.]+ +[\d.]+%$", done.stdout, re.MULTILINE)
    assert "ratio" not in report


def test_the_ratio_is_to_the_faster_peer(torch):
    """Medians of both layouts are measured, and the smaller one counts; the table says so."""
    report = train_step.measure(small("tiny32"), "torch", steps=3, threads=1, profile=False)
    medians = {name: player["median"] for name, player in report["players"].items()}
    ours = medians.pop("minigan")
    assert medians.keys() == {"torch", "torch channels_last"}
    assert report["ratio"] == min(medians.values()) / ours
    last = train_step.table(report).splitlines()[-2]
    assert last == f"minigan has {report['ratio']:.2f} times the speed of {report['peer']}"


def test_without_pytorch_one_line_says_what_to_install(monkeypatch):
    """An optional peer that is missing is an error with its remedy."""
    monkeypatch.setattr(train_step.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--peer torch: torch is not installed: pip install 'minigan\[peers\]'"):
        train_step.main(["--peer", "torch"])


def test_what_a_step_multiplies(monkeypatch, emulated):
    """--precision is the device's, and said; a GPU's steps have a command of their own."""
    in_tf32, in_fp32 = (small("tiny32", "--device", "emulated", "--precision", p) for p in ("tf32", "fp32"))
    assert train_step.minigan_player(in_tf32, 1)() != train_step.minigan_player(in_fp32, 1)()
    report = train_step.measure(in_tf32, None, 1, 1, False)
    assert train_step.table(report).splitlines()[0].endswith(" GFLOP, tf32")
    monkeypatch.setattr(train_step, "choose_device", lambda *_, **__: (types.SimpleNamespace(name="cuda"), ""))
    with pytest.raises(UserError, match="python -m benchmarks --device cuda --only steps"):
        train_step.main(["--device", "cuda"])


def test_the_library_knows_no_pytorch():
    """It is a peer of the benchmarks and of their tests alone."""
    sources = [path for folder in ("minigan", "kernels") for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 30
    assert not [path for path in sources if re.search(r"^\s*(import|from) torch\b", path.read_text(), re.MULTILINE)]


def test_a_contestant_plays_in_a_process_of_its_own(capfd):
    """Each turn calls the function there and is timed there; a process that ends is named, and the reason is in the
    answer, its traceback too, not among what others print."""
    with Contestant("adder", functools.partial, operator.add, 1, 2) as contestant:
        assert [contestant.turn(), contestant.turn()] == [3, 3]
        assert len(contestant.seconds) == 2
    reason = r"divider: its process has ended: ZeroDivisionError: division by zero\nTraceback (.*\n)+ .* in _serve"
    with Contestant("divider", operator.truediv, 1, 0) as contestant, pytest.raises(UserError, match=reason):
        contestant.turn()
    with Contestant("deserter", functools.partial, os._exit, 3) as contestant:
        for _ in range(2):
            with pytest.raises(UserError, match="deserter: its process has ended, with status 3"):
                contestant.turn()
    assert capfd.readouterr().err == ""
