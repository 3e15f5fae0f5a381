"""Checkpoints: everything a run needs to go on as if it had never stopped, in one safetensors file.

A file holds arrays by name and a JSON object of numbers under the metadata key "state". It never holds code, so opening
one from a stranger is safe. It is written to a temporary file, synced and renamed: at its own name there is only ever a
whole one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from minigan.autograd import Tensor
from minigan.errors import UserError
from minigan.files import replacing

__all__ = ["load", "restore", "save"]


def save(path: Path, arrays: Mapping[str, np.ndarray], state: Mapping) -> None:
    """Write `arrays` and the JSON-able `state`. Raises OSError where the disk refuses; `path` is then as it was."""
    content = safetensors.numpy.save(dict(arrays), {"state": json.dumps(state)})
    with replacing(path) as file:
        file.write(content)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays, state) as they were saved. Raises UserError for a file that is missing, cut short or something else."""
    try:
        with safetensors.safe_open(path, "np") as file:
            state = json.loads(file.metadata()["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: not a whole checkpoint ({reason}): move it away, and the one before it is used"
        ) from None


def restore(path: Path, arrays: Mapping[str, np.ndarray], prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Copy the arrays called `prefix`.name into the tensors called name.

    Raises UserError, naming the first tensor that is missing or has another shape or dtype.
    """
    for name, t in tensors.items():
        array = arrays.get(f"{prefix}.{name}")
        found = "missing" if array is None else f"{array.dtype} {array.shape}"
        if found != f"{t.dtype} {t.shape}":
            raise UserError(
                f"{path}: {prefix}.{name} is {found}, but the network has {t.dtype} {t.shape}: "
                "the checkpoint is another network's"
            )
        t.device.copy(t.data, t.device.array(array))
