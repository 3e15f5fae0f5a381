"""How far a training is, how fast it goes, and when it will be over."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

from minigan.options import Settings
from minigan.reporter import Reporter
from minigan.run import Run
from minigan.words import quoted

__all__ = ["MEASURED", "Progress", "Seldom"]

MEASURED = ("seconds", "images_per_second", "memory_mib")  # of a row: the machine's, and of each run its own

WINDOW = 20  # shown steps that the speed is measured over
SHARE = 1 / 20  # of the time, that `Seldom` takes


class Progress:
    """Counts steps as they come, keeps the time, and tells the reporter. A context manager around the steps.

    seconds: of training, earlier runs of a resumed training included. minutes: of this run alone.
    done: how much of what was asked for, from 0 to 1, by the epochs or by the minutes, whichever are nearer their end.
    """

    def __init__(self, settings: Settings, per_epoch: int, step: int, seconds_before: float, reporter: Reporter):
        self.settings, self.per_epoch, self.reporter = settings, per_epoch, reporter
        self.last_step = math.inf if settings.epochs is None else settings.epochs * per_epoch
        self.last_minute = math.inf if settings.minutes is None else settings.minutes
        self.step, self.seconds_before = step, seconds_before
        self.started = time.monotonic()
        self.times = collections.deque([(step, self.started)], maxlen=WINDOW + 1)  # of the steps shown last
        self.done_before = self.done

    def __enter__(self) -> Progress:
        self.reporter.begin(self)
        return self

    def __exit__(self, *_) -> None:
        self.reporter.finish()

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
    def seconds_left(self) -> float:
        """Until it is done, if it goes on as it went since this run began. After at least one step."""
        done = self.done
        return 60 * self.minutes * (1 - done) / (done - self.done_before) if done < 1 else 0.0

    @property
    def epoch(self) -> float:
        """How many are done."""
        return self.step / self.per_epoch

    @property
    def speed(self) -> float:
        """Pictures a second, over the last steps."""
        (first_step, first), *_, (last_step, last) = self.times
        return (last_step - first_step) * self.settings.batch_size / (last - first)

    def show(self, step: int, scores: Mapping[str, float]) -> None:
        """After a step whose scores are known, those of `Game.step`."""
        self.step, self.scores = step, scores
        self.times.append((step, time.monotonic()))
        self.reporter.step(self)

    def in_words(self) -> str:
        """The losses, D's mean scores and the speed of the step shown last."""
        return (
            "loss D {d_loss:.2f} G {g_loss:.2f}, D(x) {d_real:.2f} D(G(z)) {d_fake:.2f}".format(**self.scores)
            + f", {self.speed:,.0f} img/s"
        )

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

    def end(self, run: Run) -> None:
        """After the run has ended: where everything is, and the two commands most wanted next."""
        folder, outcome = quoted(run.folder), run.about["outcome"]
        more = f" --epochs {2 * self.settings.epochs}" if self.step >= self.last_step else ""
        found = {
            **run.places(),
            "resume": f"python -m minigan.train --resume {folder}{more}",
            "generate": f"python -m minigan.generate {folder} --count 64 --out cats.png",
        }
        time_taken = tqdm.format_interval(self.seconds)
        lines = {outcome: f"at step {self.step:,}, epoch {self.epoch:.2f}, after {time_taken} of training", **found}
        self.reporter.write("\n".join(f"{label:<9} {text}" for label, text in lines.items()))
        self.reporter.say("end", outcome=outcome, step=self.step, seconds=round(self.seconds, 3), **found)


class Seldom:
    """Does something as often as it is asked to, unless it would take more than `SHARE` of all time.

    A GPU may do the steps of some epochs in less time than their plot, or a checkpoint, takes.
    """

    def __init__(self, act: Callable[[], None]):
        self.act, self.not_before = act, -math.inf

    def __call__(self, anyway: bool) -> None:
        """anyway: whenever it was done before."""
        began = time.monotonic()
        if anyway or began >= self.not_before:
            self.act()
            ended = time.monotonic()
            self.not_before = ended + (ended - began) * (1 - SHARE) / SHARE
