"""A fusion is an op like any other: the same bits as its plain ops, whether a kernel or a whole run computes them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import kernels
from minigan import autograd, train
from minigan.autograd import Tensor
from minigan.options import new_settings, parse
from minigan.run import Run

SMALL = ["--preset", "tiny32", "--size", "16", "--batch-size", "4", "--z-dim", "8", "--device", "cpu"]
STEPS = 3
SHAPES = [(1, 1), (257, 3), (3, 5, 7, 2), (4, 9, 11, 33), (2, 50, 101, 65)]  # (..., C)


def batch(shape, seed):
    """gy, x, scale and shift: of every channel some rows at its mean, where n is shift; and shift is 0 in the first."""
    rng = np.random.default_rng(seed)
    gy, x = np.asarray(rng.normal(size=(2, *shape)), np.float32)
    scale, shift = np.asarray(rng.normal(size=(2, shape[-1])), np.float32)
    rows = x.reshape(-1, shape[-1])
    rows[len(rows) // 2 :] = -rows[: len(rows) - len(rows) // 2][::-1]  # every number and its opposite: a mean of 0
    rows[: len(rows) // 8] = rows[len(rows) - len(rows) // 8 :] = 0
    shift[0] = 0
    return gy, x, scale, shift


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("shape", SHAPES)
def test_fused_kernels_are_the_plain_ones(device, seed, shape, slope):
    """batch_norm_leaky_relu and its gradient are batch_norm and leaky_relu in turn, to the bit, on both sides of the
    kink and on it: the way back takes every number for the side that the way forward took it for.
    """
    gy, x, scale, shift = map(device.array, batch(shape, seed))
    n, mean, variance = device.batch_norm(x, scale, shift, 1e-5)
    composed = device.leaky_relu(n, slope), mean, variance
    fused = device.batch_norm_leaky_relu(x, scale, shift, 1e-5, slope)
    gn = device.leaky_relu_grad(gy, n, slope)
    composed += device.batch_norm_grad(gn, x, scale, mean, variance, 1e-5)
    fused += device.batch_norm_leaky_relu_grad(gy, x, scale, shift, mean, variance, 1e-5, slope)
    for got, want in zip(map(device.numpy, fused), map(device.numpy, composed), strict=True):
        assert got.tobytes() == want.tobytes()


def played(monkeypatch, fusion):
    """The scores and the weights of a few steps on the CPU, and how often each op was applied."""
    called = []
    apply = autograd.Op.__call__
    monkeypatch.setattr(autograd.Op, "__call__", lambda op, *inputs: called.append(op.name) or apply(op, *inputs))
    device = kernels.device("cpu")
    game = train.Game(new_settings(parse([*SMALL, fusion])), device)
    called.clear()
    scores, rng = [], np.random.default_rng(0)
    for _ in range(STEPS):
        real = rng.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
        scores.append([t.item() for t in game.step(Tensor(device.array(real), device)).values()])
    return scores, [t.numpy().tobytes() for t in game.g_parameters + game.d_parameters], Counter(called)


def test_a_run_is_the_same_with_and_without_fusion(monkeypatch):
    """Losses, scores and weights to the bit. With fusion no batch norm that a leaky ReLU follows is an op by itself.

    At 16 pixels G of tiny32 has two batch norms, D one; D sees three batches a step, and all are walked back.
    """
    (scores, weights, fused), (plain_scores, plain_weights, plain) = (
        played(monkeypatch, fusion) for fusion in ("--fusion", "--no-fusion")
    )
    assert scores == plain_scores
    assert weights == plain_weights
    for end in ("", "_grad"):
        pair, alone = f"batch_norm_leaky_relu{end}", f"batch_norm{end}"
        assert (fused[pair], fused[alone]) == ((2 + 3) * STEPS, 0)
        assert (plain[pair], plain[alone]) == (0, (2 + 3) * STEPS)


@pytest.mark.parametrize(("before", "after"), [("--fusion", "--no-fusion"), ("--no-fusion", "--fusion")])
def test_a_run_goes_on_with_the_other(tmp_path, monkeypatch, before, after):
    """The checkpoints of both are one format, and a run that changes over ends where one that does not ends."""
    monkeypatch.setattr(train, "FACES", 8)

    def saved(name, *parts):
        folder = tmp_path / name
        train.train([*SMALL, "--out", str(folder), *parts[0]])
        for part in parts[1:]:
            train.train(["--resume", str(folder), *part])
        run = Run.open(folder)
        arrays = run.newest_checkpoint().arrays
        return run.settings.fusion, {name: array.tobytes() for name, array in arrays.items()}

    fusion, changed = saved("changed", [before, "--epochs", "1"], [after, "--epochs", "2"])
    _, straight = saved("straight", [before, "--epochs", "2"])
    assert fusion == (after == "--fusion")
    assert changed == straight
