"""The pictures that come with minigan: small cat faces, drawn from a seed.

    faces = draw(2048, size=32, mode="RGB", seed=0)      # uint8 (2048, 32, 32, 3)
    each(2048, size=32, mode="RGB", seed=0)              # the same, one by one

They are what a run without `--data` learns from. They differ in coat, eyes, ears, background and pose, and agree in
where things are, so that a small network gets the point within minutes.
All lengths are in units of the picture's side: x goes from 0 at the left to 1, y from 0 at the top to 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from minigan.decoding import CHANNELS

__all__ = ["draw", "each"]

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

OVERSAMPLE = 4  # a face is drawn this many times larger and then averaged: that is its antialiasing;
DRAWN = 256  # one that is larger than this then, only twice: its pixels are finer than what they show
CENTRE = (0.5, 0.56)  # what a face turns about
EYES = ((0.345, 0.555), (0.655, 0.555))
CIRCLE = [(math.cos(math.pi * i / 18), math.sin(math.pi * i / 18)) for i in range(36)]  # 36 points of the unit circle

BLACK, GREY, SILVER, WHITE = (58, 54, 62), (122, 130, 148), (186, 188, 194), (247, 244, 238)
GINGER, CREAM, BROWN, SEAL = (230, 150, 72), (243, 222, 186), (150, 110, 78), (92, 70, 64)
PINK, ROSE, INK = (240, 168, 168), (226, 122, 128), (40, 34, 38)
GREEN, AMBER, COPPER, BLUE = (150, 200, 80), (240, 196, 64), (222, 136, 52), (96, 172, 232)
PASTELS = ((246, 198, 190), (176, 214, 238), (188, 226, 186), (250, 228, 166), (210, 194, 234), (158, 206, 204))


@dataclasses.dataclass(frozen=True)
class Pose:
    """How a face sits in its picture: turned by `tilt` radians and scaled about CENTRE, then moved."""

    tilt: float
    scale: float
    dx: float
    dy: float

    def __call__(self, points: Points, pixels: int) -> Points:
        """The points, in pixels of a picture of that side."""
        cos, sin = self.scale * math.cos(self.tilt), self.scale * math.sin(self.tilt)
        x0, y0 = CENTRE
        return [
            (
                pixels * (x0 + self.dx + cos * (x - x0) - sin * (y - y0)),
                pixels * (y0 + self.dy + sin * (x - x0) + cos * (y - y0)),
            )
            for x, y in points
        ]


class Layer:
    """A picture to draw on, `pixels` wide and high, in one pose."""

    def __init__(self, mode: str, pixels: int, pose: Pose):
        self.image = Image.new(mode, (pixels, pixels))
        self.pixels, self.pose = pixels, pose
        self.pen = ImageDraw.Draw(self.image)

    def fill(self, colour: Colour | int) -> None:
        """Fill all of it."""
        self.image.paste(colour, (0, 0, self.pixels, self.pixels))

    def polygon(self, points: Points, colour: Colour | int) -> None:
        """Fill a polygon."""
        self.pen.polygon(self.pose(points, self.pixels), fill=colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour | int, turn: float = 0) -> None:
        """Fill an ellipse about (x, y), turned by `turn` radians."""
        cos, sin = math.cos(turn), math.sin(turn)
        self.polygon([(x + rx * c * cos - ry * s * sin, y + rx * c * sin + ry * s * cos) for c, s in CIRCLE], colour)

    def line(self, points: Points, width: float, colour: Colour | int) -> None:
        """Draw a line of that width through the points."""
        width = max(1, round(width * self.pose.scale * self.pixels))
        self.pen.line(self.pose(points, self.pixels), fill=colour, width=width, joint="curve")


class Chance:
    """The random numbers of face `index`, from a generator keyed by (seed, index): no face depends on another.

    Only `random` is asked for, the plainest of the generator's methods and the least likely ever to change.
    """

    def __init__(self, seed: int, index: int):
        self.random = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64))).random

    def between(self, low: float, high: float) -> float:
        """A number."""
        return low + (high - low) * self.random()

    def choice(self, *options):
        """One of the options."""
        return options[int(self.random() * len(options))]

    def near(self, colour: Colour) -> Colour:
        """A colour somewhat lighter or darker than this one."""
        lighter = self.between(-10, 10)
        return tuple(round(min(255, max(0, band + lighter + self.between(-4, 4)))) for band in colour)


def draw(count: int, size: int, mode: str = "RGB", seed: int = 0) -> np.ndarray:
    """`count` cat faces -> uint8 (count, size, size, C). mode: "RGB" or "L". seed: 0 .. 2^64 - 1.

    Face i depends on `seed` and i alone.
    """
    return np.stack(list(each(count, size, mode, seed)))


def each(count: int, size: int, mode: str = "RGB", seed: int = 0) -> Iterator[np.ndarray]:
    """Each of them as it is drawn, uint8 (size, size, C)."""
    larger = max(2, min(OVERSAMPLE, DRAWN // size))
    for index in range(count):
        face = _face(size * larger, Chance(seed, index)).reduce(larger).convert(mode)
        yield np.asarray(face).reshape(size, size, CHANNELS[mode])


def _face(pixels: int, chance: Chance) -> Image.Image:
    """One cat, from back to front."""
    pose = Pose(
        tilt=math.radians(chance.between(-9, 9)),
        scale=chance.between(0.92, 1.05),
        dx=chance.between(-0.03, 0.03),
        dy=chance.between(-0.02, 0.03),
    )
    ears = chance.between(0.06, 0.13), chance.between(0.13, 0.2)  # y and x of the left ear's tip
    cheeks = chance.between(0.345, 0.385)  # half the head's width

    picture, coat, head = Layer("RGB", pixels, pose), Layer("RGB", pixels, pose), Layer("L", pixels, pose)
    look = chance.choice(_solid, _tabby, _tabby, _tuxedo, _calico, _points)(coat, chance)
    _background(picture, chance)
    picture.ellipse(0.5, 1.12, 0.34, 0.3, _scaled(look.fur, 0.86))  # shoulders
    _head(picture, ears, cheeks, 0.018, _scaled(look.fur, 0.72))  # its rim stays, as an outline
    _head(head, ears, cheeks, 0, 255)
    picture.image.paste(coat.image, mask=head.image)
    _inner_ears(picture, ears, look)
    _muzzle(picture, look)
    _eyes(picture, look, chance)
    _whiskers(picture, look, chance)
    return picture.image


@dataclasses.dataclass(frozen=True)
class Look:
    """A cat's colours."""

    fur: Colour
    muzzle: Colour
    nose: Colour
    iris: Colour
    whiskers: Colour
    inner_ear: Colour


