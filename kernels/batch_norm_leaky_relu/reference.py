"""Batch normalisation, then the leaky rectifier: what the two rooms define, one after the other.

x (..., C); scale, shift, mean, variance (C,).
"""

from __future__ import annotations

from kernels.batch_norm.reference import batch_norm, batch_norm_grad, batch_norm_inference
from kernels.leaky_relu.reference import leaky_relu, leaky_relu_grad

__all__ = ["batch_norm_leaky_relu", "batch_norm_leaky_relu_grad", "batch_norm_leaky_relu_inference"]


def batch_norm_leaky_relu(x, scale, shift, eps, slope):
    """(y, mean, variance) with the mean and the variance of the batch."""
    normalised, mean, variance = batch_norm(x, scale, shift, eps)
    return leaky_relu(normalised, slope), mean, variance


def batch_norm_leaky_relu_grad(gy, x, scale, shift, mean, variance, eps, slope):
    """(gx, gscale, gshift): the rectifier's gradient is what arrives at the normalisation."""
    normalised = batch_norm_inference(x, scale, shift, mean, variance, eps)
    return batch_norm_grad(leaky_relu_grad(gy, normalised, slope), x, scale, mean, variance, eps)


def batch_norm_leaky_relu_inference(x, scale, shift, mean, variance, eps, slope):
    """y with a given mean and variance."""
    return leaky_relu(batch_norm_inference(x, scale, shift, mean, variance, eps), slope)
