"""The sum over some axes, and its opposite, the broadcast along them.

sum: y[a, c] = sum over b of x[a, b, c], with b running through the axes that are summed. Broadcasting, x[a, b, c] =
y[a, c], gives the same element to every b. Each is the other's gradient: what was given away comes back added up.
"""
