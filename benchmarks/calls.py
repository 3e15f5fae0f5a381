"""What a training asks of its kernels: overheard, not written down.

The game is played on a device that remembers how its kernels are called, layer by layer, so that what is measured is
what is called: whatever layers a network has, and whatever they fuse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import kernels
from benchmarks.watch import watched
from kernels.launch.source import HOMES
from minigan import faces
from minigan.autograd import Tensor, grad, no_grad
from minigan.nn import Sequential
from minigan.options import Settings
from minigan.train import Batches, Game

__all__ = ["Call", "Place", "Training", "arrays", "computation", "names", "on_host", "recorder", "to", "undisputed"]


@dataclass(frozen=True)
class Call:
    """A kernel by name, and what it is called with: arrays, pictures that are pending, and numbers."""

    kernel: str
    arguments: tuple

    def key(self) -> tuple:
        """Calls that are equal in this cost the same: the kernel, the arrays' shapes, the numbers."""
        return self.kernel, *map(_key, self.arguments)

    def pending(self) -> list[int]:
        """Which of its arrays are pictures that the kernel normalises or rectifies as it reads them."""
        given = [a for a in self.arguments if isinstance(a, (np.ndarray, kernels.Pending))]
        return [number for number, a in enumerate(given) if isinstance(a, kernels.Pending)]


def _key(argument):
    if isinstance(argument, kernels.Pending):
        return argument.kernel, *argument.shape
    return argument.shape if isinstance(argument, np.ndarray) else argument


def to(device: kernels.Device, argument):
    """An argument of a call as one of a device: its arrays are there, and it can do with it what it has to."""
    if isinstance(argument, kernels.Pending):
        there = argument.through(device.array, device.kernels[argument.kernel])
        return there if device.reads_pending else there.array()
    return device.array(argument) if isinstance(argument, np.ndarray) else argument


def computation(device: kernels.Device, call: Call) -> Callable[[], object]:
    """Computes the call on a device, where its arguments are already; `on_host` has what it returns as arrays."""
    arguments = [to(device, a) for a in call.arguments]

    def compute():
        returned = getattr(device, call.kernel)(*arguments)
        return tuple(arguments) if returned is None else returned  # a kernel that returns nothing changes arrays

    return compute


def on_host(device: kernels.Device, returned) -> list[np.ndarray]:
    """The arrays among the values that a `computation` returned."""
    homes = tuple(HOMES)  # what an array is, here or on the GPU
    return [device.numpy(a) for a in (returned if isinstance(returned, tuple) else (returned,)) if isinstance(a, homes)]


def recorder(conv2d: str = "cuda") -> kernels.Device:
    """`emulated` with that module of kernels/conv2d, for launches that are recorded and not run: needs no compiler."""
    return kernels.Device("emulated", "cuda", (np.float32,), instead={"conv2d": conv2d})


@dataclass(frozen=True)
class Place:
    """Where kernels are called.

    name: "generator.3" for the layer at that position, or "game" for the whole. layer: its class. picture: how many
    numbers a batch has where it comes in or goes out, whichever are fewer. run: has the kernels called.
    """

    name: str
    layer: str
    picture: int
    run: Callable[[], None]


