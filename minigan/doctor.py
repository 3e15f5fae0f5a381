"""The training doctor: at each sampling interval it says what it sees, on which evidence, and one thing to try.

It reads the measures of `minigan.vitals`, of this interval and of those before it, and nothing else. A diagnosis is a
rule, a function below: the worst is asked first, and the first that holds is the one that is given. Each visit is a row
of the run's doctor.jsonl, with a diagnosis or without.

A threshold is where the disease was seen and health was not, in runs made to fall ill and in healthy ones.

Sources
    [goodfellow]  Goodfellow et al., "Generative adversarial nets" (2014), section 6: G trained too much against a D
                  that does not keep up collapses too many z to the same picture.
    [radford]     Radford, Metz & Chintala (2016), section 4: Adam's beta1 of 0.9 made the training oscillate, 0.5 did
                  not.
    [salimans]    Salimans et al., "Improved techniques for training GANs" (2016), section 3.2: a G that
                  always draws the same is a main failure; 3.4: one-sided label smoothing.
    [arjovsky]    Arjovsky & Bottou, "Towards principled methods for training generative adversarial networks" (2017),
                  section 2: the better D is, the less its gradient tells G.
    [ganhacks]    Chintala, Denton, Arjovsky & Mathieu, "How to train a GAN? Tips and tricks to make GANs work" (2016),
                  10: a d_loss that goes to 0 is a failure, a g_loss that does means D is fooled with garbage,
                  and gradient norms over 100 are a bad sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minigan import vitals
from minigan.models import PRESETS
from minigan.options import Settings
from minigan.reporter import Event
from minigan.run import DOCTOR, Run

if TYPE_CHECKING:
    from minigan.batches import Batches
    from minigan.train import Game

__all__ = ["RULES", "Chart", "Doctor", "Note", "diagnose"]

REAL = 64  # pictures that those drawn are compared with

LOSS = 25 * math.log(2)  # 17.3 nats: D is wrong by a logit whose sigmoid, 1 - 2^-25, is 1 in float32
GRADIENT = 1000.0  # [ganhacks] worries from 100 on, which a D that wins reaches too
DEAD = 0.2  # of a network's units; none is in health
SATURATED = 0.3  # of the values that G draws, beyond those that are black or white in real pictures
ALIKE = 0.25  # of the real pictures' differences; G has more from the start, by its random weights
SETTLED = 200  # steps, until batch norm's running averages, which begin at 0 and 1, have forgotten that
LEAD = 0.05  # nats of d_loss above its least: D gives the wrong answer 1/40 of its trust, real and drawn alike
FOOLED = 0.1  # nats of g_loss: D(G(z)) above 0.9
SWING = 0.18  # of D's scores, from 0 to 1; in health it was up to 0.15
STILL = 0.98  # of the distance before: less than a fiftieth of it was won
BETTER = 0.95
SOME, MANY = 3, 5  # visits at least, in each third of the run: the distance at one may be twice that at the next


@dataclass(frozen=True)
class Note:
    """A diagnosis, what is seen in plain words, the numbers, and what to try."""

    diagnosis: str
    says: str
    evidence: str
    advice: str

    def row(self) -> dict[str, str]:
        """As doctor.jsonl has it."""
        return {"diagnosis": self.diagnosis, "says": self.says, "evidence": self.evidence, "try": self.advice}

    def __str__(self) -> str:
        return f"{self.diagnosis}: {self.says} ({self.evidence}); try {self.advice}"


@dataclass(frozen=True)
class Chart:
    """What is known of a run: its settings, and the rows of its doctor.jsonl, the newest last."""

    settings: Settings
    rows: Sequence[Mapping]

    @property
    def steps(self) -> np.ndarray:
        """After which each row was measured."""
        return np.array([row["step"] for row in self.rows])

    def all(self, name: str) -> np.ndarray:
        """A measure, row by row; NaN, for which no comparison holds, where it was not had."""
        return np.array([row["measures"].get(name, math.nan) for row in self.rows])

    def now(self, name: str) -> float:
        """A measure's newest value."""
        return float(self.all(name)[-1])

    def too_high(self, *names: str) -> str:
        """Those of these settings that are above what their preset was published with, as options with that value."""
        return self._published(names, lambda value, published: value > published)

    def too_low(self, *names: str) -> str:
        """Those that are below it."""
        return self._published(names, lambda value, published: value < published)

    def times(self, factor: float, *names: str) -> str:
        """These settings as options, each times the factor."""
        return _options({name: factor * getattr(self.settings, name) for name in names})

    def _published(self, names: Sequence[str], differs: Callable[[float, float], bool]) -> str:
        published = {name: getattr(PRESETS[self.settings.preset], name) for name in names}
        return _options({name: p for name, p in published.items() if differs(getattr(self.settings, name), p)})


