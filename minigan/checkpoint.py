"""Checkpoints: everything a run needs to go on as if it had never stopped, in one safetensors file.

A file holds arrays by name, and in its metadata a JSON object of numbers ("state") and the SHA-256 of both ("sha256").
It never holds code, so opening one from a stranger is safe. It is written to a temporary file, synced and renamed: at
its own name there is only ever a whole one. If the disk loses or turns a bit of it later, the sum tells.
"""

from __future__ import annotations

import hashlib
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
    text = json.dumps(state)
    content = safetensors.numpy.save(dict(arrays), {"state": text, "sha256": _sum(arrays, text)})
    with replacing(path) as file:
        file.write(content)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays, state) as they were saved. Raises UserError for a file that is missing, cut short or something else."""
    try:
        with safetensors.safe_open(path, "np") as file:
            about = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "sha256" in about and about["sha256"] != _sum(arrays, about["state"]):  # the first runs' have none
            raise ValueError("its bytes are not those that were written")
        return arrays, json.loads(about["state"])
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a whole checkpoint ({reason})") from None


def _sum(arrays: Mapping[str, np.ndarray], state: str) -> str:
    """The SHA-256 of everything, in hexadecimal."""
    digest = hashlib.sha256(state.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


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
