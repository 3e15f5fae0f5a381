"""Train a DCGAN:  python -m minigan.train --data cats/

The game, read from top to bottom. A batch of real pictures meets a batch that the generator G drew from noise z. The
discriminator D gives each picture a logit and is moved to tell the two apart; then G is moved so that D takes its
pictures for real (Goodfellow et al. 2014, Algorithm 1, with one D step for each G step).
"""

from __future__ import annotations

import datetime
import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

import kernels
from minigan import data, ops, options, report
from minigan.autograd import Tensor, grad, no_grad
from minigan.background import Background
from minigan.batches import Batches
from minigan.checkpoint import Checkpoint
from minigan.command import Interrupt, choose_device, in_words, run_command
from minigan.doctor import Doctor
from minigan.errors import UserError
from minigan.losses import discriminator_loss, generator_loss
from minigan.models import PRESETS, networks, sample_z
from minigan.optim import Adam
from minigan.options import Settings
from minigan.progress import Progress, Seldom
from minigan.random import Random
from minigan.reporter import Event, Reporter
from minigan.run import Run, free_folder
from minigan.sources import refuse_inside
from minigan.steps import Steps, use_graph
from minigan.table import layer_table, step_multiply_adds
from minigan.tensorboard import TensorBoard
from minigan.verify_resume import verify_resume
from minigan.words import printable

LOG_EVERY = 20  # steps
SAVE_EVERY = 5  # epochs, unless the settings say otherwise
FACES = 4096  # are drawn where no data is given
SAMPLES = 64  # pictures in a sample grid