def exploding(chart: Chart) -> Note | None:
    """Numbers that grow until nothing can be learned from them, or until they are none.

    Any of: a loss that says D is wrong with a certainty of 1; a gradient beyond all measure; tanh at its ends, or units
    that never fire, where steps too large have thrown them and from where no gradient brings them back.
    """
    gradients = [name for name in chart.rows[-1]["measures"] if name.startswith("gradient.")]
    steepest = max(gradients, key=chart.now, default="")
    pinned = chart.now("saturation") - chart.now("saturation.real")
    signs = {
        f"loss of D {chart.now('d_loss'):,.0f}": chart.now("d_loss") > LOSS,
        f"loss of G {chart.now('g_loss'):,.0f}": chart.now("g_loss") > LOSS,
        f"{steepest} {chart.now(steepest):,.0f}": chart.now(steepest) > GRADIENT,
        f"{chart.now('saturation'):.0%} of what G draws is at the ends of tanh": pinned > SATURATED,
        f"{chart.now('dead.generator'):.0%} of G's units are dead": chart.now("dead.generator") > DEAD,
        f"{chart.now('dead.discriminator'):.0%} of D's units are dead": chart.now("dead.discriminator") > DEAD,
    }
    if not any(signs.values()):
        return None
    return Note(
        "exploding",
        "the numbers run away, because the steps are too large",
        ", ".join(sign for sign, seen in signs.items() if seen),
        f"a new run with {chart.too_high('lr_g', 'lr_d') or chart.times(1 / 4, 'lr_g', 'lr_d')}",
    )


def collapse(chart: Chart) -> Note | None:
    """G draws nearly the same for every z [salimans], [goodfellow], at two visits in a row."""
    diversity = chart.all("diversity")[chart.steps >= SETTLED][-2:]
    if len(diversity) < 2 or not (diversity < ALIKE).all():
        return None
    return Note(
        "collapse",
        "the generator draws nearly the same picture every time",
        f"its pictures differ {diversity[-1]:.2f} times as much as real ones do",
        f"a new run with {chart.too_high('lr_g') or chart.times(1 / 4, 'lr_g')}",
    )


def discriminator_won(chart: Chart) -> Note | None:
    """D is right about everything and sure of it, so that it has no direction to show G [arjovsky], [ganhacks]."""
    if not chart.now("lead") < LEAD:
        return None
    published = chart.too_high("lr_d") or chart.too_low("lr_g")
    smooth = "--label-smoothing 0.1" if chart.settings.label_smoothing == 0 else ""  # [salimans]
    return Note(
        "discriminator won",
        "the discriminator tells every picture apart, so the generator learns nothing from it",
        f"D(x) {chart.now('d_real'):.2f}, D(G(z)) {chart.now('d_fake'):.3f}, "
        f"loss of D {chart.now('lead'):.3f} above the least it can be",
        f"a new run with {published or smooth or chart.times(1 / 4, 'lr_d')}",
    )


def discriminator_lost(chart: Chart) -> Note | None:
    """D takes what G draws for real, whatever it is [ganhacks]: G has nothing to better."""
    if not chart.now("g_loss") < FOOLED:
        return None
    return Note(
        "discriminator lost",
        "the discriminator believes whatever the generator draws, so nothing has to get better",
        f"D(G(z)) {chart.now('d_fake'):.2f}, D(x) {chart.now('d_real'):.2f}",
        f"a new run with {chart.too_high('lr_g') or chart.too_low('lr_d') or chart.times(4, 'lr_d')}",
    )


