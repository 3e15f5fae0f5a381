"""How far a training is, how fast it goes, and when it will be over.

On a terminal a bar is redrawn in place; elsewhere, in a log file, a line is printed at each sample.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from minigan.options import Settings

__all__ = ["Progress"]


class Progress:
    """Shows steps as they come and keeps the time. Used as a context manager around the steps.

    seconds: of training, earlier runs of a resumed training included. minutes: of this run alone.
    """

    def __init__(self, settings: Settings, per_epoch: int, step: int, seconds_before: float):
        self.settings = settings
        self.seconds_before = seconds_before
        self.started = time.monotonic()
        self.rated = step, self.started  # where the speed was measured last
        self.speed = float("nan")  # pictures a second
        by_epochs = settings.epochs is not None
        self.bar = tqdm(
            total=settings.epochs * per_epoch if by_epochs else round(settings.minutes * 60),
            initial=step if by_epochs else 0,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )
        self.by_epochs = by_epochs

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

    def show(self, step: int, epoch: float, scores: Mapping[str, float]) -> None:
        """After each step: the scores of `Game.step`, and how many epochs are done."""
        self.step, self.epoch, self.scores = step, epoch, scores
        line = (
            f"d_loss {scores['d_loss']:.3f}  g_loss {scores['g_loss']:.3f}  "
            f"D(x) {scores['d_real']:.2f}  D(G(z)) {scores['d_fake']:.2f}  {self.speed:,.0f} pictures/s"
        )
        self.bar.set_description_str(f"epoch {epoch:.1f}", refresh=False)
        self.bar.set_postfix_str(line, refresh=False)
        self.bar.update((step if self.by_epochs else min(self.minutes * 60, self.bar.total)) - self.bar.n)
        if self.bar.disable and step % self.settings.sample_every == 0:
            print(f"step {step:,}  epoch {epoch:.2f}  {line}", flush=True)

    def row(self) -> dict[str, float]:
        """The log's row for the step shown last; the speed is the mean since the row before."""
        (step, then), now = self.rated, time.monotonic()
        self.speed = (self.step - step) * self.settings.batch_size / (now - then)
        self.rated = self.step, now
        return {
            "step": self.step,
            "epoch": round(self.epoch, 4),
            "seconds": round(self.seconds, 3),
            **self.scores,
            "images_per_second": round(self.speed, 1),
        }