def _background(picture: Layer, chance: Chance) -> None:
    """One pastel, or a gradient from one to another."""
    top = chance.near(chance.choice(*PASTELS))
    bottom = chance.choice(top, chance.near(chance.choice(*PASTELS)))
    ramp = np.linspace(0, 1, picture.pixels)[:, None, None]  # (pixels, 1, 1)
    rows = (np.array(top) * (1 - ramp) + np.array(bottom) * ramp).astype(np.uint8)  # (pixels, 1, 3)
    picture.image.paste(Image.fromarray(rows).resize(picture.image.size))


def _solid(coat: Layer, chance: Chance) -> Look:
    """One colour all over."""
    fur, nose, whiskers = chance.choice(
        (BLACK, SEAL, WHITE),
        (GREY, ROSE, WHITE),
        (GINGER, ROSE, WHITE),
        (BROWN, ROSE, WHITE),
        (CREAM, ROSE, BROWN),
        (WHITE, ROSE, GREY),
    )
    fur = chance.near(fur)
    coat.fill(fur)
    return Look(fur, _mixed(fur, WHITE, 0.25), nose, chance.choice(GREEN, AMBER, COPPER, BLUE), whiskers, PINK)


def _tabby(coat: Layer, chance: Chance) -> Look:
    """Stripes: three on the forehead, two on each cheek, and a pale muzzle."""
    fur = chance.near(chance.choice(GREY, SILVER, GINGER, GINGER, BROWN))
    stripe = _scaled(fur, 0.58)
    coat.fill(fur)
    low = chance.between(0.38, 0.44)
    for x, longer in ((-0.1, 0), (0, 0.03), (0.1, 0)):
        coat.polygon([(0.47 + 1.2 * x, 0.2), (0.53 + 1.2 * x, 0.2), (0.5 + x, low + longer)], stripe)
    for side in (-1, 1):
        outer, inner = 0.5 + side * 0.42, 0.5 + side * 0.27
        for y in (0.6, 0.7):
            coat.polygon([(outer, y - 0.03), (outer, y + 0.05), (inner, y + 0.03)], stripe)
    return Look(fur, _mixed(fur, WHITE, 0.7), ROSE, chance.choice(GREEN, AMBER, COPPER), WHITE, PINK)


def _tuxedo(coat: Layer, chance: Chance) -> Look:
    """A white blaze that widens to a white muzzle and chin."""
    fur = chance.near(chance.choice(BLACK, BLACK, GREY, GINGER))
    coat.fill(fur)
    top, width = chance.between(0.3, 0.5), chance.between(0.02, 0.05)
    coat.polygon([(0.5 - width / 2, top), (0.5 + width / 2, top), (0.64, 0.74), (0.36, 0.74)], WHITE)
    coat.ellipse(0.5, 0.8, 0.23, 0.15, WHITE)
    return Look(fur, WHITE, ROSE, chance.choice(GREEN, AMBER, COPPER), WHITE, PINK)


