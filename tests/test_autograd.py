"""The tape itself: what it records, walks, frees and refuses."""

import contextlib
import gc
import re
import tracemalloc
import weakref

import numpy as np
import pytest

import kernels
import minigan
from minigan import ops
from minigan.autograd import Op
from minigan.optim import Adam
from minigan.random import Random


def leaf(array, device="reference"):
    return minigan.tensor(np.asarray(array, np.float32), requires_grad=True, device=device)


def test_backward_adds_to_the_gradient_of_every_leaf():
    """A tensor that is used twice gets the sum of what comes back, and a second backward adds to the first."""
    x = leaf([1.0, 2.0])
    ops.sum(x * x + x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [3, 5])  # 2x + 1
    ops.sum(x).backward()
    np.testing.assert_array_equal(x.grad.numpy(), [4, 6])


def test_a_leaf_s_gradient_at_itself_is_one():
    """backward of a leaf, which no operation has made: dx/dx = 1, and it adds up like any other."""
    x = leaf([3.0])
    for times in (1, 2):
        x.backward()
        np.testing.assert_array_equal(x.grad.numpy(), [times])


def test_grad_touches_no_tensor():
    """grad returns gradients; .grad belongs to backward alone."""
    x = leaf([1.0, 2.0])
    np.testing.assert_array_equal(minigan.grad(ops.sum(x * x), x).numpy(), [2, 4])
    assert x.grad is None


def test_grad_of_an_intermediate_result():
    """inputs may be results; the gradient at one includes all that flows through it, and goes on to leaves above it."""
    x = leaf(3.0)
    y = x * x
    z = y * y + x
    gx, gy = minigan.grad(z, [x, y])
    assert gy.item() == 18  # 2y
    assert gx.item() == 109  # 2y 2x + 1


def test_what_does_not_matter_has_no_gradient():
    """None, not zero, for an input that the outputs do not depend on."""
    x, other = leaf(2.0), leaf(5.0)
    assert minigan.grad(x * 2, [x, other])[1] is None


def test_gradients_of_gradients():
    """d²(x⁴)/dx² = 12 x², d³ = 24 x: create_graph puts the walk on the tape, again and again."""
    x = leaf(2.0)
    g = x * x * x * x
    for wanted in (32, 48, 48, 24):
        g = minigan.grad(g, x, create_graph=True)
        assert g.item() == wanted


class Spy(Op):
    """The identity, counting how often it is walked through."""

    walks = 0

    def forward(self, device, x):
        return x.copy()

    def backward(self, g):
        Spy.walks += 1
        return (g,)


def test_only_what_lies_between_is_walked():
    """Pruning: ops that lead to no wanted input are not asked for gradients."""
    x, other = leaf(2.0), leaf(3.0)
    Spy.walks = 0
    minigan.grad(x * Spy()(other), x)
    assert Spy.walks == 0
    minigan.grad(x * Spy()(other), other)
    assert Spy.walks == 1


def test_needs_says_which_gradients_are_wanted():
    """An op may skip the gradient of an input that nobody asked for; conv2d's filters here, frozen."""
    x = leaf(np.ones((1, 4, 4, 2)))
    w = minigan.tensor(np.ones((3, 2, 2, 2), np.float32), device="reference")
    y = ops.conv2d(x, w, 2, 0)
    y.op.needs = (True, False)
    gx, gw = y.op.backward(y)
    assert gx.shape == x.shape
    assert gw is None


def test_depth_has_no_limit():
    """The walk is a loop, not a recursion: ten thousand ops deep is nothing special."""
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + 1
    assert minigan.grad(y, x).item() == 1


def test_no_grad_remembers_nothing():
    """Inside no_grad results have no history, and the switch is put back even when an exception leaves the block."""
    x = leaf(1.0)
    with minigan.no_grad():
        assert not (x * x).requires_grad
    with contextlib.suppress(ZeroDivisionError), minigan.no_grad():
        raise ZeroDivisionError
    assert (x * x).requires_grad


