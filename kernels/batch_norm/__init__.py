"""Batch normalisation: give every channel mean 0 and variance 1 over the batch, then a scale and a shift that are
learned.

y = scale * (x - mean) / sqrt(variance + eps) + shift, with mean and variance taken over all the rows of x (..., C),
that is, over every picture and pixel of the batch. Whatever the layers before do to the size of their outputs, the next
layer meets the same range. In training the statistics are the batch's own, so the gradient flows through them too
(`batch_norm_grad`); to draw one picture that does not depend on its neighbours they are given instead
(`batch_norm_inference`).
"""
