"""The three precisions in which PyTorch multiplies."""

from __future__ import annotations

import torch

__all__ = ["use"]


def use(precision: str) -> torch.dtype:
    """From now on products of float32 are rounded as it says; returns the type in which products are computed.

    fp32: strictly; PyTorch's own default lets convolutions take TF32. tf32: convolutions and matrices. bf16: of
    tensors of that type, and what stays float32 beside them is as with tf32.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
