"""A run on one page:  python -m minigan.report runs/DATE-TIME

`minigan.train` writes report.html at each sample, unless that would take more than a twentieth of its time. It is made
of what is in the run's folder and of nothing else, so that it can be had of an older run too. It needs no network and
no other file. It stays below 5 MB, however long the run: of many samples it shows every second, fourth, eighth one and
so on, with the first and the newest.
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from minigan.chart import key, line_chart, spread
from minigan.command import run_command
from minigan.errors import UserError
from minigan.options import Parser
from minigan.pictures import running_mean
from minigan.run import DOCTOR, Run
from minigan.table import Cost, layer_costs, outline

__all__ = ["write"]

FRAMES = 32  # samples behind the slider, at most
FRAMES_SIZE = 2_800_000  # characters of the page that they may take
FRAME_SIDE = 544  # pixels; what is larger is reduced: 64 pictures of 64 pixels are 530
LARGE_SIDE = 1056  # of the newest sample and of the real pictures: 64 pictures of 128 pixels are 1042
ROWS = 12  # of the log, in the table
CHANGES = 40  # of the doctor's mind, the newest

SCORES = {  # names in the log -> on the page
    "d_loss": "loss of D",
    "g_loss": "loss of G",
    "d_real": "D(x)",
    "d_fake": "D(G(z))",
    "images_per_second": "pictures/s",
}


def write(run: Run) -> Path:
    """Write report.html out of the run's other files, as they are now.

    Raises
    ------
    UserError: a line of log.jsonl or doctor.jsonl is broken, or the page cannot be written.
    """
    rows = run.rows()
    style, script = _part("report.css"), _part("report.js")
    page = Template(_part("report.html")).substitute(
        name=escape(run.folder.resolve().name),
        summary=_summary(run),
        facts=_facts(run, rows),
        pictures=_pictures(run, rows),
        doctor=_doctor(run.rows(DOCTOR)),
        curves=_curves(rows),
        asked=_asked(run),
        networks=_networks(run),
        written=f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )
    return run.save_report(page)


def _part(name: str) -> str:
    return files("minigan").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """By which the page's Content-Security-Policy allows this style or script and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# ---- in words and numbers ----------------------------------------------------


def _summary(run: Run) -> str:
    settings, about = run.settings, run.about
    source = f"from {settings.data}" if settings.data else "that minigan drew"
    return escape(
        f"A DCGAN learns to draw, from {about['pictures']:,} pictures of {settings.size} by {settings.size} pixels "
        f"{source}. Preset {settings.preset}, seed {settings.seed}, on {about['device']}."
    )


def _facts(run: Run, rows: Sequence[dict]) -> str:
    """How far and how fast, as of the last row."""
    if not rows:
        return _definitions({"steps": "0"})
    last, goal = rows[-1], f" of {run.settings.epochs:,}" if run.settings.epochs else ""
    facts = {
        "steps": f"{last['step']:,}",
        "epochs": f"{last['epoch']:.1f}{goal}",
        "of training": _duration(last["seconds"]),
        "pictures a second, median": f"{statistics.median(row['images_per_second'] for row in rows):,.0f}",
    }
    if last.get("memory_mib"):  # an early run's log has none, nor has that of a system that does not say
        facts["memory at most"] = f"{last['memory_mib']:,} MiB"
    real, fake = (running_mean(np.array([row[name] for row in rows]))[-1] for name in ("d_real", "d_fake"))
    facts["D(x) and D(G(z)), mean scores of real and drawn"] = f"{real:.2f}, {fake:.2f}"
    return _definitions(facts)


def _asked(run: Run) -> str:
    settings, about = run.settings, run.about
    commands = "<br>".join(f"<code>{escape(command)}</code>" for command in about.get("commands", ()))
    asked = {
        "Command": commands or "not kept by this early run",
        "Preset": escape(settings.preset),
        "Pictures": f"{about['pictures']:,}, {escape(settings.data or 'drawn by minigan')}",
        "Seed": f"{settings.seed}",
        "Device": escape(about["device"]),
        "Begun": escape(about["started"].replace("T", " ")),
        "Versions": escape(", ".join(f"{name} {number}" for name, number in about["versions"].items())),
    }
    every = {escape(name): f"<code>{escape(str(value))}</code>" for name, value in vars(settings).items()}
    return (
        f'<dl class="asked">{_definitions(asked, "{}{}")}</dl><details><summary>Every setting</summary>'
        f'<dl class="settings">{_definitions(every, "{}{}")}</dl></details>'
    )


def _definitions(pairs: dict[str, str], form: str = "<div>{}{}</div>") -> str:
    """Terms and what they are, both HTML."""
    return "".join(form.format(f"<dt>{term}</dt>", f"<dd>{value}</dd>") for term, value in pairs.items())


