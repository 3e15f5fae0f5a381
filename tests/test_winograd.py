"""Winograd's convolution: exact in rational numbers, within its own rounding in float32, and as good as float32 is.

The bounds: a transform is two small matrix products, so its numbers pass twice through n + 1 roundings (n terms, and
the matrix's entries are rounded too), and the products are summed over all channels. As in test_kernels.py, what passes
through N roundings is off by at most gamma(N) times the same computation with absolute values, of the matrices too.
"""

from __future__ import annotations

import functools
import itertools
import math

import cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels import gamma, poisoned

import kernels
from benchmarks.train_step import loss_bound
from kernels.conv2d import (
    cpu,
    direct,
    fp32,
    fp32_direct,
    reference,
    winograd,
    winograd_cpu,
    winograd_cuda,
)
from kernels.conv2d.plan import TILES
from kernels.conv2d.tiles_cuda import Tiles
from kernels.lanes import PANEL
from kernels.launch import host, recording
from minigan.autograd import Tensor
from minigan.nn import Conv2d, Conv2dTranspose
from minigan.options import new_settings, parse
from minigan.train import Game

ALGORITHMS = [(m, r) for r, outputs in winograd.OUTPUTS.items() for m in outputs]


@pytest.mark.parametrize(("m", "r"), ALGORITHMS)
def test_matrices(m, r):
    """sum over e of B[e,k] G[e,j] A[e,i] is 1 where k = i + j and else 0: the trilinear form of one axis, exactly."""
    letter = winograd.matrices(m, r)
    for k, j, i in itertools.product(range(m + r - 1), range(r), range(m)):
        total = sum(b[k] * g[j] * a[i] for b, g, a in zip(letter["x"], letter["w"], letter["y"], strict=True))
        assert total == (k == i + j)


# ---- any sizes, within the bound of the roundings --------------------------------------------------------------------


def pixels_of_tiles(letter, side, height, width):
    """Where the tiles' pixels are in a picture with a margin that holds them all: (rows, side, fold), and the margin,
    (top, bottom); and the same for columns."""

    def axis(tiles, length):
        at = (np.arange(tiles)[:, None, None] * letter.step + np.arange(side)[:, None]) * letter.fold
        at = at + np.arange(letter.fold)
        return at, (letter.padding, max(0, at.max() + 1 - letter.padding - length))

    return axis(letter.rows, height), axis(letter.columns, width)


def magnitudes(letter):
    """|matrix| of the letter, (n, side)."""
    return np.array([[abs(value or 0) for value in row] for row in letter.to], np.float64)


def to_points(pictures, letter):
    """|matrix| |tile| |matrix|ᵀ of every tile: (n², tiles, folded channels)."""
    matrix = magnitudes(letter)
    (rows, vertical), (columns, horizontal) = pixels_of_tiles(letter, matrix.shape[1], *pictures.shape[1:3])
    padded = np.pad(abs(pictures), ((0, 0), vertical, horizontal, (0, 0)))
    tiles = padded[:, rows[:, :, :, None, None, None], columns]  # (N, rows, side, fold, columns, side, fold, C)
    points = np.einsum("pi,qj,nrifcjgk->pqnrcfgk", matrix, matrix, tiles, optimize=True)
    return points.reshape(len(matrix) ** 2, -1, letter.fold**2 * pictures.shape[3])


def from_points(points, letter, shape):
    """Its adjoint: the pictures' shape is given."""
    matrix = magnitudes(letter)
    n, side = matrix.shape
    (rows, vertical), (columns, horizontal) = pixels_of_tiles(letter, side, *shape[1:3])
    fold = letter.fold
    points = points.reshape(n, n, shape[0], letter.rows, letter.columns, fold, fold, shape[3])
    tiles = np.einsum("pi,qj,pqnrcfgk->rifcjgnk", matrix, matrix, points, optimize=True)
    padded = np.zeros((shape[1] + sum(vertical), shape[2] + sum(horizontal), shape[0], shape[3]))
    np.add.at(padded, (rows[:, :, :, None, None, None], columns), tiles)
    top, left = vertical[0], horizontal[0]
    return padded[top : top + shape[1], left : left + shape[2]].transpose(2, 0, 1, 3)


