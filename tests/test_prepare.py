"""Preparing pictures: where a face's eyes land, that training sees the same pixels, and that a run can be stopped."""

from __future__ import annotations

import cmath
import errno
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import refused
from picture_files import encoded, noise, some_pictures, write, zipped
from PIL import Image

from minigan import data, decoding, prepare
from minigan.landmarks import cut_face, read_landmarks


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """Where the commands of a test run, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments) -> None:
    prepare.prepare(list(map(str, arguments)))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def written(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---- where a face lands ----

FACE = [-30, 30, 45j, -70 + 10j, -60 - 60j, -25 - 40j, 25 - 40j, 60 - 60j, 70 + 20j]  # x + iy around the eyes' middle


def turned_face(degrees: float, size: float, middle: complex) -> np.ndarray:
    """Its nine points, (9, 2), on whole pixels; degrees: clockwise as seen, for y runs downwards."""
    points = np.array(FACE) * size * cmath.exp(1j * math.radians(degrees)) + middle
    return np.rint(np.stack([points.real, points.imag], axis=1))


def dots(points: np.ndarray, height: int = 260, width: int = 300) -> Image.Image:
    """A soft dot, 2 pixels wide, on each eye and the mouth: in red, green and blue, on black."""
    y, x = np.mgrid[:height, :width]
    squares = [(x - px) ** 2 + (y - py) ** 2 for px, py in points[:3]]
    return Image.fromarray(np.rint(255 * np.exp(-np.stack(squares, axis=-1) / 8)).astype(np.uint8))


def centres(image: np.ndarray) -> list[complex]:
    """Where the dot of each channel is: the mean of its pixels' places, weighted by their values."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    weights = image.astype(float) * (image != 128).any(axis=-1, keepdims=True)  # without what is filled with grey
    return [complex((x * w).sum(), (y * w).sum()) / w.sum() for w in np.moveaxis(weights, -1, 0)]


def annotation(points: np.ndarray) -> bytes:
    """As the CAT data set writes it."""
    return b"9 " + b" ".join(b"%d" % value for value in points.reshape(-1))


@pytest.mark.parametrize("degrees", [0, 13, -40, 90, 180])
@pytest.mark.parametrize("size", [0.5, 1])
def test_the_eyes_land_where_they_should(degrees, size):
    """Level, around (0.5, 0.4) of a square as wide as the ears' bases are apart, to a tenth of a pixel; mouth below.

    The law in complex numbers: turned back by the eyes' direction, a point lies where it is seen from their middle.
    The dots are symmetric, so what is left is the rounding of their pixels, and bicubic interpolation's.
    """
    points = turned_face(degrees, size, 150 + 130j)
    z = points[:, 0] + 1j * points[:, 1]
    seen = (z - (z[0] + z[1]) / 2) / cmath.exp(1j * cmath.phase(z[1] - z[0]))
    width = (seen[8] - seen[3]).real
    face = cut_face(dots(points), read_landmarks(annotation(points)))
    assert face.size == (round(width), round(width))
    scale = face.width / width
    for found, point in zip(centres(np.asarray(face)), seen[:3], strict=True):
        assert abs(found - (face.width * (0.5 + 0.4j) + scale * point - (0.5 + 0.5j))) < 0.1
    left, right, mouth = centres(np.asarray(face))
    assert abs(left.imag - right.imag) < 0.2
    assert left.real < right.real
    assert mouth.imag > left.imag + 20 * size


@pytest.mark.parametrize("degrees", [0, 45, 120, -100])
def test_mislabelled_eyes_are_swapped(degrees):
    """Whichever eye is called the left one, the same picture comes: the mouth tells, at any turn of the head."""
    points = turned_face(degrees, 1, 150 + 130j)
    image = dots(points)
    swapped = points[[1, 0, *range(2, 9)]]
    assert (np.asarray(cut_face(image, swapped)) == np.asarray(cut_face(image, points))).all()


@pytest.mark.parametrize(("mode", "grey"), [("RGB", (128, 128, 128)), ("L", 128)])
def test_what_lies_outside_the_picture_is_grey(mode, grey):
    """A face in the corner: its square's far corner shows the picture, the near one grey, in colour and in grey."""
    image = Image.new(mode, (300, 260), "white")
    face = cut_face(image, turned_face(10, 1, 20 + 20j))
    assert face.mode == mode
    assert face.getpixel((0, 0)) == grey
    assert np.all(np.asarray(face)[-1, -1] == 255)


