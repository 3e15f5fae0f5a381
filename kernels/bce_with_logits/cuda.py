"""Launches bce_with_logits.cu: one block for the mean; for its gradient, a thread makes a few elements."""

from __future__ import annotations

from kernels.launch import Source, elements, empty
from kernels.launch.elements import BLOCK

__all__ = ["bce_with_logits", "bce_with_logits_grad"]

SOURCE = Source(__package__, "bce_with_logits.cu")


def bce_with_logits(logits, target):
    """The mean over all elements, of shape (). target: one number for all of them."""
    loss = empty(logits, ())
    SOURCE.launch("bce_with_logits", (1,), (BLOCK,), logits, loss, logits.size, target)
    return loss


def bce_with_logits_grad(g, logits, target):
    """g, of shape (), times the gradient of the mean with respect to the logits, of their shape."""
    glogits = empty(logits, logits.shape)
    SOURCE.launch("bce_with_logits_grad", *elements(logits.size), g, logits, glogits, logits.size, target)
    return glogits
