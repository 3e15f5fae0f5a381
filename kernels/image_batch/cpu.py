"""A batch of pictures on the CPU: gathered, mirrored and scaled in one pass."""

from __future__ import annotations

import numpy as np

from kernels.memory import empty
from kernels.threads import compiled, share

__all__ = ["image_batch"]


def image_batch(images, indices, mirror):
    """float32 (N,H,W,C)."""
    batch = empty((len(indices), *images.shape[1:]))
    share(fetch, len(indices), images, indices, mirror, batch)
    return batch


@compiled
def fetch(first, last, images, indices, mirror, batch):
    """Fills batch (N,H,W,C)."""
    _, h, width, c = batch.shape
    for b in range(first, last):
        for i in range(h):
            for j in range(width):
                source = width - 1 - j if mirror[b] == 1 else j
                for k in range(c):
                    value = np.float32(images[indices[b], i, source, k])
                    batch[b, i, j, k] = value / np.float32(127.5) - np.float32(1)
