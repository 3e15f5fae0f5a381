"""`reference`, on which everything else is measured, against nested loops and what can be worked out by hand."""

from __future__ import annotations

import itertools
import math

import cases
import numpy as np
import pytest
from hypothesis import given, settings

import kernels

REFERENCE = kernels.device("reference")
EPS = np.finfo(np.float64).eps


def close(result, expected, terms):
    """Equal but for the roundings of two sums of so many terms, each below 64 and rounded no more often than there are.

    (The terms are products of two normal numbers, which are below 8.)
    """
    np.testing.assert_allclose(result, expected, rtol=0, atol=2 * terms * terms * 64 * EPS)


def trilinear(x, w, y, stride, padding):
    """The terms of T(x, w, y) as (index of x, index of w, index of y), by the letter."""
    (n_size, h, width, c_size), (k_size, r_size, s_size, _), (_, p_size, q_size, _) = x, w, y
    for n, p, q, k in itertools.product(range(n_size), range(p_size), range(q_size), range(k_size)):
        for r, s, c in itertools.product(range(r_size), range(s_size), range(c_size)):
            i, j = p * stride + r - padding, q * stride + s - padding
            if 0 <= i < h and 0 <= j < width:
                yield (n, i, j, c), (k, r, s, c), (n, p, q, k)


@settings(max_examples=30, deadline=None)
@given(cases.convolutions())
def test_convolution_is_the_trilinear_form(sizes):
    """The three functions are dT/dy, dT/dx and dT/dw: sums over T's terms, whatever window, stride and padding."""
    n, h, width, c, k, (r, s, stride), padding = sizes
    sizes = min(n, 2), h, width, min(c, 3), min(k, 3), (r, s, stride), padding
    x, w, y = (a.astype(np.float64) for a in cases.form(np.random.default_rng(0), *sizes))
    gx, gw, gy = np.zeros_like(x), np.zeros_like(w), np.zeros_like(y)
    for in_x, in_w, in_y in trilinear(x.shape, w.shape, y.shape, stride, padding):
        gy[in_y] += x[in_x] * w[in_w]
        gx[in_x] += w[in_w] * y[in_y]
        gw[in_w] += x[in_x] * y[in_y]
    close(REFERENCE.conv2d(x, w, stride, padding), gy, w[0].size)
    close(REFERENCE.conv2d_transpose(y, w, stride, padding, (h, width)), gx, w[..., 0].size)
    close(REFERENCE.conv2d_weight_grad(x, y, stride, padding, (r, s)), gw, y[..., 0].size)


def test_convolution_by_hand():
    """A picture 1 2 3 / 4 5 6 / 7 8 9 under a window of ones, 2 by 2 with stride 2 and padding 1."""
    x, w = np.arange(1.0, 10).reshape(1, 3, 3, 1), np.ones((1, 2, 2, 1))
    y = np.array([[1.0, 5.0], [11.0, 28.0]]).reshape(1, 2, 2, 1)  # 1 | 2 + 3 | 4 + 7 | 5 + 6 + 8 + 9
    assert np.array_equal(REFERENCE.conv2d(x, w, 2, 1), y)
    spread = np.array([[1.0, 5, 5], [11, 28, 28], [11, 28, 28]]).reshape(1, 3, 3, 1)
    assert np.array_equal(REFERENCE.conv2d_transpose(y, w, 2, 1, (3, 3)), spread)


def test_batch_norm_by_hand():
    """The rows 1, 3 have mean 2 and variance 1, so that they become -1, 1."""
    x = np.array([[1.0], [3.0]])
    y, mean, variance = REFERENCE.batch_norm(x, np.array([10.0]), np.array([5.0]), 0.0)
    assert (y.tolist(), mean.tolist(), variance.tolist()) == ([[-5.0], [15.0]], [2.0], [1.0])
    assert REFERENCE.batch_norm_inference(x, np.array([2.0]), np.array([5.0]), np.ones(1), np.array([4.0]), 0.0)[1] == 7


