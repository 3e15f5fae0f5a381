"""How a `.cu` is compiled and launched: on the GPU (`gpu`), or by the host's C++ compiler on its arrays (`host`).

    from kernels.launch import Source, elements, empty

    SOURCE = Source(__package__, "leaky_relu.cu")

    def leaky_relu(x, slope):
        y = empty(x, x.shape)
        SOURCE.launch("leaky_relu", *elements(x.size), x, y, x.size, slope)
        return y

A raw kernel checks nothing: a Python int would arrive as 64 bits, a float as a double, and a view's strides would be
ignored. So `launch` reads the kernel's signature out of the `.cu`, casts every number and checks every array. A step of
launches can be captured once and repeated as a whole (`graph`).
"""

from kernels.launch.elements import elements
from kernels.launch.signature import TABLE
from kernels.launch.source import Launch, Source, empty, multiprocessors, recording

__all__ = ["TABLE", "Launch", "Source", "elements", "empty", "multiprocessors", "recording"]
