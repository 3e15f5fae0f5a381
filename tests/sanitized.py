"""Runs kernels under the sanitizers; test_emulator.py starts it in `host.sanitized_environment()`.

python tests/sanitized.py --all MODULE ...        every kernel of these modules
python tests/sanitized.py PROGRAM CODE INSTEAD    one program's, with a fault planted in a copy of its .cu
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from planting import MODULES, PROGRAMS, planted, results

from kernels.launch import host, recording

with host.emulation(sanitize=True):
    if sys.argv[1] != "--all":
        name, code, instead = sys.argv[1:]
        text = PROGRAMS[name].source.text
        if code not in text:
            sys.exit(f"{name} has no {code!r}")
        with planted(name, text.replace(code, instead)) as module:
            list(results(module))
    else:
        modules = [module for module in MODULES if module.__name__ in sys.argv[2:]]
        with recording() as launched:
            for module in modules:
                list(results(module))
        builds = {(launch.source, launch.defines) for launch in launched}
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # the compiler is most of the work
            list(pool.map(lambda build: host.built(*build, True, None), builds))
        for module in modules:
            print(len(list(results(module))), module.__name__)
