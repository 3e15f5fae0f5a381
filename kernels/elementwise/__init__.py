"""Arithmetic an element at a time: y[e] = a[e] + b[e], and the same with - * / and powers.

Where the shapes of a and b differ they are aligned at their last axes, and an axis of length 1 is stretched to the
other's (NumPy's broadcasting): a bias (C,) is added to every pixel of a picture batch (N, H, W, C). Stretching copies
nothing; the kernels just go on reading the same element.
"""
