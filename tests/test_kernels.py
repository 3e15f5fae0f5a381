"""Every kernel on every device against `reference` in float64, within the bound of its own roundings.

How the bounds are made (Higham, "Accuracy and Stability of Numerical Algorithms", chapters 2 to 4): an operation in
float32 returns its exact result times 1 + d with |d| <= U = 2⁻²⁴. So a result made by products, quotients and sums of
numbers of one sign, none of which passes through more than n roundings, is off by at most gamma(n) = n U / (1 - n U) of
itself; and a sum of n products is off by at most gamma(n) times the same sum of absolute values, in whatever order it
is added up, with or without fused multiplications. The inputs are float32, so float64 holds them exactly, and its own
roundings are 2²⁹ times smaller than the bounds.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect

import cases
import numpy as np
import pytest
from hypothesis import given, settings

import kernels
from kernels.conv2d import direct
from kernels.launch import source

U = 2.0**-24
LIBM = 8  # roundings: CUDA promises 4 ulp, 8 U, for exp, tanh, log1p and pow, and NumPy and C do as well or better
TINY = 2.0**-126  # what is smaller may be flushed to zero on a GPU
REFERENCE = kernels.device("reference")
KERNELS = sorted(REFERENCE.kernels)
CONVOLUTIONS = ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]


def changed_by_adam(arguments):
    """The step, the parameters, m and v, and not the gradients."""
    count = (len(arguments) - 5) // 4
    return 0, *range(5, 5 + count), *range(5 + 2 * count, len(arguments))


# The arguments that a kernel changes, and is asked for instead of its result.
IN_PLACE = {
    "adam": changed_by_adam,
    "moving_average": lambda arguments: range(2, 2 + len(arguments[1])),
    "philox_advance": lambda _: (0,),
}


def gamma(n):
    """The largest relative error of n roundings."""
    return n * U / (1 - n * U)


# ---- the bounds: for each kernel and its arguments in float64, how far each element of each result may be off --------

BOUNDS = {}


def bound(function):
    """Enters a bound under the name of its kernel."""
    BOUNDS[function.__name__] = function
    return function


def exact(*_):
    """Not at all: the same bits everywhere."""
    return (0.0,)


RANDOM = ("philox", "philox_advance", "uniform", "normal", "truncated_normal")
BOUNDS |= dict.fromkeys(("broadcast_to", "full", "image_batch", *RANDOM), exact)


@bound
def conv2d(x, w, stride, padding):
    """A sum of R S C products."""
    return (gamma(w[0].size) * REFERENCE.conv2d(abs(x), abs(w), stride, padding),)


@bound
def conv2d_transpose(y, w, stride, padding, size):
    """A sum of at most K R S products."""
    return (gamma(w[..., 0].size) * REFERENCE.conv2d_transpose(abs(y), abs(w), stride, padding, size),)


@bound
def conv2d_weight_grad(x, y, stride, padding, size):
    """A sum of at most N P Q products."""
    return (gamma(y[..., 0].size) * REFERENCE.conv2d_weight_grad(abs(x), abs(y), stride, padding, size),)


@bound
def conv2d_with_statistics(x, w, stride, padding):
    """Those of conv2d's result, which is off itself."""
    off = conv2d(x, w, stride, padding)[0]
    return off, *statistics(REFERENCE.conv2d(x, w, stride, padding), off)


@bound
def conv2d_transpose_with_statistics(y, w, stride, padding, size):
    """The same."""
    off = conv2d_transpose(y, w, stride, padding, size)[0]
    return off, *statistics(REFERENCE.conv2d_transpose(y, w, stride, padding, size), off)


def statistics(x, off=0.0):
    """How far the mean and the variance of x (..., C) may be off, if x itself may be off by so much.

    mean: M additions and a division. variance: the squares are taken about a mean that is off by `mean_off`, which adds
    mean_off² to their mean, exactly; each goes through a subtraction, twice in its square, a product, M additions and a
    division; on a GPU, where each chunk's are about a mean of its own, through a division and two products more. And a
    standard deviation, as a distance is, differs by at most the root mean square of what its numbers differ by.
    """
    rows, m = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    off = np.broadcast_to(off, x.shape)
    mean_off = gamma(m + 1) * (abs(x) + off).mean(axis=rows)
    moved = np.sqrt((off**2).mean(axis=rows))
    variance = (x.std(axis=rows) + moved) ** 2
    variance_off = variance - x.var(axis=rows) + mean_off**2 + gamma(m + 8) * (variance + mean_off**2)
    return off.mean(axis=rows) + mean_off, variance_off


@bound
def batch_norm(x, scale, shift, eps):
    """The errors of the mean and of the variance are carried on into y."""
    _, mean, variance = REFERENCE.batch_norm(x, scale, shift, eps)
    off, variance_off = statistics(x)
    return normalised(x, scale, shift, mean, variance, eps, off, variance_off), off, variance_off


