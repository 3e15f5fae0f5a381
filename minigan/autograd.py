"""The tape: tensors, operations, and the walk back from a result to everything it was made of.

A `Tensor` is an array on a device plus the operation that made it. An `Op` has two halves. `forward` sees arrays and
calls the device's kernels. `backward` sees Tensors and calls only ops: a gradient is therefore an ordinary Tensor with
a tape of its own, and gradients of gradients need nothing new.

The chain rule is the whole theory. Let `L` be a scalar, `b = f(a)`, and write `gb` for dL/db, an array of b's shape.
Then `ga = J^T gb`, where `J = db/da`: `f.backward(gb)` computes that product without ever forming J. A tensor that is
used twice gets the sum of what comes back. (Reverse mode: Griewank & Walther, *Evaluating Derivatives*, 2008, ch. 3.)
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import re
from collections.abc import Iterator, Sequence

import numpy as np

import kernels

__all__ = ["Op", "Tensor", "grad", "no_grad", "record", "recording", "tensor"]

_recording = contextvars.ContextVar("recording", default=True)


def recording() -> bool:
    """Whether results remember the op they came from."""
    return _recording.get()


@contextlib.contextmanager
def record(on: bool) -> Iterator[None]:
    """Inside `with record(on):` results remember their op, or do not."""
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Inside `with no_grad():` results remember nothing, so nothing is kept for a backward pass."""
    return record(False)


class Tensor:
    """An array on a device, and the operation it came from.

    Attributes
    ----------
    data: the array, C-contiguous; a NumPy array, or a CuPy array on "cuda".
    held: the same, or a `kernels.Pending` picture that becomes it when it is asked for.
    device: the `kernels.Device` it lives on.
    requires_grad: whether a gradient can flow back to or through it.
    grad: after `backward()`, for a leaf: the gradient, a Tensor of the same shape; else None.
    op, index: it is output number `index` of `op`; a leaf has no op.
    """

    __slots__ = ("__weakref__", "device", "grad", "held", "index", "op", "requires_grad")
    __array_ufunc__ = None  # so that `array * tensor` asks the Tensor, which refuses with a clear error

    def __init__(self, held, device: kernels.Device, requires_grad: bool = False, op: Op | None = None, index: int = 0):
        self.held = held
        self.device = device
        self.requires_grad = requires_grad
        self.grad = None
        self.op = op
        self.index = index

    @property
    def data(self):
        """The array. See above."""
        return kernels.as_array(self.held)

    @data.setter
    def data(self, array) -> None:
        self.held = array

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self.held.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.held.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.held.size

    @property
    def dtype(self) -> np.dtype:
        """float32, or on the reference device float64 as well."""
        return self.held.dtype

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; on a CPU device it is the tensor's own memory, not a copy."""
        return self.device.numpy(self.data)

    def item(self) -> float:
        """The value of a tensor with one element, as a Python float."""
        return self.numpy().item()

    def detach(self) -> Tensor:
        """The same array without its history: gradients stop here."""
        return Tensor(self.held, self.device)

    def backward(self) -> None:
        """Add dself/dleaf to `.grad` of every leaf that requires a gradient. `self` must have one element."""
        leaves = [t for op in _history([self]) for t in op.inputs if t.op is None and t.requires_grad]
        leaves = list(dict.fromkeys([self] if self.op is None and self.requires_grad else leaves))
        if not leaves:
            raise ValueError("backward: no leaf of this tensor's history requires a gradient")
        for leaf, g in zip(leaves, grad(self, leaves), strict=True):
            leaf.grad = g if leaf.grad is None else leaf.grad + g

    def __repr__(self) -> str:
        came_from = f", from {self.op.name}" if self.op else ", requires_grad" if self.requires_grad else ""
        return f"Tensor(shape {self.shape}, {self.dtype}, {self.device.name}{came_from})\n{self.numpy()}"


def tensor(array, requires_grad: bool = False, device: str | kernels.Device = "cpu") -> Tensor:
    """A leaf: `array` (NumPy array, nested lists or a number) on `device`.

    Lists and numbers become float32. An array keeps its dtype and must have one that the device computes in: float32,
    or on "reference" float64 too. On a CPU device the tensor shares its memory if it is C-contiguous; but not with
    `requires_grad`, for an optimizer moves such a leaf in place.

    Raises TypeError for another dtype, ValueError for more than four axes, `kernels.DeviceError` for a device that
    this machine does not have.
    """
    if isinstance(device, str):
        device = kernels.device(device)
    if not isinstance(array, np.ndarray):
        array = np.asarray(array, np.float32)
    if array.dtype not in device.dtypes:
        wanted = " or ".join(map(str, device.dtypes))
        raise TypeError(f"tensor: the array is {array.dtype}, device {device.name} computes in {wanted}: use astype")
    if array.ndim > 4:
        raise ValueError(f"tensor: the array has {array.ndim} axes, shape {array.shape}; at most four are supported")
    return Tensor(device.array(array.copy() if requires_grad else array), device, requires_grad)