class Game:
    """Two networks, two optimizers, and the noise they play with."""

    def __init__(self, settings: Settings, device: kernels.Device):
        self.settings, self.device = settings, device
        self.preset = PRESETS[settings.preset]
        channels = data.CHANNELS[settings.mode]
        self.networks = networks(
            self.preset, device, settings.size, channels, settings.z_dim, settings.slope, settings.seed
        )
        self.generator, self.discriminator = self.networks.generator, self.networks.discriminator
        self.generator.fusion = self.discriminator.fusion = settings.fusion
        self.g_parameters = list(self.generator.parameters().values())
        self.d_parameters = list(self.discriminator.parameters().values())
        self.adam_g = Adam(self.g_parameters, settings.lr_g, settings.beta1)
        self.adam_d = Adam(self.d_parameters, settings.lr_d, settings.beta1)
        self.noise = Random(settings.seed, "z", device)
        self.fixed_z = self.draw_z(SAMPLES, Random(settings.seed, "fixed z", device))
        self.step_count = 0

    def draw_z(self, count: int, random: Random) -> Tensor:
        """z (count, z_dim) as the preset has it."""
        return sample_z(self.preset, random, count, self.settings.z_dim)

    def step(self, real: Tensor) -> dict[str, Tensor]:
        """Move D, then G, once. real: (N,H,W,C) in [-1, 1].

        Returns d_loss, g_loss and the mean scores d_real = D(x) and d_fake = D(G(z)), each of shape (), from before
        the moves.
        """
        fake = self.generator(self.draw_z(len(real.data), self.noise))

        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake.detach())
        d_loss_real, d_loss_fake = discriminator_loss(real_logits, fake_logits, self.settings.label_smoothing)
        d_loss = d_loss_real + d_loss_fake
        self.adam_d.step(grad(d_loss, self.d_parameters))

        g_loss = generator_loss(self.discriminator(fake))
        self.adam_g.step(grad(g_loss, self.g_parameters))

        self.step_count += 1
        with no_grad():
            d_real, d_fake = ops.mean(ops.sigmoid(real_logits)), ops.mean(ops.sigmoid(fake_logits))
        return {"d_loss": d_loss, "g_loss": g_loss, "d_real": d_real, "d_fake": d_fake}

    def sample(self) -> np.ndarray:
        """What G draws from the fixed z: (SAMPLES,H,W,C). In inference, as `minigan.generate` will."""
        self.generator.train(False)
        with no_grad():
            images = self.generator(self.fixed_z).numpy()
        self.generator.train()
        return images

    def save(self, run: Run, seconds: float) -> Path:
        """A checkpoint of everything that the next step depends on."""
        self.check(run)
        state = {
            "step": self.step_count,
            "seconds": seconds,
            "noise": self.noise.position,
            "order": self._order(),
            "adam_g": self.adam_g.step_count,
            "adam_d": self.adam_d.step_count,
        }
        return run.save_checkpoint(self.step_count, self.arrays(), state)

    def check(self, run: Run) -> None:
        """Raise UserError if a number is not finite, which the losses need not show: tanh of an infinity is 1."""
        if self.first_bad() is not None:
            raise diverged(self, run, self.step_count)

    def first_bad(self) -> str | None:
        """The name of the first tensor in which a number is not finite: 0 times that is none either."""
        with no_grad():
            return next((name for name, t in self.tensors().items() if ops.sum(t * 0.0).item() != 0), None)

    def tensors(self) -> dict[str, Tensor]:
        """All that is in a checkpoint, by name: generator.1.w, adam_g.m."""
        return {f"{prefix}.{name}": t for prefix, part in self._parts() for name, t in part.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Likewise, on the host."""
        return {name: t.numpy() for name, t in self.tensors().items()}

    def load(self, saved: Checkpoint) -> float:
        """Go on from a checkpoint; returns the seconds trained until then."""
        state = saved.state
        for prefix, part in self._parts():
            saved.restore(prefix, part)
        if state["order"] != self._order():
            raise UserError(
                f"{saved.path}: its pictures came in another order, of {state['order']}: it is another run's"
            )
        self.step_count, self.noise.position = state["step"], state["noise"]
        self.adam_g.step_count, self.adam_d.step_count = state["adam_g"], state["adam_d"]
        return state["seconds"]

    def _order(self) -> dict[str, int]:
        """What the order of the pictures is a function of, beside their number and the step (see minigan.batches)."""
        return {"seed": self.settings.seed, "batch_size": self.settings.batch_size}

    def _parts(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "generator", self.generator.state()
        yield "discriminator", self.discriminator.state()
        yield "adam_g", self.adam_g.state()
        yield "adam_d", self.adam_d.state()
        yield "fixed", {"z": self.fixed_z}


def play(game: Game, batches: Batches, graph: bool, run: Run, progress: Progress) -> None:
    """Step after step until the epochs or the minutes are over, or Ctrl-C; the last one is logged and saved as well."""
    settings, say = game.settings, progress.reporter.say
    steps, read_every = Steps(game, batches, graph), LOG_EVERY if graph else 1  # of a graph's only the rows
    save_every = (settings.save_every or SAVE_EVERY) * batches.per_epoch
    archive_every = settings.archive_every and settings.archive_every * batches.per_epoch
    background, rows, over = Background(say), Rows(game, run, progress), False
    look, save = Seldom(lambda: write_report(run)), Seldom(lambda: keep(game, run, progress, archive_every, background))
    with Interrupt() as interrupt, progress, batches, background:
        doctor = Doctor(game, batches, run)
        if game.step_count == 0:
            run.save_real(doctor.real)
            say("sample", step=0, path=run.save_sample(0, game.sample()))
        while not over:
            scores = steps()
            rows.tell()  # of an earlier step, while the device is at this one
            background.tell()
            step = progress.step = game.step_count
            over = progress.done == 1 or interrupt.asked
            sampled = over or step % settings.sample_every == 0
            archived = archive_every is not None and step % archive_every == 0
            saved = over or archived or step % save_every == 0
            if sampled or saved or step % read_every == 0:
                rows.fetch(step, scores, logged=over or step % LOG_EVERY == 0)
            if sampled or saved or not graph:
                rows.tell()
            if sampled:
                game.check(run)
                background.start(show, run, step, game.sample(), doctor.visit(last=over), look, over)
            try:
                if not graph:  # then the device is not ahead of the host
                    background.finish()
            finally:  # whatever is wrong with what it has shown
                if saved:
                    save(anyway=over or archived or settings.save_every is not None)
    run.end("done" if progress.done == 1 else "stopped")
    progress.end(run)


class Rows:
    """What is told of the steps, and the rows of the log: as soon as their scores have come to the host."""

    def __init__(self, game: Game, run: Run, progress: Progress):
        self.game, self.run, self.progress = game, run, progress
        self.finite = game.step_count  # the last step whose scores were
        self.coming = None

    def fetch(self, step: int, scores: Mapping[str, Tensor], logged: bool) -> None:
        """Nothing waits for a step's scores before `tell` is called. logged: whether they are a row."""
        self.coming = step, {name: self.game.device.fetch(t.data) for name, t in scores.items()}, logged

    def tell(self) -> None:
        """Of the scores that were fetched, once. Raises UserError where they are not finite."""
        if self.coming is None:
            return
        (step, coming, logged), self.coming = self.coming, None
        scores = {name: float(fetched()) for name, fetched in coming.items()}
        if not all(map(math.isfinite, scores.values())):
            raise diverged(self.game, self.run, self.finite)  # the scores are from before the moves
        self.finite = step
        self.progress.show(step, scores)
        if logged:
            self.run.log(row := self.progress.row(self.game.device.memory()))
            self.progress.reporter.say("row", **row)


def show(
    run: Run, step: int, images: np.ndarray, conclude: Callable[[], Event], look: Seldom, over: bool
) -> list[Event]:
    """Write what there is to be seen of a step: its sample, what the doctor concludes, and now and then the rest."""
    path = run.save_sample(step, images)
    events = [Event("sample", "", {"step": step, "path": path}), conclude()]
    look(anyway=over)
    return events


def write_report(run: Run) -> None:
    """What is made of a run's files, to be looked at: losses.png and report.html."""
    run.plot()
    report.write(run)


def keep(game: Game, run: Run, progress: Progress, archive_every: int | None, background: Background) -> None:
    """Save a checkpoint, and delete those that it makes old. archive_every: steps after which one stays for good."""
    try:
        background.finish()  # who goes on from it has the samples of before
    finally:  # and if something is wrong with those, the step is not lost
        step = game.step_count
        progress.reporter.say("checkpoint", step=step, path=game.save(run, progress.seconds))
        run.keep_checkpoints(step, game.settings.keep, archive_every)


def diverged(game: Game, run: Run, step: int) -> UserError:
    """What ends a run whose numbers after `step` are not finite: it says where, and what to do."""
    run.end("diverged")
    where = game.first_bad() or "the losses"
    good = [str(path) for path in run.checkpoints() if int(path.stem) < step]
    last = f"the last good checkpoint is {good[-1]}" if good else "no good checkpoint was saved yet"
    return UserError(
        f"{run.folder}: the numbers are not finite any more after step {step:,}, first in {where}: "
        f"begin a new run with lower --lr-g and --lr-d; {last}"
    )


def unread(skipped: list[tuple[str, str]]) -> str:
    """How many files cannot be read, and what is the matter with the first. skipped: (name, reason), at least one."""
    name, reason = skipped[0]
    return f"{len(skipped):,} that cannot be read, the first {printable(name)}: {reason}"


def dry_run(game: Game, batches: Batches, skipped: list[tuple[str, str]], reporter: Reporter) -> None:
    """What is wrong with the pictures, the layers of both networks, and one step."""
    if skipped:
        reporter.say("skipped", unread(skipped), count=len(skipped))
    n, networks = game.settings.batch_size, game.networks
    reporter.write(layer_table("generator", game.generator, networks.z_shape, n))
    reporter.write(layer_table("discriminator", game.discriminator, networks.picture, n))
    start = time.perf_counter()
    scores = {name: t.item() for name, t in Steps(game, batches, graph=False)().items()}
    seconds = time.perf_counter() - start
    work = 2 * n * step_multiply_adds(networks) / 1e9
    text = f"one of {n} pictures, {work:,.2f} GFLOP: {seconds:.1f} s, compilation included"
    reporter.say("step", text, pictures=n, gflop=work, seconds=seconds)
    reporter.say("scores", ", ".join(f"{name} {value:.3f}" for name, value in scores.items()), **scores)
    reporter.say("written", "nothing")


def real_pictures(settings: Settings, progress: Callable) -> tuple[data.Pictures, str]:
    """The pictures to learn from, and where they are from. progress: see `data.load`."""
    if settings.data is None:
        source = "drawn cat faces (--data takes pictures of your own)"
        pictures = data.drawn(FACES, settings.size, settings.mode, settings.seed, progress)
    else:
        source = f"from {settings.data}"
        pictures = data.load(Path(settings.data), settings.size, settings.mode, progress)
    count = len(pictures.images)
    if count < settings.batch_size:
        bad = f" (beside {unread(pictures.skipped)})" if pictures.skipped else ""
        raise UserError(
            f"pictures: {count} {source}{bad}: fewer than a batch of {settings.batch_size}: give more, or a smaller "
            "--batch-size"
        )
    return pictures, source


def about(device: kernels.Device, pictures: data.Pictures, *commands: str) -> dict:
    """What config.json says beside the settings. commands: of the run's sessions, the one that begins last."""
    return {
        "device": device.name,
        "precision": device.precision,
        "pictures": len(pictures.images),
        "digest": pictures.digest,
        "commands": list(commands),
        "outcome": None,  # yet (see Run.end)
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("minigan", "numpy", "numba", "pillow")},
        },
    }


