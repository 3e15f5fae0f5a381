"""Drawing with a trained generator: which pictures come, that each is its own, how they move, and where they go."""

from __future__ import annotations

import errno
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import refused
from PIL import Image

import kernels
from kernels.threads import thread_count, use_threads
from minigan import generate, train
from minigan.autograd import Tensor, no_grad
from minigan.latent import loop, of_seed, truncate
from minigan.models import PRESETS
from minigan.pictures import to_uint8
from minigan.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A short run on eight of the drawn faces, in grey: samples of steps 0 to 4, checkpoints of 2 and 4."""
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "FACES", 8)
        small = "--size 16 --batch-size 4 --z-dim 6 --mode L --preset tiny32 --device cpu --epochs 2"
        small += " --lr-g 0.05"  # so that pictures differ by far more than rounding
        train.train([*small.split(), "--save-every", "1", "--sample-every", "1", "--out", str(path)])
    return Run.open(path)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Where the commands of a test run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys, *arguments) -> str:
    return refused(capsys, generate.generate, *arguments)


def z_of(seed: int, count: int) -> np.ndarray:
    return of_seed(PRESETS["tiny32"], 6, seed, count)


def drawn(run: Run, seed: int, count: int) -> np.ndarray:
    return generate.draw(run, z_of(seed, count), "cpu")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_picture_depends_on_its_seed_and_number_alone(run, monkeypatch):
    """Picture i is the same for every count and beside any neighbours: batch norm is in inference mode.

    And to the bit: every batch is of one size, for a BLAS sums the products of one row in another order than of many.
    """
    sizes = set()

    def noting(batch, device):
        sizes.add(len(batch))
        return Tensor(batch, device)

    monkeypatch.setattr(generate, "Tensor", noting)
    many = drawn(run, 3, 40)
    assert many.shape == (40, 16, 16, 1)
    assert many.dtype == np.uint8
    for count in (1, 2, 17, 39):
        assert (drawn(run, 3, count) == many[:count]).all()
    assert len({picture.tobytes() for picture in many}) == 40
    assert many.std(axis=0).mean() > 10  # else pictures could be taken for one another
    other = drawn(run, 4, 40)
    assert not {picture.tobytes() for picture in many} & {picture.tobytes() for picture in other}
    assert sizes == {generate.BATCH}


def same(images: np.ndarray, others: np.ndarray) -> None:
    """Equal but for sums in another order: where a value lies at a half, rounding may then go either way."""
    assert images.shape == others.shape
    assert np.abs(images.astype(int) - others.astype(int)).max() <= 1


def test_the_generator_draws_each_z_alone_as_in_company(run):
    """The law behind it, on `reference`: G of a batch is G of its rows, with the running statistics of the run."""
    reference = kernels.device("reference")
    game = train.Game(run.settings, reference)
    game.load(run.newest_checkpoint())
    game.generator.train(False)
    z = z_of(3, 16)
    with no_grad():
        together = game.generator(Tensor(z, reference)).numpy()
        alone = np.concatenate([game.generator(Tensor(z[i : i + 1], reference)).numpy() for i in range(16)])
    # the same sums, of at most 4*4*64 terms a layer, perhaps in another order
    np.testing.assert_allclose(alone, together, rtol=0, atol=4 * 1024 * np.finfo(np.float32).eps)
    same(drawn(run, 3, 16), to_uint8(together))


def test_a_grid_is_not_stretched(run, capsys, here):
    """--count pictures, row by row on white, two pixels apart, each pixel one pixel."""
    generate.generate([str(run.folder), "--count", "10", "--seed", "3", "--out", "sheet.png", "--device", "cpu"])
    assert capsys.readouterr().out == "10 pictures: sheet.png\n"
    sheet = pixels(here / "sheet.png")
    assert sheet.shape == (3 * 18 + 2, 4 * 18 + 2)
    for i, picture in enumerate(drawn(run, 3, 10)[..., 0]):
        y, x = 2 + i // 4 * 18, 2 + i % 4 * 18
        assert (sheet[y : y + 16, x : x + 16] == picture).all()
    assert (sheet[-18:, -36:] == 255).all()  # ten do not fill three rows of four


def test_each_picture_gets_a_file(run, capsys, here):
    """--each writes picture i to its number, and no grid unless --out asks for one."""
    generate.generate([str(run.folder), "--count", "3", "--each", "a/b", "--device", "cpu"])
    assert capsys.readouterr().out == "3 pictures: a/b/00000.png and so on\n"
    assert sorted(p.name for p in here.rglob("*.png")) == ["00000.png", "00001.png", "00002.png"]
    for i, picture in enumerate(drawn(run, 0, 3)):
        assert (pixels(here / f"a/b/{i:05d}.png") == picture[..., 0]).all()
    generate.generate([str(run.folder), "--count", "2", "--each", "c", "--out", "d.png", "--device", "cpu"])
    assert (here / "c/00001.png").exists()
    assert (here / "d.png").exists()


def test_a_grid_has_the_rows_and_columns_asked_for(run, capsys, here):
    """--grid 2x5 draws ten, five in a row; beside --each it is drawn as well."""
    generate.generate([str(run.folder), "--grid", "2x5", "--each", "ten", "--device", "cpu"])
    assert capsys.readouterr().out == "10 pictures: cats.png\n10 pictures: ten/00000.png and so on\n"
    sheet = pixels(here / "cats.png")
    assert sheet.shape == (2 * 18 + 2, 5 * 18 + 2)
    assert (sheet[20:36, 74:90] == pixels(here / "ten/00009.png")).all()


def test_a_seeds_picture_is_the_same_alone_and_among_others(run, capsys, here):
    """--seeds draws the first picture of each, whichever the others are, and its file has the seed's number."""
    generate.generate([str(run.folder), "--seeds", "123456,3-20", "--each", "many", "--device", "cpu"])
    assert capsys.readouterr().out == "19 pictures: many/123456.png and so on\n"
    assert sorted(p.stem for p in (here / "many").iterdir()) == sorted(["123456", *(f"{i:05d}" for i in range(3, 21))])
    for seed in (3, 17, 20, 123456):
        generate.generate([str(run.folder), "--seeds", str(seed), "--each", str(seed), "--device", "cpu"])
        alone = pixels(here / f"{seed}/{seed:05d}.png")
        same(pixels(here / f"many/{seed:05d}.png"), alone)
        same(drawn(run, seed, 5)[0, ..., 0], alone)


