"""A batch of pictures out of the data set: gathered by index, mirrored by a bit, scaled from 0..255 to [-1, 1]."""

from __future__ import annotations

import numpy as np

__all__ = ["image_batch"]


def image_batch(images, indices, mirror):
    """float32 (N,H,W,C) of images uint8 (M,H,W,C) at indices int32 (N,), mirrored where mirror uint8 (N,) is 1."""
    batch = images[indices]
    batch = np.where(mirror[:, None, None, None] == 1, batch[:, :, ::-1], batch)
    return batch.astype(np.float32) / 127.5 - 1