class Training:
    """A training with `settings` whose kernels are listened to.

    device: of the host. reads_pending: of the one that is to make the same calls.
    places: the layers of both networks in the order of the forward pass, and last the game around them.
    """

    def __init__(self, settings: Settings, device: kernels.Device, reads_pending: bool = False):
        self.kernels = set(device.kernels)
        self.met = set()  # those that were called so far
        self._heard: dict[tuple, tuple[int, Call]] = {}  # by the call's key: its numbers, in and out, and the call
        self._deaf_to: set[str] = set()
        device = watched(device, self._listener)
        device.reads_pending = reads_pending
        game = Game(settings, device)
        pictures = faces.draw(settings.batch_size, settings.size, settings.mode, settings.seed)
        self.places = [
            *_layers("generator", game.generator, game.networks.z_shape, settings.batch_size, device),
            *_layers("discriminator", game.discriminator, game.networks.picture, settings.batch_size, device),
            Place("game", "", 0, lambda: Game(settings, device).step(Batches(pictures, settings, device).batch(0))),
        ]

    def calls(self, place: Place) -> list[Call]:
        """Of a layer: the kernels for which a picture is in or out. Of the game: those that no layer called so far.

        Of a kernel that the game calls with several shapes, the one with most numbers.
        """
        self._heard.clear()
        self._deaf_to = set() if place.layer else set(self.met)
        place.run()
        heard = [(numbers, call) for numbers, call in self._heard.values() if numbers >= place.picture]
        if not place.layer:
            largest = {call.kernel: (numbers, call) for numbers, call in sorted(heard, key=lambda item: item[0])}
            heard = list(largest.values())
        self.met.update(call.kernel for _, call in heard)
        return [undisputed(call) for _, call in heard]

    def _listener(self, name: str, function: Callable) -> Callable:
        def call(*arguments):
            arguments = tuple(
                a.through(lambda array: array, kernels.device("reference").kernels[a.kernel])
                if isinstance(a, kernels.Pending)
                else a
                for a in arguments
            )
            result = function(*map(kernels.as_array, arguments))
            if name in self.kernels and name not in self._deaf_to:  # `copy` is none of them
                heard = Call(name, arguments)
                self._heard[heard.key()] = max(a.size for a in [*arrays(arguments), *arrays(result)]), heard
            return result

        return call


def names(place: Place, call: Call) -> set[str]:
    """What a row can be asked for by: generator.3, generator, the layer's class, the kernel."""
    return {place.name, place.name.partition(".")[0], *place.layer.split(), call.kernel} - {""}


def arrays(values) -> list[np.ndarray]:
    """Those of the values that are arrays, and what is in memory of pictures that are pending; of one value, itself."""
    held = (a.x if isinstance(a, kernels.Pending) else a for a in (values if isinstance(values, tuple) else (values,)))
    return [a for a in held if isinstance(a, np.ndarray)]


KINK = 1e-5  # many times the rounding of a normalised number of float32


def undisputed(call: Call) -> Call:
    """The call, so changed that its result does not hang on a rounding.

    The slope of the leaky rectifier jumps where the normalised x is 0: what is nearer to that than KINK may round to
    either side, so no gradient arrives there.
    """
    if call.kernel != "batch_norm_leaky_relu_grad":
        return call
    gy, x, scale, shift, mean, variance, eps, _ = call.arguments
    normalised = kernels.device("reference").batch_norm_inference(x, scale, shift, mean, variance, eps)
    return Call(call.kernel, (np.where(abs(normalised) < KINK, np.float32(0), gy), *call.arguments[1:]))


def _layers(
    name: str, network: Sequential, shape: tuple[int, ...], batch: int, device: kernels.Device
) -> Iterator[Place]:
    """The layers of a network whose input has `shape` without the batch axis."""
    rng = np.random.default_rng(0)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return Tensor(device.array(rng.standard_normal(shape, np.float32)), device)

    def pending(before: str, x):
        if before.startswith("Conv") and before.endswith("BatchNorm LeakyRelu"):
            scale, shift, mean, deviation = (normal(x.shape[-1:]).data for _ in range(4))
            apply = device.batch_norm_leaky_relu_inference
            return kernels.Normalised(x, scale, shift, mean, 1 + deviation**2, 1e-5, 0.2, apply)
        return kernels.Rectified(x, 0.2, device.leaky_relu) if before == "LeakyRelu" and x.ndim == 4 else x

    def run(unit: Sequential, shape: tuple[int, ...], before: str) -> None:
        x = normal((batch, *shape))
        x = Tensor(pending(before, x.data) if device.reads_pending else x.data, device, requires_grad=True)
        y = unit(x)
        _ = y.data  # as an array, for whoever cannot normalise what it reads
        grad(y, [x, *unit.parameters().values()], output_grads=[normal(y.shape)])
        unit.train(False)
        with no_grad():
            unit(normal(x.shape))
        unit.train()

    position, before = 0, ""
    for layers in network.units():
        unit = Sequential(*layers)
        unit.fusion = network.fusion
        output = unit.output_shape(shape)
        picture = batch * min(math.prod(shape), math.prod(output))
        kinds = " ".join(type(layer).__name__ for layer in layers)
        yield Place(f"{name}.{position}", kinds, picture, lambda of=(unit, shape, before): run(*of))
        position, shape, before = position + len(layers), output, kinds
