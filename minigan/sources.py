"""Where pictures are: the files of a folder or of a .zip, listed in order and read one by one, never extracted.

A listing is an iterator. Of a folder with a million files no more is held than the names in the folders that lead to
the present one; what is to be known of all of them is counted or digested as they pass. (Python's `zipfile` holds the
table of a whole archive, some 650 bytes a file.)
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from minigan.errors import UserError
from minigan.words import either, number_of, one_line

__all__ = [
    "Archive",
    "Contents",
    "File",
    "Folder",
    "contents",
    "kinds",
    "open_source",
    "pictures",
    "read",
    "refuse_inside",
]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")  # which files are taken for pictures, in either case
LARGEST_FILE = 2**28  # bytes; a file that is longer is not read into memory
UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # ways to compress that can be unpacked byte by byte


class File(NamedTuple):
    """A file of a source.

    name: within the source, its folders included. size: in bytes. change: what changes with the content, the time of
    its last change in ns or its CRC-32.
    """

    name: str
    size: int
    change: int


class Folder:
    """The files under a folder, at any depth. Linked folders are followed, each folder once.

    Attributes
    ----------
    path: the folder.
    identity: what tells it from every other one, for sizes and times alone would not.
    """

    def __init__(self, path: Path):
        self.path = path
        self.identity = str(path.resolve())

    def files(self) -> Iterator[File]:
        """Every file that is not hidden, in the order of the names.

        Raises
        ------
        UserError: a folder cannot be listed.
        """
        seen: set[tuple[int, int]] = set()
        try:
            waiting = self._entries("", seen)  # the next one last
            while waiting:
                name = waiting.pop()
                if name.endswith("/"):
                    waiting += self._entries(name, seen)
                else:
                    yield self.file(name)
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be listed ({error.strerror}): check its permissions") from error

    def file(self, name: str) -> File:
        """The file of that name."""
        path = os.path.join(self.path, name)
        try:
            stat = os.stat(path)
        except OSError:
            stat = os.lstat(path)  # a broken link has only its own
        return File(name, stat.st_size, stat.st_mtime_ns)

    def read(self, name: str) -> bytes:
        """A file's content."""
        path = self.path / name
        if not path.is_file():
            raise OSError("a broken link, or no regular file")  # a pipe would keep its reader waiting for ever
        return path.read_bytes()

    def _entries(self, folder: str, seen: set[tuple[int, int]]) -> list[str]:
        """The names in a folder, "" or one that ends with /, the last one first; none if a link led back to it.

        A folder's own name has its / already when it is sorted: so the order is that of the whole names.
        """
        path = self.path / folder
        stat = path.stat()
        if (stat.st_dev, stat.st_ino) in seen:
            return []
        seen.add((stat.st_dev, stat.st_ino))
        with os.scandir(path) as entries:
            names = [folder + entry.name + "/" * _is_folder(entry) for entry in entries if _visible(entry.name)]
        return sorted(names, reverse=True)


class Archive:
    """The files in a .zip. They are read into memory and never extracted. The same attributes as a folder's.

    Raises
    ------
    UserError: the archive is broken or encrypted.
    """

    def __init__(self, path: Path):
        self.path = path
        self.identity = str(path.stat().st_mtime_ns)  # checksums alone would not tell a damaged copy from a good one
        try:
            self.archive = zipfile.ZipFile(path)
        except PermissionError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}): check its permissions") from error
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise UserError(f"{path}: not a whole .zip ({one_line(error)}): copy or download it again") from error
        if any(member.flag_bits & 1 for member in self.archive.infolist()):
            raise UserError(f"{path}: the archive is encrypted: unpack it, and give the folder")

    def files(self) -> Iterator[File]:
        """Every file that is not hidden, in the order of the names; of two with one name, the later."""
        for name in sorted(set(self.archive.namelist())):
            if not name.endswith("/") and all(map(_visible, PurePosixPath(name).parts)):
                yield self.file(name)

    def file(self, name: str) -> File:
        """The file of that name."""
        member = self.archive.getinfo(name)
        return File(name, member.file_size, member.CRC)

    def read(self, name: str) -> bytes:
        """A file's content, checked against its CRC-32. No more is unpacked than the size that the archive says."""
        member = self.archive.getinfo(name)
        if member.compress_type not in UNPACKED:  # zipfile unpacks a whole block of the others, whatever it holds
            raise ValueError("compressed otherwise than a picture in a .zip should be")
        with self.archive.open(member) as file:
            return file.read(member.file_size)


def open_source(path: Path) -> Folder | Archive:
    """The files of the folder or of the .zip at `path`.

    Raises
    ------
    UserError: there is none, or it cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such folder or .zip: check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}): check the path, and its permissions") from error
    if stat.S_ISDIR(mode):
        return Folder(path)
    if path.suffix.lower() != ".zip":
        raise UserError(f"{path}: neither a folder nor a .zip: give the folder that holds the pictures")
    return Archive(path)


def refuse_inside(place: Path, source: Path, option: str) -> None:
    """Raise UserError if what is to be written at `place` would then be a part of the source. option: gives the place.

    Neither has to be there, or to be a path that leads anywhere.
    """
    if Path(os.path.realpath(place)).is_relative_to(os.path.realpath(source)):
        raise UserError(
            f"{place}: lies in {source}, and would be taken for its pictures: give {option} a place outside"
        )


def pictures(opened: Folder | Archive) -> Iterator[File]:
    """The files that are called pictures, in the order of their names."""
    return (file for file in opened.files() if _suffix(file.name) in SUFFIXES)


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a source holds.

    count: of the files that are called pictures. digest: of their names, sizes and changes, in hexadecimal.
    others: suffix -> how many other files.
    """

    count: int
    digest: str
    others: collections.Counter[str]


def contents(opened: Folder | Archive) -> Contents:
    """List everything once.

    Raises
    ------
    UserError: there are no pictures, or a folder cannot be listed.
    """
    count, digest, others = 0, hashlib.sha256(opened.identity.encode("utf-8", "surrogatepass")), collections.Counter()
    for file in opened.files():
        suffix = _suffix(file.name)
        if suffix in SUFFIXES:
            count += 1
            digest.update(f"{file.name}\0{file.size}\0{file.change}\0".encode("utf-8", "surrogatepass"))
        else:
            others[suffix or "no suffix"] += 1
    if not count:
        raise UserError(f"{opened.path}: no pictures in {kinds(others)}: give a folder or .zip of {either(SUFFIXES)}")
    return Contents(count, digest.hexdigest(), others)


def read(opened: Folder | Archive, file: File) -> bytes:
    """The content of one of the files.

    Raises
    ------
    Exception: it is empty or longer than LARGEST_FILE, or whatever the file system or archive makes of a broken one.
    """
    if file.size > LARGEST_FILE:
        raise ValueError(f"longer than {LARGEST_FILE >> 20} MiB")
    content = opened.read(file.name)
    if not content:
        raise ValueError("empty")
    return content


def kinds(others: collections.Counter[str]) -> str:
    """What was found beside pictures: "3 files: .txt (2), .md (1)"."""
    if not others:
        return "it (no files at all)"
    common = sorted(others.items(), key=lambda kind: (-kind[1], kind[0]))
    shown = ", ".join(f"{kind} ({count:,})" for kind, count in common[:5])
    return f"{number_of(others.total(), 'file')}: {shown}{', ...' if len(common) > 5 else ''}"


def _visible(name: str) -> bool:
    """Whether a file or folder is the user's own: not hidden, nor what macOS adds to an archive."""
    return not name.startswith(".") and name != "__MACOSX"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
