"""The command line: what holds where nothing was said, what is out of range, and what a resumed run may change."""

from __future__ import annotations

import dataclasses

import pytest

from minigan import options
from minigan.errors import UserError
from minigan.models import PRESETS


def new(*arguments: str) -> options.Settings:
    return options.new_settings(options.parse(list(arguments)))


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_not_said_is_the_presets(name):
    """Each setting that a preset has is taken from it, and what is said on the command line is said."""
    settings, preset = new("--preset", name), PRESETS[name]
    shared = {field.name for field in dataclasses.fields(settings)} & {f.name for f in dataclasses.fields(preset)}
    assert shared >= {"size", "z_dim", "slope", "batch_size", "lr_g", "lr_d", "beta1", "label_smoothing", "epochs"}
    assert {n: getattr(settings, n) for n in shared} == {n: getattr(preset, n) for n in shared}
    said = new("--preset", name, "--size", "16", "--lr-d", "1e-3", "--slope", "0", "--label-smoothing", "0")
    assert said == dataclasses.replace(settings, size=16, lr_d=1e-3, slope=0.0, label_smoothing=0.0)


def test_the_preset_follows_the_data():
    """Faces from the house are small, pictures from a folder are not; and minutes take the place of epochs."""
    assert new().preset == "tiny32"
    assert new("--data", "cats").preset == "radford64"
    assert new("--data", "cats", "--preset", "article128").preset == "article128"
    assert (new("--minutes", "5").minutes, new("--minutes", "5").epochs) == (5.0, None)
    assert new("--minutes", "5", "--epochs", "3").epochs == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--size 48", "argument --size: invalid choice: 48 (choose from 16, 32, 64, 128, 256)"),
        ("--size big", "argument --size: invalid int value: 'big'"),
        ("--mode CMYK", "argument --mode: invalid choice: 'CMYK'"),
        ("--preset dcgan", "argument --preset: invalid choice: 'dcgan'"),
        ("--device gpu", "argument --device: invalid choice: 'gpu'"),
        ("--epochs 0", "argument --epochs: 0 is out of range: it must be from 1 to 1000000000"),
        ("--epochs 1e3", "argument --epochs: '1e3' is not a whole number"),
        (f"--epochs {10**400}", "is out of range"),
        ("--minutes 0", "argument --minutes: 0 is out of range: it must be above 0, and at most 1e+09"),
        ("--minutes soon", "argument --minutes: 'soon' is not a number"),
        ("--minutes inf", "argument --minutes: inf is out of range"),
        ("--batch-size 1", "argument --batch-size: 1 is out of range: it must be from 2"),
        ("--lr-g 0", "argument --lr-g: 0 is out of range"),
        ("--lr-g nan", "argument --lr-g: nan is out of range"),
        ("--lr-d=-1e-4", "argument --lr-d: -1e-4 is out of range"),
        ("--beta1 1", "argument --beta1: 1 is out of range"),
        ("--slope 1.5", "argument --slope: 1.5 is out of range: it must be from 0 to 1"),
        ("--label-smoothing 0.6", "argument --label-smoothing: 0.6 is out of range"),
        ("--z-dim 0", "argument --z-dim: 0 is out of range"),
        ("--seed -1", "argument --seed: -1 is out of range"),
        (f"--seed {2**64}", "argument --seed: 18446744073709551616 is out of range"),
        ("--threads 0", "argument --threads: 0 is out of range: it must be from 1 to 1024"),
        ("--threads 1025", "argument --threads: 1025 is out of range"),
        ("--conv fft", "argument --conv: invalid choice: 'fft' (choose from 'auto', 'direct', "),
        ("--no-fusion=yes", "argument --fusion/--no-fusion: ignored explicit argument 'yes'"),
        ("--save-every 0", "argument --save-every: 0 is out of range"),
        ("--sample-every 0", "argument --sample-every: 0 is out of range"),
        ("--out a --resume b", "argument --resume: not allowed with argument --out"),
        ("--colour RGB", "unrecognized arguments: --colour RGB"),
        ("cats", "unrecognized arguments: cats"),
        ("--epochs", "argument --epochs: expected one argument"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_may_be(arguments, said):
    """The error is bad input like any other: one line, which names the option, what it got and what it takes."""
    with pytest.raises(UserError) as error:
        options.parse(arguments.split())
    assert said in str(error.value)
    assert str(error.value).endswith("(--help lists the options)")
    assert "\n" not in str(error.value)


def test_options_that_exclude_each_other():
    """--verify-resume makes runs, --dry-run none: one line says so."""
    with pytest.raises(UserError, match=r"--verify-resume with --dry-run: .*: leave one of them out"):
        options.parse(["--verify-resume", "--dry-run"])


def test_help_shows_every_option_and_what_the_presets_make_of_it(capsys, monkeypatch):
    """`--help` fits a terminal of 80 columns; its last table is made from PRESETS."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        options.parse(["--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    about, table = (
        lines[: lines.index("defaults of the presets:")],
        lines[lines.index("defaults of the presets:") + 1 :],
    )
    assert max(map(len, lines)) <= 80
    for setting in dataclasses.fields(options.Settings):
        assert any(line.strip().startswith("--" + setting.name.replace("_", "-")) for line in about), setting.name
    assert table[0].split() == list(PRESETS)
    assert ["--lr-d", *(str(preset.lr_d) for preset in PRESETS.values())] in [line.split() for line in table]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "16", "--data", ""], "--data: is empty: fill it, or leave it out"),
        (["--data=", "--size", "16"], "--data: is empty: fill it, or leave it out"),
        (["--quiet", ""], "--quiet: is empty: fill it, or leave it out"),
        ([""], "an argument: is empty: fill it, or leave it out"),
    ],
)
def test_nothing_is_no_path(arguments, said):
    """A shell's variable that is not set does not stand for the folder where the command is typed."""
    with pytest.raises(UserError) as refused:
        options.parse(arguments)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "arguments",
    [
        "--preset article128 --seed 18446744073709551615",
        "--data c --minutes 0.1",
        "--conv direct --no-fusion",
        "--fusion",
    ],
)
def test_settings_survive_being_kept(arguments):
    """What config.json holds is checked as the command line is, and gives the same settings back, to the last bit."""
    settings = new(*arguments.split(), "--lr-g", "0.00012345678901234567", "--slope", "0.1")
    assert options.kept_settings(dataclasses.asdict(settings)) == settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 48}, "--size: invalid choice: 48"),
        ({"size": None, "lr_g": None}, "settings that are null: size, lr_g"),
        ({"save_every": None, "data": None}, None),  # these may be
        ({"lr_g": "fast"}, "--lr-g: 'fast' is not a number"),
        ({"epochs": [3]}, "--epochs: '[3]' is not a whole number"),
        ({"conv": "fft"}, "--conv: invalid choice: 'fft'"),
        ({"fusion": "no"}, "--fusion/--no-fusion: ignored explicit argument 'no'"),
        ({"fusion": None}, "settings that are null: fusion"),
        ({"seed": True}, "--seed: expected one argument"),
        ({"colour": "red"}, "missing or unknown: colour"),
    ],
)
def test_kept_settings_are_checked(change, said):
    """A config.json that was edited is not believed."""
    kept = {**dataclasses.asdict(new()), **change}
    if said is None:
        assert options.kept_settings(kept) == new()
        return
    with pytest.raises(UserError, match=said.replace("[", r"\[")):
        options.kept_settings(kept)
    del kept["seed"]
    with pytest.raises(UserError, match="seed"):
        options.kept_settings(kept)