def test_truncated_pictures_are_those_of_truncated_z(run, here):
    """--truncation moves z before it is drawn, by a seed and by seeds, and the picture with it."""
    for which in ("--seed", "--seeds"):
        generate.generate([str(run.folder), which, "5", "--truncation", "0.5", "--grid", "1x1", "--device", "cpu"])
        sheet = pixels(here / "cats.png")[2:-2, 2:-2]
        same(sheet, generate.draw(run, truncate(z_of(5, 1), "normal", 0.5), "cpu")[0, ..., 0])
        assert (sheet != drawn(run, 5, 1)[0, ..., 0]).any()


def test_a_checkpoint_is_drawn_by_its_step(run, capsys, here):
    """--checkpoint draws as the generator was then: not as now. A step without one is told those that have one."""
    for step in (2, 4):
        generate.generate([str(run.folder), "--checkpoint", str(step), "--out", f"{step}.png", "--device", "cpu"])
    generate.generate([str(run.folder), "--device", "cpu"])
    assert (pixels(here / "4.png") == pixels(here / "cats.png")).all()
    assert (pixels(here / "2.png") != pixels(here / "4.png")).any()
    assert refusal(capsys, run.folder, "--checkpoint", 3).endswith("holds no checkpoint of step 3: give one of 2, 4\n")


def test_a_run_of_a_gpu_is_drawn_without_one(run, here, monkeypatch):
    """The device is this machine's, not the run's: where there is no GPU, --device auto draws on the CPU."""
    shutil.copytree(run.folder, here / "run")
    about = json.loads((here / "run/config.json").read_text())
    about["device"] = about["settings"]["device"] = "cuda"
    (here / "run/config.json").write_text(json.dumps(about))
    device = kernels.device

    def without_gpu(name, *conv):
        if name == "cuda":
            raise kernels.DeviceError("cuda: needs a GPU (there is none)")
        return device(name, *conv)

    monkeypatch.setattr(kernels, "device", without_gpu)
    generate.generate(["run", "--grid", "1x1"])
    assert (pixels(here / "cats.png")[2:-2, 2:-2] == drawn(run, 0, 1)[0, ..., 0]).all()


def test_a_loop_goes_through_its_pictures(run, capsys, here):
    """--interpolate 3 --frames 4: twelve frames, as slerp leads, and every fourth is a picture of the seed's."""
    loops = "--interpolate 3 --frames 4 --seed 3 --device cpu --each frames"
    generate.generate([str(run.folder), *loops.split()])
    assert capsys.readouterr().out == "12 frames: frames/00000.png and so on\n"
    frames = np.stack([pixels(path) for path in sorted((here / "frames").iterdir())])
    same(frames, generate.draw(run, loop(z_of(3, 3), 4), "cpu")[..., 0])
    same(frames[::4], drawn(run, 3, 3)[..., 0])


