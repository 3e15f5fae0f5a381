"""The ways in which a GPU convolves: naive, tiled, with register tiles, and on tensor cores in TF32 and bf16.

Each is checked against `reference` in float64. Of tensor cores the operands are rounded, by at most u = 2^-11 (TF32) or
2^-8 (bf16) of themselves, and on the way to TF32 once more as any float32 is. So a product is off by at most 2 u + u²
of itself and two roundings. Products are exact from there; the n additions of a sum may cut off instead of rounding,
each 2^-23 of the sum of absolute values at most, in groups whose smaller terms are cut off where the largest is: three
times what rounding would lose is enough.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import sys
from types import SimpleNamespace

import cases
import hypothesis
import numpy as np
import pytest
from test_kernels import BOUNDS, REFERENCE, check, gamma, in_float64, statistics

import kernels
from kernels.conv2d import bf16, cuda, dot, fold, fp32_direct, parts, pipeline, tf32
from kernels.conv2d.plan import TILES, clocks, plan
from kernels.launch import host, recording
from kernels.launch.source import intercepted
from minigan import autograd, command, ops
from minigan.models import PRESETS
from minigan.options import new_settings, parse
from minigan.train import Game

KERNELS = ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]
FORMATS = {"tf32": 2.0**-11, "bf16": 2.0**-8}  # of the tensor cores' operands
SIZES = [
    (1, 9, 7, 12, 20, (4, 4, 2), 1),  # less than a tile each way
    (2, 9, 9, 20, 132, (4, 4, 2), 1),  # a little more than one of 128 columns of y, and of rows of w
    (1, 3, 2, 8, 8, (4, 4, 2), 2),  # fewer terms than parts
    (1, 16, 17, 4, 4, (15, 15, 1), 1),  # the widest window
    (3, 4, 4, 8, 12, (4, 4, 1), 0),  # one pixel of y, which is spread over all of x
]


def arguments(kernel, sizes, seed=0):
    x, w, y = cases.form(np.random.default_rng(seed), *sizes)
    (_, _, stride), padding = sizes[-2:]
    return {
        "conv2d": (x, w, stride, padding),
        "conv2d_transpose": (y, w, stride, padding, x.shape[1:3]),
        "conv2d_weight_grad": (x, y, stride, padding, w.shape[1:3]),
    }[kernel]


def rounded_bound(kernel, given, unit):
    """How far a result may be off whose operands were rounded by `unit`."""
    exact = in_float64(given)
    absolute = getattr(REFERENCE, kernel)(*(abs(a) if isinstance(a, np.ndarray) else a for a in exact))
    terms = exact[0].size  # no sum is longer
    return (2 * unit + unit**2 + (1 + unit) ** 2 * gamma(3 * terms + 2)) * absolute


def check_rounded(device, kernel, given):
    """The kernel's result, within the bound of the device's format."""
    arrays = [device.array(a) if isinstance(a, np.ndarray) else a for a in given]
    result = device.numpy(getattr(device, kernel)(*arrays))
    want = getattr(REFERENCE, kernel)(*in_float64(given))
    assert result.shape == want.shape
    assert result.dtype == np.float32
    off, bound = abs(result - want), rounded_bound(kernel, given, FORMATS[device.precision])
    assert np.all(off <= bound), f"off by {(off / bound).max():.2f} of the bound"
    return result


# ---- the rungs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["direct", "naive", "tiled", "fp32", "fp32_direct", "tf32", "bf16"])
def test_contract(module):
    """Every way offers the functions of `reference`, with its signatures."""
    reference, other = (importlib.import_module(f"kernels.conv2d.{name}") for name in ("reference", module))
    assert other.__all__ == reference.__all__
    for kernel in reference.__all__:
        assert inspect.signature(getattr(other, kernel)) == inspect.signature(getattr(reference, kernel))


@pytest.mark.parametrize("conv", ["naive", "tiled", "registers"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_plain_rungs(gpu, conv, kernel):
    """The rungs below the pipeline are as exact as it is in float32."""
    for given in cases.fixed(kernel):
        check(kernels.device(gpu, conv), kernel, given)


@pytest.mark.parametrize("conv", ["registers", "direct"])
@pytest.mark.parametrize(
    "sizes",
    [
        (2, 13, 11, 3, 20, (4, 4, 2), 1),  # taps that no pixel of x is under; two pictures
        (1, 5, 4, 4, 4, (3, 2, 3), 1),  # pixels under no tap: fewer taps than the stride
        (1, 12, 12, 2, 8, (5, 5, 1), 2),  # under all taps
        (3, 20, 20, 1, 4, (4, 4, 2), 1),  # more elements than a block has threads
        (1, 6, 5, 3, 7, (1, 2, 2), 0),  # a window of another height than width; channels that do not come in fours
    ],
)
def test_few_channels(gpu, conv, sizes):
    """A transposed convolution of up to four channels is one of single pixels, and the sum where windows overlap."""
    given = arguments("conv2d_transpose", sizes)
    with recording() as launched:
        cuda.conv2d_transpose(*given)
    assert {(launch.source, launch.kernel) for launch in launched} == {
        (fold.SOURCE, "fold"),
        (cuda.SOURCE, "conv2d_transpose"),
    }
    check(kernels.device(gpu, conv), "conv2d_transpose", given)


@pytest.mark.parametrize("conv", ["registers", "direct"])
@pytest.mark.parametrize(
    "sizes",
    [
        (3, 4, 4, 40, 1, (4, 4, 1), 0),  # one logit a picture; 640 numbers, of which a thread has three or two
        (2, 5, 6, 16, 3, (4, 4, 2), 1),  # windows that begin and end beyond the picture; as many numbers as threads
        (1, 3, 2, 140, 2, (3, 1, 2), 1),
    ],
)
def test_few_filters(gpu, conv, sizes):
    """A convolution with few filters that are long is dot products, a block each."""
    given = arguments("conv2d", sizes)
    with recording() as launched:
        cuda.conv2d(*given)
    assert [(launch.source, launch.kernel) for launch in launched] == [(dot.SOURCE, "conv2d")]
    check(kernels.device(gpu, conv), "conv2d", given)


@pytest.mark.parametrize("kernel", ["conv2d", "conv2d_weight_grad"])
def test_sums_in_parts(gpu, kernel, monkeypatch):
    """Sums that several blocks share are as exact as the others, and the same in whatever order these come."""
    monkeypatch.setattr(cuda, "LEAST", 4)
    device = kernels.device(gpu, "registers")
    for sizes in [(2, 6, 6, 5, 3, (4, 4, 2), 1), (1, 9, 7, 12, 66, (4, 4, 2), 1)]:
        given = arguments(kernel, sizes)
        with recording() as launched:
            getattr(cuda, kernel)(*given)
        assert "whole" in {launch.kernel for launch in launched}
        results = []
        for order in (0, 1):
            with host.emulation(order=order):
                check(device, kernel, given)
                results.append(device.numpy(device.kernels[kernel](*map(device.array, given[:2]), *given[2:])))
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("count", "by"), [(1, set()), (2, {"whole"}), (parts.MOST, {"whole"}), (parts.MOST + 1, {"sum"}), (100, {"sum"})]
)
def test_parts_are_added_up(gpu, count, by, seed):
    """A few by one thread in their order, to the bit; many by several threads, within the bound of any order."""
    device = kernels.device(gpu)
    x = np.random.default_rng(seed).standard_normal((count, 3, 7, 67), np.float32)  # more elements than a block has
    with recording() as launched:
        parts.whole(x)
    assert {launch.kernel for launch in launched} == by
    y, exact = device.numpy(parts.whole(device.array(x))), x.astype(np.float64)
    if "sum" not in by:
        np.testing.assert_array_equal(y, functools.reduce(np.add, x))
    assert np.all(abs(y - exact.sum(0)) <= gamma(count) * abs(exact).sum(0))


@pytest.mark.parametrize("precision", kernels.PRECISIONS)
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")
def test_pipeline(gpu, precision, tile, seed, monkeypatch):
    """With every tile, and with sums in one part and in three: within the rounding of the operands."""
    device = kernels.device(gpu, "direct", precision)
    for number, some in ((1, SIZES), (3, SIZES[:2])):
        monkeypatch.setattr(pipeline, "plan", lambda *_, chosen=(tile, number): chosen)
        with host.emulation(order=seed):
            for kernel in KERNELS:
                for sizes in some:
                    (check_rounded if precision in FORMATS else check)(device, kernel, arguments(kernel, sizes, seed))


@pytest.mark.parametrize("precision", FORMATS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_any_sizes(gpu, precision, kernel):
    """Within the rounding of the operands for whatever sizes Hypothesis finds."""

    @hypothesis.settings(max_examples=20, deadline=None)
    @hypothesis.given(cases.drawn(kernel))
    def law(arguments):
        check_rounded(kernels.device(gpu, precision=precision), kernel, arguments)

    law()


@pytest.mark.parametrize("precision", kernels.PRECISIONS)
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}")
def test_statistics_of_a_tile(gpu, precision, tile, seed, monkeypatch):
    """What a convolution gives is the same whether its statistics are asked for or not, and they are those of just what
    it gives: of tiles that are not full, of several, of each phase; and, by a pass of their own, where sums are in
    parts or phases are not of one size."""
    device = kernels.device(gpu, "direct", precision)
    for sizes, kernel, expected in [
        ((2, 9, 9, 20, 132, (4, 4, 2), 1), "conv2d", True),
        ((2, 12, 10, 132, 8, (4, 4, 2), 1), "conv2d_transpose", True),
        ((1, 9, 7, 12, 20, (4, 4, 2), 1), "conv2d_transpose", False),  # 9 and 7 are odd
        ((5, 4, 3, 6, 12, (4, 3, 2), 0), "conv2d_transpose", True),  # one pixel is spread: 12 columns for each channel
        ((260, 2, 2, 4, 4, (2, 2, 1), 0), "conv2d_transpose", False),  # in more pictures than a tile has rows
    ]:
        given = arguments(kernel, sizes, seed)
        arrays = [device.array(a) if isinstance(a, np.ndarray) else a for a in given]
        for number in (1, 3):
            monkeypatch.setattr(pipeline, "plan", lambda *_, chosen=(tile, number): chosen)
            with recording() as launched:
                getattr(kernels.device("emulated", "direct", precision), f"{kernel}_with_statistics")(*given)
            by_itself = any(launch.kernel.startswith("batch_norm_moments") for launch in launched)
            assert by_itself != (expected and number == 1)
            with host.emulation(order=seed):
                alone = device.numpy(getattr(device, kernel)(*arrays))
                result, mean, variance = map(device.numpy, getattr(device, f"{kernel}_with_statistics")(*arrays))
            assert result.tobytes() == alone.tobytes()
            exact = result.astype(np.float64)
            rows = (0, 1, 2)
            for got, want, bound in zip(
                (mean, variance), (exact.mean(axis=rows), exact.var(axis=rows)), statistics(exact), strict=True
            ):
                assert np.all(abs(got - want) <= bound)


@pytest.mark.parametrize("precision", FORMATS)
def test_operands_are_rounded(gpu, precision):
    """1 + u rounds to 1, or away from it: sums of such numbers are those of rounded ones, exactly; and of three colours
    too."""
    unit, device = FORMATS[precision], kernels.device(gpu, precision=precision)
    a, b = np.float32(1 + 0.75 * unit), np.float32(1 + 1.5 * unit)
    x, w = device.array(np.full((1, 4, 4, 4), a)), device.array(np.full((4, 4, 4, 4), b))
    np.testing.assert_array_equal(device.numpy(device.conv2d(x, w, 2, 0)), np.float32(64 * (1 + 2 * unit)))
    y, w = device.array(np.full((1, 3, 3, 8), a)), device.array(np.full((8, 4, 4, 3), b))
    x = device.numpy(device.conv2d_transpose(y, w, 4, 0, (12, 12)))
    np.testing.assert_array_equal(x, np.full((1, 12, 12, 3), 8 * (1 + 2 * unit), np.float32))


@pytest.mark.parametrize("precision", FORMATS)
def test_what_is_not_rounded(gpu, precision):
    """One logit cannot be copied four numbers at a time, and a window 16 pixels wide has more taps than fit in a word:
    those are float32 all through."""
    device = kernels.device(gpu, precision=precision)
    for sizes in [(2, 4, 4, 8, 1, (4, 4, 1), 0), (1, 5, 17, 8, 4, (2, 16, 1), 0)]:
        for kernel in KERNELS:
            check(device, kernel, arguments(kernel, sizes))


@pytest.mark.parametrize("precision", kernels.PRECISIONS)
@pytest.mark.parametrize("kernel", ["conv2d", "conv2d_weight_grad"])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_channels_that_do_not_come_in_fours(gpu, precision, kernel, channels, seed, monkeypatch):
    """Colours are convolved as if there were more of them, all 0: with every tile, and in parts."""
    device = kernels.device(gpu, "direct", precision)
    given = arguments(kernel, (2, 9, 7, channels, 20, (4, 3, 2), 1), seed)
    for number, tile in enumerate(TILES, 1):
        monkeypatch.setattr(pipeline, "plan", lambda *_, chosen=(tile, number): chosen)
        with recording() as launched:
            getattr(kernels.device("emulated", "direct", precision), kernel)(*given)
        assert "kernels/conv2d/pipeline.cu" in {launch.source.name for launch in launched}
        with host.emulation(order=seed):
            (check_rounded if precision in FORMATS else check)(device, kernel, given)


@pytest.mark.parametrize("precision", FORMATS)
def test_gradients(gpu, precision):
    """What arrives at x and w through the op is their kernels' result, within the same rounding."""
    device = kernels.device(gpu, precision=precision)
    x, w, y = cases.form(np.random.default_rng(0), 2, 9, 7, 12, 20, (4, 4, 2), 1)
    tx, tw = (autograd.Tensor(device.array(a), device, requires_grad=True) for a in (x, w))
    gx, gw = autograd.grad(ops.conv2d(tx, tw, 2, 1), [tx, tw], output_grads=[autograd.Tensor(device.array(y), device)])
    for kernel, gradient in [("conv2d_transpose", gx), ("conv2d_weight_grad", gw)]:
        given = arguments(kernel, (2, 9, 7, 12, 20, (4, 4, 2), 1))
        off = abs(gradient.numpy() - getattr(REFERENCE, kernel)(*in_float64(given)))
        assert np.all(off <= rounded_bound(kernel, given, FORMATS[precision]))
        assert np.any(off > BOUNDS[kernel](*in_float64(given))[0])  # and it is not the float32 path's


