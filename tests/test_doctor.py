"""The training doctor: each disease is provoked for real and named, health is not, and a visit changes nothing."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import kernels
from minigan import doctor, faces, models, nn, options, pictures, report, train, vitals
from minigan.autograd import Tensor, grad
from minigan.batches import Batches
from minigan.losses import discriminator_loss
from minigan.optim import Adam
from minigan.reporter import Event
from minigan.run import Run

EPS = float(np.finfo(np.float32).eps)
REFERENCE = kernels.device("reference")
TINY = ("--size", "16", "--batch-size", "8", "--z-dim", "16", "--device", "cpu")
ARTICLE = dataclasses.replace(models.PRESETS["article128"], width=16)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A new folder; a row every other step, no time for plots and pages, the article's networks a quarter as wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "FACES", 64)
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    monkeypatch.setattr(pictures, "plot_losses", lambda rows, path: None)
    monkeypatch.setattr(report, "write", lambda run: None)
    monkeypatch.setitem(models.PRESETS, "article128", ARTICLE)
    return tmp_path


def trained(*arguments, out: str = "run") -> Run:
    """The run of these options; an epoch of 64 faces is 8 steps."""
    train.train([*TINY, "--save-every", "100", *map(str, arguments), "--out", out])
    return Run.open(Path(out))


def diagnoses(run: Run) -> list[str | None]:
    """What was said at each visit."""
    rows = run.rows("doctor.jsonl")
    return [row["notes"][0]["diagnosis"] if row["notes"] else None for row in rows]


@pytest.fixture
def many(monkeypatch) -> None:
    """An epoch of 512 faces is 64 steps."""
    monkeypatch.setattr(train, "FACES", 512)


# ---- diagnoses ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("diagnosis", "cause", "epochs", "advice"),
    [
        ("exploding", "--lr-g 1 --lr-d 1", 1, "--lr-g 0.0002 --lr-d 0.0002"),
        ("collapse", "--preset article128 --lr-g 4e-3", 5, "--lr-g 0.0002"),
        ("discriminator won", "--lr-d 2e-3 --lr-g 2e-6", 2, "--lr-d 0.0002"),
        ("discriminator lost", "--lr-d 1e-7", 2, "--lr-d 0.0002"),
        ("oscillation", "--lr-g 1e-2 --lr-d 4e-2", 2, "--lr-g 0.0002 --lr-d 0.0002"),
        ("no longer improving", "--lr-g 1e-6 --lr-d 1e-6", 4, "--lr-g 0.0002 --lr-d 0.0002"),
    ],
)
def test_each_disease_is_named(many, seed, capsys, diagnosis, cause, epochs, advice):
    """A training made to fall ill is told so, at most of its last four visits, and which option is to blame."""
    run = trained("--epochs", epochs, "--sample-every", 16, "--seed", seed, *cause.split())
    assert diagnoses(run)[-4:].count(diagnosis) > 2
    notes = [note for row in run.rows("doctor.jsonl") for note in row["notes"] if note["diagnosis"] == diagnosis]
    assert all(list(note) == ["diagnosis", "says", "evidence", "try"] and all(note.values()) for note in notes)
    assert notes[-1]["try"] == f"a new run with {advice}"
    assert f"doctor    {diagnosis}: {notes[0]['says']} (" in capsys.readouterr().out


def test_health_is_left_alone(many, seed):
    """The preset's own settings, on the same faces: first nothing is said, and then that it learns well."""
    run = trained("--epochs", 4, "--sample-every", 25, "--seed", seed)
    said = diagnoses(run)
    assert set(said) == {None, "learning well"}
    assert said[-1] == "learning well"


def test_a_rule_waits_for_its_evidence():
    """One visit, or one without scores, is no diagnosis; nor is a measure that was not had."""
    settings = options.new_settings(options.parse([]))
    rows = [{"step": 200, "measures": {"diversity": 0.0, "distance": 1.0}}]
    assert doctor.diagnose(doctor.Chart(settings, rows)) is None
    assert doctor.diagnose(doctor.Chart(settings, [{"step": 200, "measures": {}}])) is None
    rows += [{"step": 400, "measures": {"diversity": 0.0, "distance": 1.0}}]
    assert doctor.diagnose(doctor.Chart(settings, rows)).diagnosis == "collapse"