def bounds(x, w, y, algorithm):
    """How far the three derivatives may be off, element by element."""
    letters = algorithm.letters(y.shape[1:3])
    px, pw, py = (to_points(a, letters[name]) for a, name in ((x, "x"), (w, "w"), (y, "y")))
    n = len(letters["x"].to)
    transforms = 3 * 2 * (n + 1)  # two letters to points and one back, each on two axes
    overlap = math.ceil(n / letters["x"].step) ** 2  # tiles that share a pixel of x
    return (
        gamma(transforms + px.shape[2]) * from_points(px @ pw.transpose(0, 2, 1), letters["y"], y.shape),
        gamma(transforms + y.shape[3] + overlap) * from_points(py @ pw, letters["x"], x.shape),
        gamma(transforms + py.shape[1]) * from_points(py.transpose(0, 2, 1) @ px, letters["w"], w.shape),
    )


def transformed(module, x, w, y, algorithm):
    """conv2d, conv2d_transpose and conv2d_weight_grad by winograd_cpu or winograd_cuda."""
    return (
        module.conv2d(x, w, algorithm, y.shape[1:3]),
        module.conv2d_transpose(y, w, algorithm, x.shape[1:3]),
        module.conv2d_weight_grad(x, y, algorithm, w.shape[1:3]),
    )


def on_gpu(device, x, w, y, algorithm):
    """The same by winograd_cuda on that device, in memory that held NaN, as NumPy arrays."""
    with poisoned(device):
        return [device.numpy(a) for a in transformed(winograd_cuda, *map(device.array, (x, w, y)), algorithm)]


def derivatives(module, x, w, y, stride, padding):
    """The same by a module with the contract."""
    return (
        module.conv2d(x, w, stride, padding),
        module.conv2d_transpose(y, w, stride, padding, x.shape[1:3]),
        module.conv2d_weight_grad(x, y, stride, padding, w.shape[1:3]),
    )


def in_float64(*arrays):
    return [a.astype(np.float64) for a in arrays]


