"""Looking at pictures before training: what is counted, what is rejected, and that the batch shown is the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refused
from picture_files import encoded, noise, some_pictures, write, zipped
from PIL import Image

import kernels
from minigan import cache, data, decoding, inspect, options, sources
from minigan.batches import Batches
from minigan.models import PRESETS
from minigan.pictures import grid, to_uint8
from minigan.words import printable


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Where the commands of a test run, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(capsys, *arguments) -> list[str]:
    """The lines that the command prints."""
    inspect.inspect(list(map(str, arguments)))
    return capsys.readouterr().out.splitlines()


def denied(*_) -> None:
    raise PermissionError(13, "Permission denied")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_picture_is_the_first_batch_of_a_training(here, capsys):
    """Cropped, scaled, shuffled, mirrored and with the values that `Batches` gives D at step 0."""
    files = {f"{i:02d}.png": encoded(noise(20, 24 + i % 5, seed=i)) for i in range(70)} | {"33.jpg": b"broken"}
    source = zipped(here / "cats.zip", files)
    settings = options.new_settings(options.parse(["--data", str(source), "--size", "16"]))
    images = data.load(source, 16).images
    batch = Batches(images, settings, kernels.device("reference")).batch(0).numpy()

    lines = report(capsys, source, "--size", 16, "--out", "seen.png")
    sheet = pixels(here / "seen.png")
    assert (sheet == np.asarray(grid(to_uint8(batch), scale=4))).all()
    assert (batch != batch[:, :, ::-1]).any()
    assert lines[-2] == (
        f"values    {batch.min():.3f} to {batch.max():.3f} in the batch below, mean {batch.mean():.3f}"
    )
    assert "64 pictures" in lines[-1]
    assert {preset.batch_size for preset in PRESETS.values()} == {inspect.BATCH}


def test_everything_is_counted_once(here, capsys):
    """Formats, modes, the smallest, median and largest size, what is small, ignored, rejected, and what comes twice."""
    same = noise(24, 32)
    files = {
        "a.png": encoded(same),
        "b/same.bmp": encoded(same, "BMP"),
        "b/same.webp": encoded(same, "WEBP", lossless=True),
        "c.gif": encoded(noise(10, 20).convert("L"), "GIF"),
        "d.jpg": encoded(noise(40, 90), "JPEG"),
        "notes.txt": b"",
    }
    lines = report(capsys, write(here / "cats", files), "--size", 16)
    assert lines[:-2] == [
        "pictures  5 from " + str(here / "cats") + ": PNG (1), BMP (1), WEBP (1), GIF (1), JPEG (1)",
        "sizes     20x10 smallest, 32x24 median, 90x40 largest, by their shorter side",
        "modes     RGB (4), P (1)",
        "small     1 under 16 pixels on a side, which will be enlarged",
        "ignored   1 file: .txt (1)",
        "twice     2 equal an earlier one, pixel for pixel at 16x16 RGB",
        "          b/same.bmp = a.png",
        "          b/same.webp = a.png",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_median_is_the_middle_one(here, capsys, count):
    """Of sides 1 .. n it is the lower middle, however many pictures share a size."""
    files = {f"{side}{copy}.png": encoded(noise(side, side, copy)) for side in range(1, count + 1) for copy in range(2)}
    middle = (count + 1) // 2
    lines = report(capsys, write(here / "cats", files))
    assert lines[1].startswith(f"sizes     1x1 smallest, {middle}x{middle} median, {count}x{count} largest")


def test_rejections_are_the_loader_s(here, capsys, monkeypatch):
    """The same files for the same reasons as a training skips; of a long list the first ones and how many more."""
    monkeypatch.setattr(sources, "LARGEST_FILE", 2**16)
    bad = {
        "cut.jpg": encoded(noise(64, 64), "JPEG")[:500],
        "empty.png": b"",
        "huge.bmp": encoded(noise(200, 200), "BMP"),
        "line\nbreak.png": b"?",
        "page.jpg": b"<html>",
    }
    source = write(here / "cats", some_pictures(3) | bad)
    skipped = data.load(source, 16).skipped
    assert [name for name, _ in skipped] == sorted(bad)
    lines = report(capsys, source, "--size", 16)
    start = lines.index("rejected  5, which a training skips") + 1
    assert lines[start : start + 5] == [f"          {printable(name)}: {reason}" for name, reason in skipped]

    monkeypatch.setattr(inspect, "SHOWN", 2)
    lines = report(capsys, source, "--size", 16)
    assert lines[start + 1 : start + 3] == ["          empty.png: " + skipped[1][1], "          and 3 more"]


def test_nothing_but_the_picture_is_written(here, capsys):
    """No cache, no half-written file, and the source as it was."""
    source = write(here / "cats", some_pictures(3))
    report(capsys, source)
    assert sorted(path.name for path in here.rglob("*")) == ["0.png", "1.png", "2.png", "cats", "inspect.png"]


def test_memory_does_not_grow_with_the_pictures(here, monkeypatch):
    """What a survey keeps of a picture is its name, a digest and counts: no more than WINDOW tasks hold its pixels."""
    monkeypatch.setattr(decoding, "TASK", 1)
    monkeypatch.setattr(decoding, "WINDOW", 2)
    done, ahead = [], []
    decode = decoding.decode

    def counting(content, size, mode):
        done.append(None)
        return decode(content, size, mode)

    def progress(results, **_):
        for i, result in enumerate(results):
            ahead.append(len(done) - i)
            yield result

    monkeypatch.setattr(inspect, "decode", counting)
    opened = sources.open_source(write(here / "cats", some_pictures(20)))
    found = inspect.survey(opened, sources.contents(opened), 16, "RGB", progress)
    assert found.count == 20
    assert max(ahead) <= 2
    assert not any(isinstance(part, np.ndarray) for kept in vars(found).values() for part in kept)


def test_the_cache_is_verified_in_full(here, capsys, monkeypatch):
    """With --verify every byte is read, sampled or not at a start; a damaged set is removed, and decoded anew."""
    monkeypatch.setattr(cache, "CHECKED", 0)
    source = write(here / "cats", some_pictures(3))

    def said() -> str:
        return next(line for line in report(capsys, source, "--size", 16, "--verify") if line.startswith("cache"))

    assert said() == "cache     none yet at 16x16 RGB: the first training makes it"
    want = data.load(source, 16).images.copy()
    assert said() == "cache     whole: 3 pictures, 0 MiB, all as they were written"
    (path,) = (here / "cache").rglob("*.npy")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert (data.load(source, 16).images != want).any()  # no block was checked
    assert said().startswith("cache     damaged (its pixels are not what was written) and removed: the next training")
    assert (data.load(source, 16).images == want).all()


LONG = 300 * "x"
REFUSALS = {
    "no source": (["nowhere"], "nowhere: no such folder or .zip"),
    "no picture": (["texts"], "texts: no pictures in 1 file: .txt (1)"),
    "none readable": (["bad"], "bad: none of 1 picture can be read; the first, a.png: no BMP, GIF, JPEG, PNG or WEBP"),
    "size": (["cats", "--size", "65"], "--size: invalid choice"),
    "suffix": (["cats", "--out", "seen.jpg"], "--out seen.jpg: the picture is written as PNG"),
    "folder": (["cats", "--out", "no/seen.png"], "--out no/seen.png: there is no folder no"),
    "no name": (["cats", "--out", ".png"], "--out .png: the picture is written as PNG: give a name like inspect.png"),
    "taken": (["cats", "--out", "dir.png"], "--out dir.png: cannot be written (Is a directory)"),
    "long": (["cats", "--out", LONG + ".png"], f"--out {LONG}.png: cannot be written (File name too long): give"),
    "long folder": (["cats", "--out", LONG + "/x.png"], "x.png: cannot be written (File name too long): give another"),
    "long source": ([LONG], f"{LONG}: cannot be opened (File name too long): check the path"),
    "inside": (["cats", "--out", "cats/seen.png"], "cats/seen.png: lies in cats, and would be taken for its pictures"),
    "default inside": (["."], "inspect.png: lies in ., and would be taken for its pictures: give --out a place"),
}


def test_a_place_that_cannot_be_written_is_refused_first(here, capsys, monkeypatch):
    """Before the pictures are read, which may take long."""
    source = write(here / "cats", some_pictures())
    monkeypatch.setattr(inspect, "survey", None)
    monkeypatch.setattr(inspect, "try_place", denied)
    line = refused(capsys, inspect.inspect, source, "--out", "seen.png")
    assert "--out seen.png: cannot be written (Permission denied): give another place" in line


def test_a_locked_folder_is_named(here, capsys, monkeypatch):
    """What may not be looked at is no missing folder."""
    write(here, {"cats/0.png": b"", "locked/0.png": b""})
    stat = Path.stat

    def guarded(path, **how):  # permissions do not stop a superuser, who may well be running this
        return denied() if "locked" in path.parts[:1] else stat(path, **how)

    monkeypatch.setattr(Path, "stat", guarded)
    line = refused(capsys, inspect.inspect, "locked/cats")
    assert "locked/cats: cannot be opened (Permission denied): check the path, and its permissions" in line
    line = refused(capsys, inspect.inspect, "cats", "--out", "locked/below/seen.png")
    assert "--out locked/below/seen.png: cannot be written (Permission denied): give another place" in line


def test_one_picture_is_not_called_several(here, capsys):
    """Of one there is no plural."""
    data.load(source := write(here / "cats", some_pictures(1)), 16)
    text = "\n".join(report(capsys, source, "--size", 16, "--verify"))
    assert "whole: 1 picture, " in text
    assert "inspect.png: 1 picture as " in text


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_gets_one_line(here, capsys, case):
    """It says what is wrong and where; no file is left behind."""
    write(here, {"cats/0.png": encoded(noise(8, 8)), "texts/a.txt": b"", "bad/a.png": b"?", "dir.png/x": b""})
    before = sorted(here.rglob("*"))
    arguments, message = REFUSALS[case]
    assert message in refused(capsys, inspect.inspect, *arguments)
    assert sorted(here.rglob("*")) == before


def test_a_source_that_changes_meanwhile_is_refused(here):
    """A picture that was there for the survey and is gone for the batch is an error of one line."""
    source = write(here / "cats", some_pictures(3))
    opened = sources.open_source(source)
    found = inspect.survey(opened, sources.contents(opened), 16, "RGB")
    for change in (lambda path: path.write_bytes(b"?"), Path.unlink):
        change(source / "1.png")
        with pytest.raises(inspect.UserError, match="cats: changed while it was read"):
            inspect.first_batch(opened, found, 16, "RGB")


def test_the_standard_library_keeps_its_own_inspect():
    """Inside the package, and as a command, `import inspect` means Python's; minigan's has to be asked for by name."""
    code = "import inspect, minigan.inspect, minigan.autograd as a; print(a.inspect is inspect is not minigan.inspect)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