QUARTER = "a new run with --lr-g 5e-05 --lr-d 5e-05"
FLAT = [1.0] * 8  # distances of a run's first two thirds, of twelve visits
MORE = "to stop here, or a new run with more pictures (--data)"


@pytest.mark.parametrize(
    ("given", "measures", "diagnosis", "advice"),
    [
        # black and white pictures are no sign of illness where the real ones are
        ("", {"saturation": [0.5], "saturation.real": [0.1]}, "exploding", QUARTER),
        ("", {"saturation": [0.5], "saturation.real": [0.4]}, None, None),
        # two visits in a row
        ("", {"diversity": [0.5, 0.1, 0.1]}, "collapse", "a new run with --lr-g 5e-05"),
        ("", {"diversity": [0.5, 0.1]}, None, None),
        ("", {"diversity": [0.1, 0.5]}, None, None),
        # what differs from the preset is to blame first, and then what is known to help
        ("--lr-d 1e-3 --label-smoothing 0", {"lead": [0.01]}, "discriminator won", "a new run with --lr-d 0.0002"),
        ("--label-smoothing 0", {"lead": [0.01]}, "discriminator won", "a new run with --label-smoothing 0.1"),
        ("", {"lead": [0.01]}, "discriminator won", "a new run with --lr-d 5e-05"),
        ("--lr-g 1e-3", {"g_loss": [0.05]}, "discriminator lost", "a new run with --lr-g 0.0002"),
        ("", {"g_loss": [0.05]}, "discriminator lost", "a new run with --lr-d 0.0008"),
        # most of three visits, and not while the distance falls
        ("", {"swing": [0.3, 0.1, 0.3]}, "oscillation", QUARTER),
        ("", {"swing": [0.1, 0.1, 0.3]}, None, None),
        ("--beta1 0.9", {"swing": [0.3] * 3}, "oscillation", "a new run with --beta1 0.5"),
        ("", {"swing": [0.3] * 12, "distance": FLAT + [0.9] * 4}, "learning well", "letting it go on"),
        ("", {"swing": [0.3] * 12, "distance": FLAT + [1.0] * 4}, "oscillation", QUARTER),
        # five visits in a third
        ("", {"distance": [1.0] * 12}, None, None),
        ("", {"distance": [1.0] * 15}, "no longer improving", MORE),
        ("--lr-g 1e-5", {"distance": [1.0] * 15}, "no longer improving", "a new run with --lr-g 0.0002"),
        # the worst of those that hold
        ("", {"d_loss": [18.0] * 2, "diversity": [0.1] * 2}, "exploding", QUARTER),
        ("", {"diversity": [0.1] * 2, "lead": [0.01] * 2}, "collapse", "a new run with --lr-g 5e-05"),
        ("", {"lead": [0.01], "g_loss": [0.05]}, "discriminator won", "a new run with --lr-d 5e-05"),
        ("", {"g_loss": [0.05] * 3, "swing": [0.3] * 3}, "discriminator lost", "a new run with --lr-d 0.0008"),
        ("", {"swing": [0.3] * 15, "distance": [1.0] * 15}, "oscillation", QUARTER),
    ],
)
def test_a_rule_by_hand(given, measures, diagnosis, advice):
    """From these options and measures, visit by visit, follow this diagnosis, if any, and this advice."""
    visits = [dict(zip(measures, values, strict=True)) for values in zip(*measures.values(), strict=True)]
    rows = [{"step": 200 * i, "measures": visit} for i, visit in enumerate(visits, 1)]
    note = doctor.diagnose(doctor.Chart(options.new_settings(options.parse(given.split())), rows))
    assert (note and note.diagnosis, note and note.advice) == (diagnosis, advice)


# ---- a visit -----------------------------------------------------------------


