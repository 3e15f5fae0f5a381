"""Pictures in: which files count, what is said of bad input, and when the cache may be used."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from picture_files import encoded, noise, some_pictures, write, zipped
from PIL import Image

from minigan import data, decoding, faces, sources
from minigan.cache import digest_of
from minigan.data import load
from minigan.decoding import decode
from minigan.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of decoded pictures, a fresh one for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = data.platformdirs.user_cache_path("minigan") / "pictures"
    assert folder.is_relative_to(tmp_path)
    return folder


def png_header(width: int, height: int) -> bytes:
    """A PNG file that promises so many pixels and holds none of them."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


# ---- which files count ----


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_folder_and_a_zip_of_it_give_the_same_bytes(tmp_path, mode):
    """Every format, flat and nested, sorted by name, no hidden files; reading an archive leaves no files behind."""
    pictures = {
        "z.jpg": encoded(noise(30, 20, 1), "JPEG"),
        "a/b/deep.PNG": encoded(noise(20, 30, 2)),
        "a/c.webp": encoded(noise(20, 20, 3), "WEBP"),
        "a.bmp": encoded(noise(9, 9, 4), "BMP"),
        "b.gif": encoded(noise(40, 41, 5), "GIF"),
        "c.jpeg": encoded(noise(16, 16, 6), "JPEG"),
    }
    ignored = {".hidden.png": b"", ".git/x.png": b"", "__MACOSX/z.jpg": b"", "notes.txt": b"", "a/list": b""}
    folder = load(write(tmp_path / "folder", pictures | ignored), 16, mode)
    archive = load(zipped(tmp_path / "archive.zip", pictures | ignored), 16, mode)
    assert folder.images.dtype == np.uint8
    assert folder.images.shape == (6, 16, 16, len(mode))
    assert folder.images.flags.c_contiguous
    assert (folder.images == np.stack([decode(pictures[name], 16, mode) for name in sorted(pictures)])).all()
    assert (archive.images == folder.images).all()
    assert folder.skipped == archive.skipped == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.zip", "cache", "folder"]


def test_order_is_kept_across_threads_and_windows(tmp_path, monkeypatch):
    """However the work is cut into tasks and windows, picture i is the i-th name's, around those that are skipped."""
    files = some_pictures(9) | {"4.png": b"broken"}
    source = write(tmp_path / "cats", files)
    monkeypatch.setattr(decoding, "TASK", 2)
    monkeypatch.setattr(decoding, "WINDOW", 2)
    pictures = load(source, 8)
    assert (pictures.images == np.stack([decode(files[f"{i}.png"], 8, "RGB") for i in range(9) if i != 4])).all()
    assert [name for name, _ in pictures.skipped] == ["4.png"]


