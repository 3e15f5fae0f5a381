"""Launches image_batch.cu: a thread an element of the batch."""

from __future__ import annotations

from kernels.launch import Source, empty

__all__ = ["image_batch"]

SOURCE = Source(__package__, "image_batch.cu")


def image_batch(images, indices, mirror):
    """float32 (N,H,W,C) of images uint8 (M,H,W,C) at indices int32 (N,), mirrored where mirror uint8 (N,) is 1."""
    shape = images.shape[1:]
    batch = empty(images, (len(indices), *shape))
    grid = ((batch.size + 255) // 256,)
    SOURCE.launch("image_batch", grid, (256,), images, indices, mirror, batch, batch.size, *shape)
    return batch