@bound
def batch_norm_inference(x, scale, shift, mean, variance, eps):
    """mean and variance are exact."""
    return (normalised(x, scale, shift, mean, variance, eps, 0.0, 0.0),)


def normalised(x, scale, shift, mean, variance, eps, off, variance_off):
    """The bound of scale (x - mean) / sqrt(variance + eps) + shift with a mean and a variance that are off by so much.

    The distance to the mean is wrong by at most `off`, and 1 / sqrt is steepest at the smallest variance. From there to
    the product it is at most 8 roundings: a subtraction, eps, variance + eps, the root, a division, a product, and on
    the CPU the factor scale / sqrt() that is rounded by itself. The sum with shift is one more.
    """
    true = abs(scale) * abs(x - mean) / np.sqrt(variance + eps)
    smallest = np.maximum(variance - variance_off, 0)
    worst = abs(scale) * (abs(x - mean) + off) / np.sqrt(smallest + eps) * (1 + gamma(8))
    return worst - true + U * (worst + abs(shift))


@bound
def batch_norm_grad(gy, x, scale, mean, variance, eps):
    """gshift is a sum of M numbers; gscale of M products, with a subtraction before and 5 roundings of the root after.

    In gx three terms are subtracted; the longest way is through gscale, to which come another root (5), products and
    quotients (5), the two subtractions, and the CPU's rounded factors (2).
    """
    rows, m = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    xhat = abs(x - mean) / np.sqrt(variance + eps)
    gscale, gshift = (abs(gy) * xhat).sum(axis=rows), abs(gy).sum(axis=rows)
    gx = abs(scale) / np.sqrt(variance + eps) * (abs(gy) + gshift / m + xhat * gscale / m)
    return gamma(m + 22) * gx, gamma(m + 7) * gscale, gamma(m) * gshift


@bound
def batch_norm_leaky_relu(x, scale, shift, eps, slope):
    """No error of the normalised x grows in the rectifier, whose slope is at most 1; that and a product are rounded."""
    y, mean, variance = batch_norm(x, scale, shift, eps)
    normalised, *_ = REFERENCE.batch_norm(x, scale, shift, eps)
    return y + gamma(2) * (abs(normalised) + y), mean, variance


@bound
def batch_norm_leaky_relu_grad(gy, x, scale, shift, mean, variance, eps, slope):
    """As batch_norm_grad, after the rectifier's two roundings. Where these could decide the sign, gy is 0."""
    gn = abs(REFERENCE.leaky_relu_grad(gy, REFERENCE.batch_norm_inference(x, scale, shift, mean, variance, eps), slope))
    plain = batch_norm_grad(gn, x, scale, mean, variance, eps)
    m = x.size // x.shape[-1]
    roundings = m + 22, m + 7, m
    return tuple(bound * gamma(n + 2) / gamma(n) for bound, n in zip(plain, roundings, strict=True))


@bound
def batch_norm_leaky_relu_inference(x, scale, shift, mean, variance, eps, slope):
    """As batch_norm_leaky_relu, with a mean and a variance that are exact."""
    (y,) = batch_norm_inference(x, scale, shift, mean, variance, eps)
    return (y + gamma(2) * (abs(REFERENCE.batch_norm_inference(x, scale, shift, mean, variance, eps)) + y),)


@bound
def leaky_relu(x, slope):
    """The slope is rounded, and then the product."""
    return (gamma(2) * abs(REFERENCE.leaky_relu(x, slope)),)


@bound
def leaky_relu_grad(gy, x, slope):
    """The same."""
    return (gamma(2) * abs(REFERENCE.leaky_relu_grad(gy, x, slope)),)


@bound
def tanh(x):
    """One function."""
    return (gamma(LIBM) * abs(np.tanh(x)),)


@bound
def tanh_grad(gy, x):
    """tanh, its square, the difference, the product. 1 and tanh² may cancel; their errors add up as their sizes do."""
    return (gamma(2 * LIBM + 3) * abs(gy) * (1 + np.tanh(x) ** 2),)


@bound
def sigmoid(x):
    """exp above and below the line, a sum, a quotient."""
    return (gamma(2 * LIBM + 2) * REFERENCE.sigmoid(x),)


@bound
def bce_with_logits(logits, target):
    """Each loss: exp, log1p (which does not enlarge a relative error), two sums; then n additions and a division."""
    losses = np.maximum(logits, 0) + abs(logits * target) + np.log1p(np.exp(-abs(logits)))
    return (gamma(2 * LIBM + 2 + logits.size + 1) * losses.mean(),)


@bound
def bce_with_logits_grad(g, logits, target):
    """The sigmoid's, a subtraction, a product, a division; the target that is tried is float32."""
    return (gamma(2 * LIBM + 2 + 3) * abs(g) * (REFERENCE.sigmoid(logits) + target) / logits.size,)


