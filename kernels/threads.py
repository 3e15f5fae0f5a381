"""How the CPU's kernels share the cores: imported by each `cpu.py` that Numba compiles, before it compiles anything.

A plain module and not a folder, because a folder in here is an operation.

Two pools of threads work in turns, Numba's in the loops and the BLAS's in matrix products. Threads that spin while they
wait for work would keep the cores from the other pool, so Numba gets its own `workqueue`, whose threads sleep: with its
OpenMP layer the same convolution took 31 ms instead of 19. The price is that only one Python thread at a time may call
a parallel function. Numba starts as many threads as the process may use CPUs (`os.sched_getaffinity`).
"""

from __future__ import annotations

import functools

import numba

__all__ = ["parallel"]

numba.config.THREADING_LAYER = "workqueue"

# Compiled at the first call for its argument types, then kept on disk. `fastmath` stays off: no reordered sums, no
# product fused with a sum, so that a result depends on neither the machine nor the schedule.
parallel = functools.partial(numba.njit, parallel=True, cache=True)