BAD_ANNOTATIONS = {
    "empty": (b"", "not the count 9"),
    "words": (b"nine points", "not the count 9"),
    "another count": (b"8 " + b"1 " * 18, "not the count 9"),
    "too short": (b"9 1 2 3", "not the count 9"),
    "too long": (b"9 " + b"1 " * 20, "not the count 9"),
    "not finite": (b"9 " + b"nan " * 18, "not the count 9"),
    "far away": (b"9 " + b"1e300 " * 18, "not the count 9"),
    "one eye": (b"9 50 50 50 50 50 90 10 10 20 5 30 10 60 10 70 5 90 10", "both eyes in one place"),
    "no width": (b"9 40 50 60 50 50 90 10 10 20 5 30 10 60 10 70 5 10 10", "does not fit"),
    "huge": (b"9 40 50 60 50 50 90 0 10 20 5 30 10 60 10 70 5 300 10", "does not fit"),
    "elsewhere": (b"9 400 50 500 50 450 90 410 10 420 5 430 10 460 10 470 5 490 10", "does not fit"),
}


@pytest.mark.parametrize("kind", BAD_ANNOTATIONS)
def test_bad_annotations_are_refused(kind):
    """Whatever the text says, no wrong square is cut out and no picture of its making fills the memory."""
    content, message = BAD_ANNOTATIONS[kind]
    with pytest.raises(ValueError, match=message):
        cut_face(Image.new("RGB", (100, 100)), read_landmarks(content))


def test_a_folder_of_annotated_cats(here):
    """The command: faces scaled to --size, the eyes to a pixel; small, excluded and unannotated ones are dropped."""
    big, small = turned_face(25, 1, 150 + 130j), turned_face(0, 0.3, 150 + 130j)
    files = {
        "CAT_00/big.jpg": encoded(dots(big), "JPEG", quality=95),
        "CAT_00/big.jpg.cat": annotation(big),
        "CAT_00/bad.jpg": encoded(dots(big), "JPEG"),
        "CAT_00/bad.jpg.cat": annotation(big),
        "CAT_01/alone.jpg": encoded(dots(big), "JPEG"),
        "CAT_01/small.jpg": encoded(dots(small), "JPEG"),
        "CAT_01/small.jpg.cat": annotation(small),
        "CAT_01/wrong.jpg": encoded(dots(big), "JPEG"),
        "CAT_01/wrong.jpg.cat": b"9 1 2",
    }
    write(here, {"bad.txt": b"# pictures to leave out\n\nbad.jpg\nCAT_01/gone.jpg\n"})
    source = zipped(here / "cats.zip", files)
    run(source, "faces", "--cat-landmarks", "--size", 64, "--min-size", 64, "--exclude", "bad.txt")
    assert list(written(here / "faces")) == ["CAT_00/big.png"]
    face = pixels(here / "faces/CAT_00/big.png")
    assert face.shape == (64, 64, 3)
    left, right, _ = centres(np.where(face > 60, face, 0))
    half = 64 * 30 / 140
    assert abs(left - complex(32 - half - 0.5, 25.6 - 0.5)) < 1
    assert abs(right - complex(32 + half - 0.5, 25.6 - 0.5)) < 1
    report = (here / "faces.prepared.txt").read_text().splitlines()
    assert "prepared  1 in faces, 1 of them now" in report
    assert "exclude   names of bad.txt that are not in the source: 1" in report
    assert report[-5:] == [
        "dropped: CAT_00/bad.jpg: excluded",
        "dropped: CAT_01/alone.jpg: no annotation (no alone.jpg.cat beside it)",
        "dropped: CAT_01/small.jpg: smaller than 64 pixels (42x42)",
        "dropped: CAT_01/wrong.jpg: its annotation is not the count 9 and as many points",
        "not in the source: CAT_01/gone.jpg",
    ]


# ---- any pictures ----


