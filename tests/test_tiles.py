"""`python -m benchmarks.tiles`: which tile each convolution should take, tried out on `emulated`."""

from __future__ import annotations

import importlib
import json
import re

import numpy as np
import pytest

from benchmarks import ceilings, tiles
from benchmarks.calls import Call
from benchmarks.tiles import Timed, fitted, lost, sizes_of, tiles_player
from benchmarks.trial import Variant
from kernels.conv2d import tf32
from kernels.conv2d.plan import CARD, TILES, Card, choices, clocks, plan
from kernels.launch.source import intercepted
from minigan.errors import UserError

TINY = ["--device", "emulated", "--preset", "tiny32", "--size", "16", "--batch-size", "2", "--rounds", "1"]
X, W, ONE = (np.zeros(shape, np.float32) for shape in [(6, 8, 8, 12), (20, 4, 4, 12), (1, 4, 4, 12)])
CALL, MANY = (Call("conv2d", (x, W, 2, 1)) for x in (X, np.zeros((40, 16, 16, 12), np.float32)))
FORMAT = tf32.PIPELINE.format


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_what_a_plan_is_asked(precision):
    """The sizes of the very launch, with the card's multiprocessors; where no plan is asked, nothing."""
    rows, columns, depth, phases, multiprocessors, format = sizes_of(CALL, Variant(precision), 132)[:6]
    assert multiprocessors == 132
    assert format.bits == {"fp32": 32, "tf32": 19, "bf16": 16}[precision]
    assert (rows, columns, depth, phases) == (6 * 4 * 4, 20, 4 * 4 * (16 if precision == "bf16" else 12), 1)
    assert sizes_of(Call("conv2d", (X, ONE, 2, 1)), Variant(precision), 132) is None  # one logit


@pytest.mark.parametrize(("call", "precision"), [(CALL, "tf32"), (CALL, "bf16"), (MANY, "fp32")])
def test_each_way_takes_its_tile(emulated, call, precision):
    """What is launched has the tile and the parts that it is named by; in float32 it is Winograd's product."""
    ways = tiles_player("emulated", 4).ways(call, Variant(precision))
    assert len(ways) >= len(TILES)
    for way, compute in ways.items():
        launched = []
        with intercepted(lambda *taken, launched=launched: launched.append(taken)):
            compute()
        ((launch, arguments),) = [taken[:2] for taken in launched if taken[0].kernel == "conv2d"]
        named = zip(launch.source.kernels["conv2d"], arguments, strict=True)
        (parts,) = (argument for parameter, argument in named if parameter.name == "parts")
        built = dict(launch.defines)
        assert way == f"{built['TILE_ROWS']}x{built['TILE_COLUMNS']} in {parts}"
        assert ("winograd" in launch.source.name) == (precision == "fp32")


def test_the_constants_that_lose_least(seed):
    """Where each choice takes just what the estimate says with other constants, these lose nothing, and ours do; and
    where it is as we assumed, ours stay."""
    rng = np.random.default_rng(seed)
    for truth, rate in [(Card(fetched=48, hidden=0.25, launch=1000), 0.5), (CARD, 1.0)]:
        timed, format = [], type(FORMAT)(FORMAT.bits, rate * FORMAT.rate)
        for _ in range(20):
            rows, columns, depth = (int(size) for size in 2.0 ** rng.uniform([8, 6, 8], [18, 12, 14]))
            sizes = rows, columns, depth, 1, 132
            seconds = {c: clocks(*c, *sizes, format, truth) / 1.7e9 for c in choices(*sizes, FORMAT)}
            timed.append(Timed((*sizes, FORMAT), seconds))
        assert lost(timed, truth, rate) == 0
        assert (lost(timed, CARD) > 0) == (truth != CARD)
        assert lost(timed, *fitted(timed)) == 0
        assert truth != CARD or fitted(timed) == (CARD, 1.0)


