"""The hyperbolic tangent: y = (exp(x) - exp(-x)) / (exp(x) + exp(-x)), between -1 and 1.

The generator's last layer: whatever number it has made for a colour, this is one that a screen can show, -1 for black
and 1 for white. Its derivative is 1 - y * y, made of its own output: what comes back as gy goes on as gy (1 - y * y).
"""