def check(compute, rng, n, height, width, c, k, filters, stride, padding, m):
    """The three derivatives that compute(x, w, y, algorithm) gives."""
    x, w, y = cases.form(rng, n, height, width, c, k, (filters, filters, stride), padding)
    algorithm = winograd.Algorithm(m, -(-filters // stride), stride, padding)
    exact = derivatives(reference, *in_float64(x, w, y), stride, padding)
    found = compute(x, w, y, algorithm)
    for result, want, bound in zip(found, exact, bounds(*in_float64(x, w, y), algorithm), strict=True):
        assert np.all(abs(result - want) <= bound)  # never true of NaN


@st.composite
def sizes(draw, largest, channels):
    """Tiles that end in the middle of a picture, one tile and many, more tiles than channels and fewer."""
    filters, stride = draw(st.sampled_from([(2, 1), (3, 1), (3, 2), (4, 2), (5, 2), (5, 1)]))
    padding = draw(st.integers(0, filters - 1))
    height, width = (draw(st.integers(max(1, filters - 2 * padding), largest)) for _ in range(2))
    m = draw(st.sampled_from(winograd.OUTPUTS[-(-filters // stride)]))
    c, k = draw(st.sampled_from(channels)), draw(st.sampled_from(channels))
    return draw(st.integers(1, 5)), height, width, c, k, filters, stride, padding, m


def test_any_sizes():
    """The three derivatives are those of `reference` in float64, within the bound, at every element."""

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32 - 1).map(np.random.default_rng), sizes(19, [32, 64]))
    def law(rng, drawn):
        check(functools.partial(transformed, winograd_cpu), rng, *drawn)

    law()


def test_any_sizes_on_a_gpu(gpu):
    """The same of the `.cu` files, where the channels are fewer and larger than a block's."""
    device = kernels.device(gpu)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**32 - 1).map(np.random.default_rng), sizes(11, [4, 12, 20, 68]))
    def law(rng, drawn):
        check(functools.partial(on_gpu, device), rng, *drawn)

    law()


@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")
@pytest.mark.parametrize("parts", [1, 3])
def test_any_plan_on_a_gpu(gpu, tile, parts, seed, monkeypatch):
    """With every tile of a product, and with sums in one part and in three, whatever runs first."""
    monkeypatch.setattr(winograd_cuda, "plan", lambda *_: (tile, parts))
    compute, rng = functools.partial(on_gpu, kernels.device(gpu)), np.random.default_rng(seed)
    with host.emulation(order=seed):
        for c, k in [(12, 20), (36, 132)]:  # less than a tile each way, and a little more
            check(compute, rng, 3, 9, 7, c, k, 4, 2, 1, 2)


def test_views():
    """Arrays that are not contiguous are read right."""
    x, w, y = cases.form(np.random.default_rng(0), 2, 8, 8, 32, 64, (4, 4, 2), 1)
    whole = derivatives(cpu, x, w, y, 2, 1)
    views = [np.repeat(np.repeat(a, 2, axis=-1), 2, axis=0)[::2, ..., ::2] for a in (x, w, y)]
    for a, b in zip(whole, derivatives(cpu, *views, 2, 1), strict=True):
        assert a.tobytes() == b.tobytes()


def test_many_groups(monkeypatch):
    """Pictures that go through in several groups, the last one smaller, give what they give all at once."""
    x, w, y = cases.form(np.random.default_rng(0), 23, 12, 20, 32, 32, (4, 4, 2), 1)  # 6 tiles a picture, 138 in all
    algorithm = winograd.Algorithm(4, 2, 2, 1)
    monkeypatch.setattr(winograd_cpu, "CACHE", 1 << 40)
    monkeypatch.setattr(winograd_cpu, "SHARED", 1 << 40)
    at_once = transformed(winograd_cpu, x, w, y, algorithm)
    monkeypatch.setattr(winograd_cpu, "CACHE", 1)  # 4 pictures, whose tiles fill the rows of a product
    monkeypatch.setattr(winograd_cpu, "SHARED", 2 * 4 * 25 * 6 * (4 * 32 + 32))  # 2 pictures
    compare_groups(at_once, transformed(winograd_cpu, x, w, y, algorithm), bounds(*in_float64(x, w, y), algorithm)[2])


def compare_groups(at_once, in_groups, bound):
    """The same bits; but a weight gradient is added up in another order, and within its bound."""
    for a, b in zip(at_once[:2], in_groups[:2], strict=True):
        assert a.tobytes() == b.tobytes()
    assert np.all(abs(at_once[2] - in_groups[2]) <= bound)
    assert at_once[2].tobytes() != in_groups[2].tobytes()


def test_many_groups_on_a_gpu(gpu, monkeypatch):
    """The same of the `.cu` files; and in groups the pictures' points never take more than what is said."""
    x, w, y = cases.form(np.random.default_rng(0), 7, 12, 20, 4, 8, (4, 4, 2), 1)  # 6 tiles a picture
    algorithm, device = winograd.Algorithm(4, 2, 2, 1), kernels.device(gpu)
    at_once = on_gpu(device, x, w, y, algorithm)
    two_pictures = 2 * 4 * 25 * 6 * (4 * 4 + 8)  # bytes; the filters' points take less
    monkeypatch.setattr(winograd_cuda, "AT_ONCE", two_pictures)
    tiles = Tiles(algorithm, y.shape[1:3])
    assert winograd_cuda.groups(tiles, 7, 8, 16) == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    in_groups = on_gpu(device, x, w, y, algorithm)
    compare_groups(at_once, in_groups, bounds(*in_float64(x, w, y), algorithm)[2])


# ---- as exact as float32 convolution is ------------------------------------------------------------------------------


def layers(preset):
    """The convolutions of both networks: x's and w's shapes (without the batch axis), stride and padding."""
    given = ["--preset", preset, "--batch-size", "2", "--device", "cpu"]
    game = Game(new_settings(parse(given)), kernels.device("cpu"))
    for network, shape in ((game.generator, game.networks.z_shape), (game.discriminator, game.networks.picture)):
        for layer in network:
            larger = layer.output_shape(shape) if isinstance(layer, Conv2dTranspose) else shape
            if isinstance(layer, (Conv2d, Conv2dTranspose)):
                yield larger, layer.w.shape, layer.stride, layer.padding
            shape = layer.output_shape(shape)


def compare(name, fast, plain, x, w, y, stride, padding):
    """The errors of three derivatives beside those of the direct sum, `plain`."""
    exact = derivatives(reference, *in_float64(x, w, y), stride, padding)
    for kernel, a, b, want in zip(
        ("conv2d", "conv2d_transpose", "conv2d_weight_grad"), fast, plain, exact, strict=True
    ):
        error, usual = (math.sqrt(np.mean((result - want) ** 2)) for result in (a, b))
        print(f"{name} {kernel} x {x.shape} w {w.shape}: {error / usual:.1f} times")
        assert error <= 6 * usual, (name, kernel, x.shape, w.shape)


@pytest.mark.parametrize(("m", "r"), ALGORITHMS)
@pytest.mark.parametrize("n", [1, 24])
def test_every_algorithm_is_as_exact_as_the_direct_sum(m, r, n, seed):
    """As the next test says it of layers: of many pictures, which go through in groups, and of one."""
    stride = 1 if r == 5 else 2
    filters = {2: 4, 3: 5, 5: 5}[r]
    side = 16 if n == 1 else 8
    x, w, y = cases.form(np.random.default_rng(seed), n, side, side, 64, 128, (filters, filters, stride), filters // 2)
    padding = filters // 2
    fast = transformed(winograd_cpu, x, w, y, winograd.Algorithm(m, r, stride, padding))
    compare(f"m {m} r {r}", fast, derivatives(direct, x, w, y, stride, padding), x, w, y, stride, padding)


@pytest.mark.parametrize(("m", "r"), ALGORITHMS)
def test_as_exact_as_the_direct_sum_on_a_gpu(gpu, m, r, seed):
    """The root mean square error of the `.cu` files is at most 6 times that of their direct sum."""
    device = kernels.device(gpu)
    filters, stride = {2: (4, 2), 3: (5, 2), 5: (5, 1)}[r]
    padding = filters // 2
    x, w, y = cases.form(np.random.default_rng(seed), 2, 8, 8, 32, 32, (filters, filters, stride), padding)
    fast = on_gpu(device, x, w, y, winograd.Algorithm(m, r, stride, padding))
    plain = derivatives(fp32_direct, *map(device.array, (x, w, y)), stride, padding)
    compare(f"{gpu} m {m} r {r}", fast, map(device.numpy, plain), x, w, y, stride, padding)


@pytest.mark.parametrize("preset", ["radford64", "article128", "tiny32"])
def test_as_exact_as_the_direct_sum(preset, seed):
    """For every layer's shapes: the root mean square error is at most 6 times that of the direct float32 sum."""
    rng = np.random.default_rng(seed)
    found = set()
    for (h, width, c), (k, r, s, _), stride, padding in sorted(set(layers(preset))):
        x, w, y = cases.form(rng, 1, h, width, c, k, (r, s, stride), padding)
        algorithm = winograd.algorithm(y.shape[1:3], w.shape, stride, padding, PANEL)
        if algorithm is None:
            continue
        found.add(algorithm)
        fast, plain = (derivatives(module, x, w, y, stride, padding) for module in (cpu, direct))
        compare(f"{preset}", fast, plain, x, w, y, stride, padding)
    assert found  # or nothing was tested


def test_training_follows_the_direct_sum(seed):
    """The losses of a short training, with --conv direct and without, stay together.

    After a step two right float32 implementations differ by at most `loss_bound` (it is derived there), with sums of
    the usual rounding; Winograd's may be 6 times that, as above, and every step adds as much again.
    """
    given = ["--preset", "tiny32", "--batch-size", "8", "--device", "cpu", "--seed", str(seed)]
    settings = [new_settings(parse([*given, "--conv", conv])) for conv in ("auto", "direct")]
    games = [Game(s, kernels.device("cpu", s.conv)) for s in settings]
    rng = np.random.default_rng(seed)
    bits_differ = False
    for step in range(1, 9):
        real = rng.uniform(-1, 1, (8, 32, 32, 3)).astype(np.float32)
        ours, plain = (game.step(Tensor(game.device.array(real), game.device)) for game in games)
        for loss in ("d_loss", "g_loss"):
            assert abs(ours[loss].item() / plain[loss].item() - 1) <= step * 6 * loss_bound(games[0].networks), step
            bits_differ |= ours[loss].item() != plain[loss].item()
    assert bits_differ  # or one algorithm was compared with itself


def test_the_rule():
    """Where Winograd's algorithm takes a layer, and where the direct sum does."""
    rule, chosen = functools.partial(winograd.algorithm, multiple=PANEL), winograd.Algorithm
    assert rule((16, 16), (128, 4, 4, 64), 2, 1) == chosen(4, 2, 2, 1)
    assert rule((8, 8), (128, 5, 5, 64), 2, 2) == chosen(4, 3, 2, 2)
    assert rule((16, 16), (128, 5, 5, 64), 1, 2) == chosen(2, 5, 1, 2)
    assert rule((2, 2), (128, 4, 4, 64), 2, 1) == chosen(2, 2, 2, 1)  # a larger tile is half empty
    assert rule((32, 32), (64, 4, 4, 3), 2, 1) is None  # 3 channels do not fill a panel
    assert rule((1, 1), (32, 5, 5, 64), 2, 2) is None  # one output: no sum is shared
    assert rule((16, 16), (64, 4, 5, 64), 1, 2) is None  # not square


def test_the_rule_of_a_gpu():
    """There it is the same, of channels in fours, where the tiles are enough for a block."""
    assert fp32.algorithm(4, (16, 16), (12, 4, 4, 68), 2, 1) == winograd.Algorithm(4, 2, 2, 1)  # 16 tiles a picture
    assert fp32.algorithm(3, (16, 16), (12, 4, 4, 68), 2, 1) is None
    assert fp32.algorithm(64, (16, 16), (12, 4, 4, 67), 2, 1) is None


@pytest.mark.parametrize("kernel", ["conv2d", "conv2d_transpose", "conv2d_weight_grad"])
def test_choices_on_a_gpu(emulated, kernel):
    """float32 takes Winograd's algorithm where it suits; --conv direct, TF32 and small batches do not."""
    (many,) = cases.many_tiles(kernel)
    few = cases.CASES[kernel].arguments(np.random.default_rng(0), 31, *cases.MANY_TILES[1:])

    def sources(conv, precision, arguments):
        with recording() as launched:
            kernels.device("emulated", conv, precision).kernels[kernel](*arguments)
        files = {launch.source.name.removeprefix("kernels/conv2d/") for launch in launched}
        return files & {"tiles.cu", "winograd.cu", "pipeline.cu"}

    assert sources("auto", "fp32", many) == {"tiles.cu", "winograd.cu"}
    for other in [("direct", "fp32", many), ("auto", "tf32", many), ("auto", "fp32", few)]:
        assert sources(*other) == {"pipeline.cu"}
