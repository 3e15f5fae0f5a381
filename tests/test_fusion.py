"""A fusion is an op like any other: the same bits as its plain ops, whether a kernel or a whole run computes them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import kernels
from minigan import autograd, nn, train
from minigan.autograd import Tensor
from minigan.optim import Adam
from minigan.options import new_settings, parse
from minigan.run import Run

INIT = nn.Initializer(kernels.device("reference"), lambda shape: Tensor(np.zeros(shape), kernels.device("reference")))
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


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["conv2d", "conv2d_transpose"])
def test_a_bias_before_batch_norm_changes_nothing(kind, bias, seed):
    """A convolution, batch norm and a leaky ReLU, fused or one after the other: the same result, the same gradients,
    the same running averages, and the same result in inference. What the plain ops find for the bias is 0, but for
    rounding; fused, nothing comes to it.

    In float64: a few hundred roundings of numbers below 100 are below 1e-11.
    """
    random = np.random.default_rng(seed)
    reference = kernels.device("reference")

    def tensor(shape):
        return Tensor(random.normal(size=shape), reference, requires_grad=True)

    if kind == "conv2d":
        shape = (3, 9, 8, 2)
        convolution = nn.Conv2d(2, 5, INIT, kernel=4, stride=2, padding=1, bias=bias)
    else:
        shape = (3, 4, 3, 2)
        convolution = nn.Conv2dTranspose(2, 5, INIT, kernel=4, stride=2, padding=1, size=(8, 6), bias=bias)
    found = {}
    for fusion in (True, False):
        random = np.random.default_rng(seed)
        network = nn.Sequential(convolution, nn.BatchNorm(5, INIT), nn.LeakyRelu(0.2))
        network.fusion = fusion
        for name, t in network.state().items():
            t.data = abs(random.normal(size=t.shape)) if "variance" in name else random.normal(size=t.shape)
        x = tensor(shape)
        y = network(x)
        parameters = network.parameters()
        gradients = autograd.grad(y, [x, *parameters.values()], output_grads=[tensor(y.shape)])
        found[fusion] = {"x": gradients[0], **dict(zip(parameters, gradients[1:], strict=True)), "y": y}
        found[fusion] |= {name: t for name, t in network.state().items() if "running" in name}
        network.train(False)
        found[fusion]["inference"] = network(x)
        network.train()
    fused, plain = found[True], found[False]
    assert fused.keys() == plain.keys()
    if bias:
        assert fused.pop("0.b") is None
        assert np.all(abs(plain.pop("0.b").numpy()) < 1e-11)
    for name, want in plain.items():
        np.testing.assert_allclose(fused[name].numpy(), want.numpy(), rtol=0, atol=1e-11, err_msg=name)


def test_adam_leaves_alone_what_no_gradient_comes_to(device):
    """It moves the others as if the parameter were not there, and this one and its means not at all."""
    values = [np.float32([1, 2, 3]), np.float32([4, 5]), np.float32([6])]

    def moved(kept):
        parameters = [Tensor(device.array(values[i].copy()), device) for i in kept]
        adam = Adam(parameters, 0.1, 0.5)
        for _ in range(2):
            adam.step([None if i == 1 else Tensor(device.array(values[i] - 4), device) for i in kept])
        means = [[device.numpy(m) for m in adam.means[first :: len(kept)]] for first in range(len(kept))]
        return {i: [p.numpy(), *both] for i, p, both in zip(kept, parameters, means, strict=True)}

    all_three, others = moved([0, 1, 2]), moved([0, 2])
    for i in (0, 2):
        for got, want in zip(all_three[i], others[i], strict=True):
            assert got.tobytes() == want.tobytes()
    parameter, m, v = all_three[1]
    assert parameter.tobytes() == values[1].tobytes()
    assert not m.any()
    assert not v.any()


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
