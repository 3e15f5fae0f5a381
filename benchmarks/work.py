"""What a call of a kernel takes, whoever computes it: its arithmetic, its bytes, and how exact it can be.

`results` are the arrays that it gives, None for one that it was given and left as it was.

Arithmetic is what the definition has, multiplications and additions: for convolution those of the direct sum, though an
algorithm may do with fewer. Bytes are those that must move: each input read once and each output written once, though
an operation may have to read its input twice.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.calls import arrays

__all__ = ["ROUNDED", "TOLERANCE", "bound", "moved", "operations"]

TOLERANCE = 6  # times the rounding of the direct float32 sum: Winograd's transforms round as well

# By how much a factor may be rounded before it is multiplied: half of the last of its 24, 11 or 8 binary digits.
ROUNDED = {"fp32": 0.0, "tf32": 2.0**-11, "bf16": 2.0**-8}

# The filters w (K,R,S,C) and the smaller picture y (N,P,Q,K) of T(x,w,y), out of arguments and results.
FORM = {
    "conv2d": lambda arguments, results: (arguments[1], results[0]),
    "conv2d_transpose": lambda arguments, results: (arguments[1], arguments[0]),
    "conv2d_weight_grad": lambda arguments, results: (results[0], arguments[1]),
}
FORM |= {f"{kernel}_with_statistics": FORM[kernel] for kernel in ("conv2d", "conv2d_transpose")}

# For each number of the largest array, or in Adam of all parameters, or beside a convolution of its result. What is not
# here is not made of multiplications and additions.
EACH = {
    "adam": 14,  # m: 3, v: 4, the parameter: two corrections, a root, eps, a quotient, lr, the move
    "add": 1,
    "batch_norm": 7,  # the mean: 1, the variance: 3, y: 3
    "batch_norm_grad": 9,  # gshift: 1, gscale: 3, gx: 5
    "batch_norm_inference": 3,
    "batch_norm_leaky_relu": 8,
    "batch_norm_leaky_relu_inference": 4,
    "batch_norm_leaky_relu_grad": 13,  # and x normalised again, to know its sign: 3, the slope: 1
    "conv2d_transpose_with_statistics": 4,  # the mean: 1, the variance: 3
    "conv2d_with_statistics": 4,
    "divide": 1,
    "image_batch": 2,
    "leaky_relu": 1,
    "leaky_relu_grad": 1,
    "mean": 1,
    "multiply": 1,
    "subtract": 1,
    "sum": 1,
    "tanh_grad": 3,
}


def operations(kernel: str, arguments: tuple, results: list[np.ndarray | None]) -> int:
    """Multiplications and additions, as defined."""
    if kernel in FORM:
        w, y = FORM[kernel](arguments, results)
        return 2 * y.size * (w.size // len(w)) + EACH.get(kernel, 0) * results[0].size
    numbers = sum(a.size for a in arguments[5:]) // 4 if kernel == "adam" else _largest(arguments, results)
    return EACH.get(kernel, 0) * numbers


def moved(arguments: tuple, results: list[np.ndarray | None]) -> int:
    """Bytes: the inputs' and the outputs', whose numbers have four each."""
    return sum(a.nbytes for a in arrays(arguments)) + sum(4 * r.size for r in results if r is not None)


def bound(
    kernel: str, arguments: tuple, results: list[np.ndarray | None], result: np.ndarray, precision: str = "fp32"
) -> float:
    """How far a float32 `result` may be from the exact one, as root mean square, relative to it.

    After n operations, each of which rounds by up to 2^-24 and as often up as down, the direct sum is wrong by about
    sqrt(n) 2^-24 (Higham, *Accuracy and Stability of Numerical Algorithms*, section 2.6). n is the number of operations
    for each number of this result, or of terms in the longest sum among the results, as batch norm's mean and variance,
    since those may enter this one: whichever are more. Adam computes every number by itself.
    In less than float32 both factors of each product are rounded, and the peer's result once more. Terms of either
    sign add up as their errors do, so the sum's is that of a term: sqrt(3) roundings. Twice that is allowed, since
    digits may be cut off instead of rounded.
    """
    if kernel == "adam":
        return TOLERANCE * math.sqrt(EACH[kernel]) * 2**-24
    own = operations(kernel, arguments, results) / result.size
    longest = _largest(arguments, results) / min(r.size for r in results if r is not None)
    return TOLERANCE * math.sqrt(max(own, longest)) * 2**-24 + 2 * math.sqrt(3) * ROUNDED[precision]


def _largest(arguments: tuple, results: list[np.ndarray | None]) -> int:
    return max(a.size for a in arrays((*arguments, *results)))
