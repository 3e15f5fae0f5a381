"""One call of a kernel: checked against its definition, then timed, ours and the peer's in turn.

Every timed call meets a cold cache: before it, a buffer twice the size of the one that the cores share is read from end
to end. In a training step the arrays were written a while ago and the next ones come after them, so that this is nearer
to it than the same call over and over again on warm data. The memory for the results is what each library has kept of
the call before.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import kernels
from benchmarks import ceilings, work
from benchmarks.calls import Call, arrays
from benchmarks.clocks import HostClock
from benchmarks.contest import Contestant
from minigan.command import choose_device
from minigan.errors import UserError

__all__ = ["check", "exact", "measure", "minigan_player", "torch_player"]

LONG = 1.5  # seconds: a call that takes longer for all rounds is timed in fewer of them, but in FEWEST at least
FEWEST = 3
PAUSE = 0.02  # seconds before a turn, in which PyTorch's threads go to sleep


class Player:
    """Computes calls, and times them: `player("compute", call)`, then `player("time")` as often as wanted.

    prepare: makes functions without arguments of a call, by the name of the way it is computed.
    results: a list of arrays of the host from what such a function returned.
    """

    def __init__(self, prepare: Callable[[Call], dict[str, Callable]], results: Callable):
        self.prepare, self.results = prepare, results
        self.ways: dict[str, Callable] = {}
        self.clock = HostClock()

    def __call__(self, order: str, *arguments):
        return getattr(self, order)(*arguments)

    def compute(self, call: Call) -> dict[str, list[np.ndarray | None]]:
        """The results in each way; these calls also compile what has to be compiled."""
        self.ways = self.prepare(call)
        return {way: self.results(call, compute()) for way, compute in self.ways.items()}

    def time(self) -> dict[str, float]:
        """Seconds that the call takes in each way."""
        return {way: self.clock.seconds(compute) for way, compute in self.ways.items()}


def minigan_player(device: str, conv: str, threads: int) -> Player:
    """Ours, on a device of the host."""
    device, _ = choose_device(device, conv, threads)

    def prepare(call: Call) -> dict[str, Callable]:
        arguments = [device.array(a) if isinstance(a, np.ndarray) else a for a in call.arguments]

        def compute():
            returned = getattr(device, call.kernel)(*arguments)
            return tuple(arguments) if returned is None else returned  # a kernel that returns nothing changes arrays

        return {"minigan": compute}

    return Player(prepare, lambda _, returned: [device.numpy(a) for a in arrays(returned)])


def torch_player(threads: int) -> Player:
    """PyTorch, in each of its layouts."""
    import torch  # here and nowhere above: PyTorch is only a peer

    from benchmarks.torch_kernels import prepared, results

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return Player(
        lambda call: prepared(call.kernel, call.arguments), lambda call, returned: results(call.kernel, returned)
    )


def exact(call: Call) -> list[np.ndarray | None]:
    """The results by definition, in float64; of a kernel that works in place its arrays, None for one left alone."""

    def wide(a):
        return a.astype(np.float64 if a.dtype == np.float32 else a.dtype) if isinstance(a, np.ndarray) else a

    arguments = tuple(a.through(wide).array() if isinstance(a, kernels.Pending) else wide(a) for a in call.arguments)
    returned = getattr(kernels.device("reference"), call.kernel)(*arguments)
    if returned is not None:
        return arrays(returned)
    return [
        None if np.array_equal(after, before) else after
        for after, before in zip(arrays(arguments), arrays(call.arguments), strict=True)
    ]


def check(call: Call, results: dict[str, list], right: list, precision: str = "fp32") -> dict[str, float]:
    """How far each way's results are from the right ones: the largest root mean square, relative to its bound.

    Raises UserError where it is more than 1.
    """
    errors = {}
    for way, found in results.items():
        errors[way] = 0.0
        for number, (a, b) in enumerate(zip(found, right, strict=True)):
            if a is None or b is None:
                continue
            allowed = work.bound(call.kernel, call.arguments, right, b, precision) * _rms(b)
            off = _rms(a - b) if a.shape == b.shape else np.inf
            if not off <= allowed:  # nor is NaN
                shapes = ", ".join(str(shape) for shape in call.key()[1:])
                raise UserError(
                    f"{call.kernel} of {shapes}: result {number} of {way} is off by {off:.2e} (root mean square), "
                    f"more than {allowed:.2e}: nothing that is wrong is timed"
                )
            errors[way] = max(errors[way], float(off / allowed) if off else 0.0)
    return errors


def _rms(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(a, dtype=np.float64))))


def measure(call: Call, players: list[Contestant], rounds: int, limits: dict[str, float]) -> dict:
    """All that is known of a call in the end, as `--json` writes it. limits: see `ceilings.measure`."""
    right = exact(call)
    results = {}
    for player in players:
        results |= player.turn("compute", call, pause=PAUSE)
    errors = check(call, results, right)
    flop, moved = work.operations(call.kernel, call.arguments, right), work.moved(call.arguments, right)
    made = [r.shape for r in right if r is not None]
    del right, results

    turns, begun = [], time.perf_counter()
    while len(turns) < rounds and (len(turns) < FEWEST or time.perf_counter() - begun < LONG):
        turns.append({way: seconds for player in players for way, seconds in player.turn("time", pause=PAUSE).items()})

    medians = {way: statistics.median(turn[way] for turn in turns) for way in errors}
    attainable, ceiling = ceilings.attainable(flop, moved, limits)
    row = {
        "kernel": call.kernel,
        "arguments": call.key()[1:],  # shapes in the place of arrays
        "given": [a.shape for a in arrays(call.arguments)],
        "made": made,
        "flop": flop,
        "bytes": moved,
        "ceiling": ceiling,
        "ways": {
            way: {
                "seconds": [turn[way] for turn in turns],
                "median": median,
                "flops": flop / median,
                "bandwidth": moved / median,
                "share": attainable / median,
                "error": errors[way],
            }
            for way, median in medians.items()
        },
    }
    ours = medians.pop("minigan")
    if medians:
        row["peer"] = min(medians, key=medians.get)
        row["ratio"] = medians[row["peer"]] / ours
    return row