def test_settings_that_an_early_run_did_not_know():
    """A config.json from before --conv, --precision, --fusion is whole: it gets what holds where nothing was said."""
    kept = dataclasses.asdict(new("--conv", "direct", "--precision", "fp32", "--no-fusion"))
    del kept["conv"], kept["precision"], kept["fusion"]
    assert options.kept_settings(kept) == new()


def test_a_resumed_run_changes_what_may_change():
    """How long, where, how often and how it computes may change; repeating what the run has is no contradiction."""
    earlier = new("--data", "cats", "--epochs", "3")
    repeated = ["--preset", "radford64", "--seed", "0"]
    given = options.parse(["--resume", "r", "--data", "dogs", "--epochs", "5", "--save-every", "1", *repeated])
    assert options.resumed_settings(given, earlier) == dataclasses.replace(earlier, data="dogs", epochs=5, save_every=1)
    given = options.parse(["--resume", "r", "--conv", "direct", "--no-fusion", "--threads", "3", "--device", "cpu"])
    changed = dataclasses.replace(earlier, conv="direct", fusion=False, device="cpu")
    assert options.resumed_settings(given, earlier) == changed
    given = options.parse(["--resume", "r", "--precision", "bf16"])
    assert options.resumed_settings(given, earlier) == dataclasses.replace(earlier, precision="bf16")
    given = options.parse(["--resume", "r", "--fusion"])
    assert options.resumed_settings(given, changed) == dataclasses.replace(changed, fusion=True)
    given = options.parse(["--resume", "r", "--minutes", "5"])
    assert options.resumed_settings(given, earlier) == dataclasses.replace(earlier, minutes=5.0, epochs=None)
    assert options.resumed_settings(options.parse(["--resume", "r"]), earlier) == earlier


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--preset tiny32", "--preset tiny32: the run began with radford64"),
        ("--size 32", "--size 32: the run began with 64"),
        ("--batch-size 32", "--batch-size 32: the run began with 64"),
        ("--lr-d 1", "--lr-d 1.0: the run began with 0.0002"),
        ("--seed 1", "--seed 1: the run began with 0"),
        ("--slope 0", "--slope 0.0: the run began with 0.2"),
    ],
)
def test_a_resumed_run_does_not_become_another_one(arguments, said):
    """An option that contradicts the run is refused, by name, with what the run has."""
    with pytest.raises(UserError) as error:
        options.resumed_settings(options.parse(["--resume", "r", *arguments.split()]), new("--data", "cats"))
    assert str(error.value) == f"{said}: leave it out, or begin a new run"