def test_saved_arrays_are_freed_as_the_walk_goes():
    """When the walk reaches an op, what the ops after it had saved is gone, although the loss is still alive."""
    freed = []

    class Probe(Spy):
        def backward(self, g):
            freed.append(saved() is None)
            return (g,)

    x = leaf(np.ones(4))
    hidden = Probe()(x) * 2
    saved = weakref.ref(hidden)
    loss = ops.sum(ops.tanh(hidden))
    del hidden
    assert saved() is not None  # tanh keeps its input for the backward pass
    loss.backward()
    assert freed == [True]


def test_gradients_are_freed_as_the_walk_goes():
    """One that has gone on to the inputs is held no longer: through 100 operations a walk needs what it does for 10."""
    x = leaf(np.random.default_rng(0).standard_normal(2**16))

    def needed(operations):
        results = [x]  # all stay, so that none that is freed makes room
        for _ in range(operations):
            results.append(ops.tanh(results[-1]))
        loss = ops.sum(results[-1])
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        minigan.grad(loss, x)
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        assert needed(100) < needed(10) + 2 * x.data.nbytes
    finally:
        tracemalloc.stop()


def test_a_freed_graph_is_refused():
    """Going through a freed graph again raises one clear error instead of returning a wrong gradient."""
    x = leaf(1.0)
    trunk = x * x
    one, other = ops.sum(trunk), ops.sum(trunk * 2)
    one.backward()
    with pytest.raises(RuntimeError, match=r"multiply: an earlier backward pass has freed .* create_graph=True"):
        other.backward()


def test_create_graph_keeps_the_graph():
    """With create_graph=True the same graph can be walked any number of times."""
    x = leaf(3.0)
    y = x * x
    assert [minigan.grad(y, x, create_graph=True).item() for _ in range(3)] == [6, 6, 6]


def test_a_deeper_gradient_does_not_disturb_the_walk_around_it():
    """batch_norm_grad's own gradient runs a grad inside a backward; the outer walk still reaches every leaf."""
    rng = np.random.default_rng(0)
    x, scale, shift, w = (
        minigan.tensor(rng.standard_normal(shape), True, "reference") for shape in ((6, 3), (3,), (3,), (6, 3))
    )
    above = ops.tanh(x * w)
    y = ops.batch_norm(above, scale, shift)
    (g,) = minigan.grad(ops.sum(y * y * y), [above], create_graph=True)
    gradients = minigan.grad(ops.sum(g * g), [x, w, scale, shift])
    assert all(gradient is not None and np.any(gradient.numpy()) for gradient in gradients)


