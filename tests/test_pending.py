"""Pictures that a convolution normalises or rectifies as it reads them: the same bits as if that was done before."""

from __future__ import annotations

import contextlib
import math
from collections import Counter

import cases
import numpy as np
import pytest

import kernels
from kernels.conv2d import fold, pipeline
from kernels.conv2d.plan import TILES
from kernels.launch import host
from kernels.launch.source import intercepted
from minigan import autograd, ops
from minigan.autograd import Tensor
from minigan.options import new_settings, parse
from minigan.train import Game

WAYS = [("direct", "fp32"), ("auto", "fp32"), ("auto", "tf32"), ("auto", "bf16")]  # "auto": Winograd's in fp32
CONVOLUTIONS = [kernel for kernel in cases.CASES if kernel.startswith("conv2d")]


def refuse(*_):
    """Takes the place of what would make the array."""
    raise AssertionError("the picture became an array")


def on(device, argument, apply):
    """An argument of a kernel where the device has its arrays; `apply`, or its own kernel, makes what is pending."""
    if isinstance(argument, kernels.Pending):
        return argument.through(device.array, apply or device.kernels[argument.kernel])
    return device.array(argument) if isinstance(argument, np.ndarray) else argument


def both(device, kernel, arguments, apply=refuse):
    """The bits of a kernel's results: of pictures that it normalises itself, and of those that are arrays."""
    given = [on(device, a, apply) for a in arguments]
    whole = [kernels.as_array(on(device, a, None)) for a in arguments]
    found = [device.kernels[kernel](*each) for each in (given, whole)]
    found = [each if isinstance(each, tuple) else (each,) for each in found]
    return [[device.numpy(a).tobytes() for a in each] for each in found]


@pytest.mark.parametrize(("conv", "precision"), WAYS[1:])  # "auto" in fp32 takes the direct sum as well
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")
def test_what_is_normalised_as_it_is_read(gpu, conv, precision, tile, seed, monkeypatch):
    """No array is made, and no bit is another: with every tile, in every part of a sum, and on the padding, which is 0
    where batch norm would make something else of a 0. Results x of three colours have no statistics so, and if they are
    made tap by tap, these come in fours."""
    device = kernels.device(gpu, conv, precision)
    monkeypatch.setattr(pipeline, "plan", lambda *_: (tile, 3))
    with host.emulation(order=seed):
        for kernel in CONVOLUTIONS:
            for arguments in cases.pending(kernel, (3, 6, 10, 68, 4, (4, 4, 2), 1)):
                w = arguments[1]
                made = {
                    "conv2d_transpose": fold.suits(w.shape) and math.prod(w.shape[1:]) % 4 > 0,
                    "conv2d_transpose_with_statistics": w.shape[3] % 4 > 0,
                }
                read, whole = both(device, kernel, arguments, None if made.get(kernel) else refuse)
                assert read == whole


@pytest.mark.parametrize("precision", kernels.PRECISIONS)
@pytest.mark.parametrize(
    ("kernel", "sizes", "making"),
    [
        ("conv2d", (2, 6, 6, 6, 8, (4, 4, 2), 1), ()),  # channels that do not come in fours are copied anyway
        ("conv2d", (2, 4, 4, 8, 1, (4, 4, 1), 0), kernels.PRECISIONS),  # one logit
        ("conv2d_transpose", (1, 3, 3, 8, 1028, (1, 1, 1), 0), ("fp32", "tf32")),  # more channels than a table has
        ("conv2d_transpose", (1, 3, 3, 3, 1028, (1, 1, 1), 0), kernels.PRECISIONS),
        ("conv2d_weight_grad", (2, 4, 4, 8, 1, (4, 4, 1), 0), kernels.PRECISIONS),
    ],
)
def test_what_is_made_an_array_first(gpu, precision, kernel, sizes, making, seed):
    """Where a kernel cannot normalise what it reads, in the precisions `making`, the picture becomes an array, and the
    result is the same. What is copied before, as all is that bf16 reads, is normalised then, without a table."""
    rng = np.random.default_rng(seed)
    first, *others = cases.CASES[kernel].arguments(rng, *sizes)
    device, made = kernels.device(gpu, precision=precision), []

    def apply(*arguments):
        made.append(device.batch_norm_leaky_relu_inference(*arguments))
        return made[-1]

    read, whole = both(device, kernel, (cases.to_normalise(rng, first), *others), apply)
    assert read == whole
    assert len(made) == (precision in making)


@pytest.mark.parametrize("precision", kernels.PRECISIONS)
def test_two_pictures(gpu, precision, seed):
    """The weight gradient of two pictures of which both are to be normalised."""
    rng = np.random.default_rng(seed)
    x, y, *others = cases.CASES["conv2d_weight_grad"].arguments(rng, 2, 7, 9, 12, 68, (3, 2, 3), 1)
    device = kernels.device(gpu, precision=precision)
    pictures = cases.to_normalise(rng, x), cases.to_normalise(rng, y)
    read, whole = both(device, "conv2d_weight_grad", (*pictures, *others), device.batch_norm_leaky_relu_inference)
    assert read == whole


