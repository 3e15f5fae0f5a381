"""Convolution: the three derivatives of the trilinear form T(x, w, y) = sum x[n,i,j,c] w[k,r,s,c] y[n,p,q,k].

The sum is over all letters, with i = p stride + r - padding and j = q stride + s - padding; outside its picture x is 0.
Shapes: x (N,H,W,C), w (K,R,S,C), y (N,P,Q,K). The windows of x that meet the filter are laid out as (N,P,Q,R,S,C); what
remains of each derivative is one line of Einstein's sum.
"""

from __future__ import annotations

import numpy as np

from kernels.batch_norm.reference import statistics

__all__ = [
    "conv2d",
    "conv2d_transpose",
    "conv2d_transpose_with_statistics",
    "conv2d_weight_grad",
    "conv2d_with_statistics",
]


def conv2d(x, w, stride, padding):
    """dT/dy (N,P,Q,K) with P = (H + 2 padding - R) // stride + 1, Q alike."""
    y = np.einsum("npqrsc,krsc->npqk", windows(pad(x, padding), w.shape[1:3], stride), w, optimize=True)
    return np.ascontiguousarray(y)


def conv2d_transpose(y, w, stride, padding, size):
    """dT/dx (N,H,W,C) with (H, W) = size: each y spreads over the window it came from."""
    h, width = size
    x = pad(np.zeros((len(y), h, width, w.shape[3]), y.dtype), padding)
    spread = np.einsum("npqk,krsc->npqrsc", y, w, optimize=True)
    for r, s in np.ndindex(w.shape[1:3]):  # windows overlap, but for one (r, s) no two of them share a pixel
        windows(x, w.shape[1:3], stride)[:, :, :, r, s] += spread[:, :, :, r, s]
    return x[:, padding : padding + h, padding : padding + width].copy()


def conv2d_weight_grad(x, y, stride, padding, size):
    """dT/dw (K,R,S,C) with (R, S) = size."""
    gw = np.einsum("npqrsc,npqk->krsc", windows(pad(x, padding), size, stride), y, optimize=True)
    return np.ascontiguousarray(gw)


def conv2d_with_statistics(x, w, stride, padding):
    """(y, mean, variance): conv2d, and each channel's mean and variance, (K,)."""
    y = conv2d(x, w, stride, padding)
    return y, *statistics(y)


def conv2d_transpose_with_statistics(y, w, stride, padding, size):
    """(x, mean, variance): conv2d_transpose, and each channel's mean and variance, (C,)."""
    x = conv2d_transpose(y, w, stride, padding, size)
    return x, *statistics(x)


def pad(x, padding):
    """x with `padding` zeros on each of the four sides of the picture."""
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def windows(x, size, stride):
    """The windows of a padded x as a view (N,P,Q,R,S,C) that writes through to x, with (R, S) = size."""
    view = np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2), writeable=True)  # (N,H-R+1,W-S+1,C,R,S)
    return view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
