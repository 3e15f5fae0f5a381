"""The two losses of the game (Goodfellow et al. 2014), as the article and Radford et al. play it.

The discriminator gives each picture a logit, positive for "real". It minimises

    d_loss = d_loss_real + d_loss_fake = BCE(D(x), 1 - label_smoothing) + BCE(D(G(z)), 0)

and the generator g_loss = BCE(D(G(z)), 1), the non-saturating form (section 3 of the paper): where the discriminator is
sure that a picture is fake, log(1 - D) is flat and teaches nothing, while -log D is steep.
One-sided label smoothing (Salimans et al. 2016, section 3.4) keeps the discriminator from growing ever more certain.
"""

from __future__ import annotations

from minigan import ops
from minigan.autograd import Tensor

__all__ = ["discriminator_loss", "generator_loss"]


def discriminator_loss(real: Tensor, fake: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """(d_loss_real, d_loss_fake), each of shape (), from the logits (N, 1) of real and of generated pictures."""
    return ops.bce_with_logits(real, 1 - label_smoothing), ops.bce_with_logits(fake, 0)


def generator_loss(fake: Tensor) -> Tensor:
    """g_loss, of shape (), from the logits (N, 1) of generated pictures."""
    return ops.bce_with_logits(fake, 1)