def test_a_tensor_becomes_an_array_once(gpu):
    """Its shape is known before; an op that needs the array makes it, those after that find it made; and a gradient
    flows back through either reading."""
    device = kernels.device(gpu, precision="tf32")
    rng = np.random.default_rng(0)
    x, w = (Tensor(device.array(cases.floats(rng, *shape)), device, True) for shape in [(2, 6, 6, 8), (4, 4, 4, 8)])
    scale, shift, mean, variance = (Tensor(device.array(abs(cases.floats(rng, 8))), device) for _ in range(4))
    with counted() as launched:
        y, *_ = ops.batch_norm_leaky_relu(x, scale, shift, statistics=(mean, variance))
        assert (y.shape, y.ndim, y.size, y.dtype) == ((2, 6, 6, 8), 4, 576, np.float32)
        assert launched.total() == 0
        loss = ops.sum(ops.conv2d(y, w, 2, 1)) + ops.sum(ops.conv2d(y.detach(), w, 2, 1))
        assert launched["batch_norm_leaky_relu_inference"] == 0
        loss = loss + ops.sum(ops.tanh(y)) + ops.sum(y * y) + ops.sum(ops.conv2d(x, ops.reshape(y, (2, 6, 6, 8))))
        assert launched["batch_norm_leaky_relu_inference"] == 1
        assert [None if g is None else g.shape for g in autograd.grad(loss, [x, w])] == [x.shape, w.shape]
        assert launched["batch_norm_leaky_relu_inference"] == 1


def test_what_a_device_says_of_itself(emulated):
    """What is pending is read by the upper rungs of a GPU's ladder; of these bf16 alone makes copies first."""
    said = {
        (d.reads_pending, d.rounds_first)
        for d in [*map(kernels.device, ("reference", "cpu")), kernels.device("emulated", "registers")]
    }
    assert said == {(False, False)}
    upper = [kernels.device("emulated", conv, precision) for conv, precision in WAYS]
    assert [d.reads_pending for d in upper] == [True] * len(upper)
    assert [d.precision for d in upper if d.rounds_first] == ["bf16"]


@pytest.mark.parametrize("op", ["conv2d", "conv2d_transpose"])
def test_what_arrives_is_rounded_once(gpu, op, monkeypatch):
    """In bf16 both gradients of a convolution read one copy of what arrives, and are to the bit what they are of two.
    What is to be differentiated again keeps its history, and is copied twice."""
    device, rng = kernels.device(gpu, precision="bf16"), np.random.default_rng(0)
    x, w, y = (device.array(a) for a in cases.form(rng, 2, 6, 6, 8, 12, (4, 4, 2), 1))
    picture, arrives = (x, y) if op == "conv2d" else (y, x)
    found = []
    for shared in (True, False):
        monkeypatch.setattr(device, "rounds_first", shared)
        leaves = [Tensor(a, device, requires_grad=True) for a in (picture, w)]
        output = getattr(ops, op)(*leaves, 2, 1)
        for again, copies in [(False, 3 if shared else 4), (True, 4)]:
            given = Tensor(arrives, device, requires_grad=again)
            with counted() as launched:
                grads = autograd.grad(output, leaves, create_graph=True, output_grads=[given])
            assert launched["operand"] == copies
            assert all(g.requires_grad for g in grads)
            found.append([g.numpy().tobytes() for g in grads])
    assert all(each == found[0] for each in found)


@contextlib.contextmanager
def counted():
    """Within, how often each kernel is launched: they run all the same."""
    launched = Counter()

    def take(launch, _, run):
        launched[launch.kernel] += 1
        run()

    with intercepted(take):
        yield launched


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_step(gpu, precision, monkeypatch):
    """Scores and weights of two steps are the same to the bit if what follows a leaky rectifier reads it whole; and but
    for the discriminator's logit, whose filter is one, nothing does."""
    device = kernels.device(gpu, precision=precision)
    found = {}
    for reads in (True, False):
        monkeypatch.setattr(device, "reads_pending", reads)
        game = Game(new_settings(parse(["--preset", "radford64", "--size", "16", "--batch-size", "4"])), device)
        rng = np.random.default_rng(0)
        with counted() as launched:
            for _ in range(2):
                real = Tensor(device.array(rng.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)), device)
                scores = game.step(real)
        found[reads] = (
            [t.numpy().tobytes() for t in [*scores.values(), *game.g_parameters, *game.d_parameters]],
            (launched["batch_norm_leaky_relu_inference"], launched["leaky_relu"]),
        )
    (bits, launches), (others, more) = found[True], found[False]
    assert bits == others
    assert launches == (2 * 3 * 1, 0)
    assert more == (2 * (2 + 3 * 1), 2 * 3 * 1)  # a step has one batch of G's, and three of D's
