"""Pictures in: a folder or a .zip of picture files becomes one array of bytes, decoded once.

    pictures = load(Path("cats/"), size=64, mode="RGB")
    pictures.images                     # uint8 (M, 64, 64, 3), mapped from the cache: read from disk as it is used

`minigan.sources` lists and reads the files, `minigan.decoding` makes pixels of them, and `minigan.cache` keeps those in
the folder `pictures` under platformdirs' user_cache_path("minigan") (`~/.cache/minigan` on Linux). A set's key there is
a digest of all that its pixels depend on, so it is never out of date: when the source changes, its key does. What the
key cannot tell is whether a file may be read: those that could not be are tried again at each start, and if one can be
read by now, the set is made anew. The sets of sources that have changed stay, and all of the folder may be deleted at
any time. The faces that `minigan.faces` draws are kept there too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import platformdirs

from minigan import faces, sources
from minigan.cache import Cache, Damaged, Stored
from minigan.decoding import CHANNELS, decode, each_file
from minigan.errors import UserError
from minigan.sources import Archive, Contents, Folder, contents, open_source
from minigan.words import number_of, one_line, printable

__all__ = ["CHANNELS", "Pictures", "cache_of", "drawn", "load", "none_readable"]

DECODER = 1  # a part of the cache's key: count it up whenever `decode` gives other bytes for the same file


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A decoded set of pictures.

    Attributes
    ----------
    images: uint8 (M, size, size, C), C-contiguous, read-only; mapped from the cache's file. In order of the names.
    skipped: (name, reason) of each file that looked like a picture and could not be read.
    digest: of the pixels, in hexadecimal: two sets that have the same are the same.
    cached: whether an earlier run had decoded them already.
    """

    images: np.ndarray
    skipped: list[tuple[str, str]]
    digest: str
    cached: bool = False


def _silent(iterable: Iterable, **_) -> Iterable:
    return iterable


def load(source: Path, size: int, mode: str = "RGB", progress: Callable[..., Iterable] = _silent) -> Pictures:
    """The pictures of `source`, a folder or a .zip, each a centred square of `size` x `size` pixels (see `decode`).

    mode: "RGB" or "L". progress: called as tqdm is, `progress(iterable, total=, desc=, unit=)`, if any must be decoded.
    Files that cannot be read are skipped and named in the result. Two runs may load the same source at once. A set in
    the cache is made again if it is damaged, and a line on stderr says so, or if a file that it skipped can be read.

    Raises
    ------
    UserError: `source` is missing, unreadable, neither a folder nor a .zip, broken, encrypted, without a picture,
        without one that can be read, or changes while it is read; or the cache cannot be written.
    """
    opened = open_source(source)
    listed = contents(opened)
    skipped: list[tuple[str, str]] = []
    about = {"source": str(source), "skipped": skipped}
    return _kept(
        cache_of(listed, size, mode), lambda: _decoded(opened, listed, size, mode, progress, skipped),
        (size, size, CHANNELS[mode]), about, lambda names: _any_readable(opened, names, size, mode),
    )  # fmt: skip


def drawn(count: int, size: int, mode: str, seed: int, progress: Callable[..., Iterable] = _silent) -> Pictures:
    """`count` of the cat faces that come with minigan (see `minigan.faces`), drawn once, and then kept as others are.

    Raises
    ------
    UserError: the cache cannot be written.
    """
    drawer = hashlib.sha256(Path(faces.__file__).read_bytes()).hexdigest()
    return _kept(
        _cache(drawer, count, size, mode, seed),
        lambda: progress(faces.each(count, size, mode, seed), total=count, desc="drawing", unit="picture"),
        (size, size, CHANNELS[mode]), {"source": "minigan.faces", "skipped": []}, lambda names: False,
    )  # fmt: skip


def cache_of(listed: Contents, size: int, mode: str) -> Cache:
    """Where the pictures of a source are kept, or will be."""
    return _cache(DECODER, size, mode, listed.digest)


def _cache(*parts) -> Cache:
    """Of the set that depends on these, JSON-able, and on nothing else."""
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
    return Cache(platformdirs.user_cache_path("minigan") / "pictures", key)


def _kept(
    cache: Cache,
    make: Callable[[], Iterator[np.ndarray]],
    shape: tuple[int, ...],
    about: Mapping,
    any_readable: Callable[[list[str]], bool],
) -> Pictures:
    """The set as an earlier run has left it; else of the pictures that are made now, uint8, each of this shape.

    about: where they are from, and which were skipped, complete when all are made. any_readable: whether one of these
    names, which an earlier run has skipped, can be read now.
    """
    try:
        stored = _stored(cache, any_readable)
        cached = stored is not None
        if not cached:
            with contextlib.closing(make()) as pictures:
                cache.write(pictures, shape, about)
            stored = cache.open()
    except (OSError, Damaged) as error:
        where = cache.pixels.parent
        raise UserError(f"{where}: not usable as cache ({one_line(error)}): free it, or set XDG_CACHE_HOME") from error
    return Pictures(stored.images, list(map(tuple, stored.about["skipped"])), stored.digest, cached)


def _stored(cache: Cache, any_readable: Callable[[list[str]], bool]) -> Stored | None:
    """The set that an earlier run left, if it is there and whole, and still all that can be read."""
    try:
        stored = cache.open()
    except Damaged as error:
        print(f"minigan: {cache.pixels}: {error}: the pictures are made again", file=sys.stderr)
        return None
    return None if stored is None or any_readable([name for name, _ in stored.about["skipped"]]) else stored


def none_readable(opened: Folder | Archive, skipped: list[tuple[str, str]]) -> UserError:
    """What is said when every picture was skipped."""
    name, reason = skipped[0]
    count = number_of(len(skipped), "picture")
    return UserError(f"{opened.path}: none of {count} can be read; the first, {printable(name)}: {reason}")


def _any_readable(opened: Folder | Archive, names: list[str], size: int, mode: str) -> bool:
    """Whether one of the pictures of these names can be read."""
    with each_file(names, lambda name: decode(sources.read(opened, opened.file(name)), size, mode)) as results:
        return any(not isinstance(result, str) for _, result in results)


def _decoded(
    opened: Folder | Archive,
    listed: Contents,
    size: int,
    mode: str,
    progress: Callable[..., Iterable],
    skipped: list[tuple[str, str]],
) -> Iterator[np.ndarray]:
    """Each picture that can be read, uint8 (size, size, C), in order; the others are added to `skipped`.

    Raises
    ------
    UserError: when all are done, if there was none, or the source is not what was listed any more.
    """
    count = 0
    with each_file(sources.pictures(opened), lambda file: decode(sources.read(opened, file), size, mode)) as results:
        for file, result in progress(results, total=listed.count, desc="decoding", unit="picture"):
            if isinstance(result, str):
                skipped.append((file.name, result))
            else:
                count += 1
                yield result
    if count == 0:
        raise none_readable(opened, skipped)
    if count + len(skipped) != listed.count or contents(opened).digest != listed.digest:
        raise UserError(f"{opened.path}: changed while it was read: run the command again when it is complete")