def bits(run: Run) -> dict[str, bytes]:
    """The newest checkpoint, tensor by tensor."""
    arrays = run.newest_checkpoint().arrays
    return {name: array.tobytes() for name, array in arrays.items()}


def test_a_visit_changes_nothing(monkeypatch):
    """Weights, optimizers, running averages and samples are the same bits whether the doctor came or not."""
    seen = trained("--epochs", 2, "--sample-every", 4)
    monkeypatch.setattr(doctor.Doctor, "visit", lambda self, last: lambda: Event("doctor", "", {}))
    unseen = trained("--epochs", 2, "--sample-every", 4, out="unseen")
    assert bits(seen) == bits(unseen)
    for path in unseen.samples():
        assert path.read_bytes() == (seen.folder / "samples" / path.name).read_bytes()
    assert len(seen.rows("doctor.jsonl")) == 4
    assert not unseen.rows("doctor.jsonl")


def test_a_resumed_run_is_seen_as_an_uninterrupted_one():
    """The rows of doctor.jsonl are the same: of a stop in between, which is a visit too, nothing stays."""
    straight = trained("--epochs", 4, "--sample-every", 12)
    trained("--epochs", 2, "--sample-every", 12, out="parted")
    assert [row["step"] for row in Run.open(Path("parted")).rows("doctor.jsonl")] == [12, 16]
    train.train(["--resume", "parted", "--epochs", "4"])
    assert Run.open(Path("parted")).rows("doctor.jsonl") == straight.rows("doctor.jsonl")


def test_a_visit_is_of_its_step():
    """What was logged and moved between the look and the conclusion, by the steps after it, is not in its row."""
    run = trained("--epochs", 4, "--sample-every", 100)  # 32 steps, 16 rows
    batches = Batches(faces.draw(64, 16, "RGB", 0), run.settings, kernels.device("cpu"))
    game = train.Game(run.settings, batches.device)
    game.load(run.newest_checkpoint())
    visitor = doctor.Doctor(game, batches, run)
    expected = visitor.visit(last=False)().facts["measures"]
    conclude = visitor.visit(last=False)
    game.step(batches.batch(32))
    run.log(run.rows()[-1] | {"step": 33, "d_loss": 100.0, "d_real": 0.0})
    assert conclude().facts["measures"] == expected


@pytest.mark.parametrize(("count", "compared"), [(96, 64), (48, 48)])
def test_how_many_pictures_are_compared(count, compared):
    """64, where two batches of 48 have more; as many as an epoch has, where that is fewer."""
    settings = options.new_settings(options.parse([*TINY, "--batch-size", "48"]))
    batches = Batches(faces.draw(count, 16, "RGB", 0), settings, REFERENCE)
    assert len(doctor.Doctor(SimpleNamespace(settings=settings), batches, None).real) == compared


def test_what_a_person_is_told(capsys, monkeypatch):
    """A diagnosis once, when it is new, and the last one again at the end; rows have them all."""
    rows = iter(["a", "a", None, None, "b", "b"])
    note = {name: doctor.Note(name, "says", "evidence", "this") for name in "ab"} | {None: None}
    monkeypatch.setattr(doctor, "diagnose", lambda chart: note[next(rows)])
    run = trained("--epochs", 2, "--sample-every", 3)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("doctor")]
    a, b = (f"doctor    {name}: says (evidence); try this" for name in "ab")
    assert said == [a, "doctor    no diagnosis", b, b]
    assert diagnoses(run) == ["a", "a", None, None, "b", "b"]


def test_numbers_that_are_none_are_left_out(monkeypatch):
    """A weight that no network can use makes measures that are no numbers: JSON has no word for them."""
    step = train.Game.step

    def poisoned_step(game, real):
        scores = step(game, real)
        game.g_parameters[0].data[0] = 3e38
        return scores

    monkeypatch.setattr(train.Game, "step", poisoned_step)
    game = train.Game(options.new_settings(options.parse(TINY)), kernels.device("cpu"))
    real = np.zeros((8, 16, 16, 3), np.float32)
    with np.errstate(all="ignore"):
        game.step(Tensor(real, game.device))
        measures = vitals.measure(vitals.look(game, real), real, [], 0.0)
    assert "diversity" not in measures
    assert all(map(math.isfinite, measures.values()))
    json.dumps(measures, allow_nan=False)


