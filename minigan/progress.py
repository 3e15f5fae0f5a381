"""How far a training is, how fast it goes, and when it will be over.

On a terminal a bar is redrawn in place; elsewhere, in a log file, a line is printed at each sample.
"""

from __future__ import annotations

import collections
import math
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from minigan.options import Settings

__all__ = ["MEASURED", "Progress"]

MEASURED = ("seconds", "images_per_second", "memory_mib")  # of a row: the machine's, and of each run its own

WINDOW = 20  # steps that the speed is measured over


class Progress:
    """Shows steps as they come and keeps the time. Used as a context manager around the steps.

    seconds: of training, earlier runs of a resumed training included. minutes: of this run alone.
    done: how much of what was asked for, from 0 to 1, by the epochs or by the minutes, whichever are nearer their end.
    """

    def __init__(self, settings: Settings, per_epoch: int, step: int, seconds_before: float):
        self.settings, self.per_epoch = settings, per_epoch
        self.last_step = math.inf if settings.epochs is None else settings.epochs * per_epoch
        self.last_minute = math.inf if settings.minutes is None else settings.minutes
        self.step, self.seconds_before = step, seconds_before
        self.times = collections.deque([time.monotonic()], maxlen=WINDOW + 1)  # of the last steps
        self.started = self.times[0]
        self.bar = tqdm(
            total=1.0,
            initial=self.done,
            bar_format="{desc} |{bar}| {remaining} left{postfix}",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    @property
    def minutes(self) -> float:
        """Since this run began."""
        return (time.monotonic() - self.started) / 60

    @property
    def seconds(self) -> float:
        """Of training in all."""
        return self.seconds_before + time.monotonic() - self.started

    @property
    def done(self) -> float:
        """1 when it is time to stop."""
        return min(1.0, max(self.step / self.last_step, self.minutes / self.last_minute))

    @property
    def epoch(self) -> float:
        """How many are done."""
        return self.step / self.per_epoch

    @property
    def speed(self) -> float:
        """Pictures a second, over the last steps."""
        return (len(self.times) - 1) * self.settings.batch_size / (self.times[-1] - self.times[0])

    def show(self, step: int, scores: Mapping[str, float]) -> None:
        """After each step, with the scores of `Game.step`."""
        self.step, self.scores = step, scores
        self.times.append(time.monotonic())
        line = (
            f"loss D {scores['d_loss']:.2f} G {scores['g_loss']:.2f}, "
            f"D(x) {scores['d_real']:.2f} D(G(z)) {scores['d_fake']:.2f}, {self.speed:,.0f} img/s"
        )
        self.bar.set_description_str(f"epoch {self.epoch:.1f}", refresh=False)
        self.bar.set_postfix_str(line, refresh=False)
        self.bar.update(self.done - self.bar.n)
        if self.bar.disable and step % self.settings.sample_every == 0:
            print(f"step {step:,}, epoch {self.epoch:.2f}, {line}")

    def row(self, memory: int | None) -> dict[str, float | None]:
        """The log's row for the step shown last. memory: in bytes, the most that the device has held."""
        return {
            "step": self.step,
            "epoch": round(self.epoch, 4),
            "seconds": round(self.seconds, 3),
            **self.scores,
            "images_per_second": round(self.speed, 1),
            "memory_mib": memory and round(memory / 2**20),
        }
