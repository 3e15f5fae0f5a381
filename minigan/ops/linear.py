"""linear: every output is a weighted sum of every input.

    y[n,k] = Σ_c x[n,c] w[k,c] + b[k]

That is conv2d of pictures of one pixel with kernels of one pixel, so conv2d's kernels compute it and conv2d's
derivation gives its gradients: gx = gy w, gw = gyᵀ x, gb = Σ_n gy.
"""

from __future__ import annotations

from minigan.autograd import Tensor
from minigan.ops.conv2d import conv2d
from minigan.ops.reshape import reshape

__all__ = ["linear"]


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """x (N,C), w (K,C), b (K,) or none -> y (N,K). Raises ValueError, naming the shapes, where they do not fit."""
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[1] or (b is not None and b.shape != w.shape[:1]):
        got = f"x {x.shape}, w {w.shape}" + ("" if b is None else f", b {b.shape}")
        raise ValueError(f"linear: shapes {got}; it wants x (N, C), w (K, C), b (K,)")
    (n, c), k = x.shape, w.shape[0]
    y = reshape(conv2d(reshape(x, (n, 1, 1, c)), reshape(w, (k, 1, 1, c))), (n, k))
    return y if b is None else y + b