def test_batch_norm_variance_does_not_cancel():
    """float32 numbers of 4096 and a little more keep their variance, where E[x²] - E[x]² would have lost it all."""
    x = np.array([[4096.0], [4096.5]], np.float32)
    assert REFERENCE.batch_norm(x, np.ones(1), np.ones(1), 0.0)[2] == 0.0625


def test_batch_norm_grad_is_the_derivative():
    """The gradient, through mean and variance too, is that of a complex step: f'(a) = Im f(a + ih) / h.

    h² disappears beside 1, and there is no difference in which digits could cancel.
    """
    rng, h = np.random.default_rng(0), 1e-30
    x, gy, scale, shift = rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 3, 2)), rng.normal(size=2), rng.normal(size=2)
    _, mean, variance = REFERENCE.batch_norm(x, scale, shift, 1e-5)
    gradients = REFERENCE.batch_norm_grad(gy, x, scale, mean, variance, 1e-5)
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            arguments = [a.astype(complex) for a in (x, scale, shift)]
            arguments[which][index] += 1j * h
            y, _, _ = REFERENCE.batch_norm(*arguments, 1e-5)
            close(gradient[index], np.sum(gy * y).imag / h, x.size)


def test_leaky_relu_by_hand():
    """The slope holds below 0, and in the derivative at 0 as well."""
    x, gy = np.array([-2.0, 0.0, 3.0]), np.array([1.0, 10.0, 100.0])
    assert REFERENCE.leaky_relu(x, 0.5).tolist() == [-1.0, 0.0, 3.0]
    assert REFERENCE.leaky_relu(x, 0.0).tolist() == [0.0, 0.0, 3.0]
    assert REFERENCE.leaky_relu_grad(gy, x, 0.5).tolist() == [0.5, 5.0, 100.0]


def test_sigmoid_and_tanh_by_hand():
    """sigmoid(log 3) = 3/4, tanh(log 2) = 3/5, and both are odd about their middle."""
    x = np.array([math.log(3), -math.log(3), 0.0])
    close(REFERENCE.sigmoid(x), [0.75, 0.25, 0.5], 1)
    close(REFERENCE.tanh(np.array([math.log(2), -math.log(2), 0.0])), [0.6, -0.6, 0.0], 1)


@pytest.mark.filterwarnings("error")
def test_large_logits():
    """No logit overflows: the loss of a wrong one grows as the logit, that of a right one goes to 0."""
    logits = np.array([1000.0, -1000.0, 0.0], np.float32)
    assert REFERENCE.sigmoid(logits).tolist() == [1.0, 0.0, 0.5]
    assert REFERENCE.bce_with_logits(logits[:2], 0.0) == REFERENCE.bce_with_logits(logits[:2], 1.0) == 500
    for target, grads in ((0.0, [2.0, 0.0, 1.0]), (0.5, [1.0, -1.0, 0.0]), (1.0, [0.0, -2.0, -1.0])):
        assert REFERENCE.bce_with_logits_grad(np.float32(6), logits, target).tolist() == grads


def test_bce_with_logits_is_the_cross_entropy():
    """The stable form is -t log p - (1 - t) log(1 - p) with p = sigmoid(l), and its gradient is the derivative."""
    rng, h = np.random.default_rng(0), 1e-5
    logits, target = rng.normal(size=(3, 4)), rng.uniform()
    p = 1 / (1 + np.exp(-logits))
    close(REFERENCE.bce_with_logits(logits, target), -np.mean(target * np.log(p) + (1 - target) * np.log(1 - p)), 12)
    along = rng.normal(size=(3, 4))
    above, below = (REFERENCE.bce_with_logits(logits + t * along, target) for t in (h, -h))
    slope = np.vdot(REFERENCE.bce_with_logits_grad(1.0, logits, target), along)
    third = np.mean(np.abs(along) ** 3) / 8  # the third derivative of log(1 + exp(l)) is below 1/8
    assert abs((above - below) / (2 * h) - slope) <= third * h**2 / 6 + 64 * EPS / h