# ---- measures ----------------------------------------------------------------


def images(seed: int, shape=(12, 32, 32, 3)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_scores_by_hand():
    """Medians of the newest rows; the lead is 0 for D at its best, log 4 where it cannot tell; learning is no swing."""
    p = np.linspace(1e-6, 1 - 1e-6, 100_001)  # D(x), where D(G(z)) is 0
    for smoothing in (0.0, 0.1):
        losses = -(1 - smoothing) * np.log(p) - smoothing * np.log(1 - p)
        assert vitals.least_d_loss(smoothing) == pytest.approx(losses.min(), abs=1e-5)  # the grid's step
    row = {"d_loss": math.log(4), "g_loss": math.log(2), "d_real": 0.5, "d_fake": 0.5}
    assert vitals.scores([row] * 9, 0.0) == {}
    assert vitals.scores([row] * 10, 0.0) == {**row, "lead": math.log(4), "swing": 0}
    learning = [{**row, "d_real": 0.5 + i / 40, "d_fake": 0.5 - i / 40} for i in range(20)]
    assert vitals.scores(learning, 0.0)["swing"] == pytest.approx(0, abs=1e-15)
    moody = [{**row, "d_real": 0.2 + 0.6 * (i % 2), "d_fake": 0.2 + 0.6 * (i % 2)} for i in range(20)]
    assert vitals.scores([row] * 20 + moody, 0.0)["swing"] == pytest.approx(0.6)


def test_spread_by_hand(seed):
    """The mean over all pairs, written out; 0 where all are the same; noise finer than 16x16 counts little."""
    x = images(seed)
    small = x.reshape(12, 16, 2, 16, 2, 3).mean((2, 4), dtype=np.float64)
    pairs = [math.sqrt(((small[i] - small[j]) ** 2).mean()) for i in range(12) for j in range(i)]
    assert vitals.spread(x) == pytest.approx(np.mean(pairs), rel=32 * EPS)
    assert vitals.spread(x[:1].repeat(5, 0)) == pytest.approx(0, abs=1e-7)  # the root of a float64 rounding of 1


def test_the_distance_tells_what_a_person_sees(seed):
    """0 to themselves; and nearer to others of the kind than the same blurred, brighter, noisy, or all alike."""
    drawn = faces.draw(128, 32, "RGB", seed).astype(np.float32) / 127.5 - 1
    real, others = drawn[:64], drawn[64:]
    random = np.random.default_rng(seed)
    blurred = others.reshape(64, 16, 2, 16, 2, 3).mean((2, 4)).repeat(2, 1).repeat(2, 2)
    worse = {
        "blurred": blurred,
        "brighter": others + 0.3,
        "noisy": others + random.normal(0, 0.1, others.shape).astype(np.float32),
        "alike": others[:1].repeat(64, 0),
    }
    assert vitals.distance(real, real) == 0
    near = vitals.distance(others, real)
    assert 0 < near < min(vitals.distance(pictures, real) for pictures in worse.values())


def test_the_distance_by_hand(seed):
    """The docstring, patch by patch, from the same places and directions; the pictures drawn have less contrast."""
    fakes, real = 0.3 * images(seed, (5, 32, 32, 3)) + 0.2, images(seed + 1, (5, 32, 32, 3))

    def scales(x):
        coarse = x.astype(np.float64).reshape(5, 16, 2, 16, 2, 3).mean((2, 4))
        return x - np.kron(coarse, np.ones((1, 2, 2, 1))), coarse

    random, found = np.random.default_rng(0), []
    for fake, true in zip(scales(fakes), scales(real), strict=True):
        mean, std = true.mean((0, 1, 2)), true.std((0, 1, 2))
        places = random.integers(0, true.shape[1] - 7 + 1, (64, 2))
        directions = random.standard_normal((7 * 7 * 3, 64)).astype(np.float32).T
        patches = [
            np.array([((x[i : i + 7, j : j + 7] - mean) / std).ravel() for x in pictures for i, j in places])
            for pictures in (fake, true)
        ]
        for direction in directions:
            a, b = (np.sort(rows @ (direction / np.linalg.norm(direction))) for rows in patches)
            found.append(np.abs(a - b).mean())
    assert vitals.distance(fakes, real) == pytest.approx(np.mean(found), rel=1e-4)


def test_the_scales_add_up(seed):
    """From the coarsest on, each doubled and added to the next finer one: the picture again."""
    x = images(seed, (2, 64, 64, 3))
    *finer, whole = vitals._scales(x)
    assert [scale.shape[1] for scale in (*finer, whole)] == [64, 32, 16]
    for scale in reversed(finer):
        whole = whole.repeat(2, 1).repeat(2, 2) + scale
    np.testing.assert_allclose(whole, x, rtol=0, atol=8 * EPS)


def test_dead_units_and_saturation_by_hand():
    """A unit is alive if one picture brings it above 0; a quarter of these values are at the ends of tanh."""
    init = nn.Initializer(REFERENCE, weights=lambda shape: Tensor(np.zeros(shape, np.float32), REFERENCE))
    linear = nn.Linear(1, 5, init)
    linear.w.data[:, 0] = [1, -1, 0, 0, 1]
    linear.b.data[:] = [0, 0, 0, -1, -2]
    x = Tensor(
        np.array([[1], [-1]], np.float32), REFERENCE
    )  # the first unit is above 0 for one, the second for the other
    made, dead = vitals.watched(nn.Sequential(linear, nn.LeakyRelu(0.5)), x)
    assert dead == pytest.approx(3 / 5)
    assert made.tolist() == [[1, -0.5, 0, -0.5, -0.5], [-0.5, 1, 0, -0.5, -1.5]]
    assert vitals.saturation(np.array([-1, 0.995, 0.98, -0.98, 0, 0.5, 0.2, 0.9])) == 0.25


@pytest.mark.parametrize("beta1", [0, 0.5])
def test_gradient_norms_are_the_steps_own(seed, beta1):
    """After one step Adam's m_hat is its gradient: per layer, the norm of what `grad` gives for D."""
    settings = options.new_settings(options.parse([*TINY, "--beta1", str(beta1)]))
    game, twin = train.Game(settings, REFERENCE), train.Game(settings, REFERENCE)
    real = Tensor(images(seed, (8, 16, 16, 3)), REFERENCE)
    game.step(real)
    measured = vitals.look(game, real.numpy()).networks

    fake = twin.generator(twin.draw_z(8, twin.noise)).detach()
    losses = discriminator_loss(twin.discriminator(real), twin.discriminator(fake), settings.label_smoothing)
    squares = {}
    for name, g in zip(twin.discriminator.parameters(), grad(losses[0] + losses[1], twin.d_parameters), strict=True):
        squares.setdefault(name.split(".")[0], []).append(float((g.numpy().astype(np.float64) ** 2).sum()))
    norms = {f"gradient.discriminator.{layer}": math.sqrt(sum(parts)) for layer, parts in squares.items()}
    found = {name: value for name, value in measured.items() if name.startswith("gradient.discriminator")}
    assert found == pytest.approx(norms, rel=1e-5)  # six digits are kept


def test_gradients_that_stay_the_same_are_measured_the_same(seed):
    """m starts at 0; squared_norms divides by what it has seen of its weights: the first norm is that of every step."""
    g = images(seed, (3, 5))
    adam = Adam([Tensor(np.zeros((3, 5), np.float32), REFERENCE)], lr=0.1, beta1=0.5)
    for _ in range(3):
        adam.step([Tensor(g, REFERENCE)])
        expected = pytest.approx([(g.astype(np.float64) ** 2).sum()], rel=30 * EPS)  # few roundings, no cancelling
        assert adam.squared_norms() == expected
