"""Layers: the shape each promises is the shape it gives, and batch norm keeps the averages that inference lives on."""

from __future__ import annotations

import math

import numpy as np
import pytest

import kernels
import minigan
from minigan import nn
from minigan.random import Random

REFERENCE = kernels.device("reference")
EPS = np.finfo(np.float32).eps
INIT = nn.Initializer(REFERENCE, weights=Random(0, "generator weights", REFERENCE).normal)


def tensor(random, shape):
    return minigan.tensor(random.standard_normal(shape, np.float32), device=REFERENCE)


# layer, the shape of an input without the batch axis, the multiply-adds: one for each term of each sum
LAYERS = {
    "linear": (nn.Linear(6, 5, INIT), (6,), 6 * 5),
    "conv2d": (nn.Conv2d(3, 4, INIT, kernel=4, stride=2, padding=1, bias=False), (8, 10, 3), 4 * 5 * 4 * 4 * 4 * 3),
    "conv2d with bias": (nn.Conv2d(1, 2, INIT, kernel=5, stride=1, padding=2, bias=True), (4, 4, 1), 16 * 2 * 25),
    "conv2d_transpose": (
        nn.Conv2dTranspose(4, 3, INIT, kernel=4, stride=2, padding=1, size=(8, 10), bias=False),
        (4, 5, 4),
        4 * 5 * 4 * 4 * 4 * 3,
    ),
    "conv2d_transpose with bias": (
        nn.Conv2dTranspose(2, 3, INIT, kernel=5, stride=2, padding=2, size=(6, 8), bias=True),
        (3, 4, 2),
        3 * 4 * 2 * 25 * 3,
    ),
    "batch_norm": (nn.BatchNorm(3, INIT), (4, 4, 3), 0),
    "leaky_relu": (nn.LeakyRelu(0.2), (4, 4, 3), 0),
    "tanh": (nn.Tanh(), (7,), 0),
    "reshape": (nn.Reshape(2, 3, 2), (12,), 0),
    "sequential": (
        nn.Sequential(
            nn.Linear(6, 8, INIT),
            nn.Reshape(2, 2, 2),
            nn.Conv2dTranspose(2, 1, INIT, kernel=4, stride=2, padding=1, size=(4, 4), bias=False),
        ),
        (6,),
        6 * 8 + 2 * 2 * 2 * 4 * 4,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_knows_its_shape_and_its_work_before_it_runs(name, seed):
    """output_shape is the shape of the result, and multiply_adds a product that can be counted by hand."""
    layer, shape, work = LAYERS[name]
    y = layer(tensor(np.random.default_rng(seed), (2, *shape)))
    assert y.shape == (2, *layer.output_shape(shape))
    assert layer.multiply_adds(shape) == work


@pytest.mark.parametrize("name", ["conv2d with bias", "conv2d_transpose with bias", "linear"])
def test_a_bias_is_added_to_every_place_of_its_channel(name, seed):
    """A layer whose bias is b gives what it gives without, plus b along the last axis."""
    layer, shape, _ = LAYERS[name]
    random = np.random.default_rng(seed)
    x, b, kept = tensor(random, (2, *shape)), tensor(random, layer.b.shape), layer.b
    without = layer(x).numpy()  # new biases are 0
    layer.b = b
    assert (layer(x).numpy() == without + b.numpy()).all()
    layer.b = kept


def test_parameters_are_trained_and_buffers_are_kept():
    """A network's Tensors are called by their layer's number; those of batch norm's averages are not trained."""
    network = nn.Sequential(nn.Reshape(6), nn.Linear(6, 4, INIT), nn.BatchNorm(4, INIT), nn.LeakyRelu(0.2))
    assert list(network.parameters()) == ["1.w", "1.b", "2.scale", "2.shift"]
    assert set(network.state()) - set(network.parameters()) == {"2.running_mean", "2.running_variance"}
    assert [t.shape for t in network.parameters().values()] == [(4, 6), (4,), (4,), (4,)]
    assert not nn.Conv2d(3, 4, INIT, kernel=4, stride=2, padding=1, bias=False).state().keys() - {"w"}


def test_batch_norm_averages_what_inference_uses(seed):
    """running += 0.1 (batch - running), with the variance of M - 1; inference depends on nothing else.

    Bound: the averages are a handful of operations on numbers near 1, the statistics a sum of M = 24 terms.
    """
    random = np.random.default_rng(seed)
    layer = nn.BatchNorm(5, INIT)
    layer.scale, layer.shift = tensor(random, (5,)), tensor(random, (5,))
    mean, variance = np.zeros(5), np.ones(5)
    for _ in range(3):
        x = tensor(random, (4, 2, 3, 5))
        rows = x.numpy().reshape(-1, 5).astype(np.float64)
        mean = 0.9 * mean + 0.1 * rows.mean(0)
        variance = 0.9 * variance + 0.1 * rows.var(0, ddof=1)
        y = layer(x).numpy()
        expected = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * layer.scale.numpy() + layer.shift.numpy()
        bound = 40 * EPS * (np.abs(expected) + np.abs(layer.shift.numpy()) + np.abs(layer.scale.numpy()))
        assert (np.abs(y.reshape(-1, 5) - expected) <= bound).all()
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=0, atol=40 * EPS)
    np.testing.assert_allclose(layer.running_variance.numpy(), variance, rtol=40 * EPS)

    layer.train(False)
    before = layer.running_mean.numpy().copy()
    together = layer(x).numpy()
    alone = np.concatenate([layer(minigan.tensor(x.numpy()[i : i + 1], device=REFERENCE)).numpy() for i in range(4)])
    assert (together == alone).all()
    assert (layer.running_mean.numpy() == before).all()
    expected = (rows - mean) / np.sqrt(variance + 1e-5) * layer.scale.numpy() + layer.shift.numpy()
    bound = 80 * EPS * (np.abs(expected) + np.abs(layer.shift.numpy()) + np.abs(layer.scale.numpy()))
    assert (np.abs(together.reshape(-1, 5) - expected) <= bound).all()


def test_batch_norm_of_one_row_is_its_shift(seed):
    """A row is its own mean and varies by 0, so the scale has nothing to scale; the averages stay finite."""
    random = np.random.default_rng(seed)
    layer = nn.BatchNorm(5, INIT)
    layer.scale, layer.shift = tensor(random, (5,)), tensor(random, (5,))
    x = tensor(random, (1, 5))
    np.testing.assert_array_equal(layer(x).numpy(), layer.shift.numpy()[None])
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * x.numpy()[0], rtol=4 * EPS)
    np.testing.assert_allclose(layer.running_variance.numpy(), 0.9, rtol=4 * EPS)


