"""Convolution: slide a small filter over a picture and, at every place, weigh what lies under it.

A filter w (R, S, C) laid over the picture x with its corner at row p * stride - padding, column q * stride - padding, gives
one number of the output, y[p, q] = sum over r, s, c of x[p * stride + r - padding, q * stride + s - padding, c] w[r, s, c].
K filters give K channels. Multiply by y and sum over it too, and the three arrays stand side by side in one trilinear form,
T(x, w, y) = sum x[n,i,j,c] w[k,r,s,c] y[n,p,q,k]. Its derivative by each array is a kernel of this room: `conv2d` is dT/dy,
`conv2d_transpose` is dT/dx (it turns small pictures into larger ones), and `conv2d_weight_grad` is dT/dw.
"""