def same_pictures(run: Run, pictures: data.Pictures, source: str) -> None:
    """Raise UserError unless these are the ones that the run began with."""
    count = len(pictures.images)
    earlier = run.about.get("pictures", count)  # an imported run has had none yet
    if count != earlier:
        raise UserError(f"{count} {source}: the run began with {earlier}: give those")
    if run.about.get("digest", pictures.digest) != pictures.digest:  # the first runs kept none
        raise UserError(
            f"{count} {source}: not the pictures that the run began with, though as many: give those, or take "
            f'"digest" out of {run.folder / "config.json"} to go on with these'
        )


@np.errstate(over="ignore", invalid="ignore")  # what overflows shows in the losses
def train(arguments: list[str] | None = None) -> None:
    """The command, from its options to the last checkpoint."""
    given = options.parse(arguments)
    command = shlex.join(["python", "-m", "minigan.train", *(sys.argv[1:] if arguments is None else arguments)])
    reporter = given.reporter()
    if given.resume:
        run = Run.open(given.resume)
        settings = options.resumed_settings(given, run.settings)
    else:
        settings = options.new_settings(given)
        folder = given.out or Path("runs", datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S"))
        free_folder(folder)
        if settings.data is not None:
            refuse_inside(folder, Path(settings.data), "--out")

    if settings.tensorboard:
        reporter.listeners.append(TensorBoard())
    device, why = choose_device(settings.device, settings.conv, given.threads, settings.precision)
    graph = use_graph(given.graph, device)
    text = f"{version('minigan')} on {in_words(device)}{', each step one graph' * graph} ({why})"
    reporter.say("minigan", text, version=version("minigan"), device=device.name)
    pictures, source = real_pictures(settings, reporter.counted)
    count = len(pictures.images)
    text = f"{count:,} {source}, {settings.size}x{settings.size} {settings.mode}"
    reporter.say("pictures", text, count=count, size=settings.size, mode=settings.mode)
    if given.verify_resume:
        verify_resume(settings, pictures.images, device.name, given.threads, graph, reporter)
        return
    game, batches = Game(settings, device), Batches(pictures.images, settings, device)
    g_size, d_size = (sum(p.size for p in parameters) for parameters in (game.g_parameters, game.d_parameters))
    text = f"{settings.preset}: generator {g_size:,} parameters, discriminator {d_size:,}"
    reporter.say("networks", text, preset=settings.preset, generator=g_size, discriminator=d_size)
    if given.dry_run:
        dry_run(game, batches, pictures.skipped, reporter)
        return

    if not given.resume:
        run = Run.create(folder, settings, about(device, pictures, command), pictures.skipped)
    with run.alone():
        seconds, logged = 0.0, 0
        if given.resume:
            same_pictures(run, pictures, source)
            if run.checkpoints() or run.saved:  # else it was killed before its first
                seconds = game.load(run.newest_checkpoint())
            if settings.epochs is not None and game.step_count >= settings.epochs * batches.per_epoch:
                raise UserError(
                    f"{run.folder}: has done its {settings.epochs} epochs: give more --epochs, or --minutes"
                )
            logged = run.rewind(game.step_count, LOG_EVERY)
            session = about(device, pictures, *run.about.get("commands", []), command)
            run.about |= session | {"started": run.about.get("started", session["started"])}
            run.configure(settings)
            run.name_skipped(pictures.skipped)
        text = f"{run.folder}, step {game.step_count:,}"
        reporter.say("run", text, folder=run.folder, step=game.step_count, logged=logged)
        if skipped := len(pictures.skipped):
            names = run.folder / "skipped.txt"
            text = f"{skipped:,} files that cannot be read, named in {names}"
            reporter.say("skipped", text, count=skipped, path=names)
        play(game, batches, graph, run, Progress(settings, batches.per_epoch, game.step_count, seconds, reporter))


if __name__ == "__main__":
    run_command(train)
