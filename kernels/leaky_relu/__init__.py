"""The leaky rectifier: y = x where x > 0, else slope * x.

What makes a network more than one matrix is something that bends between its layers. The rectifier (slope 0) bends at 0
and is cheap; the leaky one lets a little through below 0, so that the gradient, gy where x > 0 and slope * gy
elsewhere, never vanishes entirely, and no unit is silenced for good.
"""
