"""The direct sum in float32, on the ordinary cores, by a pipeline of copies that needs sm_80."""

from __future__ import annotations

from kernels.conv2d.format import Format
from kernels.conv2d.pipeline import Pipeline

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]
READS_PENDING = True  # a picture may be a kernels.Pending

# A multiprocessor has 128 in a clock; one instruction in ten of the loop is something else.
PIPELINE = Pipeline(Format(bits=32, rate=115))
conv2d, conv2d_transpose, conv2d_weight_grad = PIPELINE.conv2d, PIPELINE.conv2d_transpose, PIPELINE.conv2d_weight_grad
conv2d_with_statistics = PIPELINE.conv2d_with_statistics
conv2d_transpose_with_statistics = PIPELINE.conv2d_transpose_with_statistics