@bound
def add(a, b):
    """One operation, as the next three."""
    return (U * abs(a + b),)


@bound
def subtract(a, b):
    return (U * abs(a - b),)


@bound
def multiply(a, b):
    return (U * abs(a * b),)


@bound
def divide(a, b):
    return (U * abs(a / b),)


@bound
def power(x, exponent):
    """One function; the exponents that are tried are float32."""
    return (gamma(LIBM) * abs(x**exponent),)


@bound
def sum(x, axes):
    """As many additions as there are numbers in a sum, less one."""
    return (gamma(x.size) * abs(x).sum(axis=axes, keepdims=True),)


@bound
def mean(x, axes):
    """And a division for each run of axes, at most two; the counts that are tried are float32."""
    return (gamma(x.size + 1) * abs(x).mean(axis=axes, keepdims=True),)


@bound
def moving_average(momentum, factors, *arrays):
    """A product, a subtraction, a product and a sum; the factors that are tried are float32."""
    pairs = zip(arrays[: len(factors)], arrays[len(factors) :], factors, strict=True)
    return tuple(gamma(4) * (abs(a) + abs(momentum) * (abs(factor * value) + abs(a))) for a, value, factor in pairs)


@bound
def adam(step, lr, beta1, beta2, eps, *arrays):
    """The step is exact; of each parameter, its m and its v by themselves."""
    count = len(arrays) // 4
    bounds = [moved_by_adam(int(step) + 1, lr, beta1, beta2, eps, *arrays[i::count]) for i in range(count)]
    return 0.0, *(off for kind in zip(*bounds, strict=True) for off in kind)


def moved_by_adam(step, lr, beta1, beta2, eps, parameters, gradients, m, v):
    """m: a number rounded, a product, a sum. v: a product more. Neither loses digits in v, whose terms are positive.

    The update takes 3 roundings with m, 2 with its correction; lr and a product 2; half of v's 4 and its correction's
    2, the root 1, eps and its sum 2; the quotient 1. Then it is subtracted.
    """
    m_terms = beta1 * abs(m) + (1 - beta1) * abs(gradients)
    v_terms = beta2 * v + (1 - beta2) * gradients**2
    updates = lr * m_terms / (1 - beta1**step) / (np.sqrt(v_terms / (1 - beta2**step)) + eps)
    updates_off = gamma(14) * updates
    return updates_off + U * (abs(parameters) + updates + updates_off), gamma(3) * m_terms, gamma(4) * v_terms


# ---- running a kernel ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def poisoned(device):
    """While active, memory that a kernel of the device is given to fill holds NaN, or the largest integer."""

    def poison(empty):
        def allocate(*arguments, **options):
            array = empty(*arguments, **options)
            target = array.reshape(-1).view(np.uint8)
            if isinstance(array, np.ndarray):
                target.fill(255)
            else:
                device.copy(target, device.array(np.full(array.nbytes, 255, np.uint8)))
            return array

        return allocate

    with pytest.MonkeyPatch.context() as patch:
        for kind, home in source.HOMES.items():
            patch.setitem(source.HOMES, kind, home._replace(empty=poison(home.empty)))
        patch.setattr(np, "empty", poison(np.empty))
        yield