def test_a_network_is_switched_as_a_whole():
    """`train(False)` reaches every layer, and `train()` brings them all back."""
    network = nn.Sequential(nn.BatchNorm(2, INIT), nn.Sequential(nn.BatchNorm(2, INIT)))
    norms = [network.layers[0], network.layers[1].layers[0]]
    network.train(False)
    assert [norm.training for norm in norms] == [False, False]
    network.train()
    assert [norm.training for norm in norms] == [True, True]


def test_initializers_draw_weights_and_leave_the_rest_at_its_start():
    """Filters come from `weights`, batch norm's scale from `scale` (ones unless given), all else is constant."""
    init = nn.Initializer(
        REFERENCE,
        weights=lambda shape: Random(1, "generator weights", REFERENCE).normal(shape, 0.0, 0.02),
        scale=lambda shape: Random(2, "generator weights", REFERENCE).normal(shape, 1.0, 0.02),
    )
    w = nn.Linear(100, 40, init).w.numpy()
    # a mean of n normal numbers is within 5 sigma/sqrt(n) of theirs, their deviation within 5 sigma/sqrt(2n)
    assert abs(w.mean()) < 5 * 0.02 / math.sqrt(w.size)
    assert abs(w.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * w.size)
    norm = nn.BatchNorm(400, init)
    assert abs(norm.scale.numpy().mean() - 1) < 5 * 0.02 / math.sqrt(400)
    assert (norm.shift.numpy() == 0).all()
    assert (norm.running_mean.numpy() == 0).all()
    assert (norm.running_variance.numpy() == 1).all()
    assert (nn.BatchNorm(4, INIT).scale.numpy() == 1).all()