def test_a_choice_that_fails_is_named():
    """And the others are compared; where the plan's own has failed, there is nothing to compare."""
    sizes = sizes_of(CALL, Variant("tf32"), 4)
    chosen = plan(*sizes)
    other = next(choice for choice in choices(*sizes) if choice != chosen)
    ways = {tiles.said(chosen): {"median": 3e-6}, tiles.said(other): {"failed": "RuntimeError: misaligned\nmore"}}
    row = {"place": "discriminator.2", "kernel": "conv2d", "pending": [0], "given": [X.shape], "made": [], "ways": ways}
    first, second = tiles.line(row, Timed(sizes, {chosen: 3e-6})).splitlines()
    assert first.split()[-6:] == ["3.0", *tiles.said(chosen).split(), "3.0", "0%"]
    assert second.strip() == f"{tiles.said(other)}: RuntimeError: misaligned"
    assert tiles.line(row, Timed(sizes, {other: 3e-6})).splitlines()[0].endswith(f"{tiles.said(chosen)}    failed")


def test_command(emulated, tmp_path, monkeypatch, capsys):
    """Every tile of every convolution is checked and timed, in one part and in several; the plan's among them."""
    monkeypatch.setattr(ceilings, "SIDE", 64)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 20)
    file = tmp_path / "tiles.json"
    tiles.main([*TINY, "--precision", "bf16", "--only", "discriminator.2", "--json", str(file)])
    rows = json.loads(file.read_text())["rows"]
    assert {row["kernel"] for row in rows} == {
        "conv2d", "conv2d_transpose", "conv2d_weight_grad", "conv2d_with_statistics",
    }  # fmt: skip
    for row in rows:
        assert row["plan"] in row["ways"]
        assert {way.split(" in ")[0] for way in row["ways"]} == {f"{tile.rows}x{tile.columns}" for tile in TILES}
        assert all(outcome.get("median", 0) > 0 for outcome in row["ways"].values()), row["ways"]
    said = capsys.readouterr().out
    number = r"\d+x\d+ in \d+ +[\d.]+"
    assert re.search(rf"^  discriminator\.2 +conv2d_weight_grad +\S+.* {number} +{number} +\d+%$", said, re.MULTILINE)
    assert re.search(
        r"^the plan has lost [\d.]+% of all this time; it would have lost\n[\d.]+% with Card\(.* the rate of bf16\.py\n"
        r"these are times of the host: they say nothing of a GPU, so write no such constants down\n",
        said,
        re.M,
    )


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_rates_file(emulated, monkeypatch, capsys, precision):
    """What is said to hold a precision's rate does; and on a GPU nothing is said of the host."""
    timed = Timed(sizes_of(CALL, Variant(precision), 4), {plan(*sizes_of(CALL, Variant(precision), 4)): 1e-6})
    monkeypatch.setattr(tiles, "measure", lambda *_: [timed])
    tiles.main(["--device", "cuda", "--precision", precision])
    said = capsys.readouterr().out
    (name,) = re.findall(r"times the rate of (\w+)\.py$", said, re.M)
    module = importlib.import_module(f"kernels.conv2d.{name}")
    assert module.PIPELINE.format is timed.sizes[5]
    assert "host" not in said


def test_a_name_that_nothing_has(emulated, monkeypatch):
    """Only convolutions are asked for."""
    monkeypatch.setattr(ceilings, "SIDE", 64)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 20)
    with pytest.raises(UserError, match=r"--only adam: no such convolution: choose one of .*discriminator\.2"):
        tiles.main([*TINY, "--only", "adam"])


def test_a_run_that_is_too_short_keeps_what_it_has(emulated, tmp_path, monkeypatch, capsys):
    """What was not timed is named, on the terminal and in the JSON; what was is there, and fitted."""
    monkeypatch.setattr(ceilings, "SIDE", 64)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 20)
    monkeypatch.setattr(tiles.Trials, "over", property(lambda trials: len(trials._rows) == 1))
    file = tmp_path / "tiles.json"
    tiles.main([*TINY, "--only", "discriminator.0", "--json", str(file)])
    report = json.loads(file.read_text())
    assert (len(report["rows"]), len(report["left_out"])) == (1, 2)
    said = capsys.readouterr().out
    assert f"\nnot measured, because the time was over: {'; '.join(report['left_out'])}\n" in said
    assert "\nthe plan has lost " in said


def test_a_folder_that_is_not_there():
    """Is said before minutes of measuring."""
    with pytest.raises(UserError, match="--json: there is no folder nowhere: make it, or choose another file"):
        tiles.main([*TINY, "--json", "nowhere/tiles.json"])