def run(device, kernel, arguments):
    """The results of a kernel as NumPy arrays, made in poisoned memory; what it may not change is found unchanged."""
    for memory in (
        contextlib.nullcontext(),
        poisoned(device),
    ):  # Numba compiles in the first, where np.empty is NumPy's own
        given = [device.array(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments]
        with memory:
            results = getattr(device, kernel)(*given)
    for i, (a, b) in enumerate(zip(given, arguments, strict=True)):
        if isinstance(b, np.ndarray) and (kernel not in IN_PLACE or i not in IN_PLACE[kernel](arguments)):
            assert np.array_equal(device.numpy(a), b), f"{kernel} changed its argument {i}"
    return results_of(device, kernel, given, results)


def results_of(device, kernel, arguments, returned):
    """What a kernel returned, or changed of its arguments, as a tuple of NumPy arrays."""
    if kernel in IN_PLACE:
        assert returned is None
        returned = tuple(arguments[i] for i in IN_PLACE[kernel](arguments))
    return tuple(device.numpy(a) for a in (returned if isinstance(returned, tuple) else (returned,)))


def in_float64(arguments):
    return [a.astype(np.float64) if getattr(a, "dtype", None) == np.float32 else a for a in arguments]


def check(device, kernel, arguments):
    """Runs a kernel and compares its results."""
    compare(kernel, run(device, kernel, arguments), arguments)


def compare(kernel, results, arguments):
    """Results are as many as those of `reference`, of their shapes, of the right type, and within the bound."""
    expected = run(REFERENCE, kernel, in_float64(arguments))
    assert len(results) == len(expected)
    for result, want, tolerance in zip(results, expected, BOUNDS[kernel](*in_float64(arguments)), strict=True):
        assert type(result) is np.ndarray
        assert result.shape == want.shape
        assert result.dtype == (want.dtype if want.dtype.kind in "iu" else np.float32)
        off = abs(result.astype(np.float64) - want)
        assert np.all(off <= tolerance + TINY * np.any(tolerance)), f"{kernel}: off by {off.max()}"  # never true of NaN


# ---- the laws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["cpu", "cuda"])
def test_contract(module):
    """Every device offers the functions of `reference`, with its signatures. (`emulated` has the modules of `cuda`.)"""
    for room in kernels.rooms():
        reference, other = (importlib.import_module(f"kernels.{room}.{name}") for name in ("reference", module))
        assert other.__all__ == reference.__all__
        for kernel in reference.__all__:
            assert inspect.signature(getattr(other, kernel)) == inspect.signature(getattr(reference, kernel)), kernel


def test_every_kernel_is_tested():
    """The tables of arguments and of bounds leave no kernel out."""
    assert sorted(cases.CASES) == sorted(BOUNDS) == KERNELS


@pytest.mark.parametrize("kernel", KERNELS)
def test_awkward_sizes(device, kernel):
    """Results are those of `reference` in float64 where tiles, strides and blocks end."""
    for arguments in cases.fixed(kernel):
        check(device, kernel, arguments)


@pytest.mark.parametrize("kernel", KERNELS)
def test_any_sizes(device, kernel):
    """Results are those of `reference` in float64 for whatever sizes Hypothesis finds."""

    @settings(max_examples=20, deadline=None)
    @given(cases.drawn(kernel))
    def law(arguments):
        check(device, kernel, arguments)

    law()


def test_adjoint(device):
    """<conv2d(x, w), y> = <x, conv2d_transpose(y, w)> = <w, conv2d_weight_grad(x, y)>: one trilinear form.

    Each side is off by at most its kernel's bounds times the absolute values that they are multiplied with.
    """
    for sizes in cases.CONVOLUTIONS:
        x, w, y = cases.form(np.random.default_rng(1), *sizes)
        (_, _, stride), padding = sizes[-2:]
        sides = [
            ("conv2d", y, (x, w, stride, padding)),
            ("conv2d_transpose", x, (y, w, stride, padding, x.shape[1:3])),
            ("conv2d_weight_grad", w, (x, y, stride, padding, w.shape[1:3])),
        ]
        values = [np.vdot(run(device, kernel, a)[0].astype(np.float64), other) for kernel, other, a in sides]
        bounds = [np.vdot(BOUNDS[kernel](*in_float64(a))[0], abs(other)) for kernel, other, a in sides]
        assert abs(values[0] - values[1]) <= bounds[0] + bounds[1]
        assert abs(values[0] - values[2]) <= bounds[0] + bounds[2]


@pytest.mark.parametrize("kernel", KERNELS)
def test_views(device, kernel):
    """An array that is not contiguous is read right, or refused in words that say so; never misread."""
    arguments = cases.fixed(kernel)[-2]
    views = []
    for a in arguments:
        if isinstance(a, np.ndarray) and a.ndim:
            wider = device.array(np.repeat(np.repeat(a, 2, axis=-1), 2, axis=0))  # every number four times
            views.append(wider[::2, ..., ::2] if a.ndim > 1 else wider[::4])
        else:
            views.append(device.array(a.copy()) if isinstance(a, np.ndarray) else a)
    try:
        results = getattr(device, kernel)(*views)
    except ValueError as error:
        assert "not C-contiguous" in str(error)  # noqa: PT017
        return
    compare(kernel, results_of(device, kernel, views, results), arguments)


@pytest.mark.parametrize("kernel", KERNELS)
def test_same_bits_again(device, kernel):
    """A kernel gives the same bits twice: no sum depends on which thread came first."""
    arguments = cases.fixed(kernel)[-1]
    for first, second in zip(run(device, kernel, arguments), run(device, kernel, arguments), strict=True):
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("kernel", CONVOLUTIONS)
def test_cpu_convolution_in_groups(kernel, monkeypatch):
    """Pictures that go through the CPU's convolution in several groups, the last one smaller, give the same results."""
    monkeypatch.setattr(direct, "CACHE", 1)
    for arguments in cases.fixed(kernel):
        check(kernels.device("cpu"), kernel, arguments)
    window = 4 * 25 * 4 * 4 * 1  # bytes of the windows of a picture of the last case: P Q R S C float32
    monkeypatch.setattr(direct, "CACHE", 2 * 5 * window)
    check(kernels.device("cpu"), kernel, cases.fixed(kernel)[-1])
