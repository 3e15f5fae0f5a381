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
from benchmarks.calls import Call, arrays, computation, on_host
from benchmarks.clocks import HostClock
from benchmarks.contest import Contestant
from minigan.command import choose_device
from minigan.errors import UserError

__all__ = ["check", "exact", "measure", "minigan_player", "row", "torch_player"]

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
        return {"minigan": computation(device, call)}

    return Player(prepare, lambda _, returned: on_host(device, returned))


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
    del results

    turns, begun = [], time.perf_counter()
    while len(turns) < rounds and (len(turns) < FEWEST or time.perf_counter() - begun < LONG):
        turns.append({way: seconds for player in players for way, seconds in player.turn("time", pause=PAUSE).items()})

    ways = {way: {"seconds": [turn[way] for turn in turns], "error": error} for way, error in errors.items()}
    return row(call, right, ways, limits)


def row(
    call: Call, results: list[np.ndarray | None], ways: dict[str, dict], limits: dict[str, float], rate: str = "sgemm"
) -> dict:
    """What follows from the seconds of each way; a way that has failed has none.

    results: arrays of the shapes of the call's results. limits, rate: as `ceilings.attainable` takes them.
    """
    flop, moved = work.operations(call.kernel, call.arguments, results), work.moved(call.arguments, results)
    attainable, ceiling = ceilings.attainable(flop, moved, limits, rate)
    medians = {way: statistics.median(outcome["seconds"]) for way, outcome in ways.items() if "seconds" in outcome}
    for way, median in medians.items():
        rates = {"flops": flop / median, "bandwidth": moved / median, "share": attainable / median}
        ways[way] |= {"median": median, **rates}
    return {
        "kernel": call.kernel,
        "arguments": call.key()[1:],  # shapes in the place of arrays
        "given": [a.shape for a in arrays(call.arguments)],
        "made": [r.shape for r in results if r is not None],
        "flop": flop,
        "bytes": moved,
        "ceiling": ceiling,
        "ways": ways,
        **compared(medians),
    }


def compared(medians: dict[str, float]) -> dict:
    """The peer, the fastest of the others, and how many times its speed we have; nothing where one is missing."""
    theirs = {way: median for way, median in medians.items() if way != "minigan"}
    if "minigan" not in medians or not theirs:
        return {}
    peer = min(theirs, key=theirs.get)
    return {"peer": peer, "ratio": theirs[peer] / medians["minigan"]}
