"""Drawing with a trained generator: which pictures come, that each is its own, and where they are written."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import refused
from PIL import Image

import kernels
from kernels.threads import thread_count, use_threads
from minigan import generate, models, train
from minigan.autograd import Tensor, no_grad
from minigan.pictures import to_uint8
from minigan.random import Random
from minigan.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A short run on eight of the drawn faces, in grey."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "FACES", 8)
        small = "--size 16 --batch-size 4 --z-dim 6 --mode L --preset tiny32 --device cpu --epochs 2"
        train.train([*small.split(), "--out", str(path)])
    return Run.open(path)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Where the commands of a test run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys, *arguments) -> str:
    return refused(capsys, generate.generate, *arguments)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_picture_depends_on_its_seed_and_number_alone(run, monkeypatch):
    """Picture i is the same for every count and beside any neighbours: batch norm is in inference mode.

    And to the bit: every batch is of one size, for a BLAS sums the products of one row in another order than of many.
    """
    sizes = set()

    def noting(preset, random, count, z_dim):
        sizes.add(count)
        return models.sample_z(preset, random, count, z_dim)

    monkeypatch.setattr(generate, "sample_z", noting)
    many = generate.draw(run, 40, 3, "cpu")
    assert many.shape == (40, 16, 16, 1)
    assert many.dtype == np.uint8
    for count in (1, 2, 17, 39):
        assert (generate.draw(run, count, 3, "cpu") == many[:count]).all()
    assert len({picture.tobytes() for picture in many}) == 40
    other = generate.draw(run, 40, 4, "cpu")
    assert not {picture.tobytes() for picture in many} & {picture.tobytes() for picture in other}
    assert sizes == {generate.BATCH}


def test_the_generator_draws_each_z_alone_as_in_company(run):
    """The law behind it, on `reference`: G of a batch is G of its rows, with the running statistics of the run."""
    reference = kernels.device("reference")
    game = train.Game(run.settings, reference)
    game.load(run.newest_checkpoint())
    game.generator.train(False)
    z = models.sample_z(models.PRESETS["tiny32"], Random(3, "generate", reference), 16, 6).numpy()
    with no_grad():
        together = game.generator(Tensor(z, reference)).numpy()
        alone = np.concatenate([game.generator(Tensor(z[i : i + 1], reference)).numpy() for i in range(16)])
    # the same sums, of at most 4*4*64 terms a layer, perhaps in another order
    np.testing.assert_allclose(alone, together, rtol=0, atol=4 * 1024 * np.finfo(np.float32).eps)
    drawn = generate.draw(run, 16, 3, "cpu").astype(int)
    assert np.abs(drawn - to_uint8(together).astype(int)).max() <= 1  # at a half, rounding may go either way


def test_a_grid_is_not_stretched(run, capsys, here):
    """--count pictures, row by row on white, two pixels apart, each pixel one pixel."""
    generate.generate([str(run.folder), "--count", "10", "--seed", "3", "--out", "sheet.png", "--device", "cpu"])
    assert capsys.readouterr().out == "10 pictures: sheet.png\n"
    sheet, drawn = pixels(here / "sheet.png"), generate.draw(run, 10, 3, "cpu")[..., 0]
    assert sheet.shape == (3 * 18 + 2, 4 * 18 + 2)
    for i, picture in enumerate(drawn):
        y, x = 2 + i // 4 * 18, 2 + i % 4 * 18
        assert (sheet[y : y + 16, x : x + 16] == picture).all()
    assert (sheet[-18:, -36:] == 255).all()  # ten do not fill three rows of four


def test_each_picture_gets_a_file(run, capsys, here):
    """--each writes picture i to its number, and no grid unless --out asks for one."""
    generate.generate([str(run.folder), "--count", "3", "--each", "a/b", "--device", "cpu"])
    assert capsys.readouterr().out == "3 pictures: a/b/00000.png and so on\n"
    assert sorted(p.name for p in here.rglob("*.png")) == ["00000.png", "00001.png", "00002.png"]
    for i, picture in enumerate(generate.draw(run, 3, 0, "cpu")):
        assert (pixels(here / f"a/b/{i:05d}.png") == picture[..., 0]).all()
    generate.generate([str(run.folder), "--count", "2", "--each", "c", "--out", "d.png", "--device", "cpu"])
    assert (here / "c/00001.png").exists()
    assert (here / "d.png").exists()


def test_threads_are_as_asked(run, request):
    """--threads is how many the CPU's kernels have."""
    request.addfinalizer(partial(use_threads, thread_count()))
    generate.generate([str(run.folder), "--count", "1", "--device", "cpu", "--threads", "3"])
    assert thread_count() == 3


def test_without_options_it_draws_64(run, here):
    """A grid of eight by eight, in cats.png."""
    generate.generate([str(run.folder), "--device", "cpu"])
    assert pixels(here / "cats.png").shape == (8 * 18 + 2, 8 * 18 + 2)


def test_what_cannot_be_drawn_is_refused_in_one_line(run, capsys, here):
    """No run, no whole checkpoint, a count or a name that is none, a place that cannot be written: nothing appears."""
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "full/mine").write_text("mine")
    before = sorted(here.rglob("*"))
    for arguments, said in (
        (("missing",), "missing: no run's folder (config.json: No such file or directory): check the path"),
        ((here / "file",), "no run's folder (config.json: Not a directory)"),
        ((run.folder, "--count", 0), "--count: 0 is out of range: it must be from 1 to 100000"),
        ((run.folder, "--count", "many"), "--count: 'many' is not a whole number"),
        ((run.folder, "--seed", -1), "--seed: -1 is out of range"),
        (
            (run.folder, "--out", "cats.jpg"),
            "--out cats.jpg: pictures are written as PNG: give a name that ends in .png",
        ),
        ((run.folder, "--out", "nowhere/cats.png"), "nowhere/cats.png: cannot be written (No such file or directory)"),
        ((run.folder, "--out", "file/cats.png"), "file/cats.png: cannot be written (Not a directory)"),
        ((run.folder, "--each", "full"), "full: holds files already: give a new or an empty folder"),
        ((run.folder, "--each", "file"), "file: cannot be a folder for results (Not a directory)"),
        ((run.folder, "--truncation", 1), "unrecognized arguments: --truncation 1"),
        ((), "the following arguments are required: RUN"),
    ):
        assert said in refusal(capsys, *arguments), said
    assert sorted(here.rglob("*")) == before


def test_a_run_without_a_whole_checkpoint(run, capsys, here):
    """The newest is cut short: it is named, and what to do; there is none yet: that is said."""
    folder = here / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_bytes((run.folder / "config.json").read_bytes())
    assert f"{folder}: holds no checkpoint yet: train it first" in refusal(capsys, folder)
    newest = folder / "checkpoints" / run.newest_checkpoint().name
    newest.write_bytes(run.newest_checkpoint().read_bytes()[:-4])
    line = refusal(capsys, folder)
    assert f"{newest}: not a whole checkpoint (" in line
    assert "there is no earlier one: begin a new run" in line


def test_help_lists_the_options(capsys):
    """`--help` is there, and exits with 0."""
    with pytest.raises(SystemExit) as end:
        generate.generate(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("RUN", "--count", "--seed", "--out", "--each", "--device"))