def test_a_thousand_steps_hold_peak_memory_flat():
    """No step leaves anything behind: 990 steps peak where the first 10 did, to less than one array of theirs more.

    An array is half a MiB: Python's own free lists, which fill up during the first thousand steps, are smaller.
    """
    w = leaf(np.random.default_rng(0).standard_normal((256, 512)))

    def peak(steps):
        tracemalloc.reset_peak()
        for _ in range(steps):
            h = ops.tanh(w * w)
            minigan.grad(ops.sum(h * h), [w])
        return tracemalloc.get_traced_memory()[1]

    gc.disable()  # freed by reference counts alone: nothing may wait for the cycle collector
    tracemalloc.start()
    try:
        first = peak(10)
        assert peak(990) < first + w.data.nbytes
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: minigan.tensor(np.ones(3)), TypeError, "float64.*float32.*astype"),
        (lambda: minigan.tensor(np.ones((1,) * 5, np.float32)), ValueError, "5 axes.*at most four"),
        (lambda: minigan.tensor([1.0], device="tpu"), RuntimeError, "no device 'tpu': choose one of cuda, cpu"),
        (lambda: leaf([1.0]) + leaf([1.0], "cpu"), TypeError, "add: b is on device cpu; it must be on reference"),
        (
            lambda: leaf([1.0]) * minigan.tensor(np.ones(1), device="reference"),
            TypeError,
            "multiply: b is float64; it must be float32",
        ),
        (lambda: leaf([1.0]) + np.ones(1, np.float32), TypeError, "add: b is a ndarray; it must be a Tensor"),
        (lambda: np.ones(1, np.float32) * leaf([1.0]), TypeError, "multiply: b is a ndarray"),
        (lambda: leaf([1.0, 2.0]) + leaf([1.0, 2.0, 3.0]), ValueError, r"add: shapes \(2,\) and \(3,\)"),
        (lambda: ops.add(2, 3), TypeError, "add: a is a int; it must be a Tensor"),
        (lambda: leaf([1.0]) ** leaf([1.0]), TypeError, "power: the exponent is a Tensor"),
        (lambda: (leaf([1.0, 2.0]) * 2).backward(), ValueError, r"output has shape \(2,\); reduce it"),
        (
            lambda: minigan.grad(leaf([1.0, 2.0]) * 2, [], output_grads=[leaf([[1.0], [1.0]])]),
            ValueError,
            r"grad: output_grads have shapes \[\(2, 1\)\]; they must be those of the outputs, \[\(2,\)\]",
        ),
        (
            lambda: minigan.grad(leaf([1.0]) * 2, [], output_grads=[]),
            ValueError,
            r"grad: output_grads have shapes \[\]; they must be",
        ),
        (lambda: minigan.tensor([1.0]).backward(), ValueError, "no leaf of this tensor's history"),
        (lambda: ops.reshape(leaf([1.0, 2.0]), (3,)), ValueError, r"reshape: x has shape \(2,\)"),
        (lambda: ops.sum(leaf([1.0]), 1), ValueError, r"sum: x has shape \(1,\); axes 1"),
        (lambda: ops.broadcast_to(leaf([1.0, 2.0]), (3,)), ValueError, r"broadcast_to: x has shape \(2,\)"),
        (lambda: ops.leaky_relu(leaf([1.0]), 2), ValueError, "leaky_relu: slope is 2"),
        (lambda: ops.linear(leaf(np.ones((2, 3))), leaf(np.ones((4, 2)))), ValueError, r"linear: shapes x \(2, 3\)"),
        (lambda: ops.conv2d(leaf(np.ones((2, 3))), leaf(np.ones((4, 2)))), ValueError, r"conv2d: x .* four axes"),
        (
            lambda: ops.conv2d(leaf(np.ones((1, 4, 4, 2))), leaf(np.ones((1, 2, 2, 3)))),
            ValueError,
            "conv2d: x has 2 channels.* w has 3",
        ),
        (
            lambda: ops.conv2d(leaf(np.ones((1, 4, 4, 2))), leaf(np.ones((1, 6, 6, 2)))),
            ValueError,
            "conv2d: w of shape .* is larger than x",
        ),
        (lambda: ops.conv2d(leaf(np.ones((1, 4, 4, 2))), leaf(np.ones((1, 2, 2, 2))), 0), ValueError, "stride is 0"),
        (
            lambda: ops.conv2d_transpose(leaf(np.ones((1, 4, 4, 2))), leaf(np.ones((2, 3, 3, 1))), 2, 1, (9, 8)),
            ValueError,
            r"conv2d_transpose: size \(9, 8\) does not fit.*gives \(5, 4\), but y is \(4, 4\)",
        ),
        *(
            (
                lambda size=size: ops.conv2d_transpose(
                    leaf(np.ones((1, 4, 4, 2))), leaf(np.ones((2, 3, 3, 1))), size=size
                ),
                ValueError,
                f"conv2d_transpose: size is {re.escape(repr(size))}; it must be two whole numbers",
            )
            for size in (3, (3, 3, 3), (6.0, 6))
        ),
        (
            lambda: Random(2**64, "z", kernels.device("reference")),
            ValueError,
            "Random: seed is 18446744073709551616; it",
        ),
        (lambda: Random(-1, "z", kernels.device("reference")), ValueError, "Random: seed is -1; it must be at least 0"),
        (
            lambda: ops.conv2d_weight_grad(leaf(np.ones((1, 8, 8, 2))), leaf(np.ones((2, 4, 4, 1))), 2, 1, (4, 4)),
            ValueError,
            "conv2d_weight_grad: x has 1 pictures",
        ),
        (
            lambda: ops.batch_norm(leaf(np.ones((4, 3))), leaf(np.ones(2)), leaf(np.ones(3))),
            ValueError,
            r"batch_norm: scale has shape \(2,\)",
        ),
        (
            lambda: ops.bce_with_logits(leaf([1.0]), 1.5),
            ValueError,
            "bce_with_logits: target is 1.5",
        ),
    ],
)
def test_wrong_input_gets_one_clear_error(call, error, message):
    """It names the op, what it got and what it wants."""
    with pytest.raises(error, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_one_axis_needs_no_tuple():
    """Nor need its number, or its length, be Python's own."""
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    for number in (int, np.int64):
        np.testing.assert_array_equal(ops.sum(x, number(0)).numpy(), [4, 6])
        np.testing.assert_array_equal(ops.reshape(x, number(-1)).numpy(), [1, 2, 3, 4])


def test_gradients_of_nothing():
    """What is broadcast to no element gets the sum of none, 0; what has no element, a gradient of none."""
    one, none = leaf([2.0]), leaf(np.ones((3, 0)))
    gone, gnone = minigan.grad(ops.sum(one * none), [one, none])
    np.testing.assert_array_equal(gone.numpy(), [0])
    assert gnone.shape == (3, 0)
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="Mean of empty slice"):
        assert minigan.grad(ops.mean(none), none).shape == (3, 0)


