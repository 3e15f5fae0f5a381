"""Launches bce_with_logits.cu: one block for the mean, a thread an element for its gradient."""

from __future__ import annotations

from kernels.launch import Source, empty

__all__ = ["bce_with_logits", "bce_with_logits_grad"]

SOURCE = Source(__package__, "bce_with_logits.cu")


def bce_with_logits(logits, targets):
    """The mean over all elements, of shape ()."""
    loss = empty(logits, ())
    SOURCE.launch("bce_with_logits", (1,), (256,), logits, targets, loss, logits.size)
    return loss


def bce_with_logits_grad(logits, targets):
    """The gradient of the mean with respect to the logits, of their shape."""
    glogits = empty(logits, logits.shape)
    grid = ((logits.size + 255) // 256,)
    SOURCE.launch("bce_with_logits_grad", grid, (256,), logits, targets, glogits, logits.size)
    return glogits
