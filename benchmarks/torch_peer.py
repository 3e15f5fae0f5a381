"""The same game in PyTorch: the same networks with the same weights, losses, optimizers and order of moves.

PyTorch's pictures are NCHW to the eye; `channels_last` lays them, and the filters, in memory as ours are. A transposed
convolution's filters are (in, out, kH, kW) there, which are our K, C, R, S: both kinds translate alike.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import minigan.nn
from minigan.models import Networks
from minigan.options import Settings

__all__ = ["TorchGame", "torch_layout", "translate"]


class Pictures(nn.Module):
    """(N, H W C) -> (N,C,H,W): a view, in the layout of channels_last."""

    def __init__(self, h: int, w: int, c: int):
        super().__init__()
        self.shape = h, w, c

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape).permute(0, 3, 1, 2)


class Rows(nn.Module):
    """(N,C,H,W) -> (N, H W C): a view, where the memory is channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def translate(network: minigan.nn.Sequential, shape: tuple[int, ...]) -> nn.Sequential:
    """The same network in PyTorch, with copies of the weights; `shape` is its input's, without the batch axis."""
    modules = []
    for layer in network:
        module = _module(layer, shape)
        for theirs, ours in zip(module.parameters(), layer.parameters().values(), strict=True):
            theirs.data = torch_layout(ours.numpy())
        modules.append(module)
        shape = layer.output_shape(shape)
    return nn.Sequential(*modules)


def _module(layer: minigan.nn.Layer, shape: tuple[int, ...]) -> nn.Module:
    match layer:
        case minigan.nn.Linear():
            return nn.Linear(*reversed(layer.w.shape))
        case minigan.nn.Conv2d():
            k, r, s, c = layer.w.shape
            return nn.Conv2d(c, k, (r, s), layer.stride, layer.padding, bias=layer.b is not None)
        case minigan.nn.Conv2dTranspose():
            k, r, s, c = layer.w.shape
            smallest = [
                (side - 1) * layer.stride + window - 2 * layer.padding
                for side, window in zip(shape[:2], (r, s), strict=True)
            ]
            open_rows = [side - least for side, least in zip(layer.size, smallest, strict=True)]
            bias = layer.b is not None
            return nn.ConvTranspose2d(k, c, (r, s), layer.stride, layer.padding, open_rows, bias=bias)
        case minigan.nn.BatchNorm():
            return nn.BatchNorm2d(*layer.scale.shape, eps=layer.eps, momentum=layer.momentum)
        case minigan.nn.LeakyRelu():
            return nn.LeakyReLU(layer.slope, inplace=True) if layer.slope else nn.ReLU(inplace=True)
        case minigan.nn.Tanh():
            return nn.Tanh()
        case minigan.nn.Reshape():
            return Pictures(*layer.shape) if len(layer.shape) == 3 else Rows()
    raise TypeError(f"{type(layer).__name__}: what it is called in PyTorch is not told here")


def torch_layout(array: np.ndarray) -> Tensor:
    """A copy: pictures and filters (four axes) with the channels second, everything else as it is."""
    return torch.tensor(array.transpose(0, 3, 1, 2) if array.ndim == 4 else array)


class TorchGame:
    """What `minigan.train.Game` is, in PyTorch.

    networks: ours, whose weights are copied. channels_last: how filters and pictures lie in memory. device: PyTorch's.
    autocast: the type in which the networks multiply (their weights stay as they are), or None.
    """

    def __init__(
        self,
        networks: Networks,
        settings: Settings,
        channels_last: bool = False,
        device: str = "cpu",
        autocast: torch.dtype | None = None,
    ):
        self.label_smoothing = settings.label_smoothing
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.device, self.dtype = device, autocast
        self.generator, self.discriminator = (
            translate(network, shape).to(device, memory_format=self.memory_format)
            for network, shape in (
                (networks.generator, networks.z_shape),
                (networks.discriminator, networks.picture),
            )
        )
        self.g_parameters = list(self.generator.parameters())
        self.d_parameters = list(self.discriminator.parameters())
        self.adam_g = self._adam(self.g_parameters, settings.lr_g, settings.beta1)
        self.adam_d = self._adam(self.d_parameters, settings.lr_d, settings.beta1)

    def _adam(self, parameters: list[Tensor], lr: float, beta1: float) -> torch.optim.Adam:
        options = {"fused": True, "capturable": self.device == "cuda"}  # the fastest of its three; fit for a graph
        return torch.optim.Adam(parameters, lr, betas=(beta1, 0.999), eps=1e-8, **options)

    def step(self, z: Tensor, real: Tensor) -> dict[str, float]:
        """As `Game.step`. z (N, z_dim), real (N,C,H,W)."""
        return {name: score.item() for name, score in self.move(z, real).items()}

    def move(self, z: Tensor, real: Tensor) -> dict[str, Tensor]:
        """The step, whose scores stay on the device: nothing waits for it."""
        with self._autocast():
            fake = self.generator(z)
            real_logits, fake_logits = self.discriminator(real), self.discriminator(fake.detach())
            d_loss = self.d_loss(real_logits, fake_logits)
        self._move(self.adam_d, d_loss, self.d_parameters)

        with self._autocast():
            g_loss = self.g_loss(self.discriminator(fake))
        self._move(self.adam_g, g_loss, self.g_parameters)

        with torch.no_grad():
            d_real, d_fake = real_logits.sigmoid().mean(), fake_logits.sigmoid().mean()
        return {"d_loss": d_loss.detach(), "g_loss": g_loss.detach(), "d_real": d_real, "d_fake": d_fake}

    def _autocast(self) -> contextlib.AbstractContextManager:
        """Ends before the weights move: it keeps copies of them."""
        return torch.autocast(self.device, self.dtype) if self.dtype else contextlib.nullcontext()

    def d_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """BCE(D(x), 1 - label_smoothing) + BCE(D(G(z)), 0)."""
        return _against(real_logits, 1 - self.label_smoothing) + _against(fake_logits, 0)

    def g_loss(self, fake_logits: Tensor) -> Tensor:
        """BCE(D(G(z)), 1)."""
        return _against(fake_logits, 1)

    def _move(self, adam: torch.optim.Adam, loss: Tensor, parameters: list[Tensor]) -> None:
        adam.zero_grad(set_to_none=True)
        loss.backward(inputs=parameters)  # only theirs: D's weights get no gradient while G moves
        adam.step()


def _against(logits: Tensor, target: float) -> Tensor:
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