def test_links_are_followed_once(tmp_path):
    """A linked folder counts, one that leads back is not walked again, and a broken link is skipped by name."""
    source = write(tmp_path / "cats", some_pictures(2))
    elsewhere = write(tmp_path / "elsewhere", {"x.png": encoded(noise(8, 8))})
    (source / "linked").symlink_to(elsewhere)
    (source / "back").symlink_to(source)
    (source / "lost.png").symlink_to(tmp_path / "nowhere")
    (source / "round.png").symlink_to("round.png")
    pictures = load(source, 8)
    assert len(pictures.images) == 3
    assert pictures.skipped == [(name, "a broken link, or no regular file") for name in ("lost.png", "round.png")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    """What is no regular file is skipped, whatever it is called; reading a pipe would never end."""
    source = write(tmp_path / "cats", some_pictures(1))
    os.mkfifo(source / "pipe.png")
    assert [name for name, _ in load(source, 8).skipped] == ["pipe.png"]


def test_bad_pictures_are_skipped_and_named(tmp_path, recwarn, monkeypatch):
    """Each bad file is named with its reason, on one line; the good ones are there; Pillow's warnings are not shown.

    The bombs: Pillow refuses one at twice its limit, and only warns of the other.
    """
    monkeypatch.setattr(sources, "LARGEST_FILE", 2**16)
    limit = Image.MAX_IMAGE_PIXELS
    whole = encoded(noise(64, 64), "JPEG")
    bad = {
        "bomb.png": (png_header(limit // 1000 * 3, 1000), "decompression bomb"),
        "empty.png": (b"", "empty"),
        "firework.png": (png_header(limit // 1000 * 3 // 2, 1000), "decompression bomb"),
        "garbage.gif": (b"GIF89a and so on, and so on", ""),
        "huge.bmp": (encoded(noise(200, 200), "BMP"), "longer than 0 MiB"),
        "other.png": (encoded(noise(8, 8), "TIFF"), "no BMP, GIF, JPEG, PNG or WEBP inside"),
        "page.jpg": (b"<html>404 not found</html>", "no BMP, GIF, JPEG, PNG or WEBP inside"),
        "truncated.jpg": (whole[: len(whole) // 2], "truncated"),
        "truncated.png": (encoded(noise(64, 64))[:5000], "truncated"),
    }
    broken_exif = encoded(
        noise(8, 8), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0"
    )  # Pillow warns, and reads the rest
    good = some_pictures(1) | {"exif.jpg": broken_exif}
    files = good | {name: content for name, (content, _) in bad.items()}
    source = write(tmp_path / "cats", files)
    for pictures in (load(source, 8), load(source, 8), load(zipped(tmp_path / "cats.zip", files), 8)):
        assert len(pictures.images) == 2
        assert [name for name, _ in pictures.skipped] == list(bad)
        for name, reason in pictures.skipped:
            assert reason
            assert "\n" not in reason
            assert bad[name][1] in reason
    assert load(source, 8).cached
    assert not recwarn.list


def test_a_member_that_fails_its_checksum_is_skipped(tmp_path):
    """In an archive that is whole at large, one flipped bit costs one picture, not silently, and not for ever."""
    source = tmp_path / "cats.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_STORED) as archive:
        for name, content in some_pictures(3).items():
            archive.writestr(name, content)
        offset = archive.getinfo("1.png").header_offset + 100
    content = bytearray(source.read_bytes())
    content[offset] ^= 1
    source.write_bytes(content)
    pictures = load(source, 8)
    assert len(pictures.images) == 2
    assert pictures.skipped == [("1.png", "Bad CRC-32 for file '1.png'")]
    content[offset] ^= 1
    source.write_bytes(content)  # a good copy, with the very same table of contents
    assert load(source, 8).skipped == []


# ---- what is said of bad input ----


def encrypted(path: Path) -> Path:
    """A .zip whose members say that they are encrypted: bit 0 of their flags."""
    zipped(path, some_pictures(1))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return path


def cut_short(path: Path) -> Path:
    """A .zip whose end is missing."""
    content = zipped(path, some_pictures(3)).read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


BAD_SOURCES = {
    "missing": (lambda at: at / "nowhere", "no such folder or .zip"),
    "one file": (lambda at: write(at, {"cat.png": b""}) / "cat.png", "neither a folder nor a .zip"),
    "empty folder": (lambda at: write(at / "empty", {".hidden": b""}), "no pictures in it (no files at all)"),
    "no pictures": (
        lambda at: write(at / "texts", {"a.txt": b"", "b/c.TXT": b"", "d.md": b""}),
        "no pictures in 3 files: .txt (2), .md (1): give a folder",
    ),
    "many kinds": (
        lambda at: write(at / "texts", {f"{i}.{i}": b"" for i in range(6)} | {"6": b"", "7": b""}),
        "no pictures in 8 files: no suffix (2), .0 (1), .1 (1), .2 (1), .3 (1), ...: give a folder",
    ),
    "empty zip": (lambda at: zipped(at / "empty.zip", {}), "no pictures in it (no files at all)"),
    "no zip": (lambda at: write(at, {"text.zip": b"this is no archive"}) / "text.zip", "not a whole .zip"),
    "zip cut short": (lambda at: cut_short(at / "short.zip"), "not a whole .zip"),
    "encrypted zip": (lambda at: encrypted(at / "secret.zip"), "encrypted: unpack it"),
    "all corrupt": (
        lambda at: write(at / "bad", {"b.png": b"?", "a.png": encoded(noise(64, 64))[:5000]}),
        "none of 2 pictures can be read; the first, a.png: image file is truncated",
    ),
}


@pytest.mark.parametrize("kind", BAD_SOURCES)
def test_bad_sources_get_one_line(tmp_path, cache, kind):
    """The line names the source and what is wrong with it; the cache holds nothing afterwards."""
    make, message = BAD_SOURCES[kind]
    source = make(tmp_path)
    with pytest.raises(UserError) as error:
        load(source, 8)
    assert str(source) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not cache.exists() or not list(cache.iterdir())


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    """A folder that may not be listed stops everything: half of the pictures are not the set that was asked for."""
    source = write(tmp_path / "cats", some_pictures(1) | {"locked/x.png": b""})
    scandir = os.scandir

    def guarded(path):  # permissions do not stop a superuser, who may well be running this
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(UserError, match=r"locked: cannot be listed \(Permission denied\)"):
        load(source, 8)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """The line says which folder, why, and how to choose another one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(write(tmp_path, {"file": b""}) / "file"))
    with pytest.raises(UserError, match=r"file/minigan/pictures: .*Not a directory.*XDG_CACHE_HOME"):
        load(write(tmp_path / "cats", some_pictures()), 8)


def test_a_full_disk_leaves_no_part_of_a_set(tmp_path, cache, monkeypatch):
    """A write or a sync that fails is an error of one line, and takes the unfinished file with it."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        load(write(tmp_path / "cats", some_pictures()), 8)
    assert not list(cache.iterdir())


# ---- when the cache may be used ----


def test_a_set_is_decoded_once(tmp_path):
    """The second time nothing is decoded: the progress bar is not even asked for."""
    source = write(tmp_path / "cats", some_pictures() | {"bad.png": b"?"})
    asked = []

    def progress(iterable, total, desc, unit):
        asked.append((total, desc, unit))
        return iterable

    first, second = load(source, 8, progress=progress), load(source, 8, progress=progress)
    assert asked == [(4, "decoding", "picture")]
    assert (first.cached, second.cached) == (False, True)
    assert first.skipped == second.skipped == [("bad.png", "no BMP, GIF, JPEG, PNG or WEBP inside")]
    assert (first.images == second.images).all()


def test_what_could_not_be_read_is_tried_again(tmp_path, monkeypatch):
    """Nothing in a listing tells whether a file may be read: the set is as it was while none can, and then made anew.

    Here by permissions, which do not stop a superuser; a disk that had an error, or too many open files, are the same.
    """
    source = write(tmp_path / "cats", some_pictures() | {"bad.png": b"?"})
    bad = ("bad.png", "no BMP, GIF, JPEG, PNG or WEBP inside")
    read = sources.Folder.read

    def guarded(folder, name):
        if name == "1.png":
            raise PermissionError(13, "Permission denied", name)
        return read(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(sources.Folder, "read", guarded)
        for cached in (False, True):
            pictures = load(source, 8)
            assert (pictures.cached, len(pictures.images)) == (cached, 2)
            assert pictures.skipped == [("1.png", "Permission denied"), bad]
    for cached in (False, True):
        pictures = load(source, 8)
        assert (pictures.cached, len(pictures.images), pictures.skipped) == (cached, 3, [bad])


def test_at_the_end_of_the_memory_no_set_is_kept(tmp_path, cache, monkeypatch):
    """Pictures for which there was no memory are not left out of a set: there is none, and the next run makes it."""
    source = write(tmp_path / "cats", some_pictures())

    def exhausted(content, size, mode):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(data, "decode", exhausted)
        with pytest.raises(MemoryError):
            load(source, 8)
    assert not list(cache.iterdir())
    assert len(load(source, 8).images) == 3


CHANGES = {
    "touched": lambda folder: os.utime(folder / "1.png", ns=(1, 1)),
    "renamed": lambda folder: (folder / "1.png").rename(folder / "9.png"),
    "rewritten": lambda folder: (folder / "1.png").write_bytes(encoded(noise(8, 8, seed=99))),
    "added": lambda folder: write(folder, {"new/1.png": encoded(noise(8, 8))}),
    "removed": lambda folder: (folder / "1.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_is_decoded_again(tmp_path, change):
    """Names, sizes and times of change are in the key: what comes is what a first run would give."""
    source = write(tmp_path / "cats", some_pictures())
    load(source, 8)
    CHANGES[change](source)
    pictures = load(source, 8)
    assert not pictures.cached
    files = sorted(source.rglob("*.png"), key=lambda path: path.relative_to(source).as_posix())
    assert (pictures.images == np.stack([decode(path.read_bytes(), 8, "RGB") for path in files])).all()


def test_size_and_mode_have_sets_of_their_own(tmp_path):
    """Another size or mode is decoded for itself, and the earlier set stays usable. A file of text changes nothing."""
    source = write(tmp_path / "cats", some_pictures())
    asked = [(8, "RGB"), (16, "RGB"), (8, "L")]
    assert [load(source, *what).cached for what in asked] == [False] * 3
    write(source, {"notes.txt": b"cats"})
    assert [load(source, *what).cached for what in asked] == [True] * 3


def test_zips_are_told_apart_by_contents_and_folders_by_place(tmp_path):
    """A renamed archive is the same set. Another archive is not, nor a folder of equal names, sizes and times."""
    files = {"cat.bmp": encoded(noise(8, 8, 1), "BMP")}
    others = {"cat.bmp": encoded(noise(8, 8, 2), "BMP")}
    for name, content in (("a.zip", files), ("b.zip", others)):
        os.utime(zipped(tmp_path / name, content), ns=(0, 0))
        assert not load(tmp_path / name, 8).cached
    assert load((tmp_path / "a.zip").rename(tmp_path / "c.zip"), 8).cached
    for name, content in (("one", files), ("two", others)):
        folder = write(tmp_path / name, content)
        os.utime(folder / "cat.bmp", ns=(0, 0))
        assert (load(folder, 8).images[0] == decode(content["cat.bmp"], 8, "RGB")).all()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "emptied": lambda path: os.truncate(path, 0),
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one bit": flip,
}


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_set_is_decoded_again(tmp_path, cache, capsys, suffix, damage):
    """A file of the cache that is not what was written is noticed and replaced, and one line says so, once."""
    source = write(tmp_path / "cats", some_pictures())
    want = load(source, 8).images.copy()
    (path,) = cache.glob(f"*{suffix}")
    DAMAGES[damage](path)
    pictures = load(source, 8)
    said = capsys.readouterr().err
    assert re.fullmatch(r"minigan: [^\n]+\.npy: it[^\n]+ was written: the pictures are made again\n", said)
    assert not pictures.cached
    assert (pictures.images == want).all()
    assert load(source, 8).cached
    assert capsys.readouterr().err == ""


def test_faces_are_drawn_once(cache):
    """What minigan draws itself is kept as decoded pictures are: the same bytes, of the seed that was asked for."""
    first, again, other = (data.drawn(3, 16, "RGB", seed) for seed in (1, 1, 2))
    assert [pictures.cached for pictures in (first, again, other)] == [False, True, False]
    assert (first.images == faces.draw(3, 16, "RGB", 1)).all()
    assert (again.images == first.images).all()
    assert (other.images != first.images).any()


def test_the_digest_is_of_the_pixels(tmp_path):
    """The same pictures have one digest, wherever they are and whatever they are called; others have another."""
    files = some_pictures()
    first = load(write(tmp_path / "cats", files), 8)
    renamed = {f"b/{name}": content for name, content in files.items()}
    assert load(zipped(tmp_path / "cats.zip", renamed), 8).digest == first.digest == load(tmp_path / "cats", 8).digest
    assert digest_of(np.array(first.images)) == first.digest
    swapped = {"0.png": files["1.png"], "1.png": files["0.png"], "2.png": files["2.png"]}
    others = [(write(tmp_path / "swapped", swapped), 8), (tmp_path / "cats", 16), (tmp_path / "cats", 8, "L")]
    assert len({first.digest, *(load(*what).digest for what in others)}) == 4


def test_a_folder_that_changes_meanwhile_is_refused(tmp_path, cache):
    """A set is what its key says or is not kept: a folder still being filled is an error, once it is full it loads."""
    source = write(tmp_path / "cats", some_pictures())

    def adding(name: str):
        def progress(iterable, **_):
            write(source, {name: encoded(noise(8, 8))})
            return iterable

        return progress

    with pytest.raises(UserError, match="changed while it was read"):
        load(source, 8, progress=adding("late.png"))
    assert not list(cache.iterdir())
    assert len(load(source, 8, progress=adding("late.log")).images) == 4  # what is no picture may come and go


LOAD_IN_ANOTHER_PROCESS = """
import os, pathlib, signal, sys
from minigan.data import load
def progress(iterable, total, desc, unit):
    for i, picture in enumerate(iterable):
        if {wait} and i == total // 2:
            print("half", flush=True)
            sys.stdin.readline()
        yield picture
print(load(pathlib.Path(sys.argv[1]), 8, progress=progress).images.sum(), flush=True)
"""


def loader(source: Path, wait: bool) -> subprocess.Popen:
    """Another process that loads `source`; when it waits, it does so in the middle, for a line of input."""
    code = LOAD_IN_ANOTHER_PROCESS.format(wait=wait)
    command = [sys.executable, "-c", code, str(source)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )


def test_two_runs_may_decode_the_same_source_at_once(tmp_path, cache):
    """Two processes, each held in the middle of its work until the other is there too, both get the whole set."""
    source = write(tmp_path / "cats", some_pictures(40))
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(loader(source, wait=True)) for _ in range(2)]
        for process in both:
            assert process.stdout.readline() == "half\n"
        sums = [process.communicate("go on\n")[0] for process in both]
    pictures = load(source, 8)
    assert pictures.cached
    assert sums == [f"{pictures.images.sum()}\n"] * 2
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".npy"]


def test_a_killed_run_leaves_nothing_that_is_taken_for_whole(tmp_path, cache):
    """Killed in the middle of its work, a run leaves an unfinished file behind that nobody reads."""
    source = write(tmp_path / "cats", some_pictures(40))
    with loader(source, wait=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert [path.suffix for path in cache.iterdir()] == [".tmp"]
    pictures = load(source, 8)
    assert not pictures.cached
    assert len(pictures.images) == 40


def test_warning_filters_are_left_as_they_were(tmp_path):
    """Bombs are made errors for Pillow's calls in here only."""
    before = list(warnings.filters)
    load(write(tmp_path / "cats", some_pictures()), 8)
    assert warnings.filters == before