@pytest.mark.parametrize(("out", "name"), [([], "cats.webp"), (["--out", "loop.gif"], "loop.gif")])
def test_a_loop_is_played_for_ever(run, capsys, here, monkeypatch, out, name):
    """As an animation: a frame for each z of the way, in the order of the way, without an end."""
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), np.uint8)  # which all differ by much
    monkeypatch.setattr(generate, "draw", lambda run, z, *_: images[: len(z)])
    generate.generate([str(run.folder), "--interpolate", "3", "--frames", "4", *out])
    assert capsys.readouterr().out == f"12 frames: {name}\n"
    assert [path.name for path in here.iterdir()] == [name]
    with Image.open(here / name) as image:
        assert (image.size, image.n_frames, image.info["loop"]) == ((16, 16), 12, 0)
        for i in range(12):
            image.seek(i)
            frame = np.asarray(image.convert("L")).astype(int)
            assert np.abs(frame - images[..., 0]).sum(axis=(1, 2)).argmin() == i


def test_a_loop_through_seeds_of_truncated_z(run, monkeypatch):
    """The way leads through the z of --seeds, truncated, from each to the next in FRAMES steps."""
    ways = []

    def noting(run, z, *_):
        ways.append(z)
        return np.zeros((len(z), 16, 16, 1), np.uint8)

    monkeypatch.setattr(generate, "draw", noting)
    generate.generate([str(run.folder), "--seeds", "9,2", "--interpolate", "2", "--truncation", "1", "--each", "x"])
    (way,) = ways
    ends = truncate(np.concatenate([z_of(9, 1), z_of(2, 1)]), "normal", 1)
    assert len(way) == 2 * generate.FRAMES
    np.testing.assert_allclose(way[:: generate.FRAMES], ends, rtol=4 * np.finfo(np.float32).eps)