def _calico(coat: Layer, chance: Chance) -> Look:
    """White, with a ginger patch over one eye and a black one over the other."""
    coat.fill(WHITE)
    side = chance.choice(-1, 1)
    for which, colour in ((side, chance.near(GINGER)), (-side, chance.near(chance.choice(BLACK, BROWN)))):
        x, y = 0.5 + which * chance.between(0.24, 0.28), chance.between(0.28, 0.36)
        coat.ellipse(x, y, chance.between(0.19, 0.23), chance.between(0.27, 0.33), colour, turn=which * 0.3)
    return Look(WHITE, WHITE, ROSE, chance.choice(GREEN, AMBER, BLUE), GREY, PINK)


def _points(coat: Layer, chance: Chance) -> Look:
    """Pale, with dark ears and a dark mask, as Siamese cats are."""
    fur, point = chance.near(CREAM), chance.near(chance.choice(SEAL, GREY))
    coat.fill(fur)
    coat.ellipse(0.16, 0.2, 0.2, 0.22, point)
    coat.ellipse(0.84, 0.2, 0.2, 0.22, point)
    for grow, share in ((0.06, 0.25), (0.03, 0.5), (0, 0.75)):  # darker towards the nose
        coat.ellipse(0.5, 0.7, 0.17 + grow, 0.2 + grow, _mixed(fur, point, share))
    return Look(fur, _mixed(fur, point, 0.85), _scaled(point, 0.6), BLUE, WHITE, _scaled(ROSE, 0.8))


def _head(layer: Layer, ears: tuple[float, float], cheeks: float, grow: float, colour: Colour | int) -> None:
    """The silhouette, a little larger by `grow`: a round head, two ears, and tufts on the cheeks."""
    tip_y, tip_x = ears
    layer.ellipse(0.5, 0.585, cheeks + grow, 0.315 + grow, colour)
    for side in (-1, 1):
        tip, outer, inner = (0.5 + side * x for x in (0.5 - tip_x + grow, 0.36 + grow, 0.07 - grow))
        layer.polygon([(tip, tip_y - 1.6 * grow), (outer, 0.52), (inner, 0.31)], colour)
        top, upper, lower, bottom = (0.5 + side * x for x in (0.3, cheeks + 0.05 + grow, cheeks + 0.03 + grow, 0.2))
        layer.polygon([(top, 0.55), (upper, 0.69 + grow / 2), (lower, 0.76 + grow), (bottom, 0.84)], colour)


def _inner_ears(picture: Layer, ears: tuple[float, float], look: Look) -> None:
    tip_y, tip_x = ears
    for side in (-1, 1):
        tip = (0.5 + side * (0.47 - tip_x), tip_y + 0.07)
        picture.polygon([tip, (0.5 + side * 0.31, 0.38), (0.5 + side * 0.15, 0.32)], look.inner_ear)


def _muzzle(picture: Layer, look: Look) -> None:
    """Two pads, a chin, a nose, and the mouth."""
    picture.ellipse(0.5, 0.815, 0.08, 0.06, look.muzzle)
    for side in (-1, 1):
        picture.ellipse(0.5 + side * 0.08, 0.75, 0.11, 0.075, look.muzzle)
    mouth = _scaled(look.nose, 0.5)
    picture.line([(0.5, 0.7), (0.5, 0.765)], 0.018, mouth)
    for side in (-1, 1):
        picture.line([(0.5, 0.765), (0.5 + side * 0.035, 0.795), (0.5 + side * 0.09, 0.785)], 0.018, mouth)
    picture.polygon([(0.445, 0.675), (0.555, 0.675), (0.5, 0.73)], look.nose)


def _eyes(picture: Layer, look: Look, chance: Chance) -> None:
    """Almonds with a dark rim, slit pupils, and a glint."""
    pupil, height = chance.between(0.022, 0.05), chance.between(0.085, 0.105)
    for (x, y), slant in zip(EYES, (0.25, -0.25), strict=True):
        picture.ellipse(x, y, 0.112, height + 0.022, INK, slant)
        picture.ellipse(x, y, 0.092, height, look.iris, slant)
        picture.ellipse(x, y, pupil, height - 0.008, INK)
        picture.ellipse(x + 0.03, y - 0.04, 0.024, 0.024, WHITE)


def _whiskers(picture: Layer, look: Look, chance: Chance) -> None:
    """Three on each side."""
    droop = chance.between(-0.03, 0.05)
    for side in (-1, 1):
        for k in (-1, 0, 1):
            start, end = (0.5 + side * 0.15, 0.745 + 0.025 * k), (0.5 + side * 0.47, 0.745 + 0.075 * k + droop)
            picture.line([start, end], 0.01, look.whiskers)


def _scaled(colour: Colour, factor: float) -> Colour:
    return tuple(round(band * factor) for band in colour)


def _mixed(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
