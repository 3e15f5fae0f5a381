"""A cat's face out of a picture, upright and centred, by the annotations of the CAT data set.

The data set (Zhang, Sun & Tang 2008, "Cat head detection") has a text beside each NAME.jpg, NAME.jpg.cat: the count 9,
then x y in pixels of the left eye, the right eye, the mouth, and three points of each ear, outer base, tip and inner
base of the left one, inner base, tip and outer base of the right one. Left is where the viewer has it.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

__all__ = ["cut_face", "read_landmarks"]

POINTS = 9
LEFT_EYE, RIGHT_EYE, MOUTH, LEFT_EAR, RIGHT_EAR = 0, 1, 2, 3, 8  # the ears' outer bases
EYES_AT = (0.5, 0.4)  # of the square's side, from the left and from above: where the middle between the eyes comes
FARTHEST = 1e5  # pixels; what lies farther out is no point of a picture
GREY = "#808080"


def read_landmarks(content: bytes) -> np.ndarray:
    """An annotation -> float64 (9, 2): x, y of each point, in the order above; whole numbers are pixels' centres.

    Raises
    ------
    ValueError: it is anything else.
    """
    try:
        count, *numbers = map(float, content.split())
        if count == POINTS and max(map(abs, numbers)) < FARTHEST:
            return np.reshape(numbers, (POINTS, 2))
    except ValueError:
        pass  # an entry that is no number, or not as many of them
    raise ValueError(f"its annotation is not the count {POINTS} and as many points")


def cut_face(image: Image.Image, points: np.ndarray) -> Image.Image:
    """The square of the face, its eyes level, as wide as the ears' bases are apart; grey where the picture ends.

    image: in "RGB" or "L". points: (9, 2), see `read_landmarks`. The two eyes may stand for each other.
    The square is not scaled, but for rounding its side to whole pixels.

    Raises
    ------
    ValueError: the points do not make a face in this picture.

    The picture that comes is asked for, pixel by pixel, from the one that is there. Coordinates run from the outer
    edge of the first pixel, so that the centre of pixel i is at i + 1/2, and y runs downwards. With

        e = (cos t, sin t)      from the left eye to the right one, of length 1
        n = (-sin t, cos t)     e turned by a right angle clockwise as seen: from the eyes towards the mouth
        m                       the middle between the eyes
        w                       how far the ears' bases are apart along e
        S = round(w)            the side of the square that comes, z = w / S (about 1) its pixels' size in the picture

    the new point (u, v) is (u - 0.5 S) pixels right of the eyes' middle and (v - 0.4 S) below, in the face's own axes:

        p(u, v) = m + z (u - 0.5 S) e + z (v - 0.4 S) n

    which is x = a u + b v + c, y = d u + f v + g with (a, d) = z e, (b, f) = z n, (c, g) = m - 0.5 S z e - 0.4 S z n.

    The mouth tells whether the eyes are mislabelled: it lies on n's side of the eyes, whichever way the head is
    turned. If e x (mouth - m), the component along n, is negative, then e points from right to left.
    """
    left, right, mouth, left_ear, right_ear = points[[LEFT_EYE, RIGHT_EYE, MOUTH, LEFT_EAR, RIGHT_EAR]] + 0.5
    middle = (left + right) / 2
    (ex, ey), (mx, my) = right - left, mouth - middle
    if ex * my - ey * mx < 0:
        ex, ey = -ex, -ey
    length = math.hypot(ex, ey)
    if length == 0:
        raise ValueError("its annotation has both eyes in one place")
    e = np.array([ex, ey]) / length
    n = np.array([-e[1], e[0]])
    width = abs((right_ear - left_ear) @ e)
    side = round(width)
    if side < 1 or width > 2 * max(image.size) or (middle < 0).any() or (middle > image.size).any():
        raise ValueError("its annotation does not fit the picture")
    zoom = width / side
    corner = middle - EYES_AT[0] * width * e - EYES_AT[1] * width * n  # S z = w
    (a, d), (b, f), (c, g) = zoom * e, zoom * n, corner
    return image.transform(
        (side, side), Image.Transform.AFFINE, (a, b, c, d, f, g), Image.Resampling.BICUBIC, fillcolor=GREY
    )