def test_a_timelapse_shows_the_samples_in_order(run, capsys, here):
    """--timelapse: every sample of the run, pixel for pixel, by its step; other files in the folder are not shown."""
    shutil.copytree(run.folder, here / "run")
    samples = here / "run/samples"
    (samples / "000003.png").rename(samples / "1000000.png")  # is now the last, though not by its letters
    (samples / "000004.png").rename(samples / "999999.png")
    (samples / "best.png").write_bytes((samples / "000001.png").read_bytes())
    generate.generate(["run", "--timelapse", "--out", "learning.gif"])
    assert capsys.readouterr().out == "5 frames: learning.gif\n"
    with Image.open(here / "learning.gif") as image:
        assert image.info["loop"] == 0
        assert image.n_frames == 5
        for i, name in enumerate(("000000", "000001", "000002", "999999", "1000000")):
            image.seek(i)
            assert (np.asarray(image.convert("L")) == pixels(samples / f"{name}.png")).all()
    (samples / "000001.png").write_bytes(b"no picture")
    assert f"{Path('run/samples/000001.png')}: cannot be read (" in refusal(capsys, "run", "--timelapse")
    shutil.rmtree(samples)
    assert "run: holds no samples yet: train it first" in refusal(capsys, "run", "--timelapse")


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
        ((run.folder, "--out", "cats.webp"), "give a name that ends in .png"),
        (
            (run.folder, "--timelapse", "--out", "cats.png"),
            "--out cats.png: animations are written as WebP or GIF: give a name that ends in .webp or .gif",
        ),
        ((run.folder, "--interpolate", 2, "--out", "file/x.gif"), "file/x.gif: cannot be written (Not a directory)"),
        ((run.folder, "--seeds", "3-1"), "--seeds: 3-1 is out of range: give the lower one first, and at most 100,000"),
        ((run.folder, "--seeds", f"0-{10**18}"), "is out of range: give the lower one first, and at most 100,000"),
        ((run.folder, "--seeds", "1,2-"), "--seeds: '2-' is no seed, as 3, nor a range of them, as 40-42"),
        ((run.folder, "--seeds", "1,0-3"), "--seeds: 1,0-3 names a seed twice: give each one once"),
        ((run.folder, "--grid", "8"), "--grid: '8' is not ROWSxCOLUMNS, as in 4x8"),
        ((run.folder, "--grid", "0x8"), "--grid: 0 is out of range: it must be from 1 to 316"),
        ((run.folder, "--interpolate", 1), "--interpolate: 1 is out of range: it must be from 2 to 1000"),
        ((run.folder, "--truncation", "nan"), "--truncation: nan is out of range: it must be from 0.01 to 100"),
        ((run.folder, "--trunk", 1), "unrecognized arguments: --trunk 1"),
        ((), "the following arguments are required: RUN"),
    ):
        assert said in refusal(capsys, *arguments), said
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--seed 1 --seeds 0", "--seed with --seeds: each says which pictures: leave one of them out"),
        (
            "--grid 1x2 --interpolate 2",
            "--grid with --interpolate: a loop shows one picture at a time: leave one of them",
        ),
        ("--frames 3", "--frames without --interpolate: only a loop has frames: add --interpolate N, or leave it out"),
        (
            "--timelapse --seed 0",
            "--timelapse with --seed: it shows what the run drew as it learned: leave one of them",
        ),
        ("--timelapse --checkpoint 2", "--timelapse with --checkpoint: it shows what the run drew as it learned"),
        ("--timelapse --count 2", "--timelapse with --count: "),
        ("--timelapse --seeds 2", "--timelapse with --seeds: "),
        ("--timelapse --truncation 2", "--timelapse with --truncation: "),
        ("--timelapse --each x", "--timelapse with --each: it is an animation: leave one of them out"),
        ("--timelapse --grid 2x2", "--timelapse with --grid: it is an animation"),
        ("--timelapse --interpolate 2", "--timelapse with --interpolate: it is an animation"),
        ("--timelapse --device cpu", "--timelapse with --device: nothing is computed for it: leave one of them out"),
        ("--timelapse --threads 2", "--timelapse with --threads: "),
        ("--interpolate 101 --frames 1000", "--interpolate 101: a loop of 101,000 frames: let it be 100,000 at most"),
        (
            "--count 3 --seeds 0-3",
            "how many pictures? --count for 3, --seeds for 4: let them agree, or leave one of them out",
        ),
        ("--count 3 --grid 2x2", "how many pictures? --count for 3, --grid for 4"),
        ("--seeds 0-2 --interpolate 2", "how many pictures? --seeds for 3, --interpolate for 2"),
    ],
)
def test_options_that_contradict_each_other_are_refused(run, capsys, here, options, said):
    """In one line that names both and says what to do; nothing is drawn."""
    assert said in refusal(capsys, run.folder, *options.split())
    assert not list(here.iterdir())


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_folder_of_pictures_is_whole_or_not_there(run, capsys, here, monkeypatch, failure):
    """Ctrl-C or a full disk at the third picture leave neither the first two nor the folders above them."""

    def failing(image, path):
        if path.name == "00002.png":
            raise failure
        image.save(path)

    monkeypatch.setattr(generate, "save_png", failing)
    arguments = [str(run.folder), "--count", "4", "--each", "a/b", "--device", "cpu"]
    if isinstance(failure, OSError):
        assert "a/b: cannot be written (No space left on device): free the disk, or " in refusal(capsys, *arguments)
    else:
        with pytest.raises(KeyboardInterrupt):
            generate.generate(arguments)
    assert not list(here.iterdir())


def test_a_run_without_a_whole_checkpoint(run, capsys, here):
    """The newest is cut short: it is named, and what to do; there is none yet: that is said."""
    folder = here / "run"
    (folder / "checkpoints").mkdir(parents=True)
    about = json.loads((run.folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about))
    assert f"{folder}: holds no checkpoint any more: put one back" in refusal(capsys, folder)
    (folder / "config.json").write_text(json.dumps({**about, "outcome": None}))
    assert f"{folder}: holds no checkpoint yet: train it first" in refusal(capsys, folder)
    assert f"{folder}: holds no checkpoint of step 4: train it first" in refusal(capsys, folder, "--checkpoint", 4)
    newest = folder / "checkpoints" / run.checkpoints()[-1].name
    newest.write_bytes(run.checkpoints()[-1].read_bytes()[:-4])
    line = refusal(capsys, folder)
    assert f"{newest}: not a whole checkpoint (" in line
    assert "there is no earlier one: begin a new run" in line


def test_help_lists_the_options(capsys):
    """`--help` is there, and exits with 0."""
    with pytest.raises(SystemExit) as end:
        generate.generate(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    options = "RUN --count --seed --seeds --truncation --interpolate --frames --timelapse --checkpoint"
    for option in (*options.split(), "--out", "--grid", "--each", "--device", "--threads"):
        assert option in said
