"""Any pictures into a clean folder of PNG:  python -m minigan.prepare photos/ cats/ --size 64 --min-size 64

A second run goes on where the first one stopped: each PNG carries a digest of what it was made of and how, and is made
again only if it is not there. They are written whole or not at all (see minigan.files); what a killed run left behind
unfinished is removed by the next, so let one run at a time write into a folder. What was dropped, and why, is said in
OUT.prepared.txt beside the folder.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from minigan.command import run_command
from minigan.decoding import CHANNELS, centre_square, each_file, flatten, open_picture, scale, upright
from minigan.errors import UserError
from minigan.files import UNFINISHED, replacing, try_place, writing
from minigan.landmarks import cut_face, read_landmarks
from minigan.options import Parser, whole
from minigan.reporter import usual
from minigan.sources import Archive, File, Folder, contents, open_source, pictures, read, refuse_inside
from minigan.words import number_of, printable, quoted

CROPS = ("centre", "none")  # and "face", which --cat-landmarks asks for
ANNOTATION = ".cat"  # is added to the name of a picture
STAMP = "minigan.prepare"  # the PNG's text with the digest
PREPARER = 1  # a part of the digest: count it up whenever `make` gives other pixels
REMEDY = "give another OUT"
REASONS = 4  # are counted on the terminal


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is done to a picture.

    size: pixels of the shorter side that comes, or None to leave it. mode: "RGB" or "L". crop: "centre", its centred
    square; "none"; or "face", see minigan.landmarks. min_size: pixels of the shorter side, or of the face's, before
    scaling; what has fewer is dropped.
    """

    size: int | None
    mode: str
    crop: str
    min_size: int


class Source:
    """Pictures, and what may lie beside them.

    opened: the folder or archive. count: of its pictures.
    """

    def __init__(self, path: Path):
        self.opened: Folder | Archive = open_source(path)
        self.count = contents(self.opened).count

    def names(self) -> Iterator[str]:
        """Of its pictures, in order."""
        return (file.name for file in pictures(self.opened))

    def stamp(self, name: str, recipe: Recipe) -> str:
        """A digest of all that the PNG of a picture depends on."""
        file = self.opened.file(name)
        about = [PREPARER, dataclasses.asdict(recipe), name, [file.size, file.change]]
        if recipe.crop == "face":
            beside = self._annotation(name)
            about.append(beside and [beside.size, beside.change])
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def make(self, name: str, recipe: Recipe) -> Image.Image:
        """The prepared picture. Without a crop to the face it is what the loader makes of it, up to the crop.

        Raises
        ------
        ValueError: it is to be dropped, and this is why.
        Exception: whatever Pillow makes of a broken file.
        """
        image = open_picture(read(self.opened, self.opened.file(name)))
        if recipe.crop == "face":
            beside = self._annotation(name)
            if beside is None:
                missing = printable(PurePosixPath(name).name + ANNOTATION)
                raise ValueError(f"no annotation (no {missing} beside it)")
            points = read_landmarks(read(self.opened, beside))
            image = cut_face(flatten(image, recipe.mode), points)  # they are of the picture as stored, before any EXIF
        if min(image.size) < recipe.min_size:
            raise ValueError(f"smaller than {recipe.min_size} pixels ({image.width}x{image.height})")
        if recipe.crop != "face":
            image = upright(image, recipe.mode, recipe.size)
            image = flatten(centre_square(image) if recipe.crop == "centre" else image, recipe.mode)
        if recipe.size is None:
            return image
        if image.width * image.height * (recipe.size / min(image.size)) ** 2 > Image.MAX_IMAGE_PIXELS:
            raise ValueError(f"too long to be scaled ({image.width}x{image.height})")  # no loader would take it either
        return scale(image, recipe.size)

    def _annotation(self, name: str) -> File | None:
        """The annotation of a picture, if there is one beside it."""
        try:
            return self.opened.file(name + ANNOTATION)
        except (FileNotFoundError, KeyError):
            return None


def targets(names: Iterable[str]) -> dict[str, str]:
    """What is made of which picture: its own name with .png, and a number where two would have the same (a.gif, a.jpg).

    Returns the PNG's name in OUT -> the picture's in the source.
    """
    taken, made = set(), {}
    for name in names:
        stem = str(PurePosixPath(name).with_suffix(""))
        numbered = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
        target = next(candidate for candidate in numbered if candidate.lower() not in taken)
        taken.add(target.lower())  # some file systems do not tell A from a
        made[f"{target}.png"] = name
    return made


def finished(out: Path, stamp: Callable[[str], str | None]) -> set[str]:
    """Which of the PNG in OUT an earlier run has made. Unfinished files are removed.

    stamp: the digest that the PNG of that name is to have, or None if there is to be none.

    Raises
    ------
    UserError: the folder holds anything else.
    """
    done = set()
    for name in (file.name for file in Folder(out).files()) if out.is_dir() else []:
        if Path(name).match(UNFINISHED) and stamp(name.rsplit(".", 2)[0]):
            with writing(out / name, REMEDY):
                (out / name).unlink()
        elif (wanted := stamp(name)) and _stamp_of(out / name) == wanted:
            done.add(name)
        else:
            raise UserError(
                f"{out}: holds {printable(name)}, which is not what these options make of this source: "
                "give a new or an empty folder"
            )
    return done


def _stamp_of(path: Path) -> str | None:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get(STAMP)
    except (OSError, ValueError, Image.DecompressionBombError):  # no PNG of this command's
        return None


