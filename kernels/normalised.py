"""`Normalised`: a picture of which batch norm and the leaky rectifier are still to be taken, by whoever reads it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Normalised", "as_array"]


class Normalised:
    """leaky_relu(batch_norm_inference(x, scale, shift, mean, variance, eps), slope), of which only x is in memory.

    The convolutions of a device that `reads_normalised` take it in a picture's place, and normalise what they load. For
    all others it becomes an array, once, when `array` is first asked for.

    Attributes
    ----------
    x (..., C); scale, shift, mean, variance (C,): arrays. eps, slope: numbers.
    """

    def __init__(self, x, scale, shift, mean, variance, eps: float, slope: float, apply: Callable):
        """apply: a device's `batch_norm_leaky_relu_inference`."""
        self.x, self.scale, self.shift, self.mean, self.variance = x, scale, shift, mean, variance
        self.eps, self.slope = eps, slope
        self._apply = apply
        self._array = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.x.shape

    @property
    def ndim(self) -> int:
        """Of the array."""
        return self.x.ndim

    @property
    def size(self) -> int:
        """Of the array."""
        return self.x.size

    @property
    def dtype(self):
        """Of the array."""
        return self.x.dtype

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, group: slice) -> Normalised:
        """Some of the pictures."""
        return Normalised(self.x[group], *self.columns, self.eps, self.slope, self._apply)

    def through(self, function: Callable, apply: Callable | None = None) -> Normalised:
        """The same with each array passed through a function: on another device, say, whose `apply` goes with it."""
        return Normalised(*map(function, (self.x, *self.columns)), self.eps, self.slope, apply or self._apply)

    @property
    def columns(self) -> tuple:
        """What each channel is normalised by, (C,) each."""
        return self.scale, self.shift, self.mean, self.variance

    def array(self):
        """The picture itself."""
        if self._array is None:
            self._array = self._apply(self.x, *self.columns, self.eps, self.slope)
        return self._array

    def __repr__(self) -> str:
        return f"<normalised picture of shape {self.shape}>"


def as_array(value):
    """The array of a Normalised; anything else as it is."""
    return value.array() if isinstance(value, Normalised) else value
