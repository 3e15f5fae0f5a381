"""Batch normalisation and the leaky rectifier after it, as one operation.

y = n where n > 0, else slope * n, with n = scale * (x - mean) / sqrt(variance + eps) + shift and the batch's own mean
and variance. In both networks the one always follows the other. Apart, they write n to memory and read it again, and on
the way back the gradient at n as well; a picture is worth a few operations on each of its numbers, so those trips are
most of the time. Together, n lives in a register: the way back computes its sign from x once more.

For the same x both ways must find the same sign, or the gradient would be that of another function. So they compute n
by the same expression, with the same roundings.
"""
