"""Runs kernels under the address sanitizer; test_emulator.py starts it in `host.sanitized_environment()`.

python tests/sanitized.py                         every kernel of every program
python tests/sanitized.py PROGRAM CODE INSTEAD    one program's, with a fault planted in a copy of its .cu
"""

from __future__ import annotations

import sys

from planting import PROGRAMS, planted, results

from kernels.launch import host

with host.emulation(sanitize=True):
    if sys.argv[1:]:
        name, code, instead = sys.argv[1:]
        text = PROGRAMS[name].source.text
        if code not in text:
            sys.exit(f"{name} has no {code!r}")
        with planted(name, text.replace(code, instead)) as module:
            list(results(module))
    else:
        for name, program in PROGRAMS.items():
            print(len(list(results(program.module))), name)