# ---- which tile, and how many parts ---------------------------------------------------------------------------------


PLANNED = [module.PIPELINE.format for module in (fp32_direct, tf32, bf16)]


@pytest.mark.parametrize("format", PLANNED, ids=kernels.PRECISIONS)
def test_plan(format):
    """Large tiles where there are many of them; else smaller ones, or sums in parts, so that few multiprocessors are
    idle; and none that is mostly empty."""
    largest, large, *_, small = TILES
    planned = functools.partial(plan, multiprocessors=132, format=format)
    many = 256 * 132
    assert planned(many, 128, 1024, 1) == (largest, 1)
    assert planned(many, 128, 1024, 1, beside=12 * 1024) == (largest, 1)  # beside the table of 1,024 channels
    assert planned(many, 128, 1024, 1, beside=12 * 2048) == (large, 1)
    assert planned(many, 64, 1024, 1)[0].columns == 64
    for rows, columns, depth in [(16384, 128, 1024), (4096, 256, 2048), (1024, 512, 4096)]:  # of radford64, batch 64
        tile, number = planned(rows, columns, depth, 1)
        blocks = -(-rows // tile.rows) * -(-columns // tile.columns)
        assert blocks * number >= 0.96 * 132
        assert depth >= number * 4 * tile.copies * format.copy
    assert planned(128, 1024, 65536, 1)[1] > 1  # a weight gradient: w is small, the sum is long
    assert planned(64, 64, 64, 1) == (small, 1)  # nothing would help


@pytest.mark.parametrize("format", PLANNED, ids=kernels.PRECISIONS)
def test_the_plan_is_the_fastest(format, seed):
    """By the estimate: no other tile that fits, in whatever many parts, would take fewer clocks."""
    rng = np.random.default_rng(seed)
    for _ in range(20):
        rows, columns, depth = (int(size) for size in 2.0 ** rng.uniform(2, [18, 12, 16]))
        phases, beside = int(rng.choice([1, 4])), 12 * int(rng.choice([0, 256, 1024]))
        sizes = rows, columns, depth, phases, 132, format
        fastest = clocks(*plan(*sizes, beside), *sizes)
        for tile in (tile for tile in TILES if tile.shared(beside) <= 99 << 10):
            for count in range(1, max(1, min(depth // (4 * tile.copies * format.copy), 16)) + 1):
                if clocks(tile, count, *sizes) < fastest:
                    blocks = phases * -(-rows // tile.rows) * -(-columns // tile.columns) * count
                    assert blocks > 4 * 132, (tile, count)  # which is more than wait for a multiprocessor


@pytest.mark.parametrize("window", [3, 4, 5])
def test_the_plan_is_asked_with_the_work_that_is_done(monkeypatch, window):
    """Rows times columns times depth times phases is how many multiplications the trilinear form has, all derivatives
    alike. Of an odd window the phases of conv2d_transpose differ in their taps."""
    asked = []
    monkeypatch.setattr(pipeline, "plan", lambda *sizes: asked.append(math.prod(sizes[:4])) or plan(*sizes))
    n, p, k, c, where = 2, 8, 8, 4, (2, (window - 1) // 2)
    x, y, w = (np.empty(shape, np.float32) for shape in ((n, 2 * p, 2 * p, c), (n, p, p, k), (k, window, window, c)))
    with recording():
        tf32.conv2d(x, w, *where)
        tf32.conv2d_transpose(y, w, *where, (2 * p, 2 * p))
        tf32.conv2d_weight_grad(x, y, *where, (window, window))
    assert asked == 3 * [n * p * p * k * window * window * c]


def test_a_pixel_is_spread_without_a_vain_multiplication(emulated):
    """Where y has one pixel, each number of x is a sum of K products: it is one matrix product, without windows."""
    given = arguments("conv2d_transpose", (3, 4, 4, 8, 12, (4, 4, 1), 0))
    taken = []
    with intercepted(lambda launch, arguments, _: taken.append(dict(zip(parameters(launch), arguments, strict=True)))):
        kernels.device("emulated", precision="tf32").conv2d_transpose(*given)
    (launch,) = taken
    assert [launch[name] for name in "NHWCPQKRS"] == [3, 1, 1, 4 * 4 * 8, 1, 1, 12, 1, 1]


def parameters(launch):
    """Their names."""
    return [parameter.name for parameter in launch.source.kernels[launch.kernel]]


def test_stages_fit():
    """No launch asks for more shared memory than the smallest multiprocessor of sm_80 to sm_120 has for a block."""
    with recording() as launched:
        for preset in PRESETS:
            for precision in kernels.PRECISIONS:
                device = kernels.Device("emulated", "cuda", (np.float32,), instead={"conv2d": precision})
                game = Game(new_settings(parse(["--preset", preset])), device)
                game.step(autograd.Tensor(np.empty((2, *game.networks.picture), np.float32), device))
    asked = set()
    for launch in launched:
        if launch.source.name in ("kernels/conv2d/pipeline.cu", "kernels/conv2d/winograd.cu"):
            built = dict(launch.defines)
            moments = 2 * built["THREADS"] // 64 * built["TILE_COLUMNS"] * 4  # which the kernel declares
            asked.add(launch.shared + moments)
    assert asked
    assert max(asked) <= 99 << 10


# ---- choosing -------------------------------------------------------------------------------------------------------


def test_choices(emulated, monkeypatch):
    """A device has the ways and precisions that it can, each made once, and says which they are."""
    assert kernels.device("emulated") is kernels.device("emulated", "auto", "fp32") is emulated
    assert kernels.device("emulated", "tensor", "bf16").precision == "bf16"
    assert kernels.device("emulated", "tensor", "bf16") is kernels.device("emulated", precision="bf16")
    assert kernels.precisions("cpu") == ("fp32",)
    for wanted, message in [
        (("cpu", "auto", "tf32"), "cpu: no tf32 convolution here: 'auto' is in fp32"),
        (("cpu", "tiled"), "cpu: does not convolve 'tiled' here: choose one of auto, direct"),
        (("emulated", "tensor"), "emulated: no fp32 convolution here: 'tensor' is in tf32 or bf16"),
        (("abacus",), "no device 'abacus'"),
    ]:
        with pytest.raises(kernels.DeviceError, match=message):
            kernels.device(*wanted)


@pytest.mark.parametrize(
    ("tensor_cores", "conv", "known", "chosen"),
    [
        (True, "auto", ("fp32", "tf32", "bf16"), "tf32"),
        (True, "naive", ("fp32",), "fp32"),
        (True, "tensor", ("tf32", "bf16"), "tf32"),
        (False, "auto", ("fp32",), "fp32"),
    ],
)
def test_the_precision_of_a_gpu(monkeypatch, tensor_cores, conv, known, chosen):
    """TF32 where there are tensor cores for it, unless another is asked for; a GPU older than sm_80 has float32."""
    monkeypatch.setitem(sys.modules, "kernels.launch.gpu", SimpleNamespace(has_tensor_cores=lambda: tensor_cores))
    monkeypatch.setattr("kernels.launch.gpu", sys.modules["kernels.launch.gpu"], raising=False)
    monkeypatch.setattr(
        kernels, "_made", lambda name, module, precision: SimpleNamespace(name=name, precision=precision)
    )
    assert kernels.precisions("cuda", conv) == known
    device, why = command.choose_device("cuda", conv)
    assert (device.name, device.precision, why) == ("cuda", chosen, "as asked")
    assert command.in_words(device) == f"cuda, {chosen}"
    assert command.choose_device("auto", conv, None, known[-1])[0].precision == known[-1]


def test_tensor_cores_of_a_gpu_without(monkeypatch):
    """A GPU older than sm_80 has float32 alone, by registers; it says so of what else is asked for."""
    monkeypatch.setattr("kernels.launch.gpu", SimpleNamespace(has_tensor_cores=lambda: False), raising=False)
    assert kernels.convolution("cuda") == kernels.convolution("emulated", "registers") == "cuda"
    with pytest.raises(kernels.DeviceError, match="cuda: no tf32 convolution here: 'auto' is in fp32"):
        kernels.convolution("cuda", "auto", "tf32")
    with pytest.raises(kernels.DeviceError, match="cuda: does not convolve 'tensor' here: choose one of auto, direct"):
        kernels.precisions("cuda", "tensor")
