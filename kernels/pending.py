"""Pictures to which something is still to be done, by whoever reads them: batch norm, the leaky rectifier, rounding."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Normalised", "Pending", "Rectified", "RoundedOnce", "as_array"]


class Pending:
    """A picture that a kernel would make of x, and of which only x is in memory.

    The convolutions of a device that `reads_pending` take it in a picture's place, and make what they load. For all
    others it becomes an array, once, when `array` is first asked for: with the columns as they are then, so before an
    optimizer has moved them.

    Attributes
    ----------
    kernel: the name of the one that makes it.
    x (..., C): an array. columns: arrays (C,), what each channel is made with. numbers: those that the kernel takes
        after the arrays.
    """

    kernel = ""

    def __init__(self, x, columns: tuple, numbers: tuple[float, ...], apply: Callable):
        """apply: a device's `kernel`."""
        self.x, self.columns, self.numbers = x, columns, numbers
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

    def __getitem__(self, group: slice) -> Pending:
        """Some of the pictures."""
        return type(self)(self.x[group], *self.columns, *self.numbers, self._apply)

    def through(self, function: Callable, apply: Callable | None = None) -> Pending:
        """The same with each array passed through a function: on another device, say, whose `apply` goes with it."""
        return type(self)(*map(function, (self.x, *self.columns)), *self.numbers, apply or self._apply)

    def array(self):
        """The picture itself."""
        if self._array is None:
            self._array = self._apply(self.x, *self.columns, *self.numbers)
        return self._array

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} picture of shape {self.shape}>"


class Normalised(Pending):
    """leaky_relu(batch_norm_inference(x, scale, shift, mean, variance, eps), slope)."""

    kernel = "batch_norm_leaky_relu_inference"

    def __init__(self, x, scale, shift, mean, variance, eps: float, slope: float, apply: Callable):
        super().__init__(x, (scale, shift, mean, variance), (eps, slope), apply)


class Rectified(Pending):
    """leaky_relu(x, slope)."""

    kernel = "leaky_relu"

    def __init__(self, x, slope: float, apply: Callable):
        super().__init__(x, (), (slope,), apply)


class RoundedOnce(Pending):
    """x itself, which several convolutions read: what one has to make of it first, the others find in `operands`."""

    def __init__(self, x, apply: Callable = lambda x: x):
        super().__init__(x, (), (), apply)
        self.operands = {}


def as_array(value):
    """The array of a Pending picture; anything else as it is."""
    return value.array() if isinstance(value, Pending) else value
