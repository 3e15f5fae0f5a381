"""An array in which every number is the same: y[e] = value.

The gradient that a walk over the tape begins with, the 2 of `2 * x`: numbers that Python knows.
They reach the device as a kernel's argument, so that nothing is copied there in the middle of a step.
"""
