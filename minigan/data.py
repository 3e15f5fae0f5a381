"""Pictures in: a folder or a .zip of picture files becomes one array of bytes, decoded once.

    pictures = load(Path("cats/"), size=64, mode="RGB")
    pictures.images                     # uint8 (M, 64, 64, 3), mapped from the cache: read from disk as it is used

The cache is the folder `pictures` under platformdirs' user_cache_path("minigan") (`~/.cache/minigan` on Linux). A set
is two files there: `<key>.npy`, the pixels, which `numpy.load` reads, and `<key>.json`, which says where they came from
and what was skipped; it is written last, and without it the pixels count for nothing. The key is a digest of all that
the pixels depend on (see `_key`), so a set is never out of date: when the source changes, its key does.
Nothing is deleted here. The sets of sources that have changed stay, and all of the folder may be deleted at any time.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

import numpy as np
import platformdirs
from PIL import Image, ImageOps, UnidentifiedImageError

from minigan.errors import UserError
from minigan.files import replacing

__all__ = [
    "CHANNELS",
    "Archive",
    "Files",
    "Folder",
    "Pictures",
    "centre_square",
    "decode",
    "each_file",
    "find_pictures",
    "flatten",
    "kinds",
    "load",
    "none_readable",
    "open_picture",
    "open_source",
    "printable",
    "read",
    "scale",
    "upright",
]

CHANNELS = {"RGB": 3, "L": 1}  # C of each mode
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")  # which files are taken for pictures, in either case
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")  # and all that Pillow may open them as, whatever their names say
LARGEST_FILE = 2**28  # bytes; a file that is longer is not read into memory
REDUCING_GAP = 3.0  # cheap box reduction stops at this many times the final size, and the exact filter does the rest
DECODER = 1  # a part of the cache's key: count it up whenever `decode` gives other bytes for the same file
TASK, WINDOW = 16, 64  # pictures that a thread takes at once (one alone is too little work), and tasks in flight

T = TypeVar("T")
Files = dict[str, tuple[int, int]]  # name -> (size in bytes, what changes with the content)


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A decoded set of pictures.

    Attributes
    ----------
    images: uint8 (M, size, size, C), C-contiguous, read-only; mapped from the cache's file. In order of the names.
    skipped: (name, reason) of each file that looked like a picture and could not be read.
    source: where they came from.
    cached: whether an earlier run had decoded them already.
    """

    images: np.memmap
    skipped: list[tuple[str, str]]
    source: Path
    cached: bool


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

    def files(self) -> Files:
        """Every file that is not hidden: its name relative to the folder -> (size in bytes, last change in ns).

        Raises
        ------
        UserError: a folder cannot be listed.
        """
        files, seen = {}, set()
        try:
            for folder, folders, names in os.walk(self.path, onerror=_raise, followlinks=True):
                inode = os.stat(folder).st_dev, os.stat(folder).st_ino
                if inode in seen:  # a link led back
                    folders.clear()
                    continue
                seen.add(inode)
                folders[:] = sorted(filter(_visible, folders))
                for path in (Path(folder, name) for name in names if _visible(name)):
                    stat = path.stat() if path.exists() else path.lstat()  # a broken link has only its own
                    files[path.relative_to(self.path).as_posix()] = (stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be listed ({error.strerror}): check its permissions") from error
        return files

    def read(self, name: str) -> bytes:
        """A file's content."""
        path = self.path / name
        if not path.is_file():
            raise OSError("a broken link, or no regular file")  # a pipe would keep its reader waiting for ever
        return path.read_bytes()


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
        except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
            raise UserError(f"{path}: not a whole .zip ({_one_line(error)}): copy or download it again") from error
        if any(member.flag_bits & 1 for member in self.archive.infolist()):
            raise UserError(f"{path}: the archive is encrypted: unpack it, and give the folder")

    def files(self) -> Files:
        """Every file that is not hidden: its name in the archive -> (size in bytes, CRC-32)."""
        return {
            member.filename: (member.file_size, member.CRC)
            for member in self.archive.infolist()
            if not member.is_dir() and all(map(_visible, PurePosixPath(member.filename).parts))
        }

    def read(self, name: str) -> bytes:
        """A file's content, checked against its CRC-32."""
        return self.archive.read(name)


def open_source(path: Path) -> Folder | Archive:
    """The files of the folder or of the .zip at `path`.

    Raises
    ------
    UserError: there is none, or it cannot be read.
    """
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise UserError(f"{path}: no such folder or .zip: check the path")
    if path.suffix.lower() != ".zip":
        raise UserError(f"{path}: neither a folder nor a .zip: give the folder that holds the pictures")
    return Archive(path)


def _silent(iterable: Iterable, **_) -> Iterable:
    return iterable


def load(source: Path, size: int, mode: str = "RGB", progress: Callable[..., Iterable] = _silent) -> Pictures:
    """The pictures of `source`, a folder or a .zip, each a centred square of `size` x `size` pixels (see `decode`).

    mode: "RGB" or "L". progress: called as tqdm is, `progress(iterable, total=, desc=, unit=)`, if any must be decoded.
    Files that cannot be read are skipped and named in the result. Two runs may load the same source at once.

    Raises
    ------
    UserError: `source` is missing, unreadable, neither a folder nor a .zip, broken, encrypted, without a picture,
        without one that can be read, or changes while it is read; or the cache cannot be written.
    """
    opened = open_source(source)
    files, _ = find_pictures(opened)
    cache = platformdirs.user_cache_path("minigan") / "pictures"
    key = _key(opened.identity, files, size, mode)
    try:
        pictures = _cached(cache, key, source)
        if pictures is None:
            cache.mkdir(parents=True, exist_ok=True)
            _build(cache, key, opened, files, size, mode, progress)
            pictures = dataclasses.replace(_cached(cache, key, source), cached=False)
    except OSError as error:
        raise UserError(f"{cache}: not usable as cache ({_one_line(error)}): free it, or set XDG_CACHE_HOME") from error
    return pictures


def decode(content: bytes, size: int, mode: str) -> np.ndarray:
    """A picture file's content -> uint8 (size, size, C): upright, cut to its centred square, and scaled.

    The first frame of an animation; turned as its EXIF orientation says; 16-bit greys scaled to 8 bits, to the nearest;
    transparency on white, as a page would show it; colour profiles are not applied. The scaling is antialiased:
    Lanczos, which keeps eyes and whiskers sharper than a box does. Of a large picture it sees what is left, at least
    `REDUCING_GAP` times the final size, by the JPEG decoder (which halves once, twice or three times) and a box filter.

    Raises
    ------
    Exception: whatever Pillow makes of a broken file.
    """
    image = scale(flatten(centre_square(upright(open_picture(content), mode, size)), mode), size)
    return np.asarray(image).reshape(size, size, CHANNELS[mode])


def open_picture(content: bytes) -> Image.Image:
    """A picture file's content, its header alone read: what it is, how large, and in which mode."""
    return Image.open(io.BytesIO(content), formats=FORMATS)


def upright(image: Image.Image, mode: str, size: int | None = None) -> Image.Image:
    """The opened picture, decoded and turned, in place, as its EXIF orientation says.

    size: what its shorter side will be scaled to, if it will be: so a large JPEG need not be decoded in full.
    """
    if size is not None:
        image.draft(mode, (round(REDUCING_GAP * size), round(REDUCING_GAP * size)))
    ImageOps.exif_transpose(image, in_place=True)
    return image


def centre_square(image: Image.Image) -> Image.Image:
    """The largest square in the middle; where the rest is odd, its larger half is cut off on the right or below."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """The picture as it is seen, in "RGB" or "L": 16-bit greys scaled to 8 bits, transparency on white."""
    if image.mode.startswith("I;16"):  # 0 .. 65535 = 255 * 257; Pillow's own conversion clips at 255
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(mode)


def scale(image: Image.Image, size: int) -> Image.Image:
    """The picture with a shorter side of `size` pixels, its proportions kept."""
    shape = [round(side * size / min(image.size)) for side in image.size]
    return image.resize(shape, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)


def find_pictures(opened: Folder | Archive) -> tuple[Files, Files]:
    """The files that are called pictures, in the order of their names, and all the others.

    Raises
    ------
    UserError: there are no pictures, or a folder cannot be listed.
    """
    found = opened.files()
    files = _pictures(found)
    others = {name: found[name] for name in found if name not in files}
    if not files:
        raise UserError(f"{opened.path}: no pictures in {kinds(others)}: give a folder or .zip of {_or(SUFFIXES)}")
    return files, others


def _pictures(files: Files) -> Files:
    """Those of the files that are called pictures, in the order of their names."""
    return {name: files[name] for name in sorted(files) if _suffix(name) in SUFFIXES}


def _key(identity: str, files: Files, size: int, mode: str) -> str:
    """The cache's name for a set: all that its pixels depend on, digested."""
    digest = hashlib.sha256()
    for part in ([DECODER, size, mode, identity], *files.items()):
        digest.update(json.dumps(part).encode())  # JSON is plain ASCII, even for names that are no valid Unicode
    return digest.hexdigest()[:32]


def _cached(cache: Path, key: str, source: Path) -> Pictures | None:
    """The set that an earlier run left, if it is there and whole."""
    try:
        about = json.loads((cache / f"{key}.json").read_bytes())
        images = np.load(cache / f"{key}.npy", mmap_mode="r")
    except (FileNotFoundError, EOFError, ValueError):  # ValueError: text that is no JSON, pixels that end too early
        return None
    if list(images.shape) != about["shape"]:
        return None
    return Pictures(images, [tuple(entry) for entry in about["skipped"]], source, cached=True)


def _build(
    cache: Path,
    key: str,
    opened: Folder | Archive,
    files: Files,
    size: int,
    mode: str,
    progress: Callable[..., Iterable],
) -> None:
    """Decode the pictures, and write them into the cache as they come."""
    count, skipped = 0, []

    def decode_one(name: str) -> np.ndarray:
        return decode(read(opened, files, name), size, mode)

    with replacing(cache / f"{key}.npy") as file, each_file(files, decode_one) as results:
        _write_header(file, (count, size, size, CHANNELS[mode]))
        for name, result in progress(results, total=len(files), desc="decoding", unit="picture"):
            if isinstance(result, str):
                skipped.append((name, result))
            else:
                file.write(result.tobytes())
                count += 1
        if count == 0:
            raise none_readable(opened, skipped)
        if _pictures(opened.files()) != files:
            raise UserError(f"{opened.path}: changed while it was read: run the command again when it is complete")
        shape = (count, size, size, CHANNELS[mode])
        file.seek(0)
        _write_header(file, shape)  # as long as the first one: NumPy leaves room for the first axis to grow
    with replacing(cache / f"{key}.json") as file:
        file.write(json.dumps({"source": str(opened.path), "shape": shape, "skipped": skipped}).encode())


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


@contextlib.contextmanager
def each_file(files: Files, work: Callable[[str], T]) -> Iterator[Iterator[tuple[str, T | str]]]:
    """Inside `with each_file(files, work) as results:` the results are (name, work(name)), in order, for each file.

    Where `work` raises, the reason, one line, stands in its result's place; but a UserError ends the whole.
    Threads suffice: Pillow decodes and scales outside of Python's global lock. At most TASK * WINDOW results are held.
    """

    def one(name: str) -> T | str:
        try:
            return work(name)
        except UserError:
            raise
        except UnidentifiedImageError:
            return f"no {_or(FORMATS)} inside"
        except Exception as error:  # bytes from anywhere make decoders raise anything, and what they say is the reason
            return _one_line(error)

    def some(names: list[str]) -> list[tuple[str, T | str]]:
        return [(name, one(name)) for name in names]

    def results() -> Iterator[tuple[str, T | str]]:
        for i in range(0, len(tasks), WINDOW):
            for result in pool.map(some, tasks[i : i + WINDOW]):
                yield from result

    names = list(files)
    tasks = [names[i : i + TASK] for i in range(0, len(names), TASK)]
    pool = ThreadPoolExecutor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on files that it can read all the same
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # more than Image.MAX_IMAGE_PIXELS pixels
        try:
            yield results()
        finally:
            pool.shutdown(cancel_futures=True)


def read(opened: Folder | Archive, files: Files, name: str) -> bytes:
    """The content of one of the files.

    Raises
    ------
    Exception: it is longer than LARGEST_FILE, or whatever the file system or the archive makes of a broken one.
    """
    if files[name][0] > LARGEST_FILE:
        raise ValueError(f"longer than {LARGEST_FILE >> 20} MiB")
    return opened.read(name)


def none_readable(opened: Folder | Archive, skipped: list[tuple[str, str]]) -> UserError:
    """What is said when every picture was skipped."""
    name, reason = skipped[0]
    return UserError(f"{opened.path}: none of {len(skipped)} pictures can be read; the first, {name}: {reason}")


def _visible(name: str) -> bool:
    """Whether a file or folder is the user's own: not hidden, nor what macOS adds to an archive."""
    return not name.startswith(".") and name != "__MACOSX"


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def kinds(files: Files) -> str:
    """What was found beside pictures: "3 files: .txt (2), .md (1)"."""
    counts = collections.Counter(_suffix(name) or "no suffix" for name in sorted(files))
    if not counts:
        return "it (no files at all)"
    shown = ", ".join(f"{kind} ({count})" for kind, count in counts.most_common(5))
    return f"{counts.total()} files: {shown}{', ...' if len(counts) > 5 else ''}"


def printable(name: str) -> str:
    """A file's name for a line of text: control characters, and bytes that are no Unicode, are escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _raise(error: OSError) -> None:
    raise error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