def test_elementwise_by_hand():
    """Broadcasting is NumPy's: a column and a row make a table."""
    a, b = np.array([[1.0], [2.0]]), np.array([[4.0, 8.0]])
    assert REFERENCE.add(a, b).tolist() == [[5, 9], [6, 10]]
    assert REFERENCE.subtract(a, b).tolist() == [[-3, -7], [-2, -6]]
    assert REFERENCE.multiply(a, b).tolist() == [[4, 8], [8, 16]]
    assert REFERENCE.divide(b, a).tolist() == [[4, 8], [2, 4]]
    assert REFERENCE.power(b, 0.5).tolist() == [[2, 8**0.5]]
    assert REFERENCE.power(b, -1).tolist() == [[0.25, 0.125]]


def test_sum_and_broadcast_by_hand():
    """What is summed stays as an axis of length 1; broadcast_to repeats it."""
    x = np.arange(6.0).reshape(2, 3)
    assert REFERENCE.sum(x, (0,)).tolist() == [[3, 5, 7]]
    assert REFERENCE.sum(x, (1,)).tolist() == [[3], [12]]
    assert REFERENCE.sum(x, (0, 1)).tolist() == [[15]]
    assert REFERENCE.sum(x, ()).tolist() == x.tolist()
    assert REFERENCE.broadcast_to(np.array([[1.0], [2.0]]), (2, 3)).tolist() == [[1, 1, 1], [2, 2, 2]]


def test_adam_is_the_paper_s_algorithm():
    """Five steps against algorithm 1 on plain numbers, each gradient that of a quadratic."""
    theta, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    plain = [[1.0, 0.0, 0.0], [-2.0, 0.0, 0.0]]  # theta, m, v
    lr, beta1, beta2, eps = 0.1, 0.5, 0.999, 1e-8
    before = np.zeros((), np.int32)
    for step in range(1, 6):
        REFERENCE.adam(before, lr, beta1, beta2, eps, theta, 3 * theta, m, v)
        assert before == step
        for one in plain:
            g = 3 * one[0]
            one[1] = beta1 * one[1] + (1 - beta1) * g
            one[2] = beta2 * one[2] + (1 - beta2) * g * g
            one[0] -= lr * (one[1] / (1 - beta1**step)) / (math.sqrt(one[2] / (1 - beta2**step)) + eps)
        close(np.stack([theta, m, v], axis=1), plain, 10)


def test_adam_first_step():
    """The first step is lr in the direction of the gradient's sign, whatever its size: the correction works."""
    theta, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    REFERENCE.adam(np.zeros((), np.int32), 0.25, 0.5, 0.999, 0.0, theta, np.array([1e-3, -1.0, 1e3]), m, v)
    close(theta, [-0.25, 0.25, -0.25], 1)


def test_image_batch_by_hand():
    """Picture 1, mirrored, and picture 0, as it is: 0 is -1, 255 is 1, left and right are swapped, channels are not."""
    images = np.array([[[[0, 255, 51], [102, 0, 0]]], [[[0, 51, 102], [153, 204, 255]]]], np.uint8)  # (2,1,2,3)
    batch = REFERENCE.image_batch(images, np.array([1, 0], np.int32), np.array([1, 0], np.uint8))
    expected = [[[[0.2, 0.6, 1.0], [-1.0, -0.6, -0.2]]], [[[-1.0, 1.0, -0.6], [-0.2, -1.0, -1.0]]]]
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, expected, rtol=0, atol=2 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("kernel", sorted(REFERENCE.kernels))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_stays(kernel, dtype):
    """float32 in, float32 out; float64 in, float64 out; random numbers and pictures are float32, words uint32."""
    arguments = [a.astype(dtype) if getattr(a, "dtype", None) == np.float32 else a for a in cases.fixed(kernel)[0]]
    results = REFERENCE.kernels[kernel](*arguments)
    in_place = {"adam": slice(5, None), "moving_average": slice(2, 4), "philox_advance": slice(1)}
    results = arguments[in_place[kernel]] if kernel in in_place else results
    results = results if isinstance(results, (tuple, list)) else (results,)
    drawn = dict.fromkeys(("philox", "philox_advance"), np.uint32)
    drawn |= dict.fromkeys(("uniform", "normal", "truncated_normal", "image_batch"), np.float32)
    assert {result.dtype.type for result in results} == {drawn.get(kernel, dtype)}