NUMBERS = {  # functions of a Tensor (4, 2), a Tensor (2,) and the type of the numbers
    "power": lambda x, c, number: x ** number(3),
    "bce_with_logits": lambda x, c, number: ops.bce_with_logits(x, number(0.9)),
    "leaky_relu": lambda x, c, number: ops.leaky_relu(x, number(0.1)),
    "batch_norm": lambda x, c, number: ops.batch_norm(x, c, c, number(0.1)),
    "batch_norm_inference": lambda x, c, number: ops.batch_norm_inference(x, c, c, c, c, number(0.1)),
    "batch_norm_leaky_relu": lambda x, c, number: ops.batch_norm_leaky_relu(x, c, c, number(0.1), number(0.1))[0],
}


@pytest.mark.parametrize("op", NUMBERS)
def test_a_number_of_numpy_is_a_number(device, op):
    """An op and its gradient give the bits that they give for Python's number: float32 does not become float64."""
    random = np.random.default_rng(0)
    arrays = random.normal(size=(4, 2)), random.uniform(1, 2, size=2)
    results = []
    for number in (float, np.float64):
        x, c = (minigan.tensor(array.astype(np.float32), True, device) for array in arrays)
        y = NUMBERS[op](x, c, number)
        results.append([t.numpy() for t in (y, *minigan.grad(ops.sum(y * y), [x]))])
    for ours, theirs in zip(*results, strict=True):
        assert theirs.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


def test_an_optimizer_leaves_the_array_that_a_leaf_was_made_of(device):
    """The leaf moves, the caller's array stays."""
    array = np.ones(3, np.float32)
    w = minigan.tensor(array, requires_grad=True, device=device)
    Adam([w], lr=0.1, beta1=0.5).step(minigan.grad(ops.sum(w * w), [w]))
    assert (w.numpy() < 1).all()
    np.testing.assert_array_equal(array, 1)


def test_an_array_that_is_not_contiguous_is_copied():
    """A transposed or strided view becomes a contiguous array with the same values, never misread."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for view in (array.T, array[:, ::2], array[::-1]):
        t = minigan.tensor(view)
        assert t.data.flags.c_contiguous
        np.testing.assert_array_equal(t.numpy(), view)
    assert minigan.tensor(np.float32(3)).shape == ()