def _duration(seconds: float) -> str:
    """3 h 20 min, 20 min, 20 s."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


# ---- pictures ----------------------------------------------------------------


def _pictures(run: Run, rows: Sequence[dict]) -> str:
    """The samples behind a slider, and the real pictures beside them."""
    frames, broken = _frames(run.samples())
    real, no_real = _images([run.folder / "real.png"] if (run.folder / "real.png").exists() else [], LARGE_SIDE)
    left_out = "".join(f'<p class="soft">{escape(said)}</p>' for said in broken + no_real)
    return f'<div class="pair">{_drawn(run, rows, frames)}{_real(real)}</div>{left_out}'


def _drawn(run: Run, rows: Sequence[dict], frames: dict[Path, str]) -> str:
    if not frames:
        return "<p>No samples yet.</p>"
    steps = [int(path.stem) for path in frames]
    said = [_when(run, rows, step) for step in steps]
    images = "".join(
        f'<img {attributes} alt="What the generator draws: {when}" data-step="{step}" data-when="{when}"'
        f"{'' if step == steps[-1] else ' hidden'}>"
        for attributes, step, when in zip(frames.values(), steps, said, strict=True)
    )
    slider = (
        '<div id="controls" class="controls" hidden><button type="button">Play</button>'
        f'<input type="range" aria-label="Sample" max="{len(steps) - 1}" value="{len(steps) - 1}"></div>'
    )
    caption = f'<figcaption>Drawn: <span id="when">{said[-1]}</span></figcaption>'
    return f'<figure><div id="frames">{images}</div>{slider if len(steps) > 1 else ""}{caption}</figure>'


def _real(images: dict[Path, str]) -> str:
    if not images:
        return '<p class="soft">There are no real pictures in the folder to compare with.</p>'
    (attributes,) = images.values()
    said = "Real pictures, as the discriminator sees them"
    return f'<figure><img {attributes} alt="{said}"><figcaption>{said}</figcaption></figure>'


def _when(run: Run, rows: Sequence[dict], step: int) -> str:
    """Where in the training a step is; the time from the log, if it has got so far."""
    epoch = step / (run.about["pictures"] // run.settings.batch_size)
    steps, seconds = [0, *(row["step"] for row in rows)], [0, *(row["seconds"] for row in rows)]
    after = f", after {_duration(float(np.interp(step, steps, seconds)))}" if 0 < step <= steps[-1] else ""
    return f"step {step:,}, epoch {epoch:.1f}{after}"


def _frames(paths: Sequence[Path]) -> tuple[dict[Path, str], list[str]]:
    """Some of the samples, as `_images` has them: the first, every so manieth, and the newest, which is larger.

    Of every 2nd, 4th, 8th, a longer run keeps every other one: what was encoded for the last page serves for the next.
    """
    stride = 1
    while True:
        some = paths[:-1:stride]
        if len(some) < FRAMES:
            images, broken = _images(some, FRAME_SIDE)
            if sum(map(len, images.values())) <= FRAMES_SIZE:
                break
        stride *= 2
    newest, newest_broken = _images(paths[-1:], LARGE_SIDE)
    return images | newest, broken + newest_broken


def _images(paths: Iterable[Path], side: int) -> tuple[dict[Path, str], list[str]]:
    """The attributes of an <img> for each picture, and a sentence about each one that cannot be read."""
    images, broken = {}, []
    for path in paths:
        try:
            images[path] = _encoded(path, path.stat().st_mtime_ns, side)
        except (OSError, SyntaxError) as error:  # SyntaxError is what Pillow says of a broken PNG
            broken.append(f"{path.name} cannot be read ({error}): it is left out.")
    return images, broken


@functools.lru_cache(maxsize=4 * FRAMES)
def _encoded(path: Path, changed: int, side: int) -> str:
    """A picture inside the page, at most so many pixels on a side; encoded once, as long as it is not `changed`."""
    content = io.BytesIO()
    with Image.open(path) as image:
        image = image.reduce(math.ceil(max(image.size) / side))
        image.save(content, "WEBP", quality=70 if side == FRAME_SIDE else 80)
    data = base64.b64encode(content.getvalue()).decode()
    return f'src="data:image/webp;base64,{data}" width="{image.width}" height="{image.height}"'


# ---- the doctor --------------------------------------------------------------


def _doctor(visits: Sequence[dict]) -> str:
    """The newest notes with their evidence, then how the state changed until then."""
    if not visits:
        return '<p class="soft">The doctor has not looked at this run.</p>'
    newest = visits[-1]
    notes = "".join(map(_note, newest["notes"])) or "<p>No diagnosis.</p>"
    measures = ((escape(name), f"{value:.4g}") for name, value in newest["measures"].items())
    table = _table(f"Measured at step {newest['step']:,}", ("measure", "value"), measures)
    history = _history(visits)
    return (
        f'<p class="soft">At step {newest["step"]:,}</p>{notes}'
        f"<details><summary>How it changed</summary><ol reversed>{history}</ol></details>"
        f"<details><summary>What was measured</summary>{table}</details>"
    )


def _note(note: dict) -> str:
    diagnosis, says, evidence, advice = (escape(note[name]) for name in ("diagnosis", "says", "evidence", "try"))
    return (
        f'<div class="note"><h3>{_capital(diagnosis)}</h3><p>{_capital(says)}</p>'
        f'<p class="soft">Evidence: {evidence}</p><p>Try: {advice}</p></div>'
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _history(visits: Sequence[dict]) -> str:
    """The stretches of steps over which the diagnoses were the same, the newest first."""
    stretches = []
    for diagnoses, group in groupby(visits, key=lambda visit: [note["diagnosis"] for note in visit["notes"]]):
        steps = [visit["step"] for visit in group]
        when = f"Step {steps[0]:,}" + (f" to {steps[-1]:,}" if len(steps) > 1 else "")
        stretches.append(f"<li>{when}: {escape(', '.join(diagnoses)) or 'no diagnosis'}</li>")
    return "".join(stretches[: -CHANGES - 1 : -1])


# ---- curves and tables -------------------------------------------------------


def _curves(rows: Sequence[dict]) -> str:
    if not rows:
        return "<p>No steps are logged yet.</p>"
    steps = [row["step"] for row in rows]
    logged = {name: [row[name] for row in rows] for name in SCORES}
    charts = (
        ("Losses", ("d_loss", "g_loss"), None),
        ("Discriminator's mean scores", ("d_real", "d_fake"), 1.0),
        ("Speed", ("images_per_second",), None),
    )
    figures = []
    for title, names, top in charts:
        curves = {SCORES[name]: logged[name] for name in names}
        ends = ", ".join(f"{label} {running_mean(np.array(values))[-1]:.3g}" for label, values in curves.items())
        chart = line_chart(
            steps,
            curves,
            f"{title} over {steps[-1]:,} steps; at the end, on average: {ends}",
            top or 1.1 * float(np.percentile([*curves.values()], 98)) or 1.0,  # a few peaks may leave the frame
            0.5 if top else None,  # a discriminator that cannot tell
        )
        figures.append(f"<figure><h3>{title}</h3>{chart}<figcaption>{key(list(curves))}</figcaption></figure>")
    some = (
        (f"{rows[i]['step']:,}", f"{rows[i]['epoch']:.1f}", *(f"{logged[name][i]:.3g}" for name in SCORES))
        for i in spread(len(rows), ROWS)
    )
    table = _table("Some rows of log.jsonl", ("step", "epoch", *SCORES.values()), some)
    return (
        f'<div class="charts">{"".join(figures)}</div><p class="soft">Over the steps. Thin lines are what was logged, '
        "bold ones its running mean; the vertical line is at the step of the pictures above. At 0.5 the discriminator "
        f"cannot tell.</p><details><summary>The same in numbers</summary>{table}</details>"
    )


def _networks(run: Run) -> str:
    """The layer tables of both."""
    settings = run.settings
    players, batch = outline(settings), settings.batch_size
    picture = _shape(players.picture)
    generator = layer_costs(players.generator, players.z_shape, batch)
    discriminator = layer_costs(players.discriminator, players.picture, batch)
    tables = (
        _layers(f"Generator: z of {settings.z_dim} numbers to a picture of {picture}", generator),
        _layers(f"Discriminator: a picture of {picture} to one logit", discriminator),
    )
    return (
        f'<div class="pair tables">{"".join(tables)}</div>'
        '<p class="soft">Gives: the shape of the result. Multiply-adds: of one picture, forward. Memory: of the result '
        f"for a batch of {batch}, float32.</p>"
    )


def _layers(title: str, costs: Sequence[Cost]) -> str:
    *layers, total = (
        (_breakable(c.layer), _shape(c.shape), _short(c.parameters), _short(c.multiply_adds), _bytes(c.memory))
        for c in costs
    )
    return _table(title, ("layer", "gives", "parameters", "multiply-adds", "memory"), layers, total)


def _breakable(name: str) -> str:
    """Conv2dTranspose may go on two lines, on a phone."""
    return name.replace("Transpose", "<wbr>Transpose")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _short(number: float, base: int = 1000, units: Sequence[str] = ("", " k", " M", " G")) -> str:
    """Three digits: 134 M; a dash for nothing."""
    power = 0
    while number >= base and power < 3:
        number, power = number / base, power + 1
    digits = f"{number:.0f}" if number >= 100 else f"{number:.3g}"
    return digits + units[power] if number else "&ndash;"


def _bytes(number: int) -> str:
    return _short(number, 1024, (" B", " KiB", " MiB", " GiB"))


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] = ()) -> str:
    """Cells are HTML; the first of a row is its header."""

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'

    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    foot = f"<tfoot>{line(total)}</tfoot>" if total else ""
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(map(line, rows))}</tbody>{foot}</table></div>"
    )


# ---- the command -------------------------------------------------------------


def report(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(prog="python -m minigan.report", description="Write a run's report.html, one page with all of it.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run of minigan.train")
    run = Run.open(parser.parse_args(arguments).run)
    if "imported" in run.about and not run.rows():
        raise UserError(f"{run.folder}: was imported, and has not trained yet: nothing to report")
    print(f"report    {write(run)}")


if __name__ == "__main__":
    run_command(report)
