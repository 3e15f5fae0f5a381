"""Convolution on the tensor cores, its operands rounded to bf16: by at most 2^-8 of themselves."""

from __future__ import annotations

from kernels.conv2d.pipeline import Pipeline

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]
READS_NORMALISED = True  # a picture may be a kernels.Normalised

# A part of 1024 terms: by an H200's data sheet, half as many are summed while a part is written and read.
PIPELINE = Pipeline(bits=16, least=1024)
conv2d, conv2d_transpose, conv2d_weight_grad = PIPELINE.conv2d, PIPELINE.conv2d_transpose, PIPELINE.conv2d_weight_grad
conv2d_with_statistics = PIPELINE.conv2d_with_statistics
conv2d_transpose_with_statistics = PIPELINE.conv2d_transpose_with_statistics
