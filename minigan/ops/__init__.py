"""Calculus: each operation beside its gradient, one file an operation.

A function here checks shapes, puts an `Op` on the tape and calls one kernel; the Op's `backward` is made of functions
of this package alone. The derivation of each gradient stands at the head of its file.
"""

from minigan.ops.batch_norm import batch_norm, batch_norm_inference, batch_norm_with_statistics
from minigan.ops.batch_norm_leaky_relu import batch_norm_leaky_relu
from minigan.ops.bce_with_logits import bce_with_logits
from minigan.ops.conv2d import conv2d, conv2d_output_size, conv2d_transpose, conv2d_weight_grad
from minigan.ops.conv2d_with_statistics import conv2d_transpose_with_statistics, conv2d_with_statistics
from minigan.ops.elementwise import add, divide, multiply, power, subtract
from minigan.ops.leaky_relu import leaky_relu
from minigan.ops.linear import linear
from minigan.ops.reshape import reshape
from minigan.ops.sigmoid import sigmoid
from minigan.ops.sum import broadcast_to, mean, sum
from minigan.ops.tanh import tanh

__all__ = [
    "add",
    "batch_norm",
    "batch_norm_inference",
    "batch_norm_leaky_relu",
    "batch_norm_with_statistics",
    "bce_with_logits",
    "broadcast_to",
    "conv2d",
    "conv2d_output_size",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
    "divide",
    "leaky_relu",
    "linear",
    "mean",
    "multiply",
    "power",
    "reshape",
    "sigmoid",
    "subtract",
    "sum",
    "tanh",
]
