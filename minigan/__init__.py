"""minigan: a DCGAN built from nothing.

import minigan
x = minigan.tensor([1.0, 2.0, 3.0], requires_grad=True)
minigan.ops.sum(x * x).backward()
x.grad                               # 2 x
"""

from minigan import ops
from minigan.autograd import Tensor, grad, no_grad, tensor

__all__ = ["Tensor", "grad", "no_grad", "ops", "tensor"]
