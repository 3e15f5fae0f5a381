"""Runs kernels under the address sanitizer; test_emulator.py starts it in `host.sanitized_environment()`.

python tests/sanitized.py                      every kernel of every room
python tests/sanitized.py ROOM CODE INSTEAD    one room's, with a fault planted in a copy of its .cu
"""

from __future__ import annotations

import importlib
import sys

from planting import planted, results

import kernels
from kernels.launch import host

with host.emulation(sanitize=True):
    if sys.argv[1:]:
        room, code, instead = sys.argv[1:]
        text = importlib.import_module(f"kernels.{room}.cuda").SOURCE.text
        if code not in text:
            sys.exit(f"kernels/{room} has no {code!r}")
        with planted(room, text.replace(code, instead)) as module:
            list(results(module))
    else:
        for room in kernels.rooms():
            print(room, len(list(results(importlib.import_module(f"kernels.{room}.cuda")))))