def save(image: Image.Image, path: Path, stamp: str) -> None:
    """Write it as PNG with its stamp, and without a colour profile: the pixels are as a training takes them.

    Raises
    ------
    UserError: it cannot be written.
    """
    text = PngInfo()
    text.add_text(STAMP, stamp)
    with writing(path, REMEDY):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            image.save(file, "PNG", pnginfo=text, icc_profile=None)


def prepare_all(
    source: Source, out: Path, recipe: Recipe, excluded: set[str], progress: Callable[..., Iterable] = tqdm
) -> tuple[int, int, list[tuple[str, str]]]:
    """Make every picture that is not there yet. excluded: names in the source.

    Returns how many are in `out` now, how many of them are new, and (name, reason) of each that was dropped.
    """
    wanted = targets(source.names())
    dropped = [(name, "excluded") for name in wanted.values() if name in excluded]

    def stamp(target: str) -> str | None:
        name = wanted.get(target)
        return None if name is None or name in excluded else source.stamp(name, recipe)

    def one(job: tuple[str, str]) -> None:
        target, name = job
        if Path(name).anchor or ".." in Path(name).parts:
            raise ValueError("its name leads out of the folder")
        save(source.make(name, recipe), out / target, source.stamp(name, recipe))

    done = finished(out, stamp)
    left = ((target, name) for target, name in wanted.items() if target not in done and name not in excluded)
    total = len(wanted) - len(dropped) - len(done)
    with each_file(left, one) as results:
        for (_, name), reason in progress(results, total=total, desc="preparing", unit="picture"):
            if reason is not None:
                dropped.append((name, reason))
    count = len(wanted) - len(dropped)
    return count, count - len(done), sorted(dropped)


def read_exclude(path: Path) -> set[str]:
    """The names in a list of files to leave out: one a line, empty ones and those that begin with # aside.

    Raises
    ------
    UserError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # -sig: some editors begin a text with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--exclude {path}: cannot be read ({error}): give a text with a name on each line") from error
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def matching(files: Iterable[str], names: set[str]) -> tuple[set[str], set[str]]:
    """The files that the names mean, with their folders or without, and the names that mean none."""
    found, meant = set(), set()
    for file in files:
        if means := names & {file, PurePosixPath(file).name}:
            found.add(file)
            meant |= means
    return found, names - meant


def _counted(dropped: list[tuple[str, str]]) -> str:
    """How many for which reason, the commonest first."""
    counts = collections.Counter(reason.partition(" (")[0] for _, reason in dropped)
    common = counts.most_common(REASONS)
    rest = counts.total() - sum(count for _, count in common)
    return "; ".join([f"{reason} ({count:,})" for reason, count in common] + ([f"others ({rest:,})"] if rest else []))


def prepare(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(
        prog="python -m minigan.prepare",
        description="Any pictures into a clean folder of PNG. The same command again goes on where it was stopped.",
    )
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="a folder (nested or not) or a .zip of pictures")
    add("out", type=Path, metavar="OUT", help="a folder of PNG, new or begun by the same command; a report lies beside")
    add("--size", type=whole(1, 4096), metavar="N", help="pixels of the shorter side (default: as it is)")
    add("--mode", choices=CHANNELS, default="RGB", help="colour (default) or grey")
    add("--min-size", type=whole(1, 65535), default=1, metavar="N", help="drop what is smaller before scaling")
    add("--crop", choices=CROPS, help="centre (default): the centred square; none: leave the proportions")
    add("--exclude", type=Path, metavar="FILE", help="a text with the name of a picture to leave out on each line")
    add("--cat-landmarks", action="store_true", help="cut out the faces, by the CAT data set's NAME.jpg.cat")
    given = parser.parse_args(arguments)
    if given.cat_landmarks and given.crop:
        raise UserError("--cat-landmarks cuts out the face itself: leave out --crop")
    out = given.out
    refuse_inside(out, given.source, "OUT")
    with writing(out, REMEDY):
        if not out.is_dir() and os.path.lexists(out):
            raise UserError(f"{out}: is no folder: give a new or an empty one")

    recipe = Recipe(given.size, given.mode, "face" if given.cat_landmarks else given.crop or "centre", given.min_size)
    names = read_exclude(given.exclude) if given.exclude else set()
    source = Source(given.source)
    excluded, unknown = matching(source.names(), names)
    folder = Path(os.path.realpath(out))
    report = folder.parent / f"{folder.name}.prepared.txt"
    with writing(report, REMEDY):
        report.parent.mkdir(parents=True, exist_ok=True)
        try_place(report)  # it is written last
    count, new, dropped = prepare_all(source, out, recipe, excluded, usual().counted)

    lines = [
        f"source    {given.source}: {number_of(source.count, 'picture')}",
        f"prepared  {count:,} in {out}, {new:,} of them now",
    ]
    if unknown:
        lines.append(f"exclude   names of {given.exclude} that are not in the source: {len(unknown):,}")
    if dropped:
        lines.append(f"dropped   {len(dropped):,}: {_counted(dropped)}")
    each = [f"dropped: {printable(name)}: {reason}" for name, reason in dropped]
    each += [f"not in the source: {printable(name)}" for name in sorted(unknown)]
    with writing(report, REMEDY), replacing(report) as file:
        text = "\n".join([*lines, *each, ""])
        file.write(text.encode(errors="backslashreplace"))  # bytes that are no Unicode, as `printable` shows them
    if count == 0:
        name, reason = dropped[0]
        raise UserError(f"{given.source}: all {len(dropped)} were dropped; the first, {printable(name)}: {reason}")
    print("\n".join(lines))
    print(f"report    {report}")
    print(f"train     python -m minigan.train --data {quoted(out)}")


if __name__ == "__main__":
    run_command(prepare)
