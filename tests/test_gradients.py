"""Every op's gradient, and its gradient's gradient, against finite differences in float64 on `reference`.

The law: for a smooth f and a direction u, the central difference

    D(h) = (f(a + h u) - f(a - h u)) / 2h  =  <grad f(a), u> + c2 h² + c4 h⁴ + c6 h⁶ + ...

Richardson's extrapolation of the steps h, h/2 and h/4 removes c2 and c4. The last correction it makes, which is of
order h⁴, bounds what is left, of order h⁶; to it comes the rounding of f divided by the smallest step.
"""

import math

import numpy as np
import pytest

import minigan
from minigan import ops

H = 4e-3
# f is a sum of fewer than 1000 terms, each of a chain of fewer than 10 operations.
ROUNDING = 10_000 * np.finfo(np.float64).eps / (H / 4)


def _away_from_zero(rng, shape):
    """Values no finite difference carries across a kink or a pole at 0."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.3, 1.5, shape)


def _normal(*shapes):
    return lambda rng: [rng.standard_normal(shape) for shape in shapes]


def _away_from_the_kink(rng):
    """x (3,2,2,3), scale and shift for which |scale (x - mean) / sqrt(variance + eps) + shift| is at least 0.25.

    In each channel six numbers are in [0.8, 1.2] and six in [-1.2, -0.8]. So the mean is within 0.2 of 0, the deviation
    at most 1.2, and each number at least 0.6 / 1.2 deviations from the mean.
    """
    signs = rng.permuted(np.tile([1.0, -1.0], (3, 6)), axis=1).T.reshape(3, 2, 2, 3)
    scale = rng.choice([-1.0, 1.0], 3) * rng.uniform(0.7, 1.5, 3)
    return [signs * rng.uniform(0.8, 1.2, (3, 2, 2, 3)), scale, rng.uniform(-0.1, 0.1, 3)]


CASES = {
    "add": (ops.add, _normal((2, 3), (2, 3))),
    "add, broadcast": (ops.add, _normal((2, 3, 4), (3, 1))),
    "add, scalar": (lambda x: 2.5 + x, _normal((3,))),
    "subtract": (ops.subtract, _normal((2, 1), (2, 3))),
    "subtract from a number": (lambda x: 2.0 - x, _normal((3,))),
    "multiply": (ops.multiply, _normal((2, 3), (3,))),
    "multiply by itself": (lambda x: x * x, _normal((2, 3))),
    "divide": (ops.divide, lambda rng: [rng.standard_normal((2, 3)), _away_from_zero(rng, (3,))]),
    "divide a number": (lambda x: 1 / x, lambda rng: [_away_from_zero(rng, (3,))]),
    "negate": (lambda x: -x * x, _normal((3,))),
    "power 3": (lambda x: x**3, _normal((2, 3))),
    "power 0": (lambda x: x**0 * x, _normal((2, 3))),
    "power -1/2": (lambda x: x**-0.5, lambda rng: [rng.uniform(0.5, 2, (2, 3))]),
    "sum": (lambda x: ops.sum(x, (0, 2)) ** 2, _normal((2, 3, 4))),
    "sum, keepdims": (lambda x: ops.sum(x, -1, keepdims=True) * x, _normal((2, 3))),
    "mean": (lambda x: ops.mean(x) ** 2, _normal((2, 3))),
    "mean, keepdims": (lambda x: ops.mean(x, (0, 2), keepdims=True) * x, _normal((2, 3, 4))),
    "broadcast_to": (lambda x: ops.broadcast_to(x, (4, 2, 3)) ** 2, _normal((2, 1))),
    "reshape": (lambda x: ops.reshape(x, (3, -1)) ** 2, _normal((2, 3))),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.2) ** 2, lambda rng: [_away_from_zero(rng, (4, 3))]),
    "relu": (lambda x: ops.leaky_relu(x, 0) ** 2, lambda rng: [_away_from_zero(rng, (4, 3))]),
    "tanh": (ops.tanh, _normal((2, 3))),
    "sigmoid": (ops.sigmoid, _normal((2, 3))),
    "bce_with_logits": (lambda logits: ops.bce_with_logits(logits, 0.9), _normal((5,))),
    "linear": (ops.linear, _normal((4, 3), (2, 3), (2,))),
    "conv2d": (lambda x, w: ops.conv2d(x, w, 2, 1), _normal((2, 5, 6, 3), (2, 3, 2, 3))),
    "conv2d_transpose": (
        lambda y, w: ops.conv2d_transpose(y, w, 2, 1, size=(6, 5)),
        _normal((2, 3, 2, 3), (3, 3, 4, 2)),
    ),
    "conv2d_weight_grad": (
        lambda x, y: ops.conv2d_weight_grad(x, y, 2, 1, size=(3, 2)),
        _normal((2, 5, 6, 2), (2, 3, 4, 3)),
    ),
    "conv2d_with_statistics": (
        lambda x, w: _product(ops.conv2d_with_statistics(x, w, 2, 1)),
        _normal((2, 5, 6, 3), (2, 3, 2, 3)),
    ),
    "conv2d_transpose_with_statistics": (
        lambda y, w: _product(ops.conv2d_transpose_with_statistics(y, w, 2, 1, size=(6, 5))),
        _normal((2, 3, 2, 3), (3, 3, 4, 2)),
    ),
    "batch_norm": (ops.batch_norm, _normal((3, 2, 2, 3), (3,), (3,))),
    "batch_norm's mean": (lambda *a: ops.batch_norm_with_statistics(*a)[1] ** 2, _normal((5, 3), (3,), (3,))),
    "batch_norm's variance": (lambda *a: ops.batch_norm_with_statistics(*a)[2], _normal((5, 3), (3,), (3,))),
    "batch_norm_leaky_relu": (lambda *a: ops.batch_norm_leaky_relu(*a, 1e-5, 0.2)[0], _away_from_the_kink),
    "batch_norm_leaky_relu's mean": (lambda *a: ops.batch_norm_leaky_relu(*a, 1e-5, 0.2)[1] ** 2, _away_from_the_kink),
    "batch_norm_leaky_relu's variance": (lambda *a: ops.batch_norm_leaky_relu(*a, 1e-5, 0.2)[2], _away_from_the_kink),
    "batch_norm_leaky_relu of known statistics": (
        lambda x, scale, shift: ops.batch_norm_leaky_relu(
            x, scale, shift, 1e-5, 0.2, ops.batch_norm_with_statistics(x, scale, shift)[1:]
        )[0],
        _away_from_the_kink,
    ),
    "batch_norm_inference": (
        ops.batch_norm_inference,
        lambda rng: [*_normal((5, 3), (3,), (3,), (3,))(rng), rng.uniform(0.5, 2, 3)],
    ),
    # What the ops are for: a penalty on the discriminator's gradient (R1) goes through every op of a network twice.
    "a small discriminator": (
        lambda x, w, scale, shift, v: ops.tanh(
            ops.linear(
                ops.reshape(ops.leaky_relu(ops.batch_norm(ops.conv2d(x, w, 2, 1), scale, shift), 0.2), (3, -1)), v
            )
        ),
        _normal((3, 4, 4, 2), (2, 4, 4, 2), (2,), (2,), (1, 8)),
    ),
}


def _product(factors):
    """Of tensors that broadcast: it depends on each."""
    return math.prod(factors)


def _tensors(arrays, requires_grad=True):
    return [minigan.tensor(array, requires_grad, device="reference") for array in arrays]


def _arrays(gradients, like):
    """The gradients' values; None, for what f does not depend on, is zero."""
    return [np.zeros(a.shape) if g is None else g.numpy() for g, a in zip(gradients, like, strict=True)]


