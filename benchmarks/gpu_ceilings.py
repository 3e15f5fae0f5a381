"""How fast a card multiplies matrices, in each precision, and copies its memory: no kernel is expected to do better.

Our own kernels are what is judged, so others set the ceilings: cuBLAS, through PyTorch where it is installed and
through CuPy else. Each is the best of a few tries with random numbers, since a product of zeros takes less power and
runs faster. On `emulated` they are the host's own, for all precisions alike: nothing there is as fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from benchmarks import ceilings
from benchmarks.clocks import CupyClock, TorchClock
from benchmarks.contest import Contestant, Ended
from benchmarks.gpu_table import in_a_line
from minigan.errors import UserError

__all__ = ["of_card", "of_device", "of_host"]

SIDE = 8192  # of the matrices: 1.1 TFLOP
COPIED = 1 << 32  # bytes at most, and at most an eighth of the memory that is free
WARM_UP, TRIES = 3, 10
LIMIT = 60.0  # seconds for each


class TorchCeilings:
    """Measures the ceiling of a name, in PyTorch."""

    def __init__(self):
        import torch

        self.torch, self.clock = torch, TorchClock()

    def __call__(self, name: str) -> float:
        return self.copy() if name == "copy" else self.matmul(name)

    def copy(self) -> float:
        """Bytes a second, those read and those written together."""
        size = min(COPIED, self.torch.cuda.mem_get_info()[0] // 8)
        source, target = self.torch.empty(2, size, dtype=self.torch.uint8, device="cuda")
        return 2 * size / _best(self.clock, lambda: target.copy_(source))

    def matmul(self, precision: str) -> float:
        """Operations a second."""
        from benchmarks.torch_precision import use

        a, b = self.torch.randn(2, SIDE, SIDE, device="cuda").to(use(precision))
        return 2 * SIDE**3 / _best(self.clock, lambda: a @ b)


class CupyCeilings:
    """The same in CuPy. As it starts it reads whether float32 may be TF32; for bf16 it takes fp16, which is as fast."""

    def __init__(self, precision: str):
        os.environ["CUPY_TF32"] = str(int(precision == "tf32"))
        import cupy

        self.cupy, self.clock = cupy, CupyClock()

    def __call__(self, name: str) -> float:
        return self.copy() if name == "copy" else self.matmul(name)

    def copy(self) -> float:
        size = min(COPIED, self.cupy.cuda.runtime.memGetInfo()[0] // 8)
        source, target = (self.cupy.zeros(size, self.cupy.uint8) for _ in range(2))
        return 2 * size / _best(self.clock, lambda: target.data.copy_from_device_async(source.data, size))

    def matmul(self, precision: str) -> float:
        draw, dtype = np.random.default_rng(0).standard_normal, np.float16 if precision == "bf16" else np.float32
        a, b = (self.cupy.asarray(draw((SIDE, SIDE), np.float32).astype(dtype)) for _ in range(2))
        return 2 * SIDE**3 / _best(self.clock, lambda: self.cupy.matmul(a, b))


def _best(clock, compute: Callable) -> float:
    return min([clock.seconds(compute) for _ in range(WARM_UP + TRIES)][WARM_UP:])


def of_device(device: str, peer: str, threads: int, precisions: tuple[str, ...]) -> tuple[dict[str, float], str]:
    """Those of the card, or where `device` is not one, of the host."""
    return of_card(peer, precisions) if device == "cuda" else of_host(threads, precisions)


def of_card(peer: str, precisions: tuple[str, ...]) -> tuple[dict[str, float], str]:
    """copy: bytes a second; by precision: operations a second. And who has measured them."""
    names = ("copy", *precisions)
    if peer == "torch":
        try:
            with Contestant("ceilings", TorchCeilings) as contestant:
                return {name: contestant.turn(name, pause=0, limit=LIMIT) for name in names}, "cuBLAS through PyTorch"
        except Ended as error:
            print(f"{in_a_line(str(error))}: CuPy measures the ceilings instead")
    found = {}
    for name in names:
        try:
            with Contestant(f"ceiling {name}", CupyCeilings, name) as contestant:
                found[name] = contestant.turn(name, pause=0, limit=LIMIT)
        except Ended as error:
            why = in_a_line(str(error))
            raise UserError(f"{why}: it is measured with cuBLAS: pip install 'minigan[peers]'") from error
    return found, "cuBLAS through CuPy, bf16 at the rate of fp16"


def of_host(threads: int, precisions: tuple[str, ...]) -> tuple[dict[str, float], str]:
    """The same of the host, where every precision is NumPy's float32."""
    host = ceilings.measure(threads)
    return {"copy": host["copy"], **dict.fromkeys(precisions, host["sgemm"])}, "the host's NumPy in float32"
