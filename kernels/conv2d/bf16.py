"""Convolution on the tensor cores, its operands rounded to bf16: by at most 2^-8 of themselves."""

from __future__ import annotations

from kernels.conv2d.tensor import TensorCores

__all__ = ["conv2d", "conv2d_transpose", "conv2d_weight_grad"]

CORES = TensorCores(bf16=1)
conv2d, conv2d_transpose, conv2d_weight_grad = CORES.conv2d, CORES.conv2d_transpose, CORES.conv2d_weight_grad
