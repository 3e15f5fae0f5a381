"""A training step in PyTorch, in each way that its users have to make it fast.

    eager           as it is written
    channels_last   pictures and filters laid out in memory as the tensor cores read them
    compile         torch.compile(mode="reduce-overhead"): fused kernels, in CUDA graphs of its own
    graph           the whole step captured by hand in one CUDA graph, in either layout

All with Adam's fused kernel and, on a GPU, cuDNN's own search for the fastest algorithms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.clocks import CLOCKS
from benchmarks.torch_peer import TorchGame, torch_layout
from benchmarks.torch_precision import use
from benchmarks.train_step import first_networks, real_batch
from minigan.models import PRESETS
from minigan.options import Settings

__all__ = ["TorchSteps"]

CAPTURE_AFTER = 3  # steps in a stream of their own: in them cuDNN searches, and buffers are made


def eager(game: TorchGame, z: Tensor, real: Tensor) -> Callable[[], dict[str, Tensor]]:
    """The step as it is written."""
    return lambda: game.move(z, real)


def compiled(game: TorchGame, z: Tensor, real: Tensor) -> Callable[[], dict[str, Tensor]]:
    """Both networks compiled, forward and backward."""
    game.generator = torch.compile(game.generator, mode="reduce-overhead")
    game.discriminator = torch.compile(game.discriminator, mode="reduce-overhead")

    def step() -> dict[str, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()  # the pictures of the last step are not needed any more
        return game.move(z, real)

    return step


def graphed(game: TorchGame, z: Tensor, real: Tensor) -> Callable[[], dict[str, Tensor]]:
    """The step captured, and repeated at each call. Weights and Adam are as they were before it was captured."""
    networks = [*game.generator.state_dict().values(), *game.discriminator.state_dict().values()]
    before = [t.to("cpu", copy=True) for t in networks]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(CAPTURE_AFTER):
            game.move(z, real)
    torch.cuda.current_stream().wait_stream(side)
    game.adam_d.zero_grad(set_to_none=True)  # so that gradients live in the graph's own memory
    game.adam_g.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scores = game.move(z, real)

    for t, old in zip(networks, before, strict=True):
        t.copy_(old)
    for adam in (game.adam_g, game.adam_d):
        for state in adam.state.values():
            for t in state.values():
                t.zero_()

    def step() -> dict[str, Tensor]:
        graph.replay()
        return scores

    return step


WAYS = {  # by name: channels_last or not, and how the step is made of the game
    "eager": (False, eager),
    "channels_last": (True, eager),
    "compile": (True, compiled),
    "graph": (False, graphed),
    "graph, channels_last": (True, graphed),
}


class TorchSteps:
    """Plays in PyTorch: on a GPU where `settings` say so, else on the host."""

    def __init__(self, settings: Settings, way: str, precision: str):
        device = "cuda" if settings.device == "cuda" else "cpu"
        torch.backends.cudnn.benchmark = True
        dtype = use(precision)
        channels_last, self.make = WAYS[way]
        autocast = dtype if precision == "bf16" else None
        self.clock = CLOCKS["torch", device]()
        self.game = TorchGame(first_networks(settings), settings, channels_last, device, autocast)
        self.real = torch_layout(real_batch(settings)).to(device, memory_format=self.game.memory_format)
        self.z = torch.empty(settings.batch_size, settings.z_dim, device=device)
        uniform = PRESETS[settings.preset].z == "uniform"
        self.draw = functools.partial(self.z.uniform_, -1, 1) if uniform else self.z.normal_

    def __call__(self, order: str, *arguments):
        return getattr(self, order)(*arguments)

    def first(self, z: np.ndarray, warm_up: int) -> dict[str, float]:
        """The scores of the first step, with this z (N, z_dim). Then so many steps to warm up, which leave nothing."""
        self.z.copy_(torch.from_numpy(z))
        self.step = self.make(self.game, self.z, self.real)
        scores = {name: score.item() for name, score in self.step().items()}
        self.time(warm_up)
        self.clock.forget()
        return scores

    def time(self, count: int) -> None:
        """So many steps, one after the other, each with a z of its own; the clock waits for the last."""
        for _ in range(count):
            self.draw()
            self.step()
        self.clock.wait()

    def memory(self) -> int:
        """The bytes that PyTorch held at most since it was warm."""
        return self.clock.memory()
