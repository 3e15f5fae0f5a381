"""The faces that come with minigan: from a seed, bit for bit; alike where a face is alike, and different elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from minigan.faces import draw


@pytest.mark.parametrize(("mode", "c"), [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize("size", [16, 32, 128])
def test_shape_and_dtype(size, mode, c):
    """Any size that a network may have, in colour and in grey."""
    faces = draw(3, size, mode, seed=1)
    assert faces.dtype == np.uint8
    assert faces.shape == (3, size, size, c)
    assert faces.flags.c_contiguous


def test_a_seed_fixes_every_byte():
    """The same seed draws the same faces, another seed others, up to the largest."""
    assert (draw(8, 32, seed=5) == draw(8, 32, seed=5)).all()
    assert (draw(8, 32, seed=5) != draw(8, 32, seed=2**64 - 1)).any(axis=(1, 2, 3)).all()


def test_a_face_depends_on_its_index_alone():
    """A set of more faces begins with the same ones, and no two faces are equal."""
    faces = draw(200, 32, seed=0)
    assert (draw(20, 32, seed=0) == faces[:20]).all()
    assert len(np.unique(faces.reshape(200, -1), axis=0)) == 200


def test_grey_faces_are_the_coloured_ones():
    """`--mode L` sees the same cats."""
    coloured = [np.asarray(Image.fromarray(face).convert("L")) for face in draw(5, 32, "RGB", seed=3)]
    assert (draw(5, 32, "L", seed=3)[..., 0] == coloured).all()


def test_size_changes_only_the_resolution():
    """Averaged two by two, a larger drawing is close to the smaller one, on average within 2 % of the range."""
    small, large = draw(20, 32, seed=0).astype(float), draw(20, 64, seed=0).astype(float)
    averaged = large.reshape(20, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(averaged - small).mean() < 0.02 * 255


def test_faces_agree_in_where_things_are():
    """What makes them learnable: on average there are two dark pupils, a light muzzle between and below them, and the
    picture is its own mirror image, for a cat tilts its head to either side alike.
    """
    mean = draw(400, 32, "L", seed=0)[..., 0].mean(axis=0)  # (32, 32)
    left, right, between, muzzle = mean[17:19, 10:12], mean[17:19, 20:22], mean[17:19, 15:17], mean[23:25, 12:20]
    assert max(left.mean(), right.mean()) < between.mean() - 60
    assert max(left.mean(), right.mean()) < muzzle.mean() - 60
    assert np.abs(mean - mean[:, ::-1]).mean() < 0.02 * 255


def test_faces_differ_in_coat_eyes_and_background():
    """What makes them worth learning: every part of the picture varies in colour, the background's corner included."""
    faces = draw(200, 32, seed=0).astype(float)
    for y, x in ((1, 1), (13, 16), (17, 9), (24, 16), (30, 16)):  # corner, forehead, iris, muzzle, chest
        assert faces[:, y, x].std(axis=0).max() > 20