def oscillation(chart: Chart) -> Note | None:
    """D takes all pictures for real in one moment and for drawn in the next, and G runs after it [radford].

    Seen at most of the last three visits: a single calm one is chance. While what is drawn gets better all the same, it
    is no disease.
    """
    swing = chart.all("swing")[-3:]
    before, lately = _thirds(chart, "distance", SOME)
    if len(swing) < 3 or not np.median(swing) > SWING or lately < BETTER * before:
        return None
    slower = chart.too_high("lr_g", "lr_d") or chart.times(1 / 4, "lr_g", "lr_d")
    return Note(
        "oscillation",
        "the discriminator changes its mind about all pictures at once, to and fro, and the generator runs after it",
        f"the mean of D(x) and D(G(z)) swings by {np.median(swing):.2f}",
        f"a new run with {chart.too_high('beta1') or slower}",
    )


def no_longer_improving(chart: Chart) -> Note | None:
    """The distance to real pictures is, in the last third of the run, where it was in the third before."""
    before, lately = _thirds(chart, "distance", MANY)
    if not lately > STILL * before:
        return None
    faster = chart.too_low("lr_g", "lr_d")
    return Note(
        "no longer improving",
        "what is drawn has not come nearer to the real pictures for a third of the run",
        f"distance {lately:.3f}, {before:.3f} in the third before",
        f"a new run with {faster}" if faster else "to stop here, or a new run with more pictures (--data)",
    )


def learning_well(chart: Chart) -> Note | None:
    """None of the above, and the distance to real pictures falls."""
    before, lately = _thirds(chart, "distance", SOME)
    if not lately < BETTER * before:
        return None
    return Note(
        "learning well",
        "what is drawn comes nearer to the real pictures",
        f"distance {lately:.3f} in the last third of the run, {before:.3f} in the third before",
        "letting it go on",
    )


RULES: tuple[Callable[[Chart], Note | None], ...] = (
    exploding,
    collapse,
    discriminator_won,
    discriminator_lost,
    oscillation,
    no_longer_improving,
    learning_well,
)


def diagnose(chart: Chart) -> Note | None:
    """The first diagnosis that holds, if one does."""
    return next(filter(None, (rule(chart) for rule in RULES)), None)


def _thirds(chart: Chart, name: str, fewest: int) -> tuple[float, float]:
    """A measure's medians in the middle third of the run and in the last; NaN while either has too few visits."""
    steps, values = chart.steps, chart.all(name)
    thirds = [values[(part * steps[-1] < 3 * steps) & (3 * steps <= (part + 1) * steps[-1])] for part in (1, 2)]
    if min(map(len, thirds)) < fewest:
        return math.nan, math.nan
    return float(np.median(thirds[0])), float(np.median(thirds[1]))


def _options(values: Mapping[str, float]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in values.items())


class Doctor:
    """Visits a run, and compares what is drawn with its first pictures, `real` (N,H,W,C), as D sees them.

    N is REAL, or as many as an epoch has.
    """

    def __init__(self, game: Game, batches: Batches, run: Run):
        self.game, self.run = game, run
        count = min(-(-REAL // game.settings.batch_size), batches.per_epoch)
        self.real = np.concatenate([batches.batch(step).numpy() for step in range(count)])[:REAL]

    def visit(self, last: bool) -> Callable[[], Event]:
        """Look at the game as it is now. What is returned does the rest when it is called, without the device.

        It measures, judges, and writes a row. A person is told of a diagnosis that is new, and of the last one anyway.
        """
        step, seen = self.game.step_count, vitals.look(self.game, self.real)

        def conclude() -> Event:
            log = [row for row in self.run.rows() if row["step"] <= step]
            earlier, settings = self.run.rows(DOCTOR), self.game.settings
            row = {"step": step, "measures": vitals.measure(seen, self.real, log, settings.label_smoothing)}
            note = diagnose(Chart(settings, [*earlier, row]))
            row["notes"] = [note.row()] if note else []
            self.run.log(row, DOCTOR)

            names = [[given["diagnosis"] for given in visit["notes"]] for visit in (*earlier[-1:], row)]
            news = last or names[-1] != (names[0] if earlier else [])
            return Event("doctor", (str(note) if note else "no diagnosis") if news else "", row)

        return conclude
