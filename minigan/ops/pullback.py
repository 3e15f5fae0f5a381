"""How a fused op is differentiated: by its definition in plain ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minigan.autograd import Tensor, grad, record, recording
from minigan.ops.reshape import reshape

__all__ = ["pullback"]


def pullback(
    definition: Callable, inputs: Sequence[Tensor], output_grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients at `inputs` of `definition(*inputs)`, when `output_grads` arrive at its results.

    They are on the tape if the walk that asks for them is being recorded. Inside, each input goes by a new name (a
    reshape to its own shape): one input may have been computed from another, and only the direct dependence counts.
    """
    create_graph = recording()
    with record(True):
        named = [reshape(t, t.shape) for t in inputs]
        outputs = definition(*named)
    return grad(outputs, named, create_graph, output_grads)
