"""Faults planted in copies of the real kernels, to see that they are found."""

from __future__ import annotations

import contextlib
import importlib
import itertools

import cases
import numpy as np

from kernels.launch import Source


@contextlib.contextmanager
def planted(room, text):
    """The `cuda` module of a room, which launches `text` in place of its own `.cu`."""
    module = importlib.import_module(f"kernels.{room}.cuda")
    kept = module.SOURCE
    module.SOURCE = Source(module.__package__, kept.name.rsplit("/", 1)[1], contract=kept.contract, text=text)
    try:
        yield module
    finally:
        module.SOURCE = kept


def results(module):
    """Every array that the kernels of a `cuda` module make or change, one by one.

    At the sizes of tests/cases.py: all kernels at their first, then all at their second, so that a difference is met
    before every set of constants has been compiled.
    """
    calls = [[(getattr(module, kernel), arguments) for arguments in cases.fixed(kernel)] for kernel in module.__all__]
    for kernel, arguments in filter(None, itertools.chain(*itertools.zip_longest(*calls))):
        made = kernel(*arguments)
        yield from made if isinstance(made, tuple) else [made]
        yield from (a for a in arguments if isinstance(a, np.ndarray))
