"""Convolution on the tensor cores, its operands rounded to bf16: by at most 2^-8 of themselves."""

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
ROUNDS_FIRST = True  # operand.cu

# An H200 has 2,048 by its data sheet, of which `mma.sync` is said to reach five eighths (Luo et al., arXiv:2402.13499).
PIPELINE = Pipeline(Format(bits=16, rate=1280))
conv2d, conv2d_transpose, conv2d_weight_grad = PIPELINE.conv2d, PIPELINE.conv2d_transpose, PIPELINE.conv2d_weight_grad
conv2d_with_statistics = PIPELINE.conv2d_with_statistics
conv2d_transpose_with_statistics = PIPELINE.conv2d_transpose_with_statistics
