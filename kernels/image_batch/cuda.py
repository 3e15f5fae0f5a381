"""Launches image_batch.cu: a thread makes a few elements of a picture."""

from __future__ import annotations

from kernels.launch import Source, elements, empty

__all__ = ["image_batch"]

SOURCE = Source(__package__, "image_batch.cu")


def image_batch(images, indices, mirror):
    """float32 (N,H,W,C) of images uint8 (M,H,W,C) at indices int32 (N,), mirrored where mirror uint8 (N,) is 1."""
    batch = empty(images, (len(indices), *images.shape[1:]))
    size = batch.size // len(batch)
    grid, block = elements(size)
    numbers = size, *images.shape[2:]
    SOURCE.launch("image_batch", (*grid, len(batch)), block, images, indices, mirror, batch, *numbers)
    return batch