def _difference(f, arrays, direction):
    """df(arrays) along direction by finite differences, and a bound on its error."""

    def central(h):
        ahead, behind = ([a + sign * h * d for a, d in zip(arrays, direction, strict=True)] for sign in (1, -1))
        return (f(ahead) - f(behind)) / (2 * h)

    d1, d2, d4 = central(H), central(H / 2), central(H / 4)
    once, once_finer = (4 * d2 - d1) / 3, (4 * d4 - d2) / 3
    twice = (16 * once_finer - once) / 15
    return twice, abs(twice - once_finer) + ROUNDING * (1 + abs(f(arrays)))


def _dot(arrays, others):
    return sum(float(np.sum(a * b)) for a, b in zip(arrays, others, strict=True))


def _weighted(function, weights):
    """A scalar function from `function`: its result times fixed random weights, summed."""
    return lambda tensors: ops.sum(function(*tensors) * weights)


@pytest.fixture(params=CASES)
def case(request, seed):
    """The op as a scalar function, its arguments, and random directions to move them in."""
    function, arguments = CASES[request.param]
    rng = np.random.default_rng(seed)
    arrays = arguments(rng)
    shape = function(*_tensors(arrays)).shape
    (weights,) = _tensors([rng.standard_normal(shape)], requires_grad=False)
    directions = [[rng.standard_normal(a.shape) for a in arrays] for _ in range(2)]
    return _weighted(function, weights), arrays, directions


def test_gradient_is_the_derivative_along_any_direction(case):
    """First order: <grad f, u> is df along u."""
    f, arrays, (u, _) = case
    tensors = _tensors(arrays)
    gradients = _arrays(minigan.grad(f(tensors), tensors), arrays)
    found = _dot(gradients, u)
    wanted, bound = _difference(lambda a: f(_tensors(a)).item(), arrays, u)
    assert abs(found - wanted) <= bound


def test_gradient_of_the_gradient_is_the_second_derivative(case):
    """Second order: the gradient of <grad f, u> along v is d²f along u and v; what was asked of create_graph."""
    f, arrays, (u, v) = case

    def slope(tensors, create_graph):
        gradients = minigan.grad(f(tensors), tensors, create_graph=create_graph)
        parts = [ops.sum(g * d) for g, d in zip(gradients, _tensors(u, False), strict=True) if g is not None]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    tensors = _tensors(arrays)
    along_u = slope(tensors, create_graph=True)
    second = _arrays(minigan.grad(along_u, tensors), arrays)
    wanted, bound = _difference(lambda a: slope(_tensors(a), create_graph=False).item(), arrays, v)
    assert abs(_dot(second, v) - wanted) <= bound
