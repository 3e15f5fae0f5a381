"""Listing: in which order the files of a source come, and how little of it is held."""

from __future__ import annotations

import os
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from picture_files import write, zipped

from minigan.errors import UserError
from minigan.sources import LARGEST_FILE, File, contents, kinds, open_source, pictures, read, refuse_inside

NAMES = ["a.png", "a/b.png", "a/b/c.png", "a-1/x.png", "a b.png", "B.JPG", "é.gif", "z/line\nbreak.png", "猫.webp"]


@pytest.fixture(params=["folder", "zip"])
def source(request, tmp_path) -> Path:
    """These files and some that are no pictures, in either kind of source."""
    files = dict.fromkeys([*NAMES, "a/notes.txt", "list"], b"?")
    return write(tmp_path / "cats", files) if request.param == "folder" else zipped(tmp_path / "cats.zip", files)


def test_files_come_in_the_order_of_their_whole_names(source):
    """As if all were sorted at once, though a folder is listed one folder at a time: `a-1/x` < `a.png` < `a/b`."""
    assert [file.name for file in pictures(open_source(source))] == sorted(NAMES)


def test_a_listing_holds_one_path_of_folders(tmp_path, monkeypatch):
    """A folder is listed when its turn has come: before the first file is there only those above it have been."""
    write(tmp_path / "cats", {f"{i:02d}/{j}/{k}.png": b"" for i in range(10) for j in range(3) for k in range(3)})
    listed, scandir = [], os.scandir

    def counting(path):
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    files = open_source(tmp_path / "cats").files()
    assert next(files).name == "00/0/0.png"
    assert len(listed) == 3
    assert len(list(files)) == 89
    assert len(listed) == 41


def test_contents_are_counted_and_digested(source):
    """The digest tells every name, size and change; what is no picture is counted by its suffix and changes nothing."""
    opened = open_source(source)
    listed = contents(opened)
    assert (listed.count, listed.others) == (len(NAMES), {".txt": 1, "no suffix": 1})
    assert kinds(listed.others) == "2 files: .txt (1), no suffix (1)"
    whole = list(opened.files())
    for changed in (
        whole[1:],
        [File("0.png", *whole[0][1:]), *whole[1:]],
        [whole[0]._replace(size=5), *whole[1:]],
        [whole[0]._replace(change=5), *whole[1:]],
    ):
        opened.files = lambda files=changed: iter(files)
        assert contents(opened).digest != listed.digest
    opened.files = lambda: iter([file for file in whole if file.name != "list"])
    assert contents(opened).digest == listed.digest


def test_what_is_written_does_not_land_among_the_pictures(tmp_path, monkeypatch):
    """Whatever way a place is named, through links or `..`, the source and all below it are refused, and no other."""
    monkeypatch.chdir(write(tmp_path, {"cats/a/0.png": b""}))
    Path("link").symlink_to("cats/a")
    Path("circle").symlink_to("circle")
    for place, source in (
        ("cats", "cats"),
        ("cats/a/new/x.png", "cats"),
        ("link/x.png", "cats"),
        ("cats/a/x.png", "link"),
        ("x/../cats/x.png", tmp_path / "cats"),
        ("x.png", "."),
    ):
        with pytest.raises(UserError, match=r"^[^\n]+ lies in [^\n]+, and would be .+: give --out a place outside$"):
            refuse_inside(Path(place), Path(source), "--out")
    for place in ("cats.png", "x.png", "cats/../x.png", "circle", "circle/x.png", 300 * "x"):
        refuse_inside(Path(place), Path("cats"), "--out")
    refuse_inside(Path("x.png"), Path("circle"), "--out")


def test_an_archive_that_may_not_be_read_is_not_called_broken(tmp_path, monkeypatch):
    """Another copy would not help."""

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(zipfile, "ZipFile", denied)
    (tmp_path / "cats.zip").touch()
    with pytest.raises(UserError, match=r"cats.zip: cannot be read \(Permission denied\): check its permissions"):
        open_source(tmp_path / "cats.zip")


def test_a_member_is_a_name_and_bytes_wherever_it_points(tmp_path):
    """Members that climb out, are absolute or are links: nothing is ever extracted, so nothing appears anywhere."""
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16  # as zip --symlinks on Unix
    with zipfile.ZipFile(tmp_path / "cats.zip", "w") as archive:
        archive.writestr("../climbing.png", b"1")
        archive.writestr("a/../../climbing.png", b"2")
        archive.writestr(str(tmp_path / "absolute.png"), b"3")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("plain.png", b"4")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    opened = open_source(tmp_path / "cats.zip")
    contents = [read(opened, file) for file in pictures(opened)]
    assert contents == [b"3", b"/etc/passwd", b"4"]  # the link's own bytes, which are no picture; `..` is a hidden file
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before


BOMB = 2**26  # bytes, of which the archive says 100


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_fills_no_memory(tmp_path, method):
    """A member that holds far more than the archive says: it is an error before more than a little is unpacked."""
    path = tmp_path / "cats.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("bomb.png", bytes(BOMB))
    content = bytearray(path.read_bytes())
    for start, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):  # its size, in the member's header and in the table
        struct.pack_into("<I", content, content.index(start) + at, 100)
    path.write_bytes(content)
    opened = open_source(path)
    (bomb,) = pictures(opened)
    tracemalloc.start()
    try:
        with pytest.raises(Exception, match=r"CRC-32|compressed otherwise"):
            read(opened, bomb)
        assert tracemalloc.get_traced_memory()[1] < BOMB / 100
    finally:
        tracemalloc.stop()


def test_a_member_that_says_it_is_huge_is_not_read(tmp_path):
    """Nor is memory made ready for it."""
    path = zipped(tmp_path / "cats.zip", {"huge.png": b"?"})
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, LARGEST_FILE + 1)
    path.write_bytes(content)
    opened = open_source(path)
    with pytest.raises(ValueError, match="longer than 256 MiB"):
        read(opened, next(pictures(opened)))
