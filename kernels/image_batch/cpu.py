"""A batch of pictures on the CPU: gathered, mirrored and scaled in one pass."""

from __future__ import annotations

import numba
import numpy as np

from kernels.threads import parallel

__all__ = ["image_batch"]


def image_batch(images, indices, mirror):
    """float32 (N,H,W,C)."""
    batch = np.empty((len(indices), *images.shape[1:]), np.float32)
    fetch(images, indices, mirror, batch)
    return batch


@parallel
def fetch(images, indices, mirror, batch):
    """Fills batch (N,H,W,C), row by row of its pictures."""
    n, h, width, c = batch.shape
    for row in numba.prange(n * h):
        b, i = row // h, row % h
        for j in range(width):
            source = width - 1 - j if mirror[b] == 1 else j
            for k in range(c):
                batch[b, i, j, k] = np.float32(images[indices[b], i, source, k]) / np.float32(127.5) - np.float32(1)