def any_pictures() -> dict[str, bytes]:
    """Of many formats, modes and shapes; a large JPEG, and one that was taken with the camera on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "a/large.jpg": encoded(noise(700, 500, 1).resize((1500, 1100)), "JPEG"),
        "a/side.jpeg": encoded(noise(30, 50, 2), "JPEG", exif=exif),
        "b.PNG": encoded(noise(40, 41, 3).convert("RGBA")),
        "c.gif": encoded(noise(20, 33, 4), "GIF"),
        "d.bmp": encoded(noise(16, 16, 5), "BMP"),
        "e.webp": encoded(noise(35, 20, 6), "WEBP"),
    }


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_training_sees_the_same_pixels(here, mode):
    """Cropped and scaled beforehand or by the loader, every picture is the same to the bit; there is nothing else."""
    source = write(here / "photos", any_pictures() | {"notes.txt": b"", "bad.jpg": b"?"})
    run(source, "cats", "--size", 32, "--mode", mode)
    direct, prepared = data.load(source, 32, mode), data.load(here / "cats", 32, mode)
    assert (prepared.images == direct.images).all()
    assert prepared.skipped == []
    assert sorted(written(here / "cats")) == ["a/large.png", "a/side.png", "b.png", "c.png", "d.png", "e.png"]


def test_without_a_size_or_a_crop_the_proportions_stay(here):
    """--crop none keeps all of a picture, upright, and --size is its shorter side; without it, no pixel changes."""
    source = write(here / "photos", any_pictures())
    run(source, "whole", "--crop", "none")
    run(source, "scaled", "--crop", "none", "--size", 10)
    run(source, "squares")
    shapes = [
        [pixels(path).shape[:2] for path in sorted((here / folder).rglob("*.png"))]
        for folder in ("whole", "scaled", "squares")
    ]
    assert shapes == [
        [(1100, 1500), (50, 30), (40, 41), (20, 33), (16, 16), (35, 20)],
        [(10, 14), (17, 10), (10, 10), (10, 16), (10, 10), (18, 10)],
        [(1100, 1100), (30, 30), (40, 40), (20, 20), (16, 16), (20, 20)],
    ]
    assert (pixels(here / "whole/d.png") == np.asarray(noise(16, 16, 5))).all()
    assert (pixels(here / "squares/c.png") == pixels(here / "whole/c.png")[:, 6:26]).all()


def test_small_pictures_are_dropped_for_their_shorter_side(here):
    """--min-size N keeps N and drops N - 1, before scaling, and says so; reasons that files share are counted."""
    source = write(here / "photos", {f"{side}.png": encoded(noise(side, 50)) for side in (31, 32, 33, 20)})
    run(source, "cats", "--min-size", 32, "--size", 8)
    assert sorted(written(here / "cats")) == ["32.png", "33.png"]
    assert (here / "cats.prepared.txt").read_text().splitlines() == [
        f"source    {source}: 4 pictures",
        "prepared  2 in cats, 2 of them now",
        "dropped   2: smaller than 32 pixels (2)",
        "dropped: 20.png: smaller than 32 pixels (50x20)",
        "dropped: 31.png: smaller than 32 pixels (50x31)",
    ]


def test_a_line_is_not_blown_up(here):
    """A spacer of a web page, scaled by its shorter side, would fill the memory: it is dropped instead."""
    source = write(
        here / "photos", {"long.gif": encoded(noise(1, 900), "GIF"), "short.gif": encoded(noise(1, 9), "GIF")}
    )
    run(source, "cats", "--crop", "none", "--size", 400)
    assert list(written(here / "cats")) == ["short.png"]
    report = (here / "cats.prepared.txt").read_text()
    assert "dropped: long.gif: too long to be scaled (900x1)\n" in report


def test_no_two_pictures_share_a_name():
    """Names that differ in their suffix, or in their case alone, get a number, in a fixed order."""
    names = ["A.gif", "A.jpg", "a-2.jpg", "a.gif", "b/a.jpg", "x.y.png"]
    made = prepare.targets(names)
    assert list(made) == ["A.png", "A-2.png", "a-2-2.png", "a-3.png", "b/a.png", "x.y.png"]
    assert list(made.values()) == names


def test_an_archive_cannot_write_outside(here):
    """Absolute names are dropped, and those that climb are hidden ones; nothing appears but the folder and report."""
    evil = {str(here / "evil.png"): encoded(noise(8, 8)), "../evil.png": encoded(noise(8, 8))}
    run(zipped(here / "cats.zip", some_pictures(1) | evil), "deep/cats")
    assert sorted(written(here)) == ["cats.zip", "deep/cats.prepared.txt", "deep/cats/0.png"]
    assert "evil.png: its name leads out of the folder" in (here / "deep/cats.prepared.txt").read_text()


# ---- stopped and run again ----


def stopping(after: int):
    """A progress bar at which the user loses patience."""

    def progress(results, **_):
        for i, result in enumerate(results):
            if i == after:
                raise KeyboardInterrupt
            yield result

    return progress


def test_a_second_run_makes_what_is_missing(here, monkeypatch):
    """Stopped in the middle, then run again: what was done is left alone, and all is as if it had never stopped."""
    monkeypatch.setattr(decoding, "TASK", 1)
    source = write(here / "photos", some_pictures(12) | {"bad.png": b"?"})
    recipe = prepare.Recipe(size=8, mode="RGB", crop="centre", min_size=1)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "WINDOW", 2)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare_all(prepare.Source(source), here / "cats", recipe, set(), stopping(after=5))
    early = {path: path.stat().st_mtime_ns for path in (here / "cats").iterdir()}
    assert 5 <= len(early) < 12
    assert all(path.suffix == ".png" for path in early)

    write(here, {"cats/11.png.0123abcd.tmp": b"half of it"})  # as a killed run leaves it
    count, new, dropped = prepare.prepare_all(prepare.Source(source), here / "cats", recipe, set())
    assert (count, new) == (12, 12 - len(early))
    assert dropped == [("bad.png", "no BMP, GIF, JPEG, PNG or WEBP inside")]
    assert {path: path.stat().st_mtime_ns for path in early} == early
    prepare.prepare_all(prepare.Source(source), here / "at once", recipe, set())
    assert written(here / "cats") == written(here / "at once")
    assert prepare.prepare_all(prepare.Source(source), here / "cats", recipe, set())[:2] == (12, 0)


def test_a_killed_process_loses_nothing_that_is_there(here):
    """A real process and a real SIGKILL, more than once: what it leaves is whole, and the last run makes the rest."""
    content = encoded(noise(400, 400))
    source = write(here / "photos", {f"{i:03d}.png": content for i in range(120)})
    command = [sys.executable, "-m", "minigan.prepare", str(source), "cats", "--size", "32"]
    environment = {**os.environ, "PYTHONPATH": str(Path(prepare.__file__).parents[1])}
    done = 0
    while done < 20:
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and len(list((here / "cats").glob("*.png"))) < done + 10:
                time.sleep(0.001)
            process.kill()
        done = len(list((here / "cats").glob("*.png")))
        assert all(pixels(path).shape == (32, 32, 3) for path in (here / "cats").glob("*.png"))
    run(source, "cats", "--size", 32)
    run(source, "at once", "--size", 32)
    assert written(here / "cats") == written(here / "at once")


CHANGES = {
    "size": lambda source: ["--size", "9"],
    "mode": lambda source: ["--mode", "L"],
    "crop": lambda source: ["--crop", "none"],
    "min-size": lambda source: ["--min-size", "2"],
    "landmarks": lambda source: ["--cat-landmarks"],
    "exclude": lambda source: ["--exclude", str(write(source.parent, {"list": b"1.png"}) / "list")],
    "picture": lambda source: os.utime(source / "1.png", ns=(1, 1)) or [],
    "removed": lambda source: (source / "1.png").unlink() or [],
    "foreign": lambda source: write(source.parent, {"cats/1.txt": b"mine"}) and [],
    "replaced": lambda source: write(source.parent, {"cats/1.png": encoded(noise(8, 8))}) and [],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_made_otherwise_is_refused(here, capsys, change):
    """Whatever would make a mixture of two preparations is refused in one line, and every file stays as it was."""
    source = write(here / "photos", some_pictures(3))
    run(source, "cats")
    arguments = CHANGES[change](source)
    before = written(here / "cats")
    line = refused(capsys, prepare.prepare, source, "cats", *arguments)
    assert re.search(r"cats: holds [01]\.(png|txt), which is not what these options make", line)
    assert written(here / "cats") == before


def test_other_landmarks_make_another_picture(here, capsys):
    """The annotation is a part of what a picture depends on."""
    points = turned_face(0, 1, 150 + 130j)
    source = write(here / "photos", {"a.png": encoded(dots(points)), "a.png.cat": annotation(points)})
    run(source, "cats", "--cat-landmarks")
    write(source, {"a.png.cat": annotation(points + 100)})
    assert "cats: holds a.png" in refused(capsys, prepare.prepare, source, "cats", "--cat-landmarks")


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "free the disk, or give another OUT"), (errno.EACCES, "give another OUT")]
)
def test_a_disk_that_refuses_ends_it_and_leaves_nothing_half_written(here, capsys, monkeypatch, number, advice):
    """It is no fault of the picture: an error of one line, no reason to drop it. Only a full disk is to be freed."""

    def refusing(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refusing)
    line = refused(capsys, prepare.prepare, write(here / "photos", some_pictures(3)), "cats")
    assert re.search(rf"cats/.\.png: cannot be written \({os.strerror(number)}\): {advice}\n", line)
    assert written(here / "cats") == {}


def test_no_picture_is_made_where_the_report_cannot_be_written(here, capsys, monkeypatch):
    """It comes last, and without it all the work would end in an error: its place is tried first."""

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(prepare, "try_place", denied)
    line = refused(capsys, prepare.prepare, write(here / "photos", some_pictures(3)), "cats")
    assert "cats.prepared.txt: cannot be written (Permission denied): give another OUT" in line
    assert not (here / "cats").exists()


def test_names_that_are_no_unicode_are_reported(here):
    """A folder of any bytes is prepared; in the report they are escaped, so that it is a text."""
    source = write(here / os.fsdecode(b"caf\xe9"), some_pictures(1))
    run(source, "cats")
    assert r"caf\udce9: 1 picture" in (here / "cats.prepared.txt").read_text(encoding="utf-8")


def test_a_list_may_begin_with_a_mark(here):
    """Editors on Windows begin a text with U+FEFF, which is no part of the first name."""
    write(here, {"list": "\ufeff0.png\n1.png\n".encode()})
    run(write(here / "photos", some_pictures(3)), "cats", "--exclude", "list")
    assert list(written(here / "cats")) == ["2.png"]


def test_the_command_that_is_printed_can_be_typed(here, capsys):
    """A folder whose name begins with a dash, or holds a space, is no option and one word."""
    source = write(here / "photos", some_pictures(1))
    for out, word in (("./-cats", "./-cats"), ("my cats", "'my cats'")):
        run(source, out)
        assert capsys.readouterr().out.endswith(f"train     python -m minigan.train --data {word}\n")


LONG = 300 * "x"
REFUSALS = {
    "no source": (["nowhere", "cats"], "nowhere: no such folder or .zip"),
    "no picture": (["texts", "cats"], "texts: no pictures in 1 file: .txt (1)"),
    "all dropped": (
        ["bad", "cats"],
        "bad: all 1 were dropped; the first, a.png: no BMP, GIF, JPEG, PNG or WEBP inside",
    ),
    "inside": (["photos", "photos/cats"], "photos/cats: lies in photos"),
    "the same": (["photos", "photos"], "photos: lies in photos"),
    "a file": (["photos", "texts/a.txt"], "texts/a.txt: is no folder: give a new or an empty one"),
    "below a file": (["photos", "texts/a.txt/cats"], "cats.prepared.txt: cannot be written (File exists)"),
    "a circle": (["photos", "circle"], "circle: is no folder: give a new or an empty one"),
    "below a circle": (["photos", "circle/cats"], "circle/cats.prepared.txt: cannot be written (File exists)"),
    "from a circle": (["circle", "cats"], "circle: cannot be opened (Too many levels of symbolic links): check"),
    "long": (["photos", LONG], f"{LONG}: cannot be written (File name too long): give another OUT"),
    "from long": ([LONG, "cats"], f"{LONG}: cannot be opened (File name too long): check the path"),
    "two crops": (["photos", "cats", "--cat-landmarks", "--crop", "none"], "leave out --crop"),
    "no list": (
        ["photos", "cats", "--exclude", "nowhere"],
        "--exclude nowhere: cannot be read ([Errno 2] No such file",
    ),
    "no text": (
        ["photos", "cats", "--exclude", "photos/0.png"],
        "--exclude photos/0.png: cannot be read ('utf-8' codec",
    ),
    "size": (["photos", "cats", "--size", "0"], "--size: 0 is out of range"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_gets_one_line(here, capsys, case):
    """It says what is wrong and where; no picture is made."""
    write(here, {"photos/0.png": encoded(noise(8, 8)), "texts/a.txt": b"", "bad/a.png": b"?"})
    (here / "circle").symlink_to("circle")
    arguments, message = REFUSALS[case]
    assert message in refused(capsys, prepare.prepare, *arguments)
    assert not (here / "cats").exists()
