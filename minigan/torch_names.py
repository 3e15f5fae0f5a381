"""The networks under the names, and in the layouts, of the DCGAN example of PyTorch, whose weights many people have.

There, a network is `main`, a Sequential, and its layer 3 is `main.3`. Two things differ from ours. A layer that only
gives a picture another shape is not counted: z arrives as (N, z_dim, 1, 1). And filters are (K,C,R,S) in the letters of
the trilinear form, where ours are (K,R,S,C); both convolve and transpose alike.

    ours                          there
    w (K,R,S,C)                   weight (K,C,R,S)
    scale, shift                  weight, bias
    running_mean                  running_mean
    running_variance              running_var
                                  num_batches_tracked, which nothing is computed from

Source: https://github.com/pytorch/examples/blob/main/dcgan/main.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from minigan.autograd import Tensor
from minigan.errors import UserError
from minigan.nn import BatchNorm, Conv2d, Conv2dTranspose, Reshape, Sequential

__all__ = ["COUNTER", "from_torch", "to_torch"]

COUNTER = "num_batches_tracked"


def to_torch(network: Sequential, batches: int) -> dict[str, np.ndarray]:
    """What PyTorch calls the network's state_dict. batches: that the running averages have seen."""
    arrays = {}
    for name, t in _named(network):
        arrays[name] = np.ascontiguousarray(_turned(t.numpy(), (0, 3, 1, 2)))
        if name.endswith("running_var"):  # the last of a batch norm but for the counter
            arrays[name.replace("running_var", COUNTER)] = np.array(batches, np.int64)
    return arrays


def from_torch(path: Path, arrays: Mapping[str, np.ndarray], network: Sequential) -> None:
    """Copy a state_dict into the network.

    Raises UserError, naming the first array of the file `path` that is missing, has another shape or dtype, holds a
    number that is not finite, or is one too many. The network is then as it was.
    """
    found, tensors = {name: a for name, a in arrays.items() if not name.endswith(COUNTER)}, dict(_named(network))
    for name in [*tensors, *(found.keys() - tensors.keys())]:
        got, wanted = _kind(found.get(name)), _kind(tensors.get(name) and _turned(tensors[name].numpy(), (0, 3, 1, 2)))
        if got != wanted:
            raise UserError(f"{path}: {name} is {got}, and should be {wanted}: it is another network's")
        if not np.isfinite(found[name]).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite: it cannot be used")
    for name, t in tensors.items():
        t.device.copy(t.data, t.device.array(_turned(found[name], (0, 2, 3, 1))))


def _named(network: Sequential) -> Iterator[tuple[str, Tensor]]:
    """Every Tensor with its name there."""
    counted = [layer for layer in network if not isinstance(layer, Reshape)]
    for i, layer in enumerate(counted):
        match layer:
            case Conv2d(w=w) | Conv2dTranspose(w=w):
                yield f"main.{i}.weight", w
            case BatchNorm():
                yield f"main.{i}.weight", layer.scale
                yield f"main.{i}.bias", layer.shift
                yield f"main.{i}.running_mean", layer.running_mean
                yield f"main.{i}.running_var", layer.running_variance


def _turned(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """A filter with its axes in another order; what is no filter, as it is."""
    return array.transpose(axes) if array.ndim == len(axes) else array


def _kind(array: np.ndarray | None) -> str:
    return "missing" if array is None else f"{array.dtype} {array.shape}"