class Op:
    """An operation on tensors. A subclass keeps its constants as attributes and defines the two halves.

    `forward(device, *arrays)` returns the result's array, or a tuple of them for several results.
    `backward(*output_grads)` gets a Tensor for each result (None where nothing flowed back) and returns a sequence
    with a Tensor or None for each input. `self.inputs` are the input Tensors; `self.needs[i]` says whether the
    gradient of input i is wanted: what is not wanted need not be computed.

    Calling an Op applies it to Tensors and puts it on the tape.
    """

    reads_pending: tuple[int, ...] = ()  # the inputs that `forward` may be handed as they are held
    inputs: tuple[Tensor, ...] | None = ()
    needs: tuple[bool, ...] = ()
    outputs: int = 1

    def forward(self, device: kernels.Device, *arrays):
        """Arrays in, arrays out: the values."""
        raise NotImplementedError

    def backward(self, *output_grads: Tensor | None) -> Sequence[Tensor | None]:
        """Tensors in, Tensors out: each input's gradient."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The operation's word, the same on every floor: class Conv2dTranspose is conv2d_transpose."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def __call__(self, *inputs: Tensor):
        self._check(inputs)
        device = inputs[0].device
        arrays = [t.held if i in self.reads_pending else t.data for i, t in enumerate(inputs)]
        results = self.forward(device, *arrays)
        taped = recording() and any(t.requires_grad for t in inputs)
        if taped:
            self.inputs = inputs
        op = self if taped else None
        if not isinstance(results, tuple):
            return Tensor(results, device, taped, op)
        self.outputs = len(results)
        return tuple(Tensor(result, device, taped, op, index) for index, result in enumerate(results))

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        """All inputs are Tensors of one device and one dtype."""
        first = inputs[0]
        for number, t in enumerate(inputs):
            if not isinstance(t, Tensor):
                got, wanted = f"a {type(t).__name__}", "a Tensor (minigan.tensor makes one)"
            elif t.device is not first.device:
                got, wanted = f"on device {t.device.name}", f"on {first.device.name} like the first input"
            elif t.dtype != first.dtype:
                got, wanted = f"{t.dtype}", f"{first.dtype} like the first input"
            else:
                continue
            parameter = list(inspect.signature(self.forward).parameters)[1 + number]
            raise TypeError(f"{self.name}: {parameter} is {got}; it must be {wanted}")


def _history(outputs: Sequence[Tensor]) -> list[Op]:
    """Every op that `outputs` came from, each after the ops of its own inputs (iterative, so depth has no limit)."""
    order, seen = [], set()
    stack = [(t.op, False) for t in outputs if t.op]
    while stack:
        op, inputs_done = stack.pop()
        if inputs_done:
            order.append(op)
        elif op not in seen:
            if op.inputs is None:
                raise RuntimeError(
                    f"{op.name}: an earlier backward pass has freed what it saved; "
                    "give that pass create_graph=True to go back through it again"
                )
            seen.add(op)
            stack.append((op, True))
            stack.extend((t.op, False) for t in op.inputs if t.op and t.op not in seen)
    return order


def _slot(t: Tensor):
    """Where t's gradient is collected: under its op and output number, or for a leaf under itself."""
    return (t.op, t.index) if t.op else t


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    create_graph: bool = False,
    output_grads: Sequence[Tensor | None] | None = None,
):
    """The gradient of the sum of `outputs` with respect to each of `inputs`; no `.grad` is touched.

    outputs: tensors of one element; or of any shape, if `output_grads` gives the gradient arriving at each, of its
        shape, or None where none does.
    inputs: leaves or results; of the ops in the outputs' history, only those between the two are asked for gradients.
    create_graph: put the walk itself on the tape, so that the gradients can be differentiated in turn. Without it the
        arrays that the ops saved are freed as the walk leaves them, and the graph cannot be walked again.

    Returns a list with a Tensor for each input (a single Tensor if `inputs` is one), None where the outputs do not
    depend on it. Raises ValueError for an output of several elements if `output_grads` is not given, and for gradients
    that are not the outputs'; RuntimeError if an op in the outputs' history was freed: which inputs lie behind it is
    not known any more.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if output_grads is None:
        output_grads = [_one(output) for output in outputs]
    shapes, arriving = [t.shape for t in outputs], [g if g is None else g.shape for g in output_grads]
    if len(arriving) != len(shapes) or any(g not in (None, shape) for g, shape in zip(arriving, shapes, strict=True)):
        raise ValueError(f"grad: output_grads have shapes {arriving}; they must be those of the outputs, {shapes}")

    order = _history(outputs)
    kept = {_slot(t) for t in wanted}
    reached = set(kept)  # slots from which a wanted input can be reached
    needs = {}
    for op in order:
        needs[op] = tuple(_slot(t) in reached for t in op.inputs)
        if any(needs[op]):
            reached.update((op, index) for index in range(op.outputs))

    grads = {}  # slot -> the sum of the gradients that have arrived there

    def collect(t: Tensor, g: Tensor) -> None:
        slot = _slot(t)
        grads[slot] = grads[slot] + g if slot in grads else g

    with record(create_graph):
        for output, g in zip(outputs, output_grads, strict=True):
            if g is not None:
                collect(output, g)
        while order:
            op = order.pop()
            slots = [(op, index) for index in range(op.outputs)]
            arrived = [grads.get(slot) if slot in kept else grads.pop(slot, None) for slot in slots]
            if not any(needs[op]) or all(g is None for g in arrived):
                continue
            op.needs = needs[op]
            for t, g, needed in zip(op.inputs, op.backward(*arrived), op.needs, strict=True):
                if needed and g is not None:
                    collect(t, g)
            if not create_graph:
                op.inputs = None
    found = [grads.get(_slot(t)) for t in wanted]
    return found[0] if isinstance(inputs, Tensor) else found


def _one(output: Tensor) -> Tensor:
    """dL/dL: the seed of the walk."""
    if output.size != 1:
        raise ValueError(
            f"grad: an output has shape {output.shape}; reduce it to one element first (ops.sum, ops.mean)"
        )
    return Tensor(output.device.full(output.data, output.shape, 1.0), output.device)
