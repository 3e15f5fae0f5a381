"""Checkpoints: everything a run needs to go on as if it had never stopped, in one safetensors file.

A file holds arrays by name, and in its metadata a JSON object of numbers ("state") and the SHA-256 of both ("sha256").
It never holds code, so opening one from a stranger is safe. It is written to a temporary file, synced and renamed: at
its own name there is only ever a whole one. If the disk loses or turns a bit of it later, the sum tells. It says which
format it has, so that an older minigan does not guess at what a newer one wrote.
"""

from __future__ import annotations

import dataclasses
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
from minigan.words import one_line

__all__ = ["FORMAT", "UNREADABLE", "Checkpoint", "Newer", "NotWhole", "load", "refuse_newer", "save"]

# What reading a file may raise; the last two, of a dtype that NumPy lacks.
UNREADABLE = (OSError, safetensors.SafetensorError, ValueError, TypeError, AttributeError)
FORMAT = 1  # of checkpoints and of config.json; count it up when an older minigan would misread them


class NotWhole(UserError):
    """A file that is missing, cut short, changed since it was written, or something else than a checkpoint."""


class Newer(UserError):
    """A file of a format that this minigan does not know yet."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What was read from `path`: arrays by name, and the state, as they were saved."""

    path: Path
    arrays: dict[str, np.ndarray]
    state: dict

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Copy the arrays called `prefix`.name into the tensors called name.

        Raises UserError, naming the first tensor that is missing, has another shape or dtype, or is one too many; no
        tensor is changed then.
        """
        start = f"{prefix}."
        ours = {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}
        for name in [*tensors, *(ours.keys() - tensors.keys())]:
            found, wanted = _kind(ours.get(name)), _kind(tensors.get(name))
            if found != wanted:
                raise UserError(
                    f"{self.path}: {prefix}.{name} is {found or 'missing'}, but the network has {wanted or 'none'}: "
                    "the checkpoint is another network's"
                )
        for name, t in tensors.items():
            t.device.copy(t.data, t.device.array(ours[name]))


def _kind(array: np.ndarray | Tensor | None) -> str | None:
    return None if array is None else f"{array.dtype} {array.shape}"


def save(path: Path, arrays: Mapping[str, np.ndarray], state: Mapping) -> None:
    """Write `arrays` and the JSON-able `state`. Raises OSError where the disk refuses; `path` is then as it was."""
    text = json.dumps({"format": FORMAT, **state})
    content = safetensors.numpy.save(dict(arrays), {"state": text, "sha256": _sum(arrays, text)})
    with replacing(path) as file:
        file.write(content)


def load(path: Path) -> Checkpoint:
    """What was saved. Raises NotWhole, or Newer."""
    try:
        with safetensors.safe_open(path, "np") as file:
            about = file.metadata() or {}
            if "state" not in about:
                raise ValueError("it holds no state of a run")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state = json.loads(about["state"])
        if not isinstance(state, dict):
            raise ValueError("its state is no JSON object")
        found = state.pop("format", None)  # the first runs' have none, and the very first no sum
        if about.get("sha256", found) not in (_sum(arrays, about["state"]), None):
            raise ValueError("its bytes are not those that were written")
        refuse_newer(path, found)
    except UNREADABLE as error:
        raise NotWhole(f"{path}: not a whole checkpoint ({one_line(error)})") from None
    return Checkpoint(path, arrays, state)


def refuse_newer(path: Path, found: int | None) -> None:
    """Raise Newer if a file's format is. None: it says none, and is of the first."""
    if found is not None and found > FORMAT:
        raise Newer(f"{path}: of format {found}, and this minigan knows up to {FORMAT}: install a newer minigan")


def _sum(arrays: Mapping[str, np.ndarray], state: str) -> str:
    """The SHA-256 of everything, in hexadecimal."""
    digest = hashlib.sha256(state.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
