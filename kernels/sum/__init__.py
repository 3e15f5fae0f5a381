"""The sum over some axes, their mean, and the sum's opposite, the broadcast along them.

sum: y[a, c] = sum over b of x[a, b, c], with b running through the axes that are summed; mean divides it by how many b
there are. Broadcasting, x[a, b, c] = y[a, c], gives the same element to every b. Sum and broadcast are each other's
gradient: what was given away comes back added up.
"""
